// Accumulators: two buffers of T groups × P × M 32-bit sums in LUT memory.
//   valid_i   acc[buf][group][p][m] <= sum_i[p][m]·(hi_i ? 16 : 1) + (first_i ? bias_i[m] : acc[buf][group][p][m])
//   done_valid_o, done_last_o   2 cycles later: the sum of valid_i has been written (readable in this very cycle)
//   acc_o     the sums of drain_buf_i, drain_group_i, 2 cycles later
// bias_i comes one cycle after its valid_i, hi_i one cycle before it. One entry may be hit in consecutive cycles: reading, adding and writing are one
// cycle. A bank holds eight channels of a pixel and its own copies of the control. Reset clears only the valid and done bits.
// Resource: P·M·32 × 2T bits of two-port LUT memory, P·M 32-bit adders.
module bl_accum #(
  parameter int unsigned P    = 2,
  parameter int unsigned M    = 16,
  parameter int unsigned T    = 8,
  parameter int unsigned SumW = 15,
  localparam int unsigned GroupW = $clog2(T)
) (
  input  logic                       clk_i,
  input  logic                       rst_i,
  input  logic                       valid_i,
  input  logic                       buf_i,
  input  logic [GroupW-1:0]          group_i,
  input  logic                       first_i,
  input  logic                       hi_i,
  input  logic                       last_i,
  input  logic [P-1:0][M-1:0][31:0]  sum_i,      // sign-extended from SumW bits
  input  logic [M-1:0][31:0]         bias_i,
  output logic                       done_valid_o,
  output logic                       done_last_o,
  input  logic                       drain_buf_i,
  input  logic [GroupW-1:0]          drain_group_i,
  output logic [P-1:0][M-1:0][31:0]  acc_o
);
  if (T < 2 || (T & (T - 1)) != 0 || SumW < 1 || SumW > 28) begin : g_bad
    $fatal(1, "%m: T = %0d, SumW = %0d; legal: T a power of two from 2, SumW 1..28", T, SumW);
  end

  localparam int unsigned BankW = (M % 8 == 0) ? 8 : M;
  for (genvar p = 0; p < P; p++) begin : g_pixel
    for (genvar k = 0; k < M / BankW; k++) begin : g_bank
      bl_accum_bank #(.Width(BankW), .T(T), .SumW(SumW)) u_bank (
        .clk_i, .rst_i, .valid_i, .buf_i, .group_i, .first_i, .hi_i, .sum_i(sum_i[p][k*BankW +: BankW]),
        .bias_i(bias_i[k*BankW +: BankW]), .drain_buf_i, .drain_group_i, .acc_o(acc_o[p][k*BankW +: BankW])
      );
    end
  end

  logic valid_q, last_q;
  always_ff @(posedge clk_i) begin
    valid_q      <= valid_i;
    last_q       <= last_i;
    done_valid_o <= valid_q;
    done_last_o  <= valid_q & last_q;
    if (rst_i) begin
      valid_q      <= 1'b0;
      done_valid_o <= 1'b0;
      done_last_o  <= 1'b0;
    end
  end
endmodule
