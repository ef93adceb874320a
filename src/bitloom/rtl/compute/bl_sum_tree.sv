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
  // A partial sum of level l covers at most min(3^l, N) terms, each at most 2^Width - 1.
  localparam int unsigned Top = 2**Width - 1;
  localparam int unsigned N1 = (N + 2) / 3;
  localparam int unsigned N2 = (N1 + 2) / 3;
  localparam int unsigned N3 = (N2 + 2) / 3;
  localparam int unsigned N4 = (N3 + 2) / 3;
  localparam int unsigned W1 = $clog2(((N < 3) ? N : 3) * Top + 1);
  localparam int unsigned W2 = $clog2(((N < 9) ? N : 9) * Top + 1);
  localparam int unsigned W3 = $clog2(((N < 27) ? N : 27) * Top + 1);
  localparam int unsigned W4 = $clog2(((N < 81) ? N : 81) * Top + 1);
  localparam int unsigned W5 = $clog2(N * Top + 1);

  logic [N1-1:0][W1-1:0] s1;
  logic [N2-1:0][W2-1:0] s2;
  logic [N3-1:0][W3-1:0] s3;
  logic [N4-1:0][W4-1:0] s4;
  logic [0:0][W5-1:0]    s5;

  bl_sum_level #(.N(N),  .Width(Width), .OutW(W1)) u_1 (.clk_i, .in_i(term_i), .out_o(s1));
  bl_sum_level #(.N(N1), .Width(W1),    .OutW(W2)) u_2 (.clk_i, .in_i(s1), .out_o(s2));
  bl_sum_level #(.N(N2), .Width(W2),    .OutW(W3)) u_3 (.clk_i, .in_i(s2), .out_o(s3));
  bl_sum_level #(.N(N3), .Width(W3),    .OutW(W4)) u_4 (.clk_i, .in_i(s3), .out_o(s4));
  bl_sum_level #(.N(N4), .Width(W4),    .OutW(W5)) u_5 (.clk_i, .in_i(s4), .out_o(s5));
  assign sum_o = OutW'(s5[0]);
endmodule
