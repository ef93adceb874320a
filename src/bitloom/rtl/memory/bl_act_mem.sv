// Activation memory: P banks of ActRows words of C bytes, each word cut into C/DC slices with their own write enable.
// Port A reads one row of every bank per cycle; port B reads or writes one row of every enabled bank. Data 2 cycles later.
// Resource: P × (C/DC) RAMs of DC bytes.
module bl_act_mem #(
  parameter int unsigned P       = 2,
  parameter int unsigned C       = 8,
  parameter int unsigned DC      = 4,
  parameter int unsigned ActRows = 256,
  localparam int unsigned RowW   = $clog2(ActRows),
  localparam int unsigned NS     = C / DC
) (
  input  logic                         clk_i,
  input  logic                         en_a_i,
  input  logic [P-1:0][RowW-1:0]       row_a_i,
  output logic [P-1:0][C-1:0][7:0]     q_a_o,
  input  logic [P-1:0]                 en_b_i,
  input  logic                         we_b_i,
  input  logic [P-1:0][NS-1:0]         slice_b_i,   // written slices
  input  logic [P-1:0][RowW-1:0]       row_b_i,
  input  logic [P-1:0][C-1:0][7:0]     d_b_i,
  output logic [P-1:0][C-1:0][7:0]     q_b_o
);
  if (C % DC != 0) begin : g_bad
    $fatal(1, "%m: DC = %0d does not divide C = %0d", DC, C);
  end

  for (genvar b = 0; b < P; b++) begin : g_bank
    for (genvar s = 0; s < NS; s++) begin : g_slice
      bl_ram_rr #(.Width(DC * 8), .Depth(ActRows)) u_ram (
        .clk_i,
        .en_a_i,
        .row_a_i(row_a_i[b]),
        .q_a_o  (q_a_o[b][s*DC +: DC]),
        .en_b_i (en_b_i[b] & (~we_b_i | slice_b_i[b][s])),
        .we_b_i,
        .row_b_i(row_b_i[b]),
        .d_b_i  (d_b_i[b][s*DC +: DC]),
        .q_b_o  (q_b_o[b][s*DC +: DC])
      );
    end
  end

`ifdef BITLOOM_TRACE
  import "DPI-C" function void bl_trace_write(input int bank, input int row, input bit [127:0] strobe,
                                              input bit [1023:0] data);
  always_ff @(posedge clk_i) begin
    for (int b = 0; b < int'(P); b++) begin
      if (en_b_i[b] && we_b_i) begin
        bit [127:0] strobe;
        strobe = '0;
        for (int i = 0; i < int'(C); i++) strobe[i] = slice_b_i[b][i/int'(DC)];
        bl_trace_write(b, int'(row_b_i[b]), strobe, 1024'(d_b_i[b]));
      end
    end
  end
`endif
endmodule
