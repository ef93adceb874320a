// Issue engine of a convolution: one group of one step a cycle.
//   for vector: for tile: for tap: for chunk: for pass (hi, lo as the weight engine says): for group in tile
// A step starts when its digits are in the shadow (step_ready_i); a tile also when its accumulator buffer is free and LOAD has
// come far enough. Inside a step nothing stalls, so the drain of a tile may start with the first group of its last step.
// Nothing is compared in the cycle of a decision: counters hold what is left of each loop and a flag that says whether the
// present step is the last; accumulator buffer and input of the next tile are looked at while this one runs.
//   start_i     cmd_i is stable from two cycles before until busy_o falls
//   step_take_o the step's first group is issued in this cycle
//   wait_*_o    why nothing is issued (at most one)
//   job_*       a tile whose last sums are (being) written, in order
// Longer than the house wishes: the counters of one loop nest, all read in the cycle of a decision.
module bl_issue
  import bl_pkg::*;
#(
  parameter int unsigned P  = 2,
  parameter int unsigned C  = 8,
  parameter int unsigned M  = 16,
  parameter int unsigned T  = 8,
  parameter int unsigned TapEntries = 64,
  localparam int unsigned GroupW = $clog2(T),
  localparam int unsigned NC     = M / C,
  localparam int unsigned TapW   = $clog2(TapEntries)
) (
  input  logic                clk_i,
  input  logic                rst_i,
  input  logic                start_i,
  input  cmd_t                cmd_i,
  output logic                busy_o,
  // taps
  output logic [TapW-1:0]     tap_index_o,
  input  tap_t                tap_i,          // one cycle after tap_index_o
  // weights
  output logic                vec_valid_o,
  input  logic                vec_ready_i,
  output logic [19:0]         vec_steps_o,
  output logic [15:0]         vec_tiles_o,
  output logic [1:0]          vec_ptag_o,
  input  logic                step_ready_i,
  input  logic                pass_hi_i,
  input  logic                wait_ddr_i,
  output logic                step_accept_o,  // registered: a step that is ready in this cycle is taken
  output logic                step_take_o,
  // issue
  output logic                valid_o,
  output logic [17:0]         row_o,
  output tap_t                tap_o,
  output logic [P-1:0][11:0]  oy_o,
  output logic [P-1:0][16:0]  ox_o,
  output logic                buf_o,
  output logic [GroupW-1:0]   group_o,
  output logic                first_o,
  output logic                hi_o,
  output logic                last_o,
  output logic [1:0]          ptag_o,
  // drain
  input  logic                done_last_i,    // the sums of a group issued with last_o have been written
  input  logic [1:0]          buf_free_i,
  output logic                job_valid_o,
  input  logic                job_ready_i,
  output logic                job_buf_o,
  output logic [7:0]          job_groups_o,
  output logic [7:0]          job_chunks_o,
  output logic [17:0]         job_out_row_o,
  output logic [17:0]         job_res_row_o,
  output logic [1:0]          job_ptag_o,
  // input image
  input  logic [17:0]         load_count_i,
  // causes
  output logic                wait_weights_o,
  output logic                wait_planes_o,
  output logic                wait_drain_o,
  output logic                wait_input_o
);
  typedef struct packed {
    logic        buffer;
    logic [7:0]  groups;
    logic [7:0]  chunks;
    logic [17:0] out_row;
    logic [17:0] res_row;
    logic [1:0]  ptag;
  } job_t;

  typedef enum logic [1:0] {Idle, Prime, Run} state_e;
  state_e state_q;

  job_t        job_q [4];
  logic [1:0]  job_in_q, job_out_q;
  logic [2:0]  job_ready_q;

  // ---- loop counters: what is left, and flags that say one step ahead where a loop ends ----
  logic [GroupW-1:0] grp_q;
  logic [7:0]        tile_groups_q, groups_left_q;
  logic [9:0]        taps_left_q;
  logic [TapW-1:0]   next_tap_q;     // tap being fetched
  logic              fresh_q;        // tap_i holds next_tap_q
  tap_t              cur_tap_q;
  logic [11:0]       chunk_left_q, vecs_left_q, push_left_q;
  logic [17:0]       base_q;         // row of group 0 of the current step
  logic [15:0]       tiles_left_q, tile_base_q, group_abs_q;
  logic [12:0]       chunks_left_q;
  logic              new_tile_q, hi_q, buf_q, push_any_q;
  logic [1:0]        buf_busy_q, ptag_q, push_ptag_q;
  logic [17:0]       out_row_q, res_row_q, out_jump_q, res_jump_q;
  logic              coords_ready;
  logic              unused_cmd;
  assign unused_cmd = ^cmd_i;

  logic first_group_q, last_group_q, last_chunk_q, last_tap_q, last_tile_q, next_last_tile_q, last_vec_q;
  logic tile_ok_q;                   // a first group may begin: inside a tile, or buffer and input are there
  logic one_chunk_q, one_tap_q, one_tile_q, two_tiles_q, one_group_q, one_group_last_q;   // from the command
  logic hi_now, last_step, need_tap, go, tile_end, run_q;   // run_q: state_q is Run
  logic accept_q, inner_q, reload_last;   // a first group would go, would be no first one; its step has one group

  assign hi_now    = first_group_q ? pass_hi_i : hi_q;
  assign need_tap  = last_chunk_q & ~hi_now;
  assign last_step = need_tap & last_tap_q;
  // A step's first group waits for digits, buffer and input; a later one only where the tap behind it is still on its way.
  assign go        = (accept_q & step_ready_i) | (inner_q & (fresh_q | ~(last_group_q & last_chunk_q & ~hi_q)));
  assign tile_end  = go & last_group_q & last_step;

  assign valid_o     = go;
  assign step_accept_o = accept_q;
  assign step_take_o   = accept_q & step_ready_i;
  assign row_o       = base_q + {2'b0, group_abs_q};
  assign tap_o       = cur_tap_q;
  assign buf_o       = buf_q;
  assign group_o     = grp_q;
  assign first_o     = new_tile_q;
  assign hi_o        = hi_now;
  assign last_o      = last_step & first_group_q;
  assign ptag_o      = ptag_q;
  assign busy_o      = state_q != Idle || job_in_q != job_out_q;
  assign tap_index_o = next_tap_q;

  // tile_ok_q low means that the tile is new.
  assign wait_drain_o   = run_q & first_group_q & ~tile_ok_q & buf_busy_q[buf_q];
  assign wait_input_o   = run_q & first_group_q & ~tile_ok_q & ~buf_busy_q[buf_q];
  assign wait_weights_o = run_q & first_group_q & tile_ok_q & ~step_ready_i & wait_ddr_i;
  assign wait_planes_o  = run_q & first_group_q & tile_ok_q & ~step_ready_i & ~wait_ddr_i;

  bl_coords #(.P(P)) u_coords (
    .clk_i, .rst_i, .init_i(start_i),
    .rows_i(cmd_i.image_rows), .grid_w_i(cmd_i.grid_w), .adv_y_i(cmd_i.adv_image), .adv_x_i(cmd_i.adv_x),
    .go_i    (go),
    .mark_i  (last_group_q),
    .rewind_i(last_group_q & ~last_step),
    .home_i  (last_group_q & last_step & last_tile_q),
    .ready_o (coords_ready), .oy_o, .ox_o
  );

  // ---- vectors to the weight engine, one ahead; steps of a vector by a multiplier with registers ----
  logic [47:0] n_steps;
  logic        unused_steps;
  bl_dsp_mac u_steps (
    .clk_i, .a_i({17'd0, cmd_i.n_taps}), .b_i({6'd0, cmd_i.in_chunks}), .c_i(48'd0), .p_o(n_steps)
  );
  assign unused_steps = ^n_steps[47:20];
  assign vec_valid_o  = run_q & push_any_q;
  assign vec_steps_o  = n_steps[19:0];
  assign vec_tiles_o  = cmd_i.n_tiles;
  assign vec_ptag_o   = push_ptag_q;

  // ---- input: tiles for which LOAD has come far enough are counted ahead, up to three ----
  logic [17:0] load_need_q;
  logic [15:0] gate_left_q;
  logic        gate_last_q, gate_settled_q, load_ok_q, permit, has_one_q, has_two_q;
  logic [1:0]  permits_q, permits;

  assign permit  = gate_settled_q & load_ok_q & (permits_q != 2'd3);
  assign permits = permits_q + 2'(permit) - 2'(tile_end);
  always_ff @(posedge clk_i) begin
    load_ok_q      <= load_count_i >= load_need_q;
    gate_settled_q <= ~permit;       // load_ok_q is that of load_need_q
    permits_q      <= permits;
    has_one_q      <= permits != 2'd0;
    has_two_q      <= permits[1];
    if (permit) begin
      gate_left_q <= gate_last_q ? cmd_i.n_tiles : gate_left_q - 16'd1;
      gate_last_q <= gate_last_q ? one_tile_q : gate_left_q == 16'd2;
      load_need_q <= gate_last_q ? cmd_i.load_first : load_need_q + cmd_i.load_step;
    end
    if (state_q == Idle) begin
      gate_left_q    <= cmd_i.n_tiles;
      gate_last_q    <= one_tile_q;
      gate_settled_q <= 1'b0;
      load_need_q    <= cmd_i.load_first;
      permits_q      <= '0;
      has_one_q      <= 1'b0;
      has_two_q      <= 1'b0;
    end
  end

  // ---- step, tile and vector advance ----
  logic [1:0] busy;
  assign busy = buf_busy_q & ~buf_free_i;
  always_comb begin
    if (last_step && last_tile_q) reload_last = one_tile_q ? one_group_last_q : one_group_q;
    else reload_last = (last_step ? next_last_tile_q : last_tile_q) ? one_group_last_q : one_group_q;
  end

  always_ff @(posedge clk_i) begin
    fresh_q          <= 1'b1;
    one_chunk_q      <= cmd_i.in_chunks == 12'd1;
    one_tap_q        <= cmd_i.n_taps == 10'd1;
    one_tile_q       <= cmd_i.n_tiles == 16'd1;
    two_tiles_q      <= cmd_i.n_tiles == 16'd2;
    one_group_q      <= cmd_i.tile_groups == 8'd1;
    one_group_last_q <= cmd_i.last_tile_groups == 8'd1;
    out_jump_q       <= 18'(NC) * cmd_i.out_chunk_rows;
    res_jump_q       <= 18'(NC) * cmd_i.res_chunk_rows;
    if (vec_valid_o && vec_ready_i) begin
      push_left_q <= push_left_q - 12'd1;
      push_any_q  <= push_left_q != 12'd1;
      push_ptag_q <= push_ptag_q + 2'd1;
    end
    buf_busy_q <= busy;
    if (tile_end) tile_ok_q <= ~busy[~buf_q] & has_two_q;
    else tile_ok_q <= go | ~new_tile_q | (~busy[buf_q] & has_one_q);
    // The same, where a step follows; one of a single group that ends a tap waits for the tap behind it.
    if (go) begin
      accept_q <= last_group_q & ~(need_tap & one_chunk_q & reload_last)
                  & ~(last_step & ((last_tile_q & last_vec_q) | busy[~buf_q] | ~has_two_q));
    end else begin
      accept_q <= (state_q == Prime ? fresh_q & coords_ready & ~(one_chunk_q & last_group_q) : run_q & first_group_q)
                  & (~new_tile_q | (~busy[buf_q] & has_one_q));
    end
    if (go) inner_q <= ~last_group_q;

    unique case (state_q)
      Idle: if (start_i) begin
        state_q          <= Prime;
        next_tap_q       <= '0;
        fresh_q          <= 1'b0;
        taps_left_q      <= cmd_i.n_taps;
        last_tap_q       <= one_tap_q;
        chunk_left_q     <= cmd_i.in_chunks;
        last_chunk_q     <= one_chunk_q;
        grp_q            <= '0;
        first_group_q    <= 1'b1;
        group_abs_q      <= '0;
        tile_base_q      <= '0;
        tiles_left_q     <= cmd_i.n_tiles;
        last_tile_q      <= one_tile_q;
        next_last_tile_q <= two_tiles_q;
        tile_groups_q    <= one_tile_q ? cmd_i.last_tile_groups : cmd_i.tile_groups;
        groups_left_q    <= one_tile_q ? cmd_i.last_tile_groups : cmd_i.tile_groups;
        last_group_q     <= one_tile_q ? one_group_last_q : one_group_q;
        vecs_left_q      <= cmd_i.n_vectors;
        last_vec_q       <= cmd_i.n_vectors == 12'd1;
        push_left_q      <= cmd_i.n_vectors;
        push_any_q       <= 1'b1;
        new_tile_q       <= 1'b1;
        chunks_left_q    <= {1'b0, cmd_i.out_chunks};
        out_row_q        <= cmd_i.out_base;
        res_row_q        <= cmd_i.res_base;
      end
      Prime: if (fresh_q && coords_ready) begin
        state_q    <= Run;
        run_q      <= 1'b1;
        cur_tap_q  <= tap_i;
        base_q     <= cmd_i.in_base + tap_i.row_off[17:0];
        next_tap_q <= one_tap_q ? '0 : TapW'(1);
        fresh_q    <= 1'b0;
      end
      default: if (go) begin
        hi_q          <= hi_now;
        first_group_q <= last_group_q;
        if (first_group_q && new_tile_q) buf_busy_q[buf_q] <= 1'b1;
        if (!last_group_q) begin
          grp_q         <= grp_q + 1'b1;
          group_abs_q   <= group_abs_q + 16'd1;
          groups_left_q <= groups_left_q - 8'd1;
          last_group_q  <= groups_left_q == 8'd2;
        end else begin
          grp_q         <= '0;
          group_abs_q   <= tile_base_q;
          groups_left_q <= tile_groups_q;
          last_group_q  <= reload_last;
          new_tile_q    <= 1'b0;
          if (!hi_now) begin
            chunk_left_q <= last_chunk_q ? cmd_i.in_chunks : chunk_left_q - 12'd1;
            last_chunk_q <= last_chunk_q ? one_chunk_q : chunk_left_q == 12'd2;
            base_q       <= last_chunk_q ? cmd_i.in_base + tap_i.row_off[17:0] : base_q + cmd_i.in_chunk_rows;
          end
          if (need_tap) begin
            cur_tap_q   <= tap_i;
            taps_left_q <= last_tap_q ? cmd_i.n_taps : taps_left_q - 10'd1;
            last_tap_q  <= last_tap_q ? one_tap_q : taps_left_q == 10'd2;
            next_tap_q  <= (10'(next_tap_q) + 10'd1 == cmd_i.n_taps) ? '0 : next_tap_q + 1'b1;
            fresh_q     <= 1'b0;
          end
          if (last_step) begin
            new_tile_q  <= 1'b1;
            buf_q       <= ~buf_q;
            if (!last_tile_q) begin
              tiles_left_q     <= tiles_left_q - 16'd1;
              last_tile_q      <= next_last_tile_q;
              next_last_tile_q <= tiles_left_q == 16'd3;
              tile_base_q      <= group_abs_q + 16'd1;
              group_abs_q      <= group_abs_q + 16'd1;
              tile_groups_q    <= next_last_tile_q ? cmd_i.last_tile_groups : cmd_i.tile_groups;
              groups_left_q    <= next_last_tile_q ? cmd_i.last_tile_groups : cmd_i.tile_groups;
            end else begin
              tiles_left_q     <= cmd_i.n_tiles;
              last_tile_q      <= one_tile_q;
              next_last_tile_q <= two_tiles_q;
              tile_base_q      <= '0;
              group_abs_q      <= '0;
              tile_groups_q    <= one_tile_q ? cmd_i.last_tile_groups : cmd_i.tile_groups;
              groups_left_q    <= one_tile_q ? cmd_i.last_tile_groups : cmd_i.tile_groups;
              vecs_left_q      <= vecs_left_q - 12'd1;
              last_vec_q       <= vecs_left_q == 12'd2;
              ptag_q           <= ptag_q + 2'd1;
              chunks_left_q    <= chunks_left_q - 13'(NC);
              out_row_q        <= out_row_q + out_jump_q;
              res_row_q        <= res_row_q + res_jump_q;
              if (last_vec_q) begin
                state_q <= Idle;
                run_q   <= 1'b0;
              end
            end
          end
        end
      end
    endcase
    if (rst_i) begin
      state_q     <= Idle;
      run_q       <= 1'b0;
      accept_q    <= 1'b0;
      inner_q     <= 1'b0;
      buf_busy_q  <= '0;
      buf_q       <= 1'b0;
      ptag_q      <= '0;
      push_ptag_q <= '0;
      push_any_q  <= 1'b0;
    end
  end

  // ---- jobs: noted with the first group of a tile's last step, released when its sums are written ----
  assign job_valid_o   = job_ready_q != '0;
  assign job_buf_o     = job_q[job_out_q].buffer;
  assign job_groups_o  = job_q[job_out_q].groups;
  assign job_chunks_o  = job_q[job_out_q].chunks;
  assign job_out_row_o = job_q[job_out_q].out_row;
  assign job_res_row_o = job_q[job_out_q].res_row;
  assign job_ptag_o    = job_q[job_out_q].ptag;

  always_ff @(posedge clk_i) begin
    if (go && last_o) begin
      job_q[job_in_q] <= '{
        buffer: buf_q, groups: tile_groups_q,
        chunks: (chunks_left_q >= 13'(NC)) ? 8'(NC) : chunks_left_q[7:0],
        out_row: out_row_q, res_row: res_row_q, ptag: ptag_q};
      job_in_q <= job_in_q + 2'd1;
    end
    if (job_valid_o && job_ready_i) job_out_q <= job_out_q + 2'd1;
    job_ready_q <= job_ready_q + 3'(done_last_i) - 3'(job_valid_o & job_ready_i);
    if (rst_i) begin
      job_in_q    <= '0;
      job_out_q   <= '0;
      job_ready_q <= '0;
    end
  end
endmodule
