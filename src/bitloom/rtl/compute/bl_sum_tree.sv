// sum_o = Σ term_i[k], unsigned, exact; a tree of three-input adders, every level registered, no bit wider than needed.
// Latency: ceil(log3 N) cycles (0 for N = 1). Throughput 1. Resource: about (N - 1)/2 three-input adders.
module bl_sum_tree #(
  parameter int unsigned N     = 8,
  parameter int unsigned Width = 12,
  localparam int unsigned OutW = Width + $clog2(N)
) (
  input  logic                    clk_i,
  input  logic [N-1:0][Width-1:0] term_i,
  output logic [OutW-1:0]         sum_o
);
  if (N < 1 || N > 243 || Width < 1 || Width > 20) begin : g_bad
    $fatal(1, "%m: N = %0d, Width = %0d; legal: N 1..243, Width 1..20", N, Width);
  end
  localparam int unsigned Levels = (N <= 1) ? 0 : (N <= 3) ? 1 : (N <= 9) ? 2 : (N <= 27) ? 3 : (N <= 81) ? 4 : 5;

  if (Levels == 0) begin : g_none
    logic unused_clk;
    assign unused_clk = clk_i;
    assign sum_o = term_i[0];
  end

  for (genvar l = 1; l <= Levels; l++) begin : g_level
    localparam int unsigned NIn   = (N + 3**(l-1) - 1) / 3**(l-1);
    localparam int unsigned NOut  = (N + 3**l - 1) / 3**l;
    // A partial sum covers at most min(3^l, N) terms.
    localparam int unsigned InMax  = ((3**(l-1) < N) ? 3**(l-1) : N) * (2**Width - 1);
    localparam int unsigned OutMax = ((3**l < N) ? 3**l : N) * (2**Width - 1);
    localparam int unsigned WIn   = $clog2(InMax + 1);
    localparam int unsigned WOut  = $clog2(OutMax + 1);
    logic [NIn-1:0][WIn-1:0]   in;
    logic [NOut-1:0][WOut-1:0] out_q;
    if (l == 1) begin : g_first
      assign in = term_i;
    end else begin : g_next
      assign in = g_level[l-1].out_q;
    end
    for (genvar k = 0; k < NOut; k++) begin : g_add
      logic [WIn+1:0] part;
      if (3 * k + 2 < NIn) begin : g_three
        bl_add3 #(.Width(WIn)) u_add (.a_i(in[3*k]), .b_i(in[3*k+1]), .c_i(in[3*k+2]), .sum_o(part));
      end else if (3 * k + 1 < NIn) begin : g_two
        assign part = (WIn+2)'(in[3*k]) + (WIn+2)'(in[3*k+1]);
      end else begin : g_one
        assign part = (WIn+2)'(in[3*k]);
      end
      always_ff @(posedge clk_i) out_q[k] <= part[WOut-1:0];
      if (WOut < WIn + 2) begin : g_unused
        logic unused_part;
        assign unused_part = ^part[WIn+1:WOut];
      end
    end
  end

  if (Levels > 0) begin : g_out
    assign sum_o = OutW'(g_level[Levels].out_q);
  end
endmodule
