// Issue engine of a convolution: one group of one step a cycle.
//   for vector: for tile: for tap: for chunk: for pass (hi, lo as the weight engine says): for group in tile
// A step starts when its digits are in the shadow (step_ready_i); a tile also when its accumulator buffer is free and LOAD has
// come far enough. Inside a step nothing stalls, so the drain of a tile may start with the first group of its last step.
//   start_i     cmd_i is stable from here until done_o
//   step_take_o the step's first group is issued in this cycle
//   wait_*_o    why nothing is issued (at most one)
//   job_*       a tile whose last sums are (being) written, in order
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

  // ---- loop counters ----
  logic [GroupW-1:0] grp_q;
  logic [7:0]        tile_groups_q;
  logic [9:0]        tap_q;          // tap in use
  logic [TapW-1:0]   next_tap_q;     // tap being fetched
  logic              fresh_q;        // tap_i holds next_tap_q
  tap_t              cur_tap_q;
  logic [11:0]       chunk_q;
  logic [17:0]       base_q;         // row of group 0 of the current step
  logic [17:0]       chunk_row_q;    // in_base + chunk * in_chunk_rows
  logic [15:0]       tile_q, tile_base_q, group_abs_q;
  logic [11:0]       vec_q, pushed_q;
  logic [12:0]       chunks_left_q;
  logic              new_tile_q, hi_q, buf_q;
  logic [1:0]        buf_busy_q, ptag_q, push_ptag_q;
  logic [17:0]       out_row_q, res_row_q, load_need_q;
  logic [19:0]       n_steps_q;
  logic              coords_ready;
  logic              unused_cmd;
  assign unused_cmd = ^{cmd_i, tile_groups_q[7]};

  logic first_group, last_group, hi_now, last_chunk, last_tap, last_step, last_tile, last_vec, need_tap, tile_ok, load_ok, go;

  assign first_group = grp_q == '0;
  assign last_group  = 8'(grp_q) + 8'd1 == tile_groups_q;
  assign hi_now      = first_group ? pass_hi_i : hi_q;
  assign last_chunk  = chunk_q + 12'd1 == cmd_i.in_chunks;
  assign last_tap    = tap_q + 10'd1 == cmd_i.n_taps;
  assign last_step   = last_chunk & last_tap & ~hi_now;
  assign last_tile   = tile_q + 16'd1 == cmd_i.n_tiles;
  assign last_vec    = vec_q + 12'd1 == cmd_i.n_vectors;
  assign need_tap    = last_chunk & ~hi_now;
  assign load_ok     = load_count_i >= load_need_q;
  assign tile_ok     = ~new_tile_q | (~buf_busy_q[buf_q] & load_ok);
  assign go          = (state_q == Run) & (~first_group | (step_ready_i & tile_ok)) & (~(last_group & need_tap) | fresh_q);

  assign valid_o     = go;
  assign step_take_o = go & first_group;
  assign row_o       = base_q + {2'b0, group_abs_q};
  assign tap_o       = cur_tap_q;
  assign buf_o       = buf_q;
  assign group_o     = grp_q;
  assign first_o     = new_tile_q;
  assign hi_o        = hi_now;
  assign last_o      = last_step & first_group;
  assign ptag_o      = ptag_q;
  assign busy_o      = state_q != Idle || job_in_q != job_out_q;
  assign tap_index_o = next_tap_q;

  assign wait_drain_o   = (state_q == Run) & ~go & first_group & new_tile_q & buf_busy_q[buf_q];
  assign wait_input_o   = (state_q == Run) & ~go & first_group & new_tile_q & ~buf_busy_q[buf_q] & ~load_ok;
  assign wait_weights_o = (state_q == Run) & ~go & first_group & tile_ok & ~step_ready_i & wait_ddr_i;
  assign wait_planes_o  = (state_q == Run) & ~go & first_group & tile_ok & ~step_ready_i & ~wait_ddr_i;

  bl_coords #(.P(P)) u_coords (
    .clk_i, .rst_i, .init_i(start_i),
    .rows_i(cmd_i.image_rows), .grid_w_i(cmd_i.grid_w), .adv_y_i(cmd_i.adv_image), .adv_x_i(cmd_i.adv_x),
    .next_i  (go & (~last_group | (last_step & ~last_tile))),
    .mark_i  (last_group),
    .rewind_i(go & last_group & ~last_step),
    .home_i  (go & last_group & last_step & last_tile),
    .ready_o (coords_ready), .oy_o, .ox_o
  );

  // ---- vectors to the weight engine, one ahead ----
  assign vec_valid_o = (state_q == Run) & (pushed_q != cmd_i.n_vectors);
  assign vec_steps_o = n_steps_q;
  assign vec_tiles_o = cmd_i.n_tiles;
  assign vec_ptag_o  = push_ptag_q;

  // ---- step, tile and vector advance ----
  logic [17:0] next_chunk_row;
  assign next_chunk_row = need_tap ? cmd_i.in_base : chunk_row_q + cmd_i.in_chunk_rows;

  always_ff @(posedge clk_i) begin
    fresh_q   <= 1'b1;
    n_steps_q <= cmd_i.n_taps * cmd_i.in_chunks;
    if (vec_valid_o && vec_ready_i) begin
      pushed_q    <= pushed_q + 12'd1;
      push_ptag_q <= push_ptag_q + 2'd1;
    end
    buf_busy_q <= buf_busy_q & ~buf_free_i;

    unique case (state_q)
      Idle: if (start_i) begin
        state_q       <= Prime;
        next_tap_q    <= '0;
        fresh_q       <= 1'b0;
        tap_q         <= '0;
        chunk_q       <= '0;
        chunk_row_q   <= cmd_i.in_base;
        grp_q         <= '0;
        group_abs_q   <= '0;
        tile_base_q   <= '0;
        tile_q        <= '0;
        tile_groups_q <= (cmd_i.n_tiles == 16'd1) ? cmd_i.last_tile_groups : cmd_i.tile_groups;
        vec_q         <= '0;
        pushed_q      <= '0;
        new_tile_q    <= 1'b1;
        chunks_left_q <= {1'b0, cmd_i.out_chunks};
        out_row_q     <= cmd_i.out_base;
        res_row_q     <= cmd_i.res_base;
        load_need_q   <= cmd_i.load_first;
      end
      Prime: if (fresh_q && coords_ready) begin
        state_q    <= Run;
        cur_tap_q  <= tap_i;
        base_q     <= cmd_i.in_base + tap_i.row_off[17:0];
        next_tap_q <= (cmd_i.n_taps == 10'd1) ? '0 : TapW'(1);
        fresh_q    <= 1'b0;
      end
      default: if (go) begin
        hi_q <= hi_now;
        if (first_group && new_tile_q) buf_busy_q[buf_q] <= 1'b1;
        if (!last_group) begin
          grp_q       <= grp_q + 1'b1;
          group_abs_q <= group_abs_q + 16'd1;
        end else begin
          grp_q       <= '0;
          group_abs_q <= tile_base_q;
          new_tile_q  <= 1'b0;
          if (!hi_now) begin
            chunk_row_q <= next_chunk_row;
            chunk_q     <= last_chunk ? '0 : chunk_q + 12'd1;
            base_q      <= next_chunk_row + (need_tap ? tap_i.row_off[17:0] : cur_tap_q.row_off[17:0]);
          end
          if (need_tap) begin
            cur_tap_q  <= tap_i;
            tap_q      <= last_tap ? '0 : tap_q + 10'd1;
            next_tap_q <= (10'(next_tap_q) + 10'd1 == cmd_i.n_taps) ? '0 : next_tap_q + 1'b1;
            fresh_q    <= 1'b0;
          end
          if (last_step) begin
            new_tile_q  <= 1'b1;
            buf_q       <= ~buf_q;
            if (!last_tile) begin
              tile_q        <= tile_q + 16'd1;
              tile_base_q   <= group_abs_q + 16'd1;
              group_abs_q   <= group_abs_q + 16'd1;
              load_need_q   <= load_need_q + cmd_i.load_step;
              tile_groups_q <= (tile_q + 16'd2 == cmd_i.n_tiles) ? cmd_i.last_tile_groups : cmd_i.tile_groups;
            end else begin
              tile_q        <= '0;
              tile_base_q   <= '0;
              group_abs_q   <= '0;
              load_need_q   <= cmd_i.load_first;
              tile_groups_q <= (cmd_i.n_tiles == 16'd1) ? cmd_i.last_tile_groups : cmd_i.tile_groups;
              vec_q         <= vec_q + 12'd1;
              ptag_q        <= ptag_q + 2'd1;
              chunks_left_q <= chunks_left_q - 13'(NC);
              out_row_q     <= out_row_q + 18'(NC) * cmd_i.out_chunk_rows;
              res_row_q     <= res_row_q + 18'(NC) * cmd_i.res_chunk_rows;
              if (last_vec) state_q <= Idle;
            end
          end
        end
      end
    endcase
    if (rst_i) begin
      state_q     <= Idle;
      buf_busy_q  <= '0;
      buf_q       <= 1'b0;
      ptag_q      <= '0;
      push_ptag_q <= '0;
      pushed_q    <= '0;
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
