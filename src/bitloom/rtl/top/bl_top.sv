// The accelerator: AXI4-Lite control, WP weight ports, one data port, one command port, one interrupt.
// Function, layouts and the order of work: docs/spec/. Everything here is wiring; logic lives in the blocks.
// Longer than the house wishes: the length is that of the ports which are joined here.
module bl_top
  import bl_pkg::*;
#(
  parameter int unsigned P          = 2,
  parameter int unsigned C          = 8,
  parameter int unsigned M          = 8,
  parameter int unsigned T          = 8,
  parameter int unsigned DC         = 4,
  parameter int unsigned WP         = 1,
  parameter int unsigned RingWords  = 512,
  parameter int unsigned ActRows    = 2048,
  parameter int unsigned TapEntries = 256,
  parameter logic [31:0] ArchHash   = 32'd0
) (
  input  logic                  clk_i,
  input  logic                  rst_i,
  // control
  input  logic [7:0]            s_axi_awaddr_i,
  input  logic                  s_axi_awvalid_i,
  output logic                  s_axi_awready_o,
  input  logic [31:0]           s_axi_wdata_i,
  input  logic [3:0]            s_axi_wstrb_i,
  input  logic                  s_axi_wvalid_i,
  output logic                  s_axi_wready_o,
  output logic [1:0]            s_axi_bresp_o,
  output logic                  s_axi_bvalid_o,
  input  logic                  s_axi_bready_i,
  input  logic [7:0]            s_axi_araddr_i,
  input  logic                  s_axi_arvalid_i,
  output logic                  s_axi_arready_o,
  output logic [31:0]           s_axi_rdata_o,
  output logic [1:0]            s_axi_rresp_o,
  output logic                  s_axi_rvalid_o,
  input  logic                  s_axi_rready_i,
  output logic                  interrupt_o,
  // weights
  output logic [WP-1:0]         m_axi_w_arid_o,
  output logic [WP-1:0][63:0]   m_axi_w_araddr_o,
  output logic [WP-1:0][7:0]    m_axi_w_arlen_o,
  output logic [WP-1:0][2:0]    m_axi_w_arsize_o,
  output logic [WP-1:0][1:0]    m_axi_w_arburst_o,
  output logic [WP-1:0]         m_axi_w_arvalid_o,
  input  logic [WP-1:0]         m_axi_w_arready_i,
  input  logic [WP-1:0]         m_axi_w_rid_i,
  input  logic [WP-1:0][127:0]  m_axi_w_rdata_i,
  input  logic [WP-1:0][1:0]    m_axi_w_rresp_i,
  input  logic [WP-1:0]         m_axi_w_rlast_i,
  input  logic [WP-1:0]         m_axi_w_rvalid_i,
  output logic [WP-1:0]         m_axi_w_rready_o,
  // LOAD and STORE
  output logic                  m_axi_d_arid_o,
  output logic [63:0]           m_axi_d_araddr_o,
  output logic [7:0]            m_axi_d_arlen_o,
  output logic [2:0]            m_axi_d_arsize_o,
  output logic [1:0]            m_axi_d_arburst_o,
  output logic                  m_axi_d_arvalid_o,
  input  logic                  m_axi_d_arready_i,
  input  logic                  m_axi_d_rid_i,
  input  logic [127:0]          m_axi_d_rdata_i,
  input  logic [1:0]            m_axi_d_rresp_i,
  input  logic                  m_axi_d_rlast_i,
  input  logic                  m_axi_d_rvalid_i,
  output logic                  m_axi_d_rready_o,
  output logic                  m_axi_d_awid_o,
  output logic [63:0]           m_axi_d_awaddr_o,
  output logic [7:0]            m_axi_d_awlen_o,
  output logic [2:0]            m_axi_d_awsize_o,
  output logic [1:0]            m_axi_d_awburst_o,
  output logic                  m_axi_d_awvalid_o,
  input  logic                  m_axi_d_awready_i,
  output logic [127:0]          m_axi_d_wdata_o,
  output logic [15:0]           m_axi_d_wstrb_o,
  output logic                  m_axi_d_wlast_o,
  output logic                  m_axi_d_wvalid_o,
  input  logic                  m_axi_d_wready_i,
  input  logic                  m_axi_d_bid_i,
  input  logic [1:0]            m_axi_d_bresp_i,
  input  logic                  m_axi_d_bvalid_i,
  output logic                  m_axi_d_bready_o,
  // commands
  output logic                  m_axi_c_arid_o,
  output logic [63:0]           m_axi_c_araddr_o,
  output logic [7:0]            m_axi_c_arlen_o,
  output logic [2:0]            m_axi_c_arsize_o,
  output logic [1:0]            m_axi_c_arburst_o,
  output logic                  m_axi_c_arvalid_o,
  input  logic                  m_axi_c_arready_i,
  input  logic                  m_axi_c_rid_i,
  input  logic [127:0]          m_axi_c_rdata_i,
  input  logic [1:0]            m_axi_c_rresp_i,
  input  logic                  m_axi_c_rlast_i,
  input  logic                  m_axi_c_rvalid_i,
  output logic                  m_axi_c_rready_o
);
  localparam int unsigned RowW   = $clog2(ActRows);
  localparam int unsigned BankW  = $clog2(P);
  localparam int unsigned GroupW = $clog2(T);
  localparam int unsigned NS     = C / DC;
  localparam int unsigned TapW   = $clog2(TapEntries);
  localparam int unsigned ReadLatency = 4;                // bl_reader
  localparam int unsigned WeightLatency = ReadLatency - 1;

  if (P < 2 || P > 16 || P % 2 != 0) begin : g_bad_p
    $fatal(1, "%m: P = %0d; legal: 2, 4, .. 16", P);
  end
  if (M % C != 0 || M % WP != 0) begin : g_bad_m
    $fatal(1, "%m: M = %0d must be a multiple of C = %0d and of WP = %0d", M, C, WP);
  end
  if (C % DC != 0) begin : g_bad_dc
    $fatal(1, "%m: DC = %0d must divide C = %0d", DC, C);
  end

  // ---- control ----
  logic             start, idle, done, clear, flush, core_rst;
  logic [63:0]      program_base, input_base, output_base, scratch_base, address;
  logic [31:0]      timeout, command_beats;
  logic [7:0]       error, fetch_error;
  logic [11:0]      layer;
  logic [6:0][31:0] counters;
  logic             fetch_start, cmd_valid, cmd_ready, fetch_busy;
  cmd_t             cmd;
  logic [TapW-1:0]  tap_index, conv_tap_index, pool_tap_index;
  tap_t             tap;
  logic [WP-1:0]    weights_start;
  logic             weights_busy, weights_error;
  logic [31:0]      weights_beats, dma_read_beats, dma_write_beats, fetch_beats;
  logic             dma_start, dma_busy, dma_read_error, dma_write_error;
  logic             init, conv_start, pool_start, conv_busy, pool_busy, drain_active, drain_idle;
  logic             conv_issue, pool_issue, wait_weights, wait_planes;
  logic             conv_wait_drain, pool_wait_drain, conv_wait_input, pool_wait_input;
  logic [17:0]      load_count;
  logic             weights_beat, dma_progress;

  assign core_rst = rst_i | clear;

  bl_regs #(.ArchHash(ArchHash)) u_regs (
    .clk_i, .rst_i,
    .s_awaddr_i(s_axi_awaddr_i), .s_awvalid_i(s_axi_awvalid_i), .s_awready_o(s_axi_awready_o), .s_wdata_i(s_axi_wdata_i), .s_wstrb_i(s_axi_wstrb_i), .s_wvalid_i(s_axi_wvalid_i), .s_wready_o(s_axi_wready_o), .s_bresp_o(s_axi_bresp_o), .s_bvalid_o(s_axi_bvalid_o), .s_bready_i(s_axi_bready_i), .s_araddr_i(s_axi_araddr_i), .s_arvalid_i(s_axi_arvalid_i), .s_arready_o(s_axi_arready_o), .s_rdata_o(s_axi_rdata_o), .s_rresp_o(s_axi_rresp_o), .s_rvalid_o(s_axi_rvalid_o), .s_rready_i(s_axi_rready_i), .interrupt_o,
    .start_o(start), .idle_i(idle), .done_i(done), .error_i(error), .layer_i(layer),
    .program_base_o(program_base), .input_base_o(input_base), .output_base_o(output_base),
    .scratch_base_o(scratch_base), .timeout_o(timeout), .command_beats_o(command_beats),
    .counters_i(counters), .beats_weights_i(weights_beats), .beats_read_i(dma_read_beats + fetch_beats),
    .beats_write_i(dma_write_beats)
  );

  bl_cmd_fetch #(.TapEntries(TapEntries)) u_fetch (
    .clk_i, .rst_i, .clear_i(clear), .start_i(fetch_start), .flush_i(flush),
    .base_i(program_base), .beats_i(command_beats), .busy_o(fetch_busy), .error_o(fetch_error), .beats_o(fetch_beats),
    .cmd_valid_o(cmd_valid), .cmd_ready_i(cmd_ready), .cmd_o(cmd), .tap_index_i(tap_index), .tap_o(tap),
    .m_arid_o(m_axi_c_arid_o), .m_araddr_o(m_axi_c_araddr_o), .m_arlen_o(m_axi_c_arlen_o),
    .m_arsize_o(m_axi_c_arsize_o), .m_arburst_o(m_axi_c_arburst_o), .m_arvalid_o(m_axi_c_arvalid_o),
    .m_arready_i(m_axi_c_arready_i), .m_rid_i(m_axi_c_rid_i), .m_rdata_i(m_axi_c_rdata_i),
    .m_rresp_i(m_axi_c_rresp_i), .m_rlast_i(m_axi_c_rlast_i), .m_rvalid_i(m_axi_c_rvalid_i),
    .m_rready_o(m_axi_c_rready_o)
  );

  bl_sequencer #(.WP(WP), .T(T), .ArchHash(ArchHash)) u_sequencer (
    .clk_i, .rst_i, .start_i(start),
    .program_base_i(program_base), .input_base_i(input_base), .output_base_i(output_base),
    .scratch_base_i(scratch_base), .timeout_i(timeout),
    .idle_o(idle), .done_o(done), .error_o(error), .layer_o(layer), .counters_o(counters),
    .clear_o(clear), .flush_o(flush), .axi_busy_i(fetch_busy | weights_busy | dma_busy),
    .fetch_start_o(fetch_start), .cmd_valid_i(cmd_valid), .cmd_i(cmd), .cmd_ready_o(cmd_ready),
    .fetch_error_i(fetch_error),
    .weights_start_o(weights_start), .weights_error_i(weights_error),
    .weights_beat_i(weights_beat),
    .dma_start_o(dma_start), .address_o(address), .dma_busy_i(dma_busy),
    .dma_progress_i(dma_progress),
    .dma_read_error_i(dma_read_error), .dma_write_error_i(dma_write_error),
    .init_o(init), .conv_start_o(conv_start), .pool_start_o(pool_start), .conv_busy_i(conv_busy),
    .pool_busy_i(pool_busy), .drain_active_i(drain_active), .drain_idle_i(drain_idle),
    .issue_i(conv_issue | pool_issue), .wait_weights_i(wait_weights), .wait_planes_i(wait_planes),
    .wait_drain_i(conv_wait_drain | pool_wait_drain), .wait_input_i(conv_wait_input | pool_wait_input)
  );

  // ---- issue ----
  logic              vec_valid, vec_ready, step_ready, pass_hi, wait_ddr, step_accept, step_take;
  logic [19:0]       vec_steps;
  logic [15:0]       vec_tiles;
  logic [1:0]        vec_ptag;
  logic [17:0]       conv_row, pool_row;
  tap_t              conv_tap;
  logic [P-1:0][11:0] conv_oy, pool_oy;
  logic [P-1:0][16:0] conv_ox, pool_ox;
  logic              conv_buf, conv_first, conv_hi, conv_last, pool_first, pool_last;
  logic [GroupW-1:0] conv_group;
  logic [1:0]        conv_ptag;
  logic [1:0]        buf_free;
  logic              done_valid, done_last, pool_result, pool_pop;
  typedef struct packed {
    logic        pool, buffer;
    logic [7:0]  groups, chunks;
    logic [17:0] out_row, res_row;
    logic [1:0]  ptag;
  } job_t;
  logic              conv_job_valid, conv_job_buf, pool_job_valid, job_ready;
  logic [7:0]        conv_job_groups, conv_job_chunks;
  logic [17:0]       conv_job_out, conv_job_res, pool_job_out, pool_job_res;
  logic [1:0]        conv_job_ptag;

  bl_issue #(.P(P), .C(C), .M(M), .T(T), .TapEntries(TapEntries)) u_issue (
    .clk_i, .rst_i(core_rst), .start_i(conv_start), .cmd_i(cmd), .busy_o(conv_busy),
    .tap_index_o(conv_tap_index), .tap_i(tap),
    .vec_valid_o(vec_valid), .vec_ready_i(vec_ready), .vec_steps_o(vec_steps), .vec_tiles_o(vec_tiles),
    .vec_ptag_o(vec_ptag), .step_ready_i(step_ready), .pass_hi_i(pass_hi), .wait_ddr_i(wait_ddr),
    .step_accept_o(step_accept), .step_take_o(step_take),
    .valid_o(conv_issue), .row_o(conv_row), .tap_o(conv_tap), .oy_o(conv_oy), .ox_o(conv_ox), .buf_o(conv_buf),
    .group_o(conv_group), .first_o(conv_first), .hi_o(conv_hi), .last_o(conv_last), .ptag_o(conv_ptag),
    .done_last_i(done_valid & done_last), .buf_free_i(buf_free),
    .job_valid_o(conv_job_valid), .job_ready_i(job_ready & conv_job_valid), .job_buf_o(conv_job_buf),
    .job_groups_o(conv_job_groups), .job_chunks_o(conv_job_chunks), .job_out_row_o(conv_job_out),
    .job_res_row_o(conv_job_res), .job_ptag_o(conv_job_ptag),
    .load_count_i(load_count),
    .wait_weights_o(wait_weights), .wait_planes_o(wait_planes), .wait_drain_o(conv_wait_drain),
    .wait_input_o(conv_wait_input)
  );

  bl_pool_issue #(.P(P), .TapEntries(TapEntries)) u_pool_issue (
    .clk_i, .rst_i(core_rst), .start_i(pool_start), .cmd_i(cmd), .busy_o(pool_busy),
    .tap_index_o(pool_tap_index), .tap_i(tap),
    .valid_o(pool_issue), .row_o(pool_row), .oy_o(pool_oy), .ox_o(pool_ox), .first_o(pool_first), .last_o(pool_last),
    .result_i(pool_result), .result_used_i(pool_pop),
    .job_valid_o(pool_job_valid), .job_ready_i(job_ready & ~conv_job_valid), .job_out_row_o(pool_job_out),
    .job_res_row_o(pool_job_res), .load_count_i(load_count),
    .wait_drain_o(pool_wait_drain), .wait_input_o(pool_wait_input)
  );

  assign tap_index = pool_busy ? pool_tap_index : conv_tap_index;

  // ---- read path ----
  typedef struct packed {
    logic              pool;
    logic              pool_max;
    logic              buffer;
    logic [GroupW-1:0] group;
    logic              first;
    logic              hi;
    logic              last;
    logic [1:0]        ptag;
  } side_t;
  side_t                    side_in, side;
  logic                     act_valid, act_valid_q;   // act_valid, side and in_image are one cycle ahead of act
  side_t                    side_q;
  logic [P-1:0]             in_image;
  logic [P-1:0][C-1:0][7:0] act;
  logic                     mem_en_a, store_en;
  logic [P-1:0][RowW-1:0]   mem_row_a;
  logic [P-1:0][C-1:0][7:0] mem_q_a, mem_q_b;
  logic [BankW-1:0]         store_bank;
  logic [RowW-1:0]          store_row;
  logic [C-1:0][7:0]        store_word;

  assign side_in = pool_issue
    ? '{pool: 1'b1, pool_max: cmd.pool_max, buffer: 1'b0, group: '0, first: pool_first, hi: 1'b0, last: pool_last, ptag: '0}
    : '{pool: 1'b0, pool_max: 1'b0, buffer: conv_buf, group: conv_group, first: conv_first, hi: conv_hi,
        last: conv_last, ptag: conv_ptag};

  bl_reader #(.P(P), .C(C), .ActRows(ActRows), .SideW($bits(side_t))) u_reader (
    .clk_i, .valid_i(conv_issue | pool_issue), .row_i(pool_issue ? pool_row : conv_row),
    .tap_i(pool_issue ? tap : conv_tap), .oy_i(pool_issue ? pool_oy : conv_oy), .ox_i(pool_issue ? pool_ox : conv_ox),
    .pad_code_i(cmd.pad_code), .side_i(side_in),
    .mem_en_o(mem_en_a), .mem_row_o(mem_row_a), .mem_q_i(mem_q_a),
    .store_en_i(store_en), .store_bank_i(store_bank), .store_row_i(store_row), .store_q_o(store_word),
    .valid_o(act_valid), .inside_o(in_image), .side_o(side), .act_o(act)
  );

  logic unused_side;
  assign unused_side = ^{side_q.pool, side_q.pool_max};
  always_ff @(posedge clk_i) begin
    act_valid_q <= act_valid & ~side.pool;
    side_q      <= side;
  end

  // ---- weights ----
  logic [M-1:0]        plane_valid, plane_first, plane_signed;
  logic [M-1:0][C-1:0] plane, hdr;
  logic                plane_clear, hdr_valid;
  logic [3:0]          hdr_index;
  logic [1:0]          hdr_ptag;
  logic [WeightLatency-1:0] swap_q;
  logic [3:0]          unused_step;  // the issue engine counts by itself

  always_ff @(posedge clk_i) swap_q <= {swap_q[WeightLatency-2:0], step_take};

  bl_weights #(.C(C), .M(M), .WP(WP), .RingWords(RingWords), .WeightLatency(WeightLatency)) u_weights (
    .clk_i, .rst_i, .clear_i(clear), .flush_i(flush), .yield_i(dma_busy), .start_i(weights_start),
    .addr_i(address), .beats_i(cmd.beats),
    .busy_o(weights_busy), .error_o(weights_error), .beat_o(weights_beat), .beats_o(weights_beats),
    .vec_valid_i(vec_valid), .vec_ready_o(vec_ready), .vec_steps_i(vec_steps), .vec_tiles_i(vec_tiles),
    .vec_ptag_i(vec_ptag),
    .step_ready_o(step_ready), .step_take_i(step_accept), .two_pass_o(unused_step[0]), .pass_hi_o(pass_hi),
    .step_ptag_o(unused_step[2:1]), .step_last_o(unused_step[3]),
    .wait_ddr_o(wait_ddr), .clear_digits_o(plane_clear), .plane_valid_o(plane_valid), .plane_first_o(plane_first), .plane_signed_o(plane_signed),
    .plane_o(plane), .hdr_valid_o(hdr_valid), .hdr_index_o(hdr_index), .hdr_ptag_o(hdr_ptag), .hdr_o(hdr),
    .m_arid_o(m_axi_w_arid_o), .m_araddr_o(m_axi_w_araddr_o), .m_arlen_o(m_axi_w_arlen_o),
    .m_arsize_o(m_axi_w_arsize_o), .m_arburst_o(m_axi_w_arburst_o), .m_arvalid_o(m_axi_w_arvalid_o),
    .m_arready_i(m_axi_w_arready_i), .m_rid_i(m_axi_w_rid_i), .m_rdata_i(m_axi_w_rdata_i),
    .m_rresp_i(m_axi_w_rresp_i), .m_rlast_i(m_axi_w_rlast_i), .m_rvalid_i(m_axi_w_rvalid_i),
    .m_rready_o(m_axi_w_rready_o)
  );

  // ---- array ----
  logic                       acc_buf;
  logic [GroupW-1:0]          acc_group;
  logic [P-1:0][M-1:0][31:0]  acc;
  logic [1:0]                 param_ptag;
  logic [M-1:0][17:0]         param_m;
  logic [M-1:0][1:0]          param_s;
  logic [M-1:0]               param_pre;

  bl_compute #(.P(P), .C(C), .M(M), .T(T)) u_compute (
    .clk_i, .rst_i(core_rst),
    .act_i(act), .ctrl_valid_i(act_valid_q), .ctrl_buf_i(side_q.buffer), .ctrl_group_i(side_q.group),
    .ctrl_first_i(side_q.first), .ctrl_hi_i(side_q.hi), .ctrl_last_i(side_q.last), .ctrl_ptag_i(side_q.ptag),
    .swap_i(swap_q[WeightLatency-1]), .clear_i(plane_clear), .plane_valid_i(plane_valid), .plane_first_i(plane_first),
    .plane_signed_i(plane_signed), .plane_i(plane), .hdr_valid_i(hdr_valid), .hdr_index_i(hdr_index),
    .hdr_ptag_i(hdr_ptag), .hdr_i(hdr),
    .drain_buf_i(acc_buf), .drain_group_i(acc_group), .drain_acc_o(acc), .param_ptag_i(param_ptag),
    .param_m_o(param_m), .param_s_o(param_s), .param_pre_o(param_pre), .done_valid_o(done_valid), .done_last_o(done_last)
  );

  // ---- pool ----
  logic [P-1:0][C-1:0][23:0] pool_data, pool_head;

  logic [P-1:0] pool_results;
  for (genvar p = 0; p < P; p++) begin : g_pool
    bl_pool #(.C(C)) u_pool (
      .clk_i, .rst_i(core_rst), .act_i(act[p]), .inside_i(in_image[p]), .valid_i(act_valid & side.pool),
      .first_i(side.first), .last_i(side.last), .max_i(side.pool_max), .valid_o(pool_results[p]), .acc_o(pool_data[p])
    );
    bl_pool_queue #(.C(C)) u_queue (
      .clk_i, .rst_i(core_rst), .push_i(pool_results[p]), .data_i(pool_data[p]), .pop_i(pool_pop), .data_o(pool_head[p])
    );
  end
  assign pool_result = pool_results[0];   // all alike

  // ---- drain, DMA and port B ----
  logic [P-1:0]             drain_en, res_en;
  logic                     drain_we, dma_wvalid, dma_wready;
  logic [P-1:0][NS-1:0]     drain_slice;
  logic [P-1:0][RowW-1:0]   drain_row, res_row;
  logic [P-1:0][C-1:0][7:0] drain_d, mem_q_r;
  logic [BankW-1:0]         dma_bank;
  logic [RowW-1:0]          dma_row;
  logic [C-1:0][7:0]        dma_word;

  // A job passes a stage of its own: the drain's state is no way into the issuers.
  job_t job_new, job;
  logic job_valid, job_taken, drained;
  assign job_new.pool    = ~conv_job_valid;
  assign job_new.buffer  = conv_job_buf;
  assign job_new.groups  = conv_job_valid ? conv_job_groups : 8'd1;
  assign job_new.chunks  = conv_job_valid ? conv_job_chunks : 8'd1;
  assign job_new.out_row = conv_job_valid ? conv_job_out : pool_job_out;
  assign job_new.res_row = conv_job_valid ? conv_job_res : pool_job_res;
  assign job_new.ptag    = conv_job_ptag;
  always_ff @(posedge clk_i) drain_idle <= drained & ~conv_job_valid & ~pool_job_valid & ~core_rst;

  bl_skid #(.Width($bits(job_t))) u_job (
    .clk_i, .rst_i(core_rst), .clear_i(1'b0), .valid_i(conv_job_valid | pool_job_valid), .ready_o(job_ready),
    .data_i(job_new), .valid_o(job_valid), .ready_i(job_taken), .data_o(job)
  );

  bl_drain #(.P(P), .C(C), .M(M), .T(T), .DC(DC), .ActRows(ActRows)) u_drain (
    .clk_i, .rst_i(core_rst), .init_i(init), .cmd_i(cmd),
    .job_valid_i(job_valid), .job_ready_o(job_taken), .job_pool_i(job.pool), .job_buf_i(job.buffer),
    .job_groups_i(job.groups), .job_chunks_i(job.chunks), .job_out_row_i(job.out_row), .job_res_row_i(job.res_row),
    .job_ptag_i(job.ptag), .buf_free_o(buf_free), .active_o(drain_active), .idle_o(drained),
    .acc_buf_o(acc_buf), .acc_group_o(acc_group), .acc_i(acc), .param_ptag_o(param_ptag), .param_m_i(param_m),
    .param_s_i(param_s), .param_pre_i(param_pre), .pool_acc_i(pool_head), .pool_pop_o(pool_pop),
    .mem_en_o(drain_en), .mem_we_o(drain_we), .mem_slice_o(drain_slice), .mem_row_o(drain_row), .mem_d_o(drain_d),
    .mem_q_i(mem_q_b), .res_en_o(res_en), .res_row_o(res_row), .res_q_i(mem_q_r)
  );

  bl_act_mem #(.P(P), .C(C), .DC(DC), .ActRows(ActRows)) u_act_mem (
    .clk_i, .en_a_i(mem_en_a), .row_a_i(mem_row_a), .q_a_o(mem_q_a), .en_r_i(res_en), .row_r_i(res_row), .q_r_o(mem_q_r),
    .en_b_i(drain_en), .we_b_i(drain_we), .slice_b_i(drain_slice), .row_b_i(drain_row), .d_b_i(drain_d), .q_b_o(mem_q_b),
    .valid_d_i(dma_wvalid), .ready_d_o(dma_wready), .bank_d_i(dma_bank), .row_d_i(dma_row), .d_d_i(dma_word)
  );

  bl_dma #(.P(P), .C(C), .ActRows(ActRows), .ReadLatency(3)) u_dma (
    .clk_i, .rst_i, .clear_i(clear), .flush_i(flush), .start_i(dma_start), .cmd_i(cmd), .addr_i(address), .busy_o(dma_busy),
    .progress_o(dma_progress),
    .read_error_o(dma_read_error), .write_error_o(dma_write_error), .load_count_o(load_count),
    .beats_read_o(dma_read_beats), .beats_write_o(dma_write_beats),
    .wr_valid_o(dma_wvalid), .wr_ready_i(dma_wready), .wr_bank_o(dma_bank), .wr_row_o(dma_row), .wr_data_o(dma_word),
    .rd_valid_o(store_en), .rd_ready_i(1'b1), .rd_bank_o(store_bank), .rd_row_o(store_row), .rd_data_i(store_word),
    .m_arid_o(m_axi_d_arid_o), .m_araddr_o(m_axi_d_araddr_o), .m_arlen_o(m_axi_d_arlen_o),
    .m_arsize_o(m_axi_d_arsize_o), .m_arburst_o(m_axi_d_arburst_o), .m_arvalid_o(m_axi_d_arvalid_o),
    .m_arready_i(m_axi_d_arready_i), .m_rid_i(m_axi_d_rid_i), .m_rdata_i(m_axi_d_rdata_i),
    .m_rresp_i(m_axi_d_rresp_i), .m_rlast_i(m_axi_d_rlast_i), .m_rvalid_i(m_axi_d_rvalid_i),
    .m_rready_o(m_axi_d_rready_o),
    .m_awid_o(m_axi_d_awid_o), .m_awaddr_o(m_axi_d_awaddr_o), .m_awlen_o(m_axi_d_awlen_o),
    .m_awsize_o(m_axi_d_awsize_o), .m_awburst_o(m_axi_d_awburst_o), .m_awvalid_o(m_axi_d_awvalid_o),
    .m_awready_i(m_axi_d_awready_i), .m_wdata_o(m_axi_d_wdata_o), .m_wstrb_o(m_axi_d_wstrb_o),
    .m_wlast_o(m_axi_d_wlast_o), .m_wvalid_o(m_axi_d_wvalid_o), .m_wready_i(m_axi_d_wready_i),
    .m_bid_i(m_axi_d_bid_i), .m_bresp_i(m_axi_d_bresp_i), .m_bvalid_i(m_axi_d_bvalid_i),
    .m_bready_o(m_axi_d_bready_o)
  );
endmodule
