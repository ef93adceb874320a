// Array, digits, parameters and accumulators, wired. Interface and timing: docs/spec/rtl.md, "Compute".
//   act_i and ctrl_* of one cycle belong together; swap_i in cycle t-1 puts the shadow digits in place for act_i of cycle t;
//   done_valid_o / done_last_o: the sums of a ctrl_valid_i / ctrl_last_i can be read from now on (AccLatency cycles later)
//   drain_acc_o: 2 cycles, param_*: 1 cycle after their addresses
module bl_compute #(
  parameter int unsigned P = 2,
  parameter int unsigned C = 8,
  parameter int unsigned M = 16,
  parameter int unsigned T = 8,
  localparam int unsigned GroupW = $clog2(T)
) (
  input  logic                       clk_i,
  input  logic                       rst_i,
  input  logic [P-1:0][C-1:0][7:0]   act_i,
  input  logic                       ctrl_valid_i,
  input  logic                       ctrl_buf_i,
  input  logic [GroupW-1:0]          ctrl_group_i,
  input  logic                       ctrl_first_i,
  input  logic                       ctrl_hi_i,
  input  logic                       ctrl_last_i,
  input  logic [1:0]                 ctrl_ptag_i,
  input  logic                       swap_i,
  input  logic                       clear_i,
  input  logic [M-1:0]               plane_valid_i,
  input  logic [M-1:0]               plane_first_i,
  input  logic [M-1:0]               plane_signed_i,
  input  logic [M-1:0][C-1:0]        plane_i,
  input  logic                       hdr_valid_i,
  input  logic [3:0]                 hdr_index_i,
  input  logic [1:0]                 hdr_ptag_i,
  input  logic [M-1:0][C-1:0]        hdr_i,
  input  logic                       drain_buf_i,
  input  logic [GroupW-1:0]          drain_group_i,
  output logic [P-1:0][M-1:0][31:0]  drain_acc_o,
  input  logic [1:0]                 param_ptag_i,
  output logic [M-1:0][17:0]         param_m_o,
  output logic [M-1:0][1:0]          param_s_o,
  output logic [M-1:0]               param_pre_o,
  output logic                       done_valid_o,
  output logic                       done_last_o
);
  // bl_mac_array: act_i -> sum_o. AccLatency = ArrayLatency + 2.
  localparam int unsigned ArrayLatency = 5 + ((C <= 3) ? 1 : (C <= 9) ? 2 : (C <= 27) ? 3 : (C <= 81) ? 4 : 5);
  localparam int unsigned CtrlW = GroupW + 7;

  // The array registers its activations once before it meets the digits, so planes and swap wait one cycle as well: in the
  // lanes, each of which has its own copy.
  logic [4:0][M-1:0][C-1:0] digit;
  for (genvar m = 0; m < M; m++) begin : g_lane
    logic [4:0][C-1:0] mine;
    bl_weight_regs #(.C(C)) u_digits (
      .clk_i, .rst_i, .swap_i, .clear_i, .plane_valid_i(plane_valid_i[m]), .plane_first_i(plane_first_i[m]),
      .plane_signed_i(plane_signed_i[m]), .plane_i(plane_i[m]), .digit_o(mine)
    );
    for (genvar k = 0; k < 5; k++) begin : g_bit
      assign digit[k][m] = mine[k];
    end
  end

  logic [P-1:0][M-1:0][31:0] sum;
  bl_mac_array #(.P(P), .C(C), .M(M)) u_array (.clk_i, .act_i, .digit_i(digit), .sum_o(sum));

  // Control waits for the sums; only the valid bits are reset.
  logic [ArrayLatency-1:0][CtrlW-2:0] ctrl_q;
  logic [ArrayLatency-1:0]            valid_q;
  logic                               acc_buf, acc_first, acc_hi, acc_last, unused_hi;
  logic [GroupW-1:0]                  acc_group;
  logic [1:0]                         acc_ptag;
  always_ff @(posedge clk_i) begin
    ctrl_q  <= {ctrl_q[ArrayLatency-2:0],
                {ctrl_buf_i, ctrl_group_i, ctrl_first_i, ctrl_hi_i, ctrl_last_i, ctrl_ptag_i}};
    valid_q <= {valid_q[ArrayLatency-2:0], ctrl_valid_i};
    if (rst_i) valid_q <= '0;
  end
  assign {acc_buf, acc_group, acc_first, unused_hi, acc_last, acc_ptag} = ctrl_q[ArrayLatency-1];
  assign acc_hi = ctrl_q[ArrayLatency-2][3];   // the banks register it once more

  logic [M-1:0][31:0] bias;
  bl_params #(.C(C), .M(M)) u_params (
    .clk_i, .hdr_valid_i, .hdr_index_i, .hdr_ptag_i, .hdr_i,
    .bias_ptag_i(acc_ptag), .bias_o(bias), .param_ptag_i, .m_o(param_m_o), .s_o(param_s_o), .pre_o(param_pre_o)
  );

  bl_accum #(.P(P), .M(M), .T(T), .SumW(12 + $clog2(C))) u_accum (
    .clk_i, .rst_i, .valid_i(valid_q[ArrayLatency-1]), .buf_i(acc_buf), .group_i(acc_group), .first_i(acc_first),
    .hi_i(acc_hi), .last_i(acc_last), .sum_i(sum), .bias_i(bias), .done_valid_o, .done_last_o,
    .drain_buf_i, .drain_group_i, .acc_o(drain_acc_o)
  );
endmodule
