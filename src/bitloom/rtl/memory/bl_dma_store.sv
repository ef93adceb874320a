// STORE's data path: words read from activation memory, packed into beats.
//   start_i   copies the command's addresses; go_i begins with words_i = beats·chunks words in all
//   rd_*      a read leaves with rd_valid_o & rd_ready_i, its data come ReadLatency cycles later
//   done_o    all beats are out (level, low from the cycle after go_i until then)
// Throughput one word or one beat per cycle, whichever is slower.
// Resource: a queue of 8 words in LUT memory, one beat of 128 bits.
module bl_dma_store
  import bl_pkg::*;
#(
  parameter int unsigned P           = 2,
  parameter int unsigned C           = 8,
  parameter int unsigned ActRows     = 256,
  parameter int unsigned ReadLatency = 3,
  localparam int unsigned RowW  = $clog2(ActRows),
  localparam int unsigned BankW = $clog2(P)
) (
  input  logic              clk_i,
  input  logic              rst_i,
  input  logic              flush_i,
  input  logic              start_i,
  input  cmd_t              cmd_i,
  input  logic              go_i,
  input  logic [31:0]       words_i,
  output logic              rd_valid_o,
  input  logic              rd_ready_i,
  output logic [BankW-1:0]  rd_bank_o,
  output logic [RowW-1:0]   rd_row_o,
  input  logic [C-1:0][7:0] rd_data_i,
  output logic [127:0]      beat_o,
  output logic              beat_valid_o,
  input  logic              beat_ready_i,
  output logic              done_o
);
  localparam int unsigned Queue = 8;
  localparam int unsigned CntW  = $clog2(Queue) + 1;

  // ---- reads: rd_bank_o, rd_row_o are the next word's ----
  logic [31:0]            ask_q, per_chunk_q, chunk_left_q, words_q;
  logic [17:0]            row_q, chunk_row_q, chunk_rows_q;
  logic [BankW-1:0]       bank_q, bank0_q;
  logic [CntW-1:0]        free_q;       // places in the queue that no read has claimed
  logic [ReadLatency-1:0] flight_q;
  logic                   read, pop, unused_cmd;
  assign unused_cmd = ^cmd_i;

  assign rd_valid_o = ask_q != '0 && free_q != '0;
  assign rd_bank_o  = bank_q;
  assign rd_row_o   = row_q[RowW-1:0];
  assign read       = rd_valid_o & rd_ready_i;

  always_ff @(posedge clk_i) begin
    flight_q <= ReadLatency'({flight_q, read});
    free_q   <= free_q - CntW'(read) + CntW'(pop);
    if (read) begin
      ask_q <= ask_q - 32'd1;
      if (chunk_left_q == 32'd1) begin
        chunk_left_q <= per_chunk_q;
        bank_q       <= bank0_q;
        row_q        <= chunk_row_q;
        chunk_row_q  <= chunk_row_q + chunk_rows_q;
      end else begin
        chunk_left_q <= chunk_left_q - 32'd1;
        bank_q       <= (bank_q == BankW'(P - 1)) ? '0 : bank_q + 1'b1;
        row_q        <= row_q + 18'(bank_q == BankW'(P - 1));
      end
    end
    if (start_i && cmd_i.opcode == OpStore) begin
      per_chunk_q  <= cmd_i.beats;
      chunk_left_q <= cmd_i.beats;
      bank_q       <= cmd_i.dma_pixel[BankW-1:0];
      bank0_q      <= cmd_i.dma_pixel[BankW-1:0];
      row_q        <= cmd_i.in_base;
      chunk_row_q  <= cmd_i.in_base + cmd_i.in_chunk_rows;
      chunk_rows_q <= cmd_i.in_chunk_rows;
    end
    if (go_i) ask_q <= words_i;
    if (rst_i || flush_i) begin
      ask_q    <= '0;
      free_q   <= CntW'(Queue);
      flight_q <= '0;
    end
  end

  // ---- queue of words ----
  logic              word_valid, queue_ready;
  logic [C-1:0][7:0] word;
  logic [CntW-1:0]   count;
  bl_fifo #(.Width(C * 8), .Depth(Queue)) u_queue (
    .clk_i, .rst_i, .clear_i(flush_i),
    .valid_i(flight_q[ReadLatency-1]), .ready_o(queue_ready), .data_i(rd_data_i),
    .valid_o(word_valid), .ready_i(pop), .data_o(word), .count_o(count)
  );
  logic unused;
  assign unused = ^{queue_ready, count};

  // ---- words to beats ----
  if (C >= 16) begin : g_wide
    // A word is C/16 beats, straight from the head of the queue.
    localparam int unsigned Parts = C / 16;
    localparam int unsigned PartW = (Parts > 1) ? $clog2(Parts) : 1;
    logic [PartW-1:0] part_q;
    logic             part_end;
    assign part_end     = part_q == PartW'(Parts - 1);
    assign beat_valid_o = word_valid;
    assign beat_o       = word[32'(part_q) * 16 +: 16];
    assign pop          = word_valid & beat_ready_i & part_end;
    always_ff @(posedge clk_i) begin
      if (word_valid && beat_ready_i) part_q <= part_end ? '0 : part_q + 1'b1;
      if (rst_i || flush_i) part_q <= '0;
    end
  end else begin : g_narrow
    // 16/C words are a beat.
    localparam int unsigned Parts = 16 / C;
    localparam int unsigned PartW = $clog2(Parts);
    logic [Parts-1:0][C*8-1:0] beat_q;
    logic [PartW-1:0]          part_q;
    logic                      full_q, free, last_word;
    assign last_word    = words_q == 32'd1;
    assign free         = ~full_q | beat_ready_i;
    assign beat_valid_o = full_q;
    assign beat_o       = beat_q;
    assign pop          = word_valid & free;
    always_ff @(posedge clk_i) begin
      if (pop) begin
        if (part_q == '0) beat_q <= '0;
        beat_q[part_q] <= word;
        part_q         <= last_word ? '0 : part_q + 1'b1;
      end
      full_q <= (pop && (last_word || part_q == PartW'(Parts - 1))) | (full_q & ~beat_ready_i);
      if (rst_i || flush_i) begin
        part_q <= '0;
        full_q <= 1'b0;
      end
    end
  end

  logic running_q;
  assign done_o = ~running_q;
  always_ff @(posedge clk_i) begin
    if (pop) words_q <= words_q - 32'd1;
    if (go_i) words_q <= words_i;
    if (go_i) running_q <= 1'b1;
    else if (words_q == '0 && !beat_valid_o) running_q <= 1'b0;
    if (rst_i || flush_i) begin
      running_q <= 1'b0;
      words_q   <= '0;
    end
  end
endmodule
