// Decides, one per cycle, which header word or bit plane all weight lanes read, so that the shadow digits of the next step
// are ready when the issue engine takes them. Order: header; then for tile: for step: for pass (hi, lo).
//   vec_*       a vector to come; one is held besides the running one
//   step_ready_o the planes of the next step have all been decided; with step_take_i it is taken. In that cycle the
//               first plane of the following step can be decided: b planes cost max(b, 1) cycles a step
//   two_pass_o .. step_last_o describe the ready step; step_last_o: last pass of the last step of a tile
//   wait_ddr_o  the next header or step waits because a lane lacks words
// Words are reserved ahead (up to 7 steps, both passes together) in all lanes, only for a vector's first tile: later ones read
// the same words again. The next vector's header is read once the last planes of this one have been decided.
// A reservation is seen in the lanes' answers Round cycles later; each lane therefore says for how many steps (up to Round)
// its words are enough, and the reservations under way are counted against that: one step can be reserved every cycle.
// Resource: about 230 flip-flops, 6 M-wide ANDs and the OR trees of the largest plane counts.
// Longer than the house wishes: reservations and decisions share the counts of the same lanes.
module bl_weight_engine #(
  parameter int unsigned C = 8,
  parameter int unsigned M = 8,
  localparam int unsigned HdrWords = (C >= 64) ? 1 : 64 / C
) (
  input  logic              clk_i,
  input  logic              rst_i,
  input  logic              clear_i,
  input  logic              vec_valid_i,
  output logic              vec_ready_o,
  input  logic [19:0]       vec_steps_i,      // > 0
  input  logic [15:0]       vec_tiles_i,      // > 0
  input  logic [1:0]        vec_ptag_i,
  output logic              step_ready_o,
  input  logic              step_take_i,
  output logic              two_pass_o,
  output logic              pass_hi_o,
  output logic [1:0]        step_ptag_o,
  output logic              step_last_o,
  output logic              wait_ddr_o,
  // lanes: reservations
  output logic              rsv_step_o,       // registered
  output logic              rsv_header_o,
  input  logic [M-1:0]      lanes_header_i,   // registered in the lanes, as the next one
  input  logic [M-1:0][4:0] lanes_steps_i,    // [k]: words for k + 1 steps
  input  logic              planes_valid_i,   // lanes_planes_* are those of the header just read
  input  logic [M-1:0][2:0] lanes_planes_hi_i,
  input  logic [M-1:0][2:0] lanes_planes_lo_i,
  // lanes: reads, in the cycle of the decision
  output logic              cmd_valid_o,
  output logic              cmd_header_o,
  output logic [3:0]        cmd_index_o,
  output logic              cmd_hi_o,
  output logic              cmd_release_o,
  output logic              cmd_rewind_o,
  output logic              clear_digits_o,
  output logic [1:0]        hdr_ptag_o
);
  if (C < 4 || C > 128 || (C & (C - 1)) != 0 || M == 0 || M > 256) begin : g_bad
    $fatal(1, "%m: C = %0d, M = %0d; legal: C a power of two 4..128, M 1..256", C, M);
  end

  typedef enum logic [1:0] {Wait, Header, Learn, Steps} state_e;
  state_e state_q;

  // ---- the vector in waiting ----
  logic        held_q;
  logic [19:0] held_steps_q, steps_q;
  logic [15:0] held_tiles_q;
  logic [1:0]  held_ptag_q, ptag_q;
  logic        load, steps_one_q;          // steps_one_q: steps_q is 1

  assign vec_ready_o = ~held_q;
  always_ff @(posedge clk_i) begin
    if (vec_valid_i && vec_ready_o) begin
      held_q       <= 1'b1;
      held_steps_q <= vec_steps_i;
      held_tiles_q <= vec_tiles_i;
      held_ptag_q  <= vec_ptag_i;
    end else if (load) begin
      held_q <= 1'b0;
    end
    if (rst_i || clear_i) held_q <= 1'b0;
  end

  // ---- largest plane counts: groups of 8 lanes, then all ----
  localparam int unsigned NG = (M + 7) / 8;
  logic [NG-1:0][3:0] hi_any, hi_over_q;    // [k]: some lane of the group has more than k planes
  logic [NG-1:0][4:0] lo_any, lo_over_q;
  logic [3:0]         hi_over;
  logic [4:0]         lo_over;
  logic [2:0]         more_hi_q, more_lo_q;    // planes of the two passes behind the first one
  logic               short_hi_q, short_lo_q;  // there are none
  logic               two_q, grouped_q, arm_q;

  always_comb begin
    hi_any = '0;
    lo_any = '0;
    for (int l = 0; l < int'(M); l++) begin
      for (int k = 0; k < 4; k++) hi_any[l/8][k] |= lanes_planes_hi_i[l] > 3'(k);
      for (int k = 0; k < 5; k++) lo_any[l/8][k] |= lanes_planes_lo_i[l] > 3'(k);
    end
    hi_over = '0;
    lo_over = '0;
    for (int g = 0; g < int'(NG); g++) begin
      hi_over |= hi_over_q[g];
      lo_over |= lo_over_q[g];
    end
  end

  always_ff @(posedge clk_i) begin
    grouped_q <= planes_valid_i;
    arm_q     <= grouped_q;
    hi_over_q <= hi_any;
    lo_over_q <= lo_any;
    if (grouped_q) begin
      two_q      <= hi_over[0];
      more_hi_q  <= 3'($countones(hi_over[3:1]));
      more_lo_q  <= 3'($countones(lo_over[4:1]));
      short_hi_q <= ~hi_over[1];
      short_lo_q <= ~lo_over[1];
    end
    if (rst_i || clear_i) begin
      grouped_q <= 1'b0;
      arm_q     <= 1'b0;
    end
  end

  // ---- reservations ----
  localparam int unsigned Round = 5;    // decision, lanes' margin, their level, their answer, the AND of all
  logic              header_all_q;      // every lane has a header
  logic [Round-1:0]  steps_all_q, steps_all;
  logic [Round-2:0]  way_q;             // reservations whose effect is not seen yet
  logic              header_open_q, steps_open_q, rsv_one_q;   // what is to be reserved; one step of the vector is left
  logic [19:0]       rsv_left_q;        // steps not yet reserved
  logic              header_ok_q;       // a header is reserved
  logic [6:0]        credit_q;          // [k]: more than k steps reserved and not begun
  logic              allowed, reserve, reserve_header, start, spend;

  always_comb begin
    steps_all = '1;
    for (int l = 0; l < int'(M); l++) steps_all &= lanes_steps_i[l];
  end
  assign allowed        = steps_all_q[3'($countones(way_q))];
  assign reserve        = steps_open_q & ~credit_q[6] & allowed;
  assign reserve_header = header_open_q & header_all_q & (way_q == '0);

  always_ff @(posedge clk_i) begin
    header_all_q <= &lanes_header_i;
    steps_all_q  <= steps_all;
    rsv_step_o   <= reserve;
    rsv_header_o <= reserve_header;
    way_q        <= {way_q[Round-3:0], reserve | reserve_header};
    if (reserve && !spend) credit_q <= {credit_q[5:0], 1'b1};
    else if (spend && !reserve) credit_q <= {1'b0, credit_q[6:1]};
    header_ok_q   <= (header_ok_q | reserve_header) & ~load;
    if (reserve) begin
      rsv_left_q <= rsv_left_q - 20'd1;
      rsv_one_q  <= rsv_left_q == 20'd2;
    end
    if (arm_q) begin
      rsv_left_q <= steps_q;
      rsv_one_q  <= steps_one_q;
    end
    steps_open_q  <= arm_q | (steps_open_q & ~(reserve & rsv_one_q));
    header_open_q <= (reserve & rsv_one_q) | (header_open_q & ~reserve_header);
    if (rst_i || clear_i) begin
      header_all_q  <= 1'b0;
      steps_all_q   <= '0;
      rsv_step_o    <= 1'b0;
      rsv_header_o  <= 1'b0;
      way_q         <= '0;
      credit_q      <= '0;
      steps_open_q  <= 1'b0;
      header_open_q <= 1'b1;
      header_ok_q   <= 1'b0;
    end
  end

  // ---- decisions ----
  logic [19:0] left_steps_q;        // of the tile, the next one included
  logic [15:0] left_tiles_q;
  logic        last_step_q, last_tile_q;   // left_steps_q, left_tiles_q are 1
  logic        paid_q, hi_q;        // of the next pass: it needs no reservation; it is the high one
  logic        first_tile_q, active_q;
  logic [2:0]  left_q, plane_q;     // planes of the running pass still to be decided; index of the next
  logic        left_none_q, left_one_q;
  logic [3:0]  word_q;
  logic        ready_q, run_hi_q, run_rewind_q, run_release_q;
  logic        is_last, is_end, final_plane, short_pass, rewind;
  logic [2:0]  more;

  assign load       = state_q == Wait && held_q && header_ok_q && left_none_q;
  assign start      = active_q & left_none_q & (paid_q | credit_q[0]) & (~ready_q | step_take_i);
  assign spend      = start & ~paid_q;
  assign more       = hi_q ? more_hi_q : more_lo_q;
  assign short_pass = hi_q ? short_hi_q : short_lo_q;
  assign is_last    = ~hi_q & last_step_q;
  assign is_end     = is_last & last_tile_q;
  assign final_plane = start ? short_pass : left_one_q;
  assign rewind     = start ? is_last & ~is_end : run_rewind_q;

  assign cmd_header_o   = state_q == Header;
  assign cmd_valid_o    = start | ~left_none_q;
  assign cmd_index_o    = cmd_header_o ? word_q : start ? 4'd0 : {1'b0, plane_q};
  assign cmd_hi_o       = start ? hi_q : run_hi_q;
  assign cmd_release_o  = cmd_header_o | (start ? last_tile_q : run_release_q);
  assign cmd_rewind_o   = cmd_valid_o & final_plane & rewind;
  assign clear_digits_o = start;
  assign hdr_ptag_o     = ptag_q;
  assign step_ready_o   = ready_q;

  always_ff @(posedge clk_i) begin
    wait_ddr_o <= left_none_q & ((state_q == Wait && held_q && !header_ok_q && !header_all_q)
                                 || (active_q && !ready_q && !paid_q && !credit_q[0] && !steps_all_q[0]));
    if (rst_i || clear_i) wait_ddr_o <= 1'b0;
  end

  always_ff @(posedge clk_i) begin
    steps_one_q <= steps_q == 20'd1;
    ready_q     <= (ready_q & ~step_take_i) | (cmd_valid_o & final_plane);
    if (start) begin
      left_q        <= more;
      left_none_q   <= short_pass;
      left_one_q    <= more == 3'd1;
      plane_q       <= 3'd1;
      run_hi_q      <= hi_q;
      run_rewind_q  <= is_last & ~is_end;
      run_release_q <= last_tile_q;
      two_pass_o    <= two_q;
      pass_hi_o     <= hi_q;
      step_ptag_o   <= ptag_q;
      step_last_o   <= is_last;
      hi_q          <= two_q & ~hi_q;
      paid_q        <= ~first_tile_q | hi_q | is_last;
      if (is_last) begin
        left_steps_q <= steps_q;
        last_step_q  <= steps_one_q;
        left_tiles_q <= left_tiles_q - 16'd1;
        last_tile_q  <= left_tiles_q == 16'd2;
        first_tile_q <= 1'b0;
      end else if (!hi_q) begin
        left_steps_q <= left_steps_q - 20'd1;
        last_step_q  <= left_steps_q == 20'd2;
      end
    end else if (!left_none_q) begin
      left_q      <= left_q - 3'd1;
      left_none_q <= left_one_q;
      left_one_q  <= left_q == 3'd2;
      plane_q     <= plane_q + 3'd1;
    end

    unique case (state_q)
      Wait: if (load) begin
        state_q      <= Header;
        word_q       <= '0;
        steps_q      <= held_steps_q;
        left_steps_q <= held_steps_q;
        left_tiles_q <= held_tiles_q;
        last_tile_q  <= held_tiles_q == 16'd1;
        ptag_q       <= held_ptag_q;
        first_tile_q <= 1'b1;
      end
      Header: begin
        word_q      <= word_q + 4'd1;
        last_step_q <= steps_q == 20'd1;
        if (word_q == 4'(HdrWords - 1)) state_q <= Learn;
      end
      Learn: if (arm_q) begin
        state_q  <= Steps;
        active_q <= 1'b1;
        hi_q     <= two_q;
        paid_q   <= 1'b0;
      end
      default: if (start && is_end) begin
        state_q  <= Wait;
        active_q <= 1'b0;
      end
    endcase
    if (rst_i || clear_i) begin
      state_q     <= Wait;
      active_q    <= 1'b0;
      ready_q     <= 1'b0;
      left_q      <= '0;
      left_none_q <= 1'b1;
      left_one_q  <= 1'b0;
    end
  end
endmodule
