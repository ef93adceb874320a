// LOAD: DDR beats -> activation words, as units and window or linear (docs/spec/streams.md, "Input image").
// STORE: activation words -> DDR beats. One at a time.
//   start_i       with cmd_i (opcode LOAD or STORE, copied in that cycle) and addr_i; only while busy_o is low
//   wr_*          LOAD writes one word per cycle: word n of chunk k is flat position dma_pixel + n of the chunk at row
//                 out_base + k·out_chunk_rows (dma_pixel < P)
//   rd_*          STORE reads `beats` words of each chunk, from in_base with in_chunk_rows; rd_data_i comes ReadLatency
//                 cycles after rd_valid_o & rd_ready_i
//   load_count_o  words of the current LOAD that have been handed over, saturating
//   flush_i       aborts; read_error_o, write_error_o are sticky until start_i or flush_i
// Beats of a STORE: words packed without gaps, the last one filled with zeros.
// Resource: reader, writer, four words of C bytes, a queue of 8 words in LUT memory.
module bl_dma
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
  input  logic              clear_i,
  input  logic              flush_i,
  input  logic              start_i,
  input  cmd_t              cmd_i,
  input  logic [63:0]       addr_i,
  output logic              busy_o,
  output logic              progress_o,
  output logic              read_error_o,
  output logic              write_error_o,
  output logic [17:0]       load_count_o,
  output logic [31:0]       beats_read_o,
  output logic [31:0]       beats_write_o,
  output logic              wr_valid_o,
  input  logic              wr_ready_i,
  output logic [BankW-1:0]  wr_bank_o,
  output logic [RowW-1:0]   wr_row_o,
  output logic [C-1:0][7:0] wr_data_o,
  output logic              rd_valid_o,
  input  logic              rd_ready_i,
  output logic [BankW-1:0]  rd_bank_o,
  output logic [RowW-1:0]   rd_row_o,
  input  logic [C-1:0][7:0] rd_data_i,
  output logic              m_arid_o,
  output logic [63:0]       m_araddr_o,
  output logic [7:0]        m_arlen_o,
  output logic [2:0]        m_arsize_o,
  output logic [1:0]        m_arburst_o,
  output logic              m_arvalid_o,
  input  logic              m_arready_i,
  input  logic              m_rid_i,
  input  logic [127:0]      m_rdata_i,
  input  logic [1:0]        m_rresp_i,
  input  logic              m_rlast_i,
  input  logic              m_rvalid_i,
  output logic              m_rready_o,
  output logic              m_awid_o,
  output logic [63:0]       m_awaddr_o,
  output logic [7:0]        m_awlen_o,
  output logic [2:0]        m_awsize_o,
  output logic [1:0]        m_awburst_o,
  output logic              m_awvalid_o,
  input  logic              m_awready_i,
  output logic [127:0]      m_wdata_o,
  output logic [15:0]       m_wstrb_o,
  output logic              m_wlast_o,
  output logic              m_wvalid_o,
  input  logic              m_wready_i,
  input  logic              m_bid_i,
  input  logic [1:0]        m_bresp_i,
  input  logic              m_bvalid_i,
  output logic              m_bready_o
);
  localparam int unsigned WordLog2 = $clog2(C);      // log2 of bytes of a word

  if (P < 2 || C < 4 || C > 128 || (C & (C - 1)) != 0 || ActRows < 2 || ReadLatency == 0 || ReadLatency > 6) begin : g_bad
    $fatal(1, "%m: P = %0d, C = %0d, ActRows = %0d, ReadLatency = %0d; legal: P >= 2, C a power of two 4..128, %s", P, C,
           ActRows, ReadLatency, "ActRows >= 2, ReadLatency 1..6");
  end

  // ---- preparation: beats·chunks, one chunk bit per cycle ----
  typedef enum logic [2:0] {Idle, Multiply, Size, Begin, Run} state_e;
  state_e      state_q;
  logic        store_q, idle_q;                      // idle_q: state_q is Idle
  logic [63:0] addr_q;
  logic [31:0] total_q, addend_q, region, region_q;  // region: beats in DDR
  logic [11:0] factor_q;
  logic        begin_load, begin_store, load_done, store_done, reader_busy, writer_busy;

  assign busy_o      = state_q != Idle || reader_busy || writer_busy;

  // A word is C/16 beats, or 16/C words are a beat.
  if (WordLog2 >= 4) begin : g_wide
    assign region = store_q ? total_q << (WordLog2 - 4) : total_q;
  end else begin : g_narrow
    assign region = store_q ? (total_q + 32'((16 >> WordLog2) - 1)) >> (4 - WordLog2) : total_q;
  end

  always_ff @(posedge clk_i) begin
    begin_load  <= state_q == Size && !store_q;
    begin_store <= state_q == Size && store_q;
    unique case (state_q)
      Idle: if (start_i) begin
        state_q  <= Multiply;
        idle_q   <= 1'b0;
        store_q  <= cmd_i.opcode == OpStore;
        addr_q   <= addr_i;
        total_q  <= '0;
        addend_q <= cmd_i.beats;
        factor_q <= cmd_i.dma_chunks;
      end
      Multiply: begin
        if (factor_q[0]) total_q <= total_q + addend_q;
        addend_q <= addend_q << 1;
        factor_q <= factor_q >> 1;
        if (factor_q[11:1] == '0) state_q <= Size;
      end
      Size: begin
        region_q <= region;
        state_q  <= Begin;
      end
      Begin:   state_q <= Run;
      default: if (store_q ? store_done : load_done) begin
        state_q <= Idle;
        idle_q  <= 1'b1;
      end
    endcase
    if (rst_i || flush_i) begin
      state_q     <= Idle;
      idle_q      <= 1'b1;
      begin_load  <= 1'b0;
      begin_store <= 1'b0;
    end
  end

  // ---- the two masters ----
  logic [127:0] in_data, out_data;
  logic         in_valid, in_ready, in_last, in_beat, out_valid, out_ready, out_beat;

  bl_axi_reader u_reader (
    .clk_i, .rst_i, .start_i(begin_load), .addr_i(addr_q), .beats_i(region_q), .flush_i, .pause_i(1'b0),
    .busy_o(reader_busy), .error_o(read_error_o), .beat_o(in_beat),
    .data_o(in_data), .valid_o(in_valid), .ready_i(in_ready), .last_o(in_last),
    .m_arid_o, .m_araddr_o, .m_arlen_o, .m_arsize_o, .m_arburst_o, .m_arvalid_o, .m_arready_i,
    .m_rid_i, .m_rdata_i, .m_rresp_i, .m_rlast_i, .m_rvalid_i, .m_rready_o
  );
  bl_axi_writer u_writer (
    .clk_i, .rst_i, .start_i(begin_store), .addr_i(addr_q), .beats_i(region_q), .flush_i,
    .busy_o(writer_busy), .error_o(write_error_o), .beat_o(out_beat),
    .data_i(out_data), .valid_i(out_valid), .ready_o(out_ready),
    .m_awid_o, .m_awaddr_o, .m_awlen_o, .m_awsize_o, .m_awburst_o, .m_awvalid_o, .m_awready_i,
    .m_wdata_o, .m_wstrb_o, .m_wlast_o, .m_wvalid_o, .m_wready_i, .m_bid_i, .m_bresp_i, .m_bvalid_i, .m_bready_o
  );

  assign progress_o = in_beat | out_beat;
  always_ff @(posedge clk_i) begin
    beats_read_o  <= beats_read_o + 32'(in_beat);
    beats_write_o <= beats_write_o + 32'(out_beat);
    if (rst_i || clear_i) begin
      beats_read_o  <= '0;
      beats_write_o <= '0;
    end
  end

  // ---- the two directions ----
  logic              word_valid, word_ready, words_done;
  logic [BankW-1:0]  word_bank;
  logic [RowW-1:0]   word_row;
  logic [C-1:0][7:0] word;
  bl_dma_load #(.P(P), .C(C), .ActRows(ActRows)) u_load (
    .clk_i, .rst_i, .flush_i, .start_i(start_i & idle_q), .cmd_i,
    .beat_i(in_data), .beat_valid_i(in_valid), .beat_last_i(in_last), .beat_ready_o(in_ready),
    .wr_valid_o(word_valid), .wr_ready_i(word_ready), .stored_i(wr_valid_o & wr_ready_i), .wr_bank_o(word_bank),
    .wr_row_o(word_row), .wr_data_o(word), .load_count_o, .done_o(words_done)
  );
  // The memory's grant ends here: it depends on what the drain does in the same cycle.
  bl_skid #(.Width(BankW + RowW + 8*C)) u_skid (
    .clk_i, .rst_i, .clear_i(flush_i), .valid_i(word_valid), .ready_o(word_ready), .data_i({word_bank, word_row, word}),
    .valid_o(wr_valid_o), .ready_i(wr_ready_i), .data_o({wr_bank_o, wr_row_o, wr_data_o})
  );
  assign load_done = words_done & ~wr_valid_o;
  bl_dma_store #(.P(P), .C(C), .ActRows(ActRows), .ReadLatency(ReadLatency)) u_store (
    .clk_i, .rst_i, .flush_i, .start_i(start_i & idle_q), .cmd_i, .go_i(begin_store), .words_i(total_q),
    .rd_valid_o, .rd_ready_i, .rd_bank_o, .rd_row_o, .rd_data_i,
    .beat_o(out_data), .beat_valid_o(out_valid), .beat_ready_i(out_ready), .done_o(store_done)
  );
endmodule
