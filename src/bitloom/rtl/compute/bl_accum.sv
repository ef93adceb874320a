// Accumulators: two buffers of T groups × P × M 32-bit sums in LUT memory.
//   valid_i   acc[buf][group][p][m] <= sum_i[p][m]·(hi_i ? 16 : 1) + (first_i ? bias_i[m] : acc[buf][group][p][m])
//   done_valid_o, done_last_o   2 cycles later: the sum of valid_i has been written (readable in this very cycle)
//   acc_o     the sums of drain_buf_i, drain_group_i, 1 cycle later
// bias_i comes one cycle after its valid_i. One entry may be hit in consecutive cycles: reading, adding and writing are one
// cycle. Resource: P·M·32 × 2T bits of two-port LUT memory, P·M 32-bit adders. Reset clears only the done bits.
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

  (* ram_style = "distributed" *)
  logic [P-1:0][M-1:0][31:0] mem [2*T];
  logic [P-1:0][M-1:0][31:0] old, next, add_q;
  logic                      valid_q, buf_q, first_q, last_q;
  logic [GroupW-1:0]         group_q;
  logic [P*M-1:0]            unused_sign;
  logic                      unused;

  assign old    = mem[{buf_q, group_q}];
  assign unused = ^unused_sign;
  for (genvar p = 0; p < P; p++) begin : g_pixel
    for (genvar m = 0; m < M; m++) begin : g_channel
      logic signed [SumW+3:0] add;
      assign add = hi_i ? {sum_i[p][m][SumW-1:0], 4'd0} : {{4{sum_i[p][m][SumW-1]}}, sum_i[p][m][SumW-1:0]};
      assign unused_sign[p*M+m] = ^sum_i[p][m][31:SumW];
      always_ff @(posedge clk_i) add_q[p][m] <= 32'(add);
      assign next[p][m] = add_q[p][m] + (first_q ? bias_i[m] : old[p][m]);
    end
  end

  always_ff @(posedge clk_i) begin
    valid_q <= valid_i;
    buf_q   <= buf_i;
    group_q <= group_i;
    first_q <= first_i;
    last_q  <= last_i;
    done_valid_o <= valid_q;
    done_last_o  <= valid_q & last_q;
    if (valid_q) mem[{buf_q, group_q}] <= next;
    acc_o <= mem[{drain_buf_i, drain_group_i}];
    if (rst_i) begin
      valid_q      <= 1'b0;
      done_valid_o <= 1'b0;
      done_last_o  <= 1'b0;
    end
  end
endmodule
