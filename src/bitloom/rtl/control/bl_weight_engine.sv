// Decides, one per cycle, which header word or bit plane all weight lanes read, so that the shadow digits of the next step
// are ready when the issue engine takes them. Order: header; then for tile: for step: for pass (hi, lo).
//   vec_*       a vector to come; one is held besides the running one
//   step_ready_o the planes of the next step have all been decided; step_take_i only then. In the cycle of step_take_i the
//               first plane of the following step can be decided: b planes cost max(b, 1) cycles a step
//   two_pass_o .. step_last_o describe the ready step; step_last_o: last pass of the last step of a tile
//   wait_ddr_o  the next header or step waits because a lane lacks words
// Words are reserved ahead (up to 3 steps) in all lanes together, only for a vector's first tile: later ones read the same
// words again. The next vector's header is read once the last planes of this one have been decided.
// Resource: about 180 flip-flops, an M-wide AND and the OR trees of the largest plane counts.
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
  output logic              rsv_o,
  output logic [1:0]        rsv_next_o,
  input  logic [M-1:0]      lanes_enough_i,
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
  typedef enum logic [1:0] {None, ForHeader, ForHi, ForLo} kind_e;
  state_e state_q;
  kind_e  kind_q, next_kind;

  // ---- the vector in waiting ----
  logic        held_q;
  logic [19:0] held_steps_q, steps_q;
  logic [15:0] held_tiles_q;
  logic [1:0]  held_ptag_q, ptag_q;
  logic        load;

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
  logic [2:0]         max_hi_q, max_lo_q;
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
      two_q    <= hi_over[0];
      max_hi_q <= 3'($countones(hi_over));
      max_lo_q <= 3'($countones(lo_over));
    end
    if (rst_i || clear_i) begin
      grouped_q <= 1'b0;
      arm_q     <= 1'b0;
    end
  end

  // ---- reservations ----
  logic [19:0] rsv_left_q;          // steps not yet reserved, the pending one included
  logic        header_ok_q;         // a header is reserved
  logic [1:0]  credit_q;            // steps reserved and not begun
  logic        enough, reserve, start, spend;

  assign enough  = &lanes_enough_i;
  assign reserve = enough && ((kind_q == ForHeader && !header_ok_q) || (kind_q[1] && credit_q != 2'd3));
  assign rsv_o   = reserve | arm_q;
  always_comb begin
    if (arm_q)                    next_kind = two_q ? ForHi : ForLo;
    else if (kind_q == ForHi)     next_kind = ForLo;
    else if (kind_q == ForHeader) next_kind = None;
    else if (rsv_left_q == 20'd1) next_kind = ForHeader;
    else                          next_kind = two_q ? ForHi : ForLo;
  end
  assign rsv_next_o = next_kind;

  always_ff @(posedge clk_i) begin
    if (rsv_o) kind_q <= next_kind;
    if (arm_q) rsv_left_q <= steps_q;
    else if (reserve && kind_q == ForLo) rsv_left_q <= rsv_left_q - 20'd1;
    credit_q    <= credit_q + 2'(reserve & kind_q[1]) - 2'(spend);
    header_ok_q <= (header_ok_q | (reserve && kind_q == ForHeader)) & ~load;
    if (rst_i || clear_i) begin
      kind_q      <= ForHeader;
      credit_q    <= '0;
      header_ok_q <= 1'b0;
    end
  end

  // ---- decisions ----
  logic [19:0] left_steps_q;        // of the tile, the next one included
  logic [15:0] left_tiles_q;
  logic        first_tile_q, hi_q;  // of the next step
  logic [2:0]  left_q, plane_q;     // planes of the running step still to be decided; index of the next
  logic [3:0]  word_q;
  logic        ready_q, run_hi_q, run_rewind_q, run_release_q;
  logic        slot_free, is_last, is_end, final_plane, rewind;
  logic [2:0]  planes;

  assign load      = state_q == Wait && held_q && header_ok_q && left_q == '0;
  assign slot_free = left_q == '0 && (!ready_q || step_take_i);
  assign start     = state_q == Steps && slot_free && (credit_q != '0 || !first_tile_q);
  assign spend     = start & first_tile_q;
  assign planes    = hi_q ? max_hi_q : max_lo_q;
  assign is_last   = !hi_q && left_steps_q == 20'd1;
  assign is_end    = is_last && left_tiles_q == 16'd1;
  assign final_plane = start ? planes <= 3'd1 : left_q == 3'd1;
  assign rewind    = start ? is_last & ~is_end : run_rewind_q;

  assign cmd_header_o   = state_q == Header;
  assign cmd_valid_o    = start | (left_q != '0);
  assign cmd_index_o    = cmd_header_o ? word_q : start ? 4'd0 : {1'b0, plane_q};
  assign cmd_hi_o       = start ? hi_q : run_hi_q;
  assign cmd_release_o  = cmd_header_o | (start ? left_tiles_q == 16'd1 : run_release_q);
  assign cmd_rewind_o   = cmd_valid_o & final_plane & rewind;
  assign clear_digits_o = start;
  assign hdr_ptag_o     = ptag_q;
  assign step_ready_o   = ready_q;
  assign wait_ddr_o     = ~enough & ((state_q == Wait && held_q && !header_ok_q && left_q == '0)
                                     || (state_q == Steps && slot_free && first_tile_q && credit_q == '0));

  always_ff @(posedge clk_i) begin
    ready_q <= (ready_q & ~step_take_i) | (cmd_valid_o & final_plane);
    if (start) begin
      left_q        <= (planes == '0) ? '0 : planes - 3'd1;
      plane_q       <= 3'd1;
      run_hi_q      <= hi_q;
      run_rewind_q  <= is_last & ~is_end;
      run_release_q <= left_tiles_q == 16'd1;
      two_pass_o    <= two_q;
      pass_hi_o     <= hi_q;
      step_ptag_o   <= ptag_q;
      step_last_o   <= is_last;
      hi_q          <= two_q & ~hi_q;
      if (is_last) begin
        left_steps_q <= steps_q;
        left_tiles_q <= left_tiles_q - 16'd1;
        first_tile_q <= 1'b0;
      end else if (!hi_q) begin
        left_steps_q <= left_steps_q - 20'd1;
      end
    end else if (left_q != '0) begin
      left_q  <= left_q - 3'd1;
      plane_q <= plane_q + 3'd1;
    end

    unique case (state_q)
      Wait: if (load) begin
        state_q      <= Header;
        word_q       <= '0;
        steps_q      <= held_steps_q;
        left_steps_q <= held_steps_q;
        left_tiles_q <= held_tiles_q;
        ptag_q       <= held_ptag_q;
        first_tile_q <= 1'b1;
      end
      Header: begin
        word_q <= word_q + 4'd1;
        if (word_q == 4'(HdrWords - 1)) state_q <= Learn;
      end
      Learn: if (arm_q) begin
        state_q <= Steps;
        hi_q    <= two_q;
      end
      default: if (start && is_end) state_q <= Wait;
    endcase
    if (rst_i || clear_i) begin
      state_q <= Wait;
      ready_q <= 1'b0;
      left_q  <= '0;
    end
  end
endmodule
