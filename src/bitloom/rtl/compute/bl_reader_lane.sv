// One lane of the read path: the word of bank from_i, or the pad code. The choice comes one cycle before the words and is
// registered here, so that it has the loads of one lane. Latency: 2 cycles from the choice, 1 from the words.
// Resource: C·8 multiplexers of P inputs.
module bl_reader_lane #(
  parameter int unsigned P = 2,
  parameter int unsigned C = 8,
  localparam int unsigned BankW = $clog2(P)
) (
  input  logic                     clk_i,
  input  logic [BankW-1:0]         from_i,
  input  logic                     inside_i,
  input  logic [7:0]               pad_code_i,
  input  logic [P-1:0][C-1:0][7:0] mem_q_i,
  output logic [C-1:0][7:0]        act_o
);
  if (P < 2 || C < 1) begin : g_bad
    $fatal(1, "%m: P = %0d, C = %0d; legal: P from 2, C from 1", P, C);
  end

  (* dont_touch = "yes" *) logic [BankW-1:0] from_q;
  (* dont_touch = "yes" *) logic             inside_q;
  logic [7:0]       pad_q;
  always_ff @(posedge clk_i) begin
    from_q   <= from_i;
    inside_q <= inside_i;
    pad_q    <= pad_code_i;
    act_o    <= inside_q ? mem_q_i[from_q] : {C{pad_q}};
  end
endmodule
