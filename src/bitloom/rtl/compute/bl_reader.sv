// Read path: a flat start position and a tap become P × C activation codes.
// Lane p reads flat position start + p, start = row·P + bank (bank = bank_off < P): bank j is read at row + (j < bank), and
// lane p takes bank (bank + p) mod P. Lanes outside [y_lo, y_hi) × [x_lo, x_hi) get the pad code.
// Latency: valid_o, inside_o and side_o come 3 cycles after valid_i, act_o 4. Throughput 1 per cycle, no back-pressure.
// The memory's port A belongs to store_* while store_en_i is set (the array is idle then).
// Resource: P·C·8 multiplexers of P inputs (rotation: bl_reader_lane), 4·P comparators.
module bl_reader
  import bl_pkg::*;
#(
  parameter int unsigned P      = 2,
  parameter int unsigned C      = 8,
  parameter int unsigned ActRows = 256,
  parameter int unsigned SideW  = 8,
  localparam int unsigned RowW  = $clog2(ActRows),
  localparam int unsigned BankW = $clog2(P)
) (
  input  logic                     clk_i,
  input  logic                     valid_i,
  input  logic [17:0]              row_i,
  input  tap_t                     tap_i,       // row_off is already in row_i
  input  logic [P-1:0][11:0]       oy_i,
  input  logic [P-1:0][16:0]       ox_i,
  input  logic [7:0]               pad_code_i,
  input  logic [SideW-1:0]         side_i,
  output logic                     mem_en_o,
  output logic [P-1:0][RowW-1:0]   mem_row_o,
  input  logic [P-1:0][C-1:0][7:0] mem_q_i,     // 2 cycles after mem_en_o
  input  logic                     store_en_i,
  input  logic [BankW-1:0]         store_bank_i,
  input  logic [RowW-1:0]          store_row_i,
  output logic [C-1:0][7:0]        store_q_o,   // 3 cycles after store_en_i
  output logic                     valid_o,     // these three one cycle before act_o, for registers beside its loads
  output logic [P-1:0]             inside_o,
  output logic [SideW-1:0]         side_o,
  output logic [P-1:0][C-1:0][7:0] act_o
);
  logic [2:0]                      valid_q;
  logic [2:0][SideW-1:0]           side_q;
  logic [2:0][BankW-1:0]           bank_q;
  logic [2:0][P-1:0]               inside_q;
  logic [1:0][7:0]                 pad_q;
  logic [P-1:0]                    in_image;
  logic [BankW-1:0]                bank;
  logic                            unused_tap;

  assign bank       = tap_i.bank_off[BankW-1:0];
  assign unused_tap = ^{1'b0, tap_i.row_off, tap_i.bank_off, row_i};

  always_comb begin
    for (int p = 0; p < int'(P); p++) begin
      in_image[p] = oy_i[p] >= tap_i.y_lo && oy_i[p] < tap_i.y_hi && ox_i[p] >= tap_i.x_lo && ox_i[p] < tap_i.x_hi;
    end
  end

  // Cycle 1: bank rows and masks. Cycles 2, 3: memory.
  always_ff @(posedge clk_i) begin
    mem_en_o <= valid_i | store_en_i;
    for (int b = 0; b < int'(P); b++) begin
      mem_row_o[b] <= store_en_i ? store_row_i : row_i[RowW-1:0] + RowW'(BankW'(b) < bank);
    end
    valid_q  <= {valid_q[1:0], valid_i};
    side_q   <= {side_q[1:0], side_i};
    bank_q   <= {bank_q[1:0], store_en_i ? store_bank_i : bank};
    inside_q <= {inside_q[1:0], in_image};
    pad_q    <= {pad_q[0], pad_code_i};
  end

  assign store_q_o = mem_q_i[bank_q[2]];

  // Cycle 4: rotation and padding; each lane decodes its bank one cycle ahead.
  assign valid_o  = valid_q[2];
  assign side_o   = side_q[2];
  assign inside_o = inside_q[2];
  for (genvar p = 0; p < P; p++) begin : g_lane
    logic [BankW-1:0] from;
    always_comb begin
      automatic int unsigned sum = 32'(bank_q[1]) + 32'(p);
      from = BankW'(sum >= P ? sum - P : sum);
    end
    bl_reader_lane #(.P(P), .C(C)) u_lane (
      .clk_i, .from_i(from), .inside_i(inside_q[1][p]), .pad_code_i(pad_q[1]), .mem_q_i, .act_o(act_o[p])
    );
  end
endmodule
