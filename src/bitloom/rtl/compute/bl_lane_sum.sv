// One lane pair of C DSPs: exact sums of two overlapping product lanes (docs/spec/arithmetic.md, "Four products per DSP").
//   pair_i[c] = P[21:0] (or P[43:22]) of DSP c; dig_low_i[c] = digit[1:0], act_low_i[c] = a1[1:0]
//   sum0_o = Σ lo + 1024·Σ hi - 2048·C,  sum1_o = Σ up - Σ hi - 2048·C,  lo = pair[9:0], up = pair[21:10],
//   hi = (up[1:0] - digit[1:0]·a1[1:0]) modulo 4, two functions of at most six inputs
// Latency: 1 + ceil(log3 C) cycles. Throughput 1. Resource: three adder trees, of 10, 12 and 2 bits.
module bl_lane_sum #(
  parameter int unsigned C = 8,
  localparam int unsigned CW   = $clog2(C),
  localparam int unsigned SumW = 12 + CW
) (
  input  logic                   clk_i,
  input  logic [C-1:0][21:0]     pair_i,
  input  logic [C-1:0][1:0]      dig_low_i,
  input  logic [C-1:0][1:0]      act_low_i,
  output logic signed [SumW-1:0] sum0_o,
  output logic signed [SumW-1:0] sum1_o
);
  if (C < 2 || C > 128) begin : g_bad
    $fatal(1, "%m: C = %0d; legal: 2..128", C);
  end

  logic [C-1:0][9:0]  lo;
  logic [C-1:0][11:0] up;
  logic [C-1:0][1:0]  hi;
  logic [9+CW:0]      lo_sum;
  logic [11+CW:0]     up_sum;
  logic [1+CW:0]      hi_sum;

  for (genvar c = 0; c < C; c++) begin : g_lane
    assign lo[c] = pair_i[c][9:0];
    assign up[c] = pair_i[c][21:10];
    assign hi[c] = pair_i[c][11:10] - dig_low_i[c] * act_low_i[c];
  end
  bl_sum_tree #(.N(C), .Width(10)) u_lo (.clk_i, .term_i(lo), .sum_o(lo_sum));
  bl_sum_tree #(.N(C), .Width(12)) u_up (.clk_i, .term_i(up), .sum_o(up_sum));
  bl_sum_tree #(.N(C), .Width(2))  u_hi (.clk_i, .term_i(hi), .sum_o(hi_sum));

  always_ff @(posedge clk_i) begin
    sum0_o <= {(2+CW)'(lo_sum[9+CW:10]) + hi_sum - (2+CW)'(2 * C), lo_sum[9:0]};
    sum1_o <= up_sum - SumW'(hi_sum) - SumW'(2048 * C);
  end
endmodule
