// A linear region of DDR as a stream of 128-bit beats, in order.
//   start_i   region [addr_i, addr_i + 16·beats_i), addr_i a multiple of 16; only while busy_o is low
//   busy_o    from start until a cycle after the last beat has left data_o, or a flush has ended
//   error_o   sticky until start_i or flush_i: response other than OKAY, rlast at a wrong beat, start_i while busy
//   flush_i   (level or pulse) no new burst; what was requested is swallowed, then busy_o falls
//   pause_i   (level) no new burst
//   beat_o    pulse: a beat of the region came in
// Bursts lie inside aligned blocks of 16·MaxBurst bytes, so none crosses 4 KiB, and the last beat of a burst is known from
// its index. A burst is requested when the FIFO has room for all of it: m_rready_o is always high.
// Throughput: 1 beat a cycle while latency + MaxBurst < FifoDepth <= Outstanding·MaxBurst.
// A flush after an error trusts neither the count of beats nor that of rlast alone: when only one of them has come to its
// end, the bus must also be quiet for 255 cycles.
// Resource: one FIFO of FifoDepth × 129 bits, about 250 flip-flops.
module bl_axi_reader #(
  parameter int unsigned MaxBurst    = 16,
  parameter int unsigned Outstanding = 8,
  parameter int unsigned FifoDepth   = 128
) (
  input  logic         clk_i,
  input  logic         rst_i,
  input  logic         start_i,
  input  logic [63:0]  addr_i,
  input  logic [31:0]  beats_i,
  input  logic         flush_i,
  input  logic         pause_i,
  output logic         busy_o,
  output logic         error_o,
  output logic         beat_o,
  output logic [127:0] data_o,
  output logic         valid_o,
  input  logic         ready_i,
  output logic         last_o,
  output logic         m_arid_o,
  output logic [63:0]  m_araddr_o,
  output logic [7:0]   m_arlen_o,
  output logic [2:0]   m_arsize_o,
  output logic [1:0]   m_arburst_o,
  output logic         m_arvalid_o,
  input  logic         m_arready_i,
  input  logic         m_rid_i,
  input  logic [127:0] m_rdata_i,
  input  logic [1:0]   m_rresp_i,
  input  logic         m_rlast_i,
  input  logic         m_rvalid_i,
  output logic         m_rready_o
);
  localparam int unsigned BurstW = $clog2(MaxBurst);
  localparam int unsigned FreeW  = $clog2(FifoDepth) + 1;
  localparam int unsigned OutW   = $clog2(Outstanding + 1);
  localparam int unsigned DueW   = $clog2(Outstanding * MaxBurst + 1);

  if (MaxBurst < 2 || MaxBurst > 256 || (MaxBurst & (MaxBurst - 1)) != 0 || Outstanding == 0
      || FifoDepth < MaxBurst) begin : g_bad
    $fatal(1, "%m: MaxBurst = %0d, Outstanding = %0d, FifoDepth = %0d; legal: a power of two 2..256, > 0, >= MaxBurst",
           MaxBurst, Outstanding, FifoDepth);
  end

  // ---- requests ----
  logic [59:0]       addr_q;       // next beat to request, in beats
  logic [31:0]       ask_q;        // beats not yet requested
  logic [FreeW-1:0]  free_q;       // places in the FIFO that no request has claimed
  logic [OutW-1:0]   bursts_q;     // bursts without their rlast
  logic [DueW-1:0]   due_q;        // requested beats that have not come
  logic [BurstW:0]   to_edge, len_q;
  logic              len_valid_q;  // len_q is the length of the next burst
  logic              fits_q;       // and there is a place for it
  logic              drop_q;       // flushing
  logic              requested_q;  // a burst was requested in the last cycle; free_q and due_q are to learn of its claim_q
  logic [BurstW:0]   claim_q;
  logic              request, arrive, burst_end, pop;

  assign to_edge = (BurstW + 1)'(MaxBurst) - {1'b0, addr_q[BurstW-1:0]};
  assign request = fits_q && !flush_i && !pause_i && !error_o && (!m_arvalid_o || m_arready_i);

  // ---- arrivals ----
  logic [BurstW-1:0] index_q;      // of the next beat inside its aligned block
  logic [31:0]       want_q;       // beats of the region that have not come
  logic              want_any_q, want_one_q;   // want_q is not 0; want_q is 1
  logic              want_last;
  assign m_rready_o = 1'b1;
  assign arrive     = m_rvalid_i;
  assign burst_end  = arrive & m_rlast_i;
  assign want_last  = (&index_q) | want_one_q;
  assign beat_o     = arrive & ~drop_q & ~flush_i & want_any_q;

  logic fifo_ready, idle_bus, quiet, start;
  assign start    = start_i & ~busy_o;
  assign pop      = valid_o & ready_i;
  assign idle_bus = !m_arvalid_o && ((bursts_q == '0 && due_q == '0) || (quiet && (bursts_q == '0 || due_q == '0)));

  logic [7:0] still_q;
  assign quiet = &still_q;

  always_ff @(posedge clk_i) begin
    len_q       <= (ask_q < 32'(to_edge)) ? ask_q[BurstW:0] : to_edge;
    len_valid_q <= ask_q != '0 && !request;
    // Places only become more until the next request.
    fits_q      <= len_valid_q && !request && free_q >= FreeW'(len_q) && bursts_q != OutW'(Outstanding);
    if (request) begin
      m_araddr_o <= {addr_q, 4'b0};
      m_arlen_o  <= 8'(len_q - 1'b1);
      addr_q     <= addr_q + 60'(len_q);
      ask_q      <= ask_q - 32'(len_q);
    end
    m_arvalid_o <= request | (m_arvalid_o & ~m_arready_i);
    requested_q <= request;
    claim_q     <= len_q;
    free_q      <= free_q + FreeW'(pop) - (requested_q ? FreeW'(claim_q) : '0);
    bursts_q    <= bursts_q + OutW'(request) - OutW'(burst_end && bursts_q != '0);
    due_q       <= due_q + (requested_q ? DueW'(claim_q) : '0) - DueW'(arrive && due_q != '0);
    still_q     <= (m_rvalid_i || m_arvalid_o) ? '0 : still_q + {7'b0, ~quiet};

    if (beat_o) begin
      index_q    <= index_q + 1'b1;
      want_q     <= want_q - 32'd1;
      want_any_q <= ~want_one_q;
      want_one_q <= want_q == 32'd2;
      if (m_rresp_i != 2'b00 || m_rlast_i != want_last) error_o <= 1'b1;
    end
    if (arrive && !drop_q && !flush_i && due_q == '0) error_o <= 1'b1;   // nobody asked for it
    if (start_i && busy_o && !drop_q && !flush_i) error_o <= 1'b1;

    if (start) begin
      addr_q  <= addr_i[63:4];
      index_q <= addr_i[4 +: BurstW];
      ask_q   <= beats_i;
      want_q  <= beats_i;
      want_any_q <= beats_i != '0;
      want_one_q <= beats_i == 32'd1;
      error_o <= 1'b0;
    end
    if (flush_i || drop_q) begin
      ask_q   <= '0;
      want_q  <= '0;
      want_any_q <= 1'b0;
      want_one_q <= 1'b0;
      free_q  <= FreeW'(FifoDepth);
      error_o <= 1'b0;
      drop_q  <= ~idle_bus;
      len_valid_q <= 1'b0;
      fits_q      <= 1'b0;
      if (idle_bus) begin
        bursts_q <= '0;
        due_q    <= '0;
      end
    end
    if (rst_i) begin
      m_arvalid_o <= 1'b0;
      ask_q       <= '0;
      want_q      <= '0;
      want_any_q  <= 1'b0;
      want_one_q  <= 1'b0;
      free_q      <= FreeW'(FifoDepth);
      bursts_q    <= '0;
      due_q       <= '0;
      drop_q      <= 1'b0;
      len_valid_q <= 1'b0;
      fits_q      <= 1'b0;
      requested_q <= 1'b0;
      error_o     <= 1'b0;
      still_q     <= '0;
    end
  end

  assign m_arid_o    = 1'b0;
  assign m_arsize_o  = 3'd4;
  assign m_arburst_o = 2'b01;

  // ---- the FIFO ----
  logic               fifo_valid, fifo_last;
  logic [127:0]       fifo_data;
  logic [FreeW-1:0]   fifo_count;
  bl_fifo #(.Width(129), .Depth(FifoDepth)) u_fifo (
    .clk_i, .rst_i, .clear_i(flush_i | drop_q),
    .valid_i(beat_o), .ready_o(fifo_ready), .data_i({want_one_q, m_rdata_i}),
    .valid_o(fifo_valid), .ready_i, .data_o({fifo_last, fifo_data}), .count_o(fifo_count)
  );
  assign valid_o = fifo_valid;
  assign data_o  = fifo_data;
  assign last_o  = fifo_last;
  always_ff @(posedge clk_i) begin
    busy_o <= start_i || want_any_q || fifo_count != '0 || m_arvalid_o || bursts_q != '0 || due_q != '0 || drop_q;
    if (rst_i) busy_o <= 1'b0;
  end

  logic unused;
  assign unused = ^{m_rid_i, fifo_ready, addr_i[3:0]};
endmodule
