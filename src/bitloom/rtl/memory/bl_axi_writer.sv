// A stream of 128-bit beats into a linear region of DDR.
//   start_i   region [addr_i, addr_i + 16·beats_i), addr_i a multiple of 16; only while busy_o is low
//   busy_o    from start until a cycle after the last write response, or until a flush has ended
//   error_o   sticky until start_i or flush_i: response other than OKAY, start_i while busy
//   flush_i   (level or pulse) nothing new is announced; announced bursts are finished with the data they have
//   beat_o    pulse: a beat was written
// Bursts lie inside aligned blocks of 16·MaxBurst bytes (none crosses 4 KiB). A burst is announced when all its beats are
// in the FIFO, so data never keep the bus waiting. Throughput 1 beat a cycle.
// Resource: one FIFO of FifoDepth × 128 bits in LUT memory, about 200 flip-flops.
module bl_axi_writer #(
  parameter int unsigned MaxBurst    = 16,
  parameter int unsigned Outstanding = 8,
  parameter int unsigned FifoDepth   = 64
) (
  input  logic         clk_i,
  input  logic         rst_i,
  input  logic         start_i,
  input  logic [63:0]  addr_i,
  input  logic [31:0]  beats_i,
  input  logic         flush_i,
  output logic         busy_o,
  output logic         error_o,
  output logic         beat_o,
  input  logic [127:0] data_i,
  input  logic         valid_i,
  output logic         ready_o,
  output logic         m_awid_o,
  output logic [63:0]  m_awaddr_o,
  output logic [7:0]   m_awlen_o,
  output logic [2:0]   m_awsize_o,
  output logic [1:0]   m_awburst_o,
  output logic         m_awvalid_o,
  input  logic         m_awready_i,
  output logic [127:0] m_wdata_o,
  output logic [15:0]  m_wstrb_o,
  output logic         m_wlast_o,
  output logic         m_wvalid_o,
  input  logic         m_wready_i,
  input  logic         m_bid_i,
  input  logic [1:0]   m_bresp_i,
  input  logic         m_bvalid_i,
  output logic         m_bready_o
);
  localparam int unsigned BurstW = $clog2(MaxBurst);
  localparam int unsigned CntW   = $clog2(FifoDepth) + 1;
  localparam int unsigned OutW   = $clog2(Outstanding + 1);

  if (MaxBurst < 2 || MaxBurst > 256 || (MaxBurst & (MaxBurst - 1)) != 0 || Outstanding == 0
      || FifoDepth < MaxBurst) begin : g_bad
    $fatal(1, "%m: MaxBurst = %0d, Outstanding = %0d, FifoDepth = %0d; legal: a power of two 2..256, > 0, >= MaxBurst",
           MaxBurst, Outstanding, FifoDepth);
  end

  logic [59:0]       addr_q;       // next beat to announce, in beats
  logic [31:0]       tell_q;       // beats not yet announced
  logic [31:0]       take_q;       // beats not yet taken from the stream
  logic [CntW-1:0]   owed_q;       // announced beats that W has not carried: all of them are in the FIFO
  logic [OutW-1:0]   bursts_q;     // announced bursts without response
  logic [BurstW:0]   to_edge, len_q;
  logic              len_valid_q, fits_q;   // len_q is the length of the next burst; all its beats are in the FIFO
  logic              drop_q, announce, start, w_done, b_done, fifo_ready, fifo_valid, push, flush;
  logic [CntW-1:0]   count;
  logic [BurstW-1:0] index_q;      // of the next W beat inside its aligned block
  logic [31:0]       left_q;       // beats that W has not carried
  logic              take_any_q, left_any_q, left_one_q, owed_any_q, started_q;   // take_q, left_q, owed_q are not 0; left_q is 1

  assign to_edge  = (BurstW + 1)'(MaxBurst) - {1'b0, addr_q[BurstW-1:0]};
  assign flush    = flush_i | drop_q;
  assign announce = fits_q && !flush_i && !error_o && (!m_awvalid_o || m_awready_i);
  assign start    = start_i & ~busy_o;
  assign ready_o  = fifo_ready & take_any_q & ~flush;
  assign push     = valid_i & ready_o;
  assign w_done   = m_wvalid_o & m_wready_i;
  assign b_done   = m_bvalid_i & m_bready_o;

  assign m_wvalid_o = owed_any_q;
  assign m_wlast_o  = (&index_q) | left_one_q;
  assign m_wstrb_o  = '1;
  assign m_bready_o = 1'b1;
  assign beat_o     = w_done;

  always_ff @(posedge clk_i) begin   // owed_q <= left_q
    busy_o <= start_i || take_any_q || left_any_q || m_awvalid_o || bursts_q != '0 || drop_q;
    if (rst_i) busy_o <= 1'b0;
  end

  always_ff @(posedge clk_i) begin
    len_q       <= (tell_q < 32'(to_edge)) ? tell_q[BurstW:0] : to_edge;
    len_valid_q <= tell_q != '0 && !announce;
    fits_q      <= len_valid_q && !announce && count - owed_q >= CntW'(len_q) && bursts_q != OutW'(Outstanding);
    if (announce) begin
      m_awaddr_o <= {addr_q, 4'b0};
      m_awlen_o  <= 8'(len_q - 1'b1);
      addr_q     <= addr_q + 60'(len_q);
      tell_q     <= tell_q - 32'(len_q);
    end
    m_awvalid_o <= announce | (m_awvalid_o & ~m_awready_i);
    owed_q      <= owed_q + (announce ? CntW'(len_q) : '0) - CntW'(w_done);
    owed_any_q  <= announce | (owed_any_q & ~(w_done & owed_q == CntW'(1)));
    bursts_q    <= bursts_q + OutW'(announce) - OutW'(b_done && bursts_q != '0);
    if (push) begin
      take_q     <= take_q - 32'd1;
      take_any_q <= take_q != 32'd1;
    end
    if (w_done) begin
      index_q    <= index_q + 1'b1;
      left_q     <= left_q - 32'd1;
      left_any_q <= ~left_one_q;
      left_one_q <= left_q == 32'd2;
    end
    if (b_done && (m_bresp_i != 2'b00 || bursts_q == '0)) error_o <= 1'b1;
    if (start_i && busy_o && !flush) error_o <= 1'b1;

    started_q <= start;
    if (started_q) left_one_q <= left_q == 32'd1;   // long before the first beat
    if (start) begin
      addr_q  <= addr_i[63:4];
      index_q <= addr_i[4 +: BurstW];
      tell_q  <= beats_i;
      take_q  <= beats_i;
      left_q  <= beats_i;
      take_any_q <= beats_i != '0;
      left_any_q <= beats_i != '0;
      error_o <= 1'b0;
    end
    if (flush) begin
      // What stays to be written is what has been announced.
      tell_q      <= '0;
      take_q      <= '0;
      take_any_q  <= 1'b0;
      left_q      <= 32'(owed_q) - 32'(w_done);
      left_any_q  <= owed_q != CntW'(w_done);
      left_one_q  <= owed_q == CntW'(w_done) + 1'b1;
      len_valid_q <= 1'b0;
      fits_q      <= 1'b0;
      error_o     <= 1'b0;
      drop_q      <= m_awvalid_o || bursts_q != '0 || owed_any_q;
    end
    if (rst_i) begin
      m_awvalid_o <= 1'b0;
      tell_q      <= '0;
      take_q      <= '0;
      take_any_q  <= 1'b0;
      left_q      <= '0;
      left_any_q  <= 1'b0;
      left_one_q  <= 1'b0;
      owed_q      <= '0;
      owed_any_q  <= 1'b0;
      bursts_q    <= '0;
      len_valid_q <= 1'b0;
      fits_q      <= 1'b0;
      drop_q      <= 1'b0;
      error_o     <= 1'b0;
    end
  end

  bl_fifo #(.Width(128), .Depth(FifoDepth)) u_fifo (
    .clk_i, .rst_i, .clear_i(flush & ~owed_any_q),
    .valid_i(push), .ready_o(fifo_ready), .data_i,
    .valid_o(fifo_valid), .ready_i(w_done), .data_o(m_wdata_o), .count_o(count)
  );

  assign m_awid_o    = 1'b0;
  assign m_awsize_o  = 3'd4;
  assign m_awburst_o = 2'b01;

  logic unused;
  assign unused = ^{m_bid_i, fifo_valid, addr_i[3:0]};
endmodule
