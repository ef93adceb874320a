// One level of a tree: out_o[k] = in_i[3k] + in_i[3k+1] + in_i[3k+2] (as many as there are), unsigned.
// Latency: 1 cycle, or 0 for N = 1, where out_o is in_i. The caller guarantees that the sums fit OutW bits.
// Resource: about Width + 2 LUTs for three terms.
module bl_sum_level #(
  parameter int unsigned N     = 8,
  parameter int unsigned Width = 12,
  parameter int unsigned OutW  = Width + 2,
  localparam int unsigned NOut = (N + 2) / 3
) (
  input  logic                      clk_i,
  input  logic [N-1:0][Width-1:0]   in_i,
  output logic [NOut-1:0][OutW-1:0] out_o
);
  if (N < 1 || OutW < Width || OutW > Width + 2) begin : g_bad
    $fatal(1, "%m: N = %0d, Width = %0d, OutW = %0d; legal: N >= 1, OutW from Width to Width + 2", N, Width, OutW);
  end

  if (N == 1) begin : g_wire
    logic unused_clk;
    assign unused_clk = clk_i;
    assign out_o[0] = OutW'(in_i[0]);
  end else begin : g_add
    for (genvar k = 0; k < NOut; k++) begin : g_group
      logic [Width+1:0] sum;
      if (3 * k + 2 < N) begin : g_three
        bl_add3 #(.Width(Width)) u_add (.a_i(in_i[3*k]), .b_i(in_i[3*k+1]), .c_i(in_i[3*k+2]), .sum_o(sum));
      end else if (3 * k + 1 < N) begin : g_two
        assign sum = (Width+2)'(in_i[3*k]) + (Width+2)'(in_i[3*k+1]);
      end else begin : g_one
        assign sum = (Width+2)'(in_i[3*k]);
      end
      always_ff @(posedge clk_i) out_o[k] <= sum[OutW-1:0];
      if (OutW < Width + 2) begin : g_unused
        logic unused_sum;
        assign unused_sum = ^sum[Width+1:OutW];
      end
    end
  end
endmodule
