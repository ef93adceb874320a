// Activation memory: P banks of ActRows words of C bytes, each word cut into C/DC slices with their own write enable.
// Every bank is two halves of rows (top row bit) with their own ports. Port A reads one row of every bank per cycle for the
// array; R reads through port A of the other half, for the residual. Where both ask a bank for the same half, R wins: the array
// then reads for a lane outside the image or a pixel that is not written. Port B reads or writes one row of every
// enabled bank; D writes one word through port B where that does not want the same half of its bank (ready_d_o). Data 2 cycles later.
// Resource: P × 2 × (C/DC) RAMs of DC bytes, two multiplexers of P·C bytes with 2 inputs.
module bl_act_mem #(
  parameter int unsigned P       = 2,
  parameter int unsigned C       = 8,
  parameter int unsigned DC      = 4,
  parameter int unsigned ActRows = 256,
  localparam int unsigned RowW   = $clog2(ActRows),
  localparam int unsigned BankW  = $clog2(P),
  localparam int unsigned NS     = C / DC
) (
  input  logic                         clk_i,
  input  logic                         en_a_i,
  input  logic [P-1:0][RowW-1:0]       row_a_i,
  output logic [P-1:0][C-1:0][7:0]     q_a_o,
  input  logic [P-1:0]                 en_r_i,
  input  logic [P-1:0][RowW-1:0]       row_r_i,
  output logic [P-1:0][C-1:0][7:0]     q_r_o,
  input  logic [P-1:0]                 en_b_i,
  input  logic                         we_b_i,
  input  logic [P-1:0][NS-1:0]         slice_b_i,   // written slices
  input  logic [P-1:0][RowW-1:0]       row_b_i,
  input  logic [P-1:0][C-1:0][7:0]     d_b_i,
  output logic [P-1:0][C-1:0][7:0]     q_b_o,
  input  logic                         valid_d_i,
  output logic                         ready_d_o,
  input  logic [BankW-1:0]             bank_d_i,
  input  logic [RowW-1:0]              row_d_i,
  input  logic [C-1:0][7:0]            d_d_i
);
  if (C % DC != 0 || ActRows < 4) begin : g_bad
    $fatal(1, "%m: DC = %0d, C = %0d, ActRows = %0d; legal: DC divides C, ActRows from 4", DC, C, ActRows);
  end
  localparam int unsigned HalfW = RowW - 1;

  logic [P-1:0][1:0] taken;        // port B wants this half of the bank
  assign ready_d_o = ~taken[bank_d_i][row_d_i[HalfW]];

  for (genvar b = 0; b < P; b++) begin : g_bank
    logic [1:0][C-1:0][7:0] q_a, q_b;
    logic [1:0]             a_side_q, r_side_q, b_side_q;   // half asked for, as long as the data take

    for (genvar h = 0; h < 2; h++) begin : g_half
      localparam int unsigned Rows = (h == 0) ? (1 << HalfW) : ActRows - (1 << HalfW);
      localparam int unsigned AddrW = $clog2(Rows);
      logic              mine_r, mine_b, mine_d;
      logic [HalfW-1:0]  row_a, row_b;
      logic [C-1:0][7:0] word_b;
      assign mine_r = en_r_i[b] & (row_r_i[b][HalfW] == (h == 1));
      assign row_a  = mine_r ? row_r_i[b][HalfW-1:0] : row_a_i[b][HalfW-1:0];
      assign mine_b = en_b_i[b] & (row_b_i[b][HalfW] == (h == 1));
      assign mine_d = valid_d_i & ~mine_b & bank_d_i == BankW'(b) & (row_d_i[HalfW] == (h == 1));
      assign row_b  = mine_b ? row_b_i[b][HalfW-1:0] : row_d_i[HalfW-1:0];
      assign word_b = mine_b ? d_b_i[b] : d_d_i;
      assign taken[b][h] = mine_b;
      for (genvar s = 0; s < NS; s++) begin : g_slice
        bl_ram_rr #(.Width(DC * 8), .Depth(Rows)) u_ram (
          .clk_i,
          .en_a_i (mine_r | (en_a_i & (row_a_i[b][HalfW] == (h == 1)))),
          .row_a_i(row_a[AddrW-1:0]),
          .q_a_o  (q_a[h][s*DC +: DC]),
          .en_b_i (mine_d | (mine_b & (~we_b_i | slice_b_i[b][s]))),
          .we_b_i (mine_d | we_b_i),
          .row_b_i(row_b[AddrW-1:0]),
          .d_b_i  (word_b[s*DC +: DC]),
          .q_b_o  (q_b[h][s*DC +: DC])
        );
      end
    end

    always_ff @(posedge clk_i) begin
      a_side_q <= {a_side_q[0], row_a_i[b][HalfW]};
      r_side_q <= {r_side_q[0], row_r_i[b][HalfW]};
      b_side_q <= {b_side_q[0], row_b_i[b][HalfW]};
    end
    assign q_a_o[b] = q_a[a_side_q[1]];
    assign q_r_o[b] = q_a[r_side_q[1]];
    assign q_b_o[b] = q_b[b_side_q[1]];
  end

`ifdef BITLOOM_TRACE
  import "DPI-C" function void bl_trace_write(input int bank, input int row, input bit [127:0] strobe,
                                              input bit [1023:0] data);
  always_ff @(posedge clk_i) begin
    if (valid_d_i && ready_d_o) bl_trace_write(int'(bank_d_i), int'(row_d_i), {128{1'b1}}, 1024'(d_d_i));
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
