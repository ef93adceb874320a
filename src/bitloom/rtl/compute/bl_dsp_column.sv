// C DSPs that share nothing but their sums: two digits × two activations × C channels -> four exact dot products.
//   a_i[c] = w0 + w1·2^22, b_i[c] = a0 + a1·2^10; 3 cycles later dig_low_i[k][c] = wk[1:0] and act_low_i[c] = a1[1:0]
//   sum_o[k][0] = Σ wk·a0, sum_o[k][1] = Σ wk·a1
// Latency: 4 + ceil(log3 C) cycles. Throughput 1. Resource: C DSP48E2 and two bl_lane_sum.
module bl_dsp_column #(
  parameter int unsigned C = 8,
  localparam int unsigned SumW = 12 + $clog2(C)
) (
  input  logic                      clk_i,
  input  logic [C-1:0][26:0]        a_i,
  input  logic [C-1:0][17:0]        b_i,
  input  logic [1:0][C-1:0][1:0]    dig_low_i,
  input  logic [C-1:0][1:0]         act_low_i,
  output logic [1:0][1:0][SumW-1:0] sum_o
);
  logic [1:0][C-1:0][21:0] pair;

  for (genvar c = 0; c < C; c++) begin : g_dsp
    bl_dsp_quad u_dsp (.clk_i, .a_i(a_i[c]), .b_i(b_i[c]), .p_o({pair[1][c], pair[0][c]}));
  end
  for (genvar k = 0; k < 2; k++) begin : g_pair
    bl_lane_sum #(.C(C)) u_sum (
      .clk_i, .pair_i(pair[k]), .dig_low_i(dig_low_i[k]), .act_low_i, .sum0_o(sum_o[k][0]), .sum1_o(sum_o[k][1])
    );
  end
endmodule
