// Accumulators of one pixel and Width channels: two buffers of T groups in LUT memory, with their own copies of the control,
// so that every register of address and choice has the loads of this bank only.
//   as in bl_accum, whose latencies these are; hi_i comes one cycle before its sum_i
// Resource: Width·32 × 2T bits of two-port LUT memory, Width 32-bit adders.
module bl_accum_bank #(
  parameter int unsigned Width = 8,
  parameter int unsigned T     = 8,
  parameter int unsigned SumW  = 15,
  localparam int unsigned GroupW = $clog2(T)
) (
  input  logic                     clk_i,
  input  logic                     rst_i,
  input  logic                     valid_i,
  input  logic                     buf_i,
  input  logic [GroupW-1:0]        group_i,
  input  logic                     first_i,
  input  logic                     hi_i,
  input  logic [Width-1:0][31:0]   sum_i,
  input  logic [Width-1:0][31:0]   bias_i,
  input  logic                     drain_buf_i,
  input  logic [GroupW-1:0]        drain_group_i,
  output logic [Width-1:0][31:0]   acc_o
);
  if (T < 2 || (T & (T - 1)) != 0 || SumW < 1 || SumW > 28 || Width == 0) begin : g_bad
    $fatal(1, "%m: T = %0d, SumW = %0d, Width = %0d; legal: T a power of two from 2, SumW 1..28, Width > 0", T, SumW,
           Width);
  end

  (* ram_style = "distributed" *)
  logic [Width-1:0][31:0] mem [2*T];
  logic [Width-1:0][31:0] old, next, add_q;
  (* dont_touch = "yes" *) logic            valid_q, first_q, hi_q;
  (* dont_touch = "yes" *) logic [GroupW:0] at_q, drain_at_q;
  logic [Width-1:0]       unused_sign;

  assign old = mem[at_q];
  for (genvar m = 0; m < Width; m++) begin : g_channel
    logic signed [SumW+3:0] add;
    assign add = hi_q ? {sum_i[m][SumW-1:0], 4'd0} : {{4{sum_i[m][SumW-1]}}, sum_i[m][SumW-1:0]};
    assign unused_sign[m] = ^sum_i[m][31:SumW];
    always_ff @(posedge clk_i) add_q[m] <= 32'(add);
    assign next[m] = add_q[m] + (first_q ? bias_i[m] : old[m]);
  end

  always_ff @(posedge clk_i) begin
    valid_q    <= valid_i;
    at_q       <= {buf_i, group_i};
    first_q    <= first_i;
    hi_q       <= hi_i;
    drain_at_q <= {drain_buf_i, drain_group_i};
    if (valid_q) mem[at_q] <= next;
    acc_o <= mem[drain_at_q];
    if (rst_i) valid_q <= 1'b0;
  end

  logic unused;
  assign unused = ^unused_sign;
endmodule
