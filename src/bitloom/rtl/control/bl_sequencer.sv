// Runs the command stream: one command at a time, LOAD and STORE beside the following ones, and gives every cycle between
// start and done exactly one cause.
//   clear_o   resets the control of the datapath; flush_o aborts the AXI masters. Both precede every run; after an error
//             flush_o stays until the masters are idle, so that a new start finds a clean machine. Masters that stay busy
//             (a slave that never answers) end a start with ErrTimeout after timeout_i cycles, like any stand-still.
//   counters_o[0..6] total, compute, weights, planes, drain, input, control; the last six add up to the first.
module bl_sequencer
  import bl_pkg::*;
#(
  parameter int unsigned WP = 1,
  parameter int unsigned T  = 8,
  parameter logic [31:0] ArchHash = 32'd0
) (
  input  logic             clk_i,
  input  logic             rst_i,
  // registers
  input  logic             start_i,
  input  logic [63:0]      program_base_i,
  input  logic [63:0]      input_base_i,
  input  logic [63:0]      output_base_i,
  input  logic [63:0]      scratch_base_i,
  input  logic [31:0]      timeout_i,
  output logic             idle_o,
  output logic             done_o,          // pulse
  output logic [7:0]       error_o,
  output logic [11:0]      layer_o,
  output logic [6:0][31:0] counters_o,
  // clearing
  output logic             clear_o,
  output logic             flush_o,
  input  logic             axi_busy_i,
  // commands
  output logic             fetch_start_o,
  input  logic             cmd_valid_i,
  input  cmd_t             cmd_i,
  output logic             cmd_ready_o,
  input  logic [7:0]       fetch_error_i,
  // weights
  output logic [WP-1:0]    weights_start_o,
  input  logic             weights_error_i,
  input  logic             weights_beat_i,
  // LOAD and STORE
  output logic             dma_start_o,
  output logic [63:0]      address_o,       // of WEIGHTS, LOAD, STORE
  input  logic             dma_busy_i,
  input  logic             dma_progress_i,
  input  logic             dma_read_error_i,
  input  logic             dma_write_error_i,
  // engines
  output logic             init_o,          // a CONV or POOL begins
  output logic             conv_start_o,
  output logic             pool_start_o,
  input  logic             conv_busy_i,
  input  logic             pool_busy_i,
  input  logic             drain_active_i,
  input  logic             drain_idle_i,
  // causes
  input  logic             issue_i,
  input  logic             wait_weights_i,
  input  logic             wait_planes_i,
  input  logic             wait_drain_i,
  input  logic             wait_input_i
);
  // One bit a state, so that a step looks at the bits that lead to it.
  typedef struct packed {
    logic idle, clean, begun, fetch, check, launch, work, flush, wait_dma, next, stop;
  } state_t;
  state_t      state_q, next;
  logic [7:0]  error_q, fault_q;   // fault_q: what the engines reported in the last cycle
  logic        first_q, store_q, flush_q, is_engine, is_dma, dma_blocks, running, progress, cleaned, worked, go;
  // Of the command, decoded in fetch; put together in check; obeyed in launch.
  logic        op_begin_q, op_weights_q, op_load_q, op_store_q, op_conv_q, op_pool_q, op_end_q, op_known_q;
  logic        bad_hash_q, bad_dma_q, bad_port_q, bad_vector_q, bad_tile_q, wait_dma_q;
  logic [4:0]  bad_engine_q;
  logic [WP-1:0] port_q;
  logic        bad_q, refused_q, needs_dma_q;
  logic        failed_q, late_q;   // an error is known; nothing has moved for timeout_i cycles
  logic        dma_busy_q, axi_busy_q, issue_q;
  logic [31:0] still_q;
  logic [2:0]  clean_q;
  logic [63:0] base;
  logic        unused_cmd;
  assign unused_cmd = ^cmd_i;

  assign is_engine  = op_conv_q | op_pool_q;
  assign is_dma     = op_load_q | op_store_q;
  assign dma_blocks = dma_busy_q & needs_dma_q;
  assign running    = ~(state_q.idle | state_q.clean | state_q.stop);
  assign progress   = issue_q | cmd_ready_o | dma_progress_i | weights_beat_i | drain_active_i;
  assign cleaned    = &clean_q & ~axi_busy_q;
  assign worked     = ~(conv_start_o | pool_start_o | conv_busy_i | pool_busy_i);
  assign go         = ~refused_q & (~dma_blocks | op_weights_q);

  always_comb begin
    unique case (cmd_i.ddr_sel)
      2'd0:    base = program_base_i;
      2'd1:    base = input_base_i;
      2'd2:    base = output_base_i;
      default: base = scratch_base_i;
    endcase
    next = '0;
    // Errors stop the machine from any running state.
    if (failed_q && running) begin
      next.stop = 1'b1;
    end else begin
      next.idle     = (state_q.idle & ~start_i) | state_q.stop;
      next.clean    = (state_q.idle & start_i) | (state_q.clean & ~cleaned & ~late_q);
      next.begun    = state_q.clean & cleaned;
      next.fetch    = state_q.begun | state_q.next | (state_q.fetch & ~cmd_valid_i);
      next.check    = state_q.fetch & cmd_valid_i;
      next.launch   = state_q.check | (state_q.launch & ~go);
      next.work     = (state_q.launch & go & is_engine) | (state_q.work & ~worked);
      next.flush    = (state_q.work & worked) | (state_q.flush & ~drain_idle_i);
      // The DMA engine copies the command's fields when it starts.
      next.wait_dma = (state_q.launch & go & is_dma) | (state_q.wait_dma & dma_start_o);
      next.next     = (state_q.launch & go & (op_begin_q | op_weights_q)) | (state_q.flush & drain_idle_i)
                    | (state_q.wait_dma & ~dma_start_o);
      next.stop     = (state_q.launch & go & op_end_q) | (state_q.clean & ~cleaned & late_q);
    end
  end

  assign idle_o        = state_q.idle;
  assign error_o       = error_q;
  assign clear_o       = state_q.clean;
  assign flush_o       = flush_q;
  assign fetch_start_o = state_q.begun;
  assign cmd_ready_o   = state_q.next;

  always_ff @(posedge clk_i) begin
    state_q    <= next;
    dma_busy_q <= dma_busy_i;
    axi_busy_q <= axi_busy_i;
    late_q     <= timeout_i != '0 && still_q >= timeout_i;
    fault_q    <= ErrNone;
    if (fetch_error_i != ErrNone && !(cmd_valid_i || state_q.work || state_q.flush)) fault_q <= fetch_error_i;
    if (weights_error_i) fault_q <= ErrAxiWeights;
    if (dma_read_error_i) fault_q <= ErrAxiDataRead;
    if (dma_write_error_i) fault_q <= ErrAxiDataWrite;
    if (late_q) fault_q <= ErrTimeout;

    init_o          <= state_q.launch & go & is_engine;
    conv_start_o    <= state_q.launch & go & op_conv_q;
    pool_start_o    <= state_q.launch & go & op_pool_q;
    dma_start_o     <= state_q.launch & go & is_dma;
    weights_start_o <= (state_q.launch & go & op_weights_q) ? port_q : '0;
    done_o          <= state_q.stop;

    clean_q <= state_q.clean ? clean_q + {2'b0, ~(&clean_q)} : '0;
    if (state_q.clean) {first_q, store_q} <= 2'b10;
    if (state_q.fetch && cmd_valid_i) layer_o <= cmd_i.layer;
    bad_q       <= first_q != op_begin_q || (is_engine && |bad_engine_q) || (op_conv_q && (bad_vector_q || bad_tile_q))
                 || (is_dma && bad_dma_q) || (op_weights_q && bad_port_q);
    refused_q   <= first_q != op_begin_q || (is_engine && |bad_engine_q) || (op_conv_q && (bad_vector_q || bad_tile_q))
                 || (is_dma && bad_dma_q) || (op_weights_q && bad_port_q) || !op_known_q || (op_begin_q && bad_hash_q);
    needs_dma_q <= store_q | wait_dma_q | ~is_engine;
    if (state_q.launch) begin
      first_q   <= 1'b0;
      address_o <= base + 64'(cmd_i.ddr_offset);
      if (go && is_dma) store_q <= op_store_q;
    end

    if (state_q.idle && start_i) flush_q <= 1'b1;
    else if (state_q.stop) flush_q <= 1'b1;
    else if (state_q.clean && cleaned) flush_q <= 1'b0;
    else if (state_q.idle && !axi_busy_q) flush_q <= 1'b0;

    still_q <= (running && progress) || !(running || state_q.clean) ? '0 : still_q + 32'd1;
    if (running && !failed_q) begin
      if (state_q.launch && refused_q) begin
        error_q  <= bad_q ? ErrBadField : !op_known_q ? ErrBadOpcode : ErrBadArchitecture;
        failed_q <= 1'b1;
      end
      if (fault_q != ErrNone) begin
        error_q  <= fault_q;
        failed_q <= 1'b1;
      end
    end
    if (state_q.clean && !cleaned && late_q) error_q <= ErrTimeout;
    if (state_q.idle && start_i) begin
      error_q  <= ErrNone;
      failed_q <= 1'b0;
      layer_o  <= '0;
    end

    if (rst_i) begin
      state_q  <= '{idle: 1'b1, default: 1'b0};
      error_q  <= ErrNone;
      failed_q <= 1'b0;
      flush_q  <= 1'b0;
      layer_o  <= '0;
      done_o   <= 1'b0;
    end
  end

  // ---- the command's parts, registered from its fields ----
  always_ff @(posedge clk_i) begin
    op_begin_q   <= cmd_i.opcode == OpBegin;
    op_weights_q <= cmd_i.opcode == OpWeights;
    op_load_q    <= cmd_i.opcode == OpLoad;
    op_store_q   <= cmd_i.opcode == OpStore;
    op_conv_q    <= cmd_i.opcode == OpConv;
    op_pool_q    <= cmd_i.opcode == OpPool;
    op_end_q     <= cmd_i.opcode == OpEnd;
    op_known_q   <= cmd_i.opcode inside {OpBegin, OpWeights, OpLoad, OpStore, OpConv, OpPool, OpEnd};
    bad_hash_q   <= cmd_i.arch_hash != ArchHash;
    bad_engine_q <= {cmd_i.n_taps == '0, cmd_i.in_chunks == '0, cmd_i.n_groups == '0, cmd_i.grid_w == '0,
                     cmd_i.image_rows == '0};
    bad_vector_q <= cmd_i.n_vectors == '0 || cmd_i.n_tiles == '0;
    bad_tile_q   <= cmd_i.tile_groups == '0 || cmd_i.last_tile_groups == '0 || 32'(cmd_i.tile_groups) > T
                    || 32'(cmd_i.last_tile_groups) > T;
    bad_dma_q    <= cmd_i.beats == '0 || cmd_i.dma_chunks == '0;
    bad_port_q   <= 32'(cmd_i.port) >= WP;
    wait_dma_q   <= cmd_i.wait_dma;
    for (int w = 0; w < int'(WP); w++) port_q[w] <= 32'(cmd_i.port) == 32'(w);
  end

  // ---- causes: of the cycle before; every one of its inputs is registered first ----
  logic       running_q, wait_weights_q, wait_planes_q, wait_drain_q, wait_input_q, flush_drain_q, blocked_q;
  logic [5:0] cause;
  always_comb begin
    cause = '0;
    if (issue_q)             cause[0] = 1'b1;
    else if (wait_weights_q) cause[1] = 1'b1;
    else if (wait_planes_q)  cause[2] = 1'b1;
    else if (wait_drain_q || flush_drain_q) cause[3] = 1'b1;
    else if (wait_input_q || blocked_q)     cause[4] = 1'b1;
    else                                    cause[5] = 1'b1;
  end

  always_ff @(posedge clk_i) begin
    running_q      <= running;
    issue_q        <= issue_i;
    wait_weights_q <= wait_weights_i;
    wait_planes_q  <= wait_planes_i;
    wait_drain_q   <= wait_drain_i;
    wait_input_q   <= wait_input_i;
    flush_drain_q  <= state_q.flush & drain_active_i;
    blocked_q      <= state_q.launch & dma_blocks;
    if (state_q.clean) begin
      counters_o <= '0;
    end else if (running_q) begin
      counters_o[0] <= counters_o[0] + 32'd1;
      for (int i = 0; i < 6; i++) counters_o[i+1] <= counters_o[i+1] + 32'(cause[i]);
    end
    if (rst_i) begin
      running_q  <= 1'b0;
      counters_o <= '0;
    end
  end

`ifdef BITLOOM_TRACE
  import "DPI-C" function void bl_trace_layer(input int layer, input int phase);
  import "DPI-C" function void bl_trace_counters(input int layer, input int compute, input int weights, input int planes,
                                                 input int drain, input int dma, input int control);
  always_ff @(posedge clk_i) begin
    if (state_q.fetch && cmd_valid_i) bl_trace_layer(int'(cmd_i.layer), 0);
    if (state_q.next) begin
      bl_trace_counters(int'(cmd_i.layer), counters_o[1], counters_o[2], counters_o[3], counters_o[4], counters_o[5],
                        counters_o[6]);
      bl_trace_layer(int'(cmd_i.layer), 1);
    end
  end
`endif
endmodule
