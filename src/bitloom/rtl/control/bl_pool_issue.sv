// Issue engine of a pool: for chunk: for group: for tap, one tap of one group a cycle.
// At most four groups are under way (results not yet used by the drain), so the result queue cannot overflow.
//   start_i      cmd_i is stable until busy_o falls
//   result_i     the pool unit has delivered a group;  result_used_i  the drain has used one
//   job_*        one job per delivered group, in order
module bl_pool_issue
  import bl_pkg::*;
#(
  parameter int unsigned P  = 2,
  parameter int unsigned TapEntries = 64,
  localparam int unsigned TapW = $clog2(TapEntries)
) (
  input  logic               clk_i,
  input  logic               rst_i,
  input  logic               start_i,
  input  cmd_t               cmd_i,
  output logic               busy_o,
  output logic [TapW-1:0]    tap_index_o,
  input  tap_t               tap_i,
  output logic               valid_o,
  output logic [17:0]        row_o,
  output logic [P-1:0][11:0] oy_o,
  output logic [P-1:0][16:0] ox_o,
  output logic               first_o,
  output logic               last_o,
  input  logic               result_i,
  input  logic               result_used_i,
  output logic               job_valid_o,
  input  logic               job_ready_i,
  output logic [17:0]        job_out_row_o,
  output logic [17:0]        job_res_row_o,
  input  logic [17:0]        load_count_i,
  output logic               wait_drain_o,
  output logic               wait_input_o
);
  localparam logic [2:0] Credits = 3'd4;

  logic        run_q, jobs_q, go, first_tap, last_tap, last_group, last_chunk, coords_ready, load_ok;
  logic [9:0]  tap_q;
  logic [15:0] group_q;
  logic [11:0] chunk_q;
  logic [17:0] chunk_row_q;
  logic [2:0]  credit_q;
  // stage 1: the tap has arrived
  logic        valid1_q, first1_q, last1_q, home1_q;
  logic [15:0] group1_q;
  logic [17:0] chunk_row1_q;
  // jobs
  logic [2:0]  ready_q;
  logic [15:0] job_groups_q;                      // left behind this one
  logic [11:0] job_chunks_q;
  logic        job_take, last_job_q, last_chunk_q;  // of its chunk; of all
  logic        unused_cmd;
  assign unused_cmd = ^{cmd_i, tap_i};

  assign first_tap   = tap_q == '0;
  assign last_tap    = tap_q + 10'd1 == cmd_i.n_taps;
  assign last_group  = group_q + 16'd1 == cmd_i.n_groups;
  assign last_chunk  = chunk_q + 12'd1 == cmd_i.in_chunks;
  assign load_ok     = load_count_i >= cmd_i.load_first;
  assign go          = run_q & coords_ready & (~first_tap | (credit_q != '0 & load_ok));
  assign tap_index_o = tap_q[TapW-1:0];
  assign busy_o      = run_q | valid1_q | jobs_q;
  assign wait_drain_o = run_q & coords_ready & first_tap & load_ok & credit_q == '0;
  assign wait_input_o = run_q & coords_ready & first_tap & ~load_ok;

  bl_coords #(.P(P)) u_coords (
    .clk_i, .rst_i, .init_i(start_i),
    .rows_i(cmd_i.image_rows), .grid_w_i(cmd_i.grid_w), .adv_y_i(cmd_i.adv_image), .adv_x_i(cmd_i.adv_x),
    .go_i(valid1_q & last1_q), .mark_i(1'b0), .rewind_i(1'b0), .home_i(home1_q),
    .ready_o(coords_ready), .oy_o, .ox_o
  );

  assign valid_o = valid1_q;
  assign first_o = first1_q;
  assign last_o  = last1_q;
  assign row_o   = chunk_row1_q + tap_i.row_off[17:0] + {2'b0, group1_q};

  assign job_valid_o = ready_q != '0;
  assign job_take    = job_valid_o & job_ready_i;

  always_ff @(posedge clk_i) begin
    valid1_q     <= go;
    first1_q     <= first_tap;
    last1_q      <= last_tap;
    home1_q      <= last_group;
    group1_q     <= group_q;
    chunk_row1_q <= chunk_row_q;
    credit_q     <= credit_q - 3'(go & first_tap) + 3'(result_used_i);
    ready_q      <= ready_q + 3'(result_i) - 3'(job_take);
    if (go) begin
      tap_q <= last_tap ? '0 : tap_q + 10'd1;
      if (last_tap) begin
        group_q <= last_group ? '0 : group_q + 16'd1;
        if (last_group) begin
          chunk_q     <= chunk_q + 12'd1;
          chunk_row_q <= chunk_row_q + cmd_i.in_chunk_rows;
          if (last_chunk) run_q <= 1'b0;
        end
      end
    end
    if (job_take) begin
      job_groups_q <= last_job_q ? cmd_i.n_groups - 16'd1 : job_groups_q - 16'd1;
      last_job_q   <= last_job_q ? cmd_i.n_groups == 16'd1 : job_groups_q == 16'd1;
      if (last_job_q) begin
        job_chunks_q  <= job_chunks_q - 12'd1;
        last_chunk_q  <= job_chunks_q == 12'd1;
        job_out_row_o <= job_out_row_o + cmd_i.out_chunk_rows;
        job_res_row_o <= job_res_row_o + cmd_i.res_chunk_rows;
        if (last_chunk_q) jobs_q <= 1'b0;
      end
    end
    if (start_i) begin
      run_q         <= 1'b1;
      jobs_q        <= 1'b1;
      tap_q         <= '0;
      group_q       <= '0;
      chunk_q       <= '0;
      chunk_row_q   <= cmd_i.in_base;
      job_groups_q  <= cmd_i.n_groups - 16'd1;
      last_job_q    <= cmd_i.n_groups == 16'd1;
      job_chunks_q  <= cmd_i.in_chunks - 12'd1;
      last_chunk_q  <= cmd_i.in_chunks == 12'd1;
      job_out_row_o <= cmd_i.out_base;
      job_res_row_o <= cmd_i.res_base;
    end
    if (rst_i) begin
      run_q    <= 1'b0;
      jobs_q   <= 1'b0;
      valid1_q <= 1'b0;
      ready_q  <= '0;
      credit_q <= Credits;
    end
  end
endmodule
