// Requantization of one channel (docs/spec/arithmetic.md):
//   A = acc >>> 4·pre;  t = (A·m + 2^(S-1)) >>> S, S = 4 + 6·s;  u = t + r·mr + post;  code = clamp((u + 2^11) >>> 12, lo, hi)
// Latency: RequantLatency = 8 cycles from acc_i (with m_i, s_i, pre_i) to code_o; res_i comes ResDelay = 3 cycles after its acc_i.
// res_mult_i, post_i, lo_i, hi_i are held while codes are on the way. Throughput 1, no state beyond the pipeline.
// The caller guarantees |A| < 2^26, |t| < 2^31, |u| + 2^11 < 2^31. Resource: 2 DSP48E2.
module bl_requant (
  input  logic               clk_i,
  input  logic signed [31:0] acc_i,
  input  logic signed [17:0] m_i,
  input  logic [1:0]         s_i,
  input  logic               pre_i,
  input  logic signed [7:0]  res_i,
  input  logic [15:0]        res_mult_i,
  input  logic signed [31:0] post_i,
  input  logic signed [7:0]  lo_i,
  input  logic signed [7:0]  hi_i,
  output logic signed [7:0]  code_o
);
  // Cycles 0..3: product and rounding constant.
  logic signed [26:0] a;
  logic [2:0][1:0]    s_q;
  logic [47:0]        half, product;

  assign a = pre_i ? acc_i[30:4] : acc_i[26:0];
  always_comb begin
    half = '0;
    half[3]  = s_q[0] == 2'd0;
    half[9]  = s_q[0] == 2'd1;
    half[15] = s_q[0] == 2'd2;
    half[21] = s_q[0] == 2'd3;
  end
  always_ff @(posedge clk_i) s_q <= {s_q[1:0], s_i};

  bl_dsp_mac u_scale (.clk_i, .a_i(a), .b_i(m_i), .c_i(half), .p_o(product));

  // Cycle 4: shift. Cycles 3..6: residual, constant and the last rounding.
  logic signed [31:0] t_q, t_post;
  logic [47:0]        total;

  always_ff @(posedge clk_i) begin
    unique case (s_q[2])
      2'd0:    t_q <= product[35:4];
      2'd1:    t_q <= product[41:10];
      2'd2:    t_q <= product[47:16];
      default: t_q <= {{6{product[47]}}, product[47:22]};
    endcase
  end
  assign t_post = t_q + post_i;

  bl_dsp_mac #(.Rnd(48'd2048)) u_residual (
    .clk_i, .a_i(27'(res_i)), .b_i({2'b0, res_mult_i}), .c_i(48'(t_post)), .p_o(total)
  );

  // Cycle 7: to eight bits. Cycle 8: to the layer's range.
  logic signed [7:0] code_q;
  always_ff @(posedge clk_i) begin
    code_q <= (total[31:19] == '0 || total[31:19] == '1) ? total[19:12] : {total[31], {7{~total[31]}}};
    code_o <= (code_q < lo_i) ? lo_i : (code_q > hi_i) ? hi_i : code_q;
  end

  logic unused_bits;
  assign unused_bits = ^{acc_i[31], product[3:0], total[47:32], total[11:0]};
endmodule
