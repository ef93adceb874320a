// Ring of one weight lane: beats in, one C-bit word per cycle out, and the lane's own plane counts.
// Writing: wr_valid_i stores a beat (128/C words) if a whole beat is free; else wr_held_o, and the beat is held.
// Reading: a command reads the word at the read pointer
//   header   header word `index`; the vector's start follows the last header word
//   valid    plane `index` of pass `hi`: this lane reads when it has that many planes
//   release  the word's place becomes free;  rewind: after the cycle's read, back to the vector's start
//   word_o, plane_*_o: 2 + MuxReg cycles after the command; planes_*_o: one cycle after the last header word
// Reserving: rsv_header_i and rsv_step_i take a header's or a step's words (both passes) out of the margin = words written -
// words reserved; three cycles later header_o and steps_o[k] say whether it holds a header, k + 1 steps. So all lanes
// reserve the same steps, and a reserved word can be read at any later time. steps_o is that of the last header read.
// Planes of a pass: hi: bits - 4 of a lane with 6..8 bits, else 0; lo: 4 of these, else bits.
// plane_first_o, plane_signed_o: what bl_weight_regs makes of a plane; the one plane of a binary weight is 0 1.
// Resource: RingWords·C bits of block RAM (128 wide, one read per 128/C words), about 100 flip-flops.
module bl_weight_lane #(
  parameter int unsigned C         = 8,
  parameter int unsigned RingWords = 512,
  parameter int unsigned MuxReg    = 1,
  localparam int unsigned HdrWords = (C >= 64) ? 1 : 64 / C
) (
  input  logic         clk_i,
  input  logic         clear_i,
  input  logic         wr_valid_i,
  output logic         wr_held_o,
  input  logic [127:0] wr_data_i,
  input  logic         rsv_header_i,
  input  logic         rsv_step_i,
  output logic         header_o,
  output logic [4:0]   steps_o,
  input  logic [8:0]   cmd_i,            // valid, header, index (4), hi, release, rewind
  output logic [2:0]   planes_hi_o,
  output logic [2:0]   planes_lo_o,
  output logic [C-1:0] word_o,
  output logic         plane_valid_o,
  output logic         plane_first_o,
  output logic         plane_signed_o
);
  localparam int unsigned Sub   = 128 / C;           // words of a beat
  localparam int unsigned SubW  = $clog2(Sub);
  localparam int unsigned Rows  = RingWords / Sub;
  localparam int unsigned RowW  = $clog2(Rows);
  localparam int unsigned PtrW  = $clog2(RingWords);
  localparam int unsigned LevW  = PtrW + 2;
  localparam int unsigned SelW  = (SubW == 0) ? 1 : SubW;
  localparam int unsigned BitsWord = (C >= 64) ? 0 : 52 / C;
  localparam int unsigned BitsAt   = 52 - BitsWord * C;

  if (C < 4 || C > 128 || (C & (C - 1)) != 0 || RingWords < 2 * Sub || RingWords < 2 * HdrWords
      || (RingWords & (RingWords - 1)) != 0 || MuxReg > 1) begin : g_bad
    $fatal(1, "%m: C = %0d, RingWords = %0d, MuxReg = %0d; legal: C a power of two 4..128, %s", C, RingWords, MuxReg,
           "RingWords a power of two of at least two beats and two headers, MuxReg 0 or 1");
  end

  (* dont_touch = "yes" *) logic clear_q;
  always_ff @(posedge clk_i) clear_q <= clear_i;

  logic       cmd_valid, cmd_header, cmd_hi, cmd_release, cmd_rewind;
  logic [3:0] cmd_index;
  assign {cmd_valid, cmd_header, cmd_index, cmd_hi, cmd_release, cmd_rewind} = cmd_i;

  // ---- levels ----
  logic [LevW-1:0]        margin_q;
  logic [LevW-1:0]        space_q;     // free words, less those of a beat, plus half the range: the top bit says that a beat fits
  logic [5:0]             level_q;     // margin_q, 63 at most; five steps take 40 words
  logic [3:0]             bits, need_q;   // need_q: words of a step
  logic [2:0]             hi_q, lo_q;
  logic                   write, read;

  assign write     = wr_valid_i & space_q[LevW-1];
  assign wr_held_o = wr_valid_i & ~space_q[LevW-1];

  always_ff @(posedge clk_i) begin
    margin_q <= margin_q + (write ? LevW'(Sub) : '0)
                - (rsv_header_i ? LevW'(HdrWords) : rsv_step_i ? LevW'(need_q) : '0);
    level_q  <= margin_q[LevW-1:6] != '0 ? '1 : margin_q[5:0];
    header_o <= level_q >= 6'(HdrWords);
    for (int k = 0; k < 5; k++) steps_o[k] <= level_q >= 6'(k + 1) * 6'(need_q);
    space_q  <= space_q - (write ? LevW'(Sub) : '0) + LevW'(read & cmd_release);
    if (clear_q) begin
      margin_q <= '0;
      level_q  <= '0;
      header_o <= 1'b0;
      steps_o  <= '0;
      space_q  <= {1'b1, (LevW-1)'(RingWords - Sub)};
    end
  end

  // ---- pointers ----
  logic [RowW-1:0] wr_row_q;
  logic [PtrW-1:0] rd_q, start_q, rd_next;
  logic            fresh_q;      // the memory's output holds the row of rd_q
  logic [SelW-1:0] sub;

  assign read    = cmd_header | (cmd_valid & (cmd_index < {1'b0, cmd_hi ? hi_q : lo_q}));
  assign rd_next = rd_q + PtrW'(read);
  assign sub     = (SubW == 0) ? '0 : rd_q[SelW-1:0];

  always_ff @(posedge clk_i) begin
    if (write) wr_row_q <= wr_row_q + 1'b1;
    rd_q <= cmd_rewind ? start_q : rd_next;
    if (cmd_header) start_q <= rd_next;
    if (read) fresh_q <= sub != SelW'(Sub - 1);
    if (cmd_rewind) fresh_q <= 1'b0;
    if (clear_q) begin
      wr_row_q <= '0;
      rd_q     <= '0;
      fresh_q  <= 1'b0;
    end
  end

  // ---- memory: array, then output register ----
  (* ram_style = "block" *)
  logic [127:0]    mem [Rows];
  logic [127:0]    row_q, out_q;

  always_ff @(posedge clk_i) begin
    if (write) mem[wr_row_q] <= wr_data_i;
    if (read && !fresh_q) row_q <= mem[rd_q[PtrW-1:SubW]];
    out_q <= row_q;
  end

  // ---- what comes out ----
  // [0] one cycle after the command, [1] with the memory's output register
  logic [1:0]           bits_word_q, valid_q, first_q, signed_q;   // bits_word: the header word that holds the bits
  logic [1:0][SelW-1:0] sub_q;
  logic                 binary;
  assign binary = lo_q == 3'd1;

  always_ff @(posedge clk_i) begin
    bits_word_q <= {bits_word_q[0], cmd_header && cmd_index == 4'(BitsWord)};
    valid_q     <= {valid_q[0], cmd_valid & read & ~cmd_header};
    first_q     <= {first_q[0], cmd_index == '0 && !binary};
    signed_q    <= {signed_q[0], cmd_index == '0 && (cmd_hi || hi_q == '0)};
    sub_q       <= {sub_q[0], sub};
  end

  logic         bits_word;
  logic [C-1:0] word;
  assign word = out_q[32'(sub_q[1]) * C +: C];

  if (MuxReg == 1) begin : g_reg
    always_ff @(posedge clk_i) begin
      word_o         <= word;
      bits_word      <= bits_word_q[1];
      plane_valid_o  <= valid_q[1];
      plane_first_o  <= first_q[1];
      plane_signed_o <= signed_q[1];
    end
  end else begin : g_wire
    assign word_o         = word;
    assign bits_word      = bits_word_q[1];
    assign plane_valid_o  = valid_q[1];
    assign plane_first_o  = first_q[1];
    assign plane_signed_o = signed_q[1];
  end

  assign bits = word_o[BitsAt +: 4];
  always_ff @(posedge clk_i) begin
    if (bits_word) begin
      hi_q   <= (bits < 4'd6) ? 3'd0 : (bits > 4'd8) ? 3'd4 : 3'(bits - 4'd4);
      lo_q   <= (bits < 4'd6) ? bits[2:0] : 3'd4;
      need_q <= (bits > 4'd8) ? 4'd8 : bits;
    end
    if (clear_q) begin
      hi_q   <= '0;
      lo_q   <= '0;
      need_q <= '0;
    end
  end
  assign planes_hi_o = hi_q;
  assign planes_lo_o = lo_q;
endmodule
