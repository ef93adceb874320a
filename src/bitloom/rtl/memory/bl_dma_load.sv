// LOAD's data path: beats are cut into units of 4, 8 or 16 bytes, a word holds the last `window` units (unit n at its
// low end).
// Windowed: word n is units n .. n + window - 1 of the chunk; linear: every unit belongs to one word.
// A chunk is cmd.beats beats; its words go to flat positions dma_pixel, dma_pixel + 1, .. from row
// out_base + k·out_chunk_rows.
//   done_o   nothing of the region is left here (level, low from start_i until then)
// Throughput one unit per cycle, so a beat of one unit takes one cycle and of four units four.
// Resource: C bytes with a multiplexer of 3 shifts and the new unit.
module bl_dma_load
  import bl_pkg::*;
#(
  parameter int unsigned P       = 2,
  parameter int unsigned C       = 8,
  parameter int unsigned ActRows = 256,
  localparam int unsigned RowW  = $clog2(ActRows),
  localparam int unsigned BankW = $clog2(P)
) (
  input  logic              clk_i,
  input  logic              rst_i,
  input  logic              flush_i,
  input  logic              start_i,
  input  cmd_t              cmd_i,
  input  logic [127:0]      beat_i,
  input  logic              beat_valid_i,
  input  logic              beat_last_i,
  output logic              beat_ready_o,
  output logic              wr_valid_o,
  input  logic              wr_ready_i,
  input  logic              stored_i,         // a word has reached the memory
  output logic [BankW-1:0]  wr_bank_o,
  output logic [RowW-1:0]   wr_row_o,
  output logic [C-1:0][7:0] wr_data_o,
  output logic [17:0]       load_count_o,
  output logic              done_o
);
  // A linear word is C/16 units of 16 bytes, or one unit of C bytes.
  localparam logic [5:0] LinearWindow = (C >= 16) ? 6'(C / 16) : 6'd1;
  localparam logic [1:0] LinearUnits  = (C >= 16) ? 2'd0 : (C == 8) ? 2'd1 : 2'd2;

  // ---- fields of the command ----
  logic        linear_q;
  logic [1:0]  units_log2_q, unit_last;
  logic [5:0]  window_q;
  logic [31:0] beats_q;
  logic [17:0] chunk_rows_q, chunk_row_q;
  logic [BankW-1:0] bank0_q;
  logic        unused_cmd;
  assign unused_cmd = ^cmd_i;

  // ---- units of the current beat ----
  logic [1:0]   unit_q;
  logic [127:0] unit;             // the unit, repeated over all its places
  logic [31:0]  left_q;           // beats of the chunk, the current one included
  logic         move, beat_end, chunk_end, complete;
  logic         over_q;           // the last unit of the region has been taken

  assign unit_last    = (units_log2_q == 2'd0) ? 2'd0 : (units_log2_q == 2'd1) ? 2'd1 : 2'd3;
  assign move         = beat_valid_i & ~over_q & (~wr_valid_o | wr_ready_i);
  assign beat_end     = unit_q == unit_last;
  assign beat_ready_o = move & beat_end;
  assign done_o       = over_q & ~wr_valid_o;
  assign chunk_end    = beat_end & left_q == 32'd1;

  always_comb begin
    unique case (units_log2_q)
      2'd0:    unit = beat_i;
      2'd1:    unit = {2{beat_i[32'(unit_q[0])*64 +: 64]}};
      default: unit = {4{beat_i[32'(unit_q)*32 +: 32]}};
    endcase
  end

  // ---- the word ----
  logic [5:0]        filled_q;    // units in the window, at most window
  logic [C-1:0][7:0] word_q, word_d;
  logic [C-1:0]      place_q;     // bytes of the newest unit
  logic [C+15:0][7:0] longer;     // the word, zeros above
  assign longer = {128'b0, word_q};

  assign complete = filled_q + 6'd1 >= window_q;
  always_comb begin
    for (int i = 0; i < int'(C); i++) begin
      word_d[i] = place_q[i]             ? unit[(i%16)*8 +: 8] :
                  units_log2_q == 2'd0   ? longer[i+16] :
                  units_log2_q == 2'd1   ? longer[i+8] : longer[i+4];
    end
  end
  assign wr_data_o = word_q;

  // ---- addresses: bank, row are those of the next word ----
  logic [BankW-1:0] bank_q, bank;
  logic [17:0]      row_q, row;
  logic             rewind_q;      // the next word is the first of a chunk
  assign bank = rewind_q ? bank0_q : bank_q;
  assign row  = rewind_q ? chunk_row_q : row_q;

  always_ff @(posedge clk_i) begin
    if (move) begin
      unit_q   <= beat_end ? '0 : unit_q + 2'd1;
      word_q   <= word_d;
      filled_q <= chunk_end ? '0 : complete ? (linear_q ? '0 : filled_q) : filled_q + 6'd1;
      if (beat_end) left_q <= chunk_end ? beats_q : left_q - 32'd1;
      if (complete) begin
        wr_bank_o <= bank;
        wr_row_o  <= row[RowW-1:0];
        bank_q    <= (bank == BankW'(P - 1)) ? '0 : bank + 1'b1;
        row_q     <= row + 18'(bank == BankW'(P - 1));
        rewind_q  <= 1'b0;
      end
      if (chunk_end) begin
        rewind_q    <= 1'b1;
        chunk_row_q <= chunk_row_q + chunk_rows_q;
      end
    end
    wr_valid_o <= (move & complete) | (wr_valid_o & ~wr_ready_i);
    if (stored_i && load_count_o != '1) load_count_o <= load_count_o + 18'd1;
    if (move && beat_end && beat_last_i) over_q <= 1'b1;

    if (start_i && cmd_i.opcode == OpLoad) begin
      linear_q     <= cmd_i.dma_linear;
      units_log2_q <= cmd_i.dma_linear ? LinearUnits : cmd_i.units_log2;
      window_q     <= cmd_i.dma_linear ? LinearWindow : cmd_i.window;
      beats_q      <= cmd_i.beats;
      left_q       <= cmd_i.beats;
      chunk_rows_q <= cmd_i.out_chunk_rows;
      chunk_row_q  <= cmd_i.out_base;
      bank0_q      <= cmd_i.dma_pixel[BankW-1:0];
      rewind_q     <= 1'b1;
      unit_q       <= '0;
      filled_q     <= '0;
      load_count_o <= '0;
      over_q       <= 1'b0;
      word_q       <= '0;
    end
    if (rst_i || flush_i) begin
      wr_valid_o   <= 1'b0;
      load_count_o <= '0;
      over_q       <= 1'b1;
    end
  end

  // Bytes of the newest unit: [(window-1)·bytes, window·bytes).
  always_ff @(posedge clk_i) begin
    for (int i = 0; i < int'(C); i++) begin
      unique case (units_log2_q)
        2'd0:    place_q[i] <= 6'(i / 16) == window_q - 6'd1;
        2'd1:    place_q[i] <= 6'(i / 8) == window_q - 6'd1;
        default: place_q[i] <= 6'(i / 4) == window_q - 6'd1;
      endcase
    end
  end
endmodule
