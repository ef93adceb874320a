// The residual of one pixel: DC bytes of bank from_i, from port A's words or port B's, or zeros.
//   from_i, slice_i   one cycle before a_i and b_i of the same operation; kept here, as are the command's residual_i and side_i,
//                     so that every pixel has its own copies
// Latency: 2 cycles from the choice, 1 from the words. Resource: DC·8 multiplexers of 2·P·C/DC inputs.
module bl_drain_residual #(
  parameter int unsigned P  = 2,
  parameter int unsigned C  = 8,
  parameter int unsigned DC = 4,
  localparam int unsigned BankW  = $clog2(P),
  localparam int unsigned NS     = C / DC,
  localparam int unsigned SliceW = (NS > 1) ? $clog2(NS) : 1
) (
  input  logic                     clk_i,
  input  logic                     residual_i,
  input  logic                     side_i,
  input  logic [BankW-1:0]         from_i,
  input  logic [SliceW-1:0]        slice_i,
  input  logic [P-1:0][C-1:0][7:0] a_i,
  input  logic [P-1:0][C-1:0][7:0] b_i,
  output logic [DC-1:0][7:0]       code_o
);
  if (P < 2 || C < 1 || C % DC != 0) begin : g_bad
    $fatal(1, "%m: P = %0d, C = %0d, DC = %0d; legal: P from 2, DC divides C", P, C, DC);
  end

  (* dont_touch = "yes" *) logic              residual_q, side_q;
  (* dont_touch = "yes" *) logic [BankW-1:0]  from_q;
  (* dont_touch = "yes" *) logic [SliceW-1:0] slice_q;

  always_ff @(posedge clk_i) begin
    residual_q <= residual_i;
    side_q     <= side_i;
    from_q     <= from_i;
    slice_q    <= slice_i;
    for (int j = 0; j < int'(DC); j++) begin
      automatic int byte_at = (NS > 1) ? int'(slice_q) * int'(DC) + j : j;
      code_o[j] <= !residual_q ? 8'd0 : side_q ? a_i[from_q][byte_at] : b_i[from_q][byte_at];
    end
  end
endmodule
