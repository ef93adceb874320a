// Grid coordinates (oy, ox) of the P lanes of a group: lane p of group g is flat position n = g·P + p,
// oy = n div grid_w mod rows, ox = n mod grid_w, kept incrementally (no divider); adv_y = (P div grid_w) mod rows.
// Rows that never wrap: rows_i = 4095.
//   init_i   starts the sequential set-up for a new grid (P cycles, ready_o low meanwhile)
//   go_i     to the following group; with rewind_i back to the tile's start instead, with home_i back to group 0, which becomes
//            the tile's start; with mark_i alone the following group becomes the tile's start
// Resource: 3 × P × 29 flip-flops, P × 6 adders side by side.
module bl_coords #(
  parameter int unsigned P = 2
) (
  input  logic              clk_i,
  input  logic              rst_i,
  input  logic              init_i,
  input  logic [11:0]       rows_i,
  input  logic [16:0]       grid_w_i,
  input  logic [11:0]       adv_y_i,
  input  logic [16:0]       adv_x_i,
  input  logic              go_i,
  input  logic              mark_i,
  input  logic              rewind_i,
  input  logic              home_i,
  output logic              ready_o,
  output logic [P-1:0][11:0] oy_o,
  output logic [P-1:0][16:0] ox_o
);
  if (P < 2 || P > 16) begin : g_bad
    $fatal(1, "%m: P = %0d; legal: 2..16", P);
  end
  localparam int unsigned PW = $clog2(P + 1);

  logic [P-1:0][11:0] home_y_q, start_y_q, y_q, next_y;
  logic [P-1:0][16:0] home_x_q, start_x_q, x_q, next_x;
  logic [PW-1:0]      lane_q;     // lane being set up; P when done
  logic [11:0]        walk_y_q;
  logic [16:0]        walk_x_q;
  // What follows from the grid's sizes, which are stable from init_i on; used from the next cycle on.
  logic [17:0]        back_x_q;             // adv_x - grid_w, negative
  logic [12:0]        back_y_q;             // adv_y - rows, negative
  logic [16:0]        last_x_q;
  logic [11:0]        last_y_q;

  always_ff @(posedge clk_i) begin
    back_x_q <= {1'b0, adv_x_i} - {1'b0, grid_w_i};
    back_y_q <= {1'b0, adv_y_i} - {1'b0, rows_i};
    last_x_q <= grid_w_i - 17'd1;
    last_y_q <= rows_i - 12'd1;
  end
  assign ready_o = lane_q == PW'(P);
  assign oy_o    = y_q;
  assign ox_o    = x_q;

  always_comb begin
    for (int p = 0; p < int'(P); p++) begin
      automatic logic [16:0] straight = x_q[p] + adv_x_i;
      automatic logic [17:0] wrapped  = {1'b0, x_q[p]} + back_x_q;
      automatic logic        wrap     = ~wrapped[17];
      // Rows for both outcomes of the column, with and without a new image.
      automatic logic [11:0] same_y   = y_q[p] + adv_y_i;
      automatic logic [11:0] down_y   = y_q[p] + adv_y_i + 12'd1;
      automatic logic [12:0] same_new = {1'b0, y_q[p]} + back_y_q;
      automatic logic [12:0] down_new = {1'b0, y_q[p]} + back_y_q + 13'd1;
      next_x[p] = wrap ? wrapped[16:0] : straight;
      if (wrap) next_y[p] = down_new[12] ? down_y : down_new[11:0];
      else      next_y[p] = same_new[12] ? same_y : same_new[11:0];
    end
  end

  always_ff @(posedge clk_i) begin
    if (init_i) begin
      lane_q   <= '0;
      walk_y_q <= '0;
      walk_x_q <= '0;
    end else if (!ready_o) begin
      for (int p = 0; p < int'(P); p++) begin
        if (lane_q == PW'(p)) begin
          home_y_q[p]  <= walk_y_q;
          home_x_q[p]  <= walk_x_q;
          start_y_q[p] <= walk_y_q;
          start_x_q[p] <= walk_x_q;
          y_q[p]       <= walk_y_q;
          x_q[p]       <= walk_x_q;
        end
      end
      lane_q <= lane_q + 1'b1;
      if (walk_x_q == last_x_q) begin
        walk_x_q <= '0;
        walk_y_q <= (walk_y_q == last_y_q) ? '0 : walk_y_q + 12'd1;
      end else begin
        walk_x_q <= walk_x_q + 17'd1;
      end
    end else if (go_i) begin
      y_q <= home_i ? home_y_q : rewind_i ? start_y_q : next_y;
      x_q <= home_i ? home_x_q : rewind_i ? start_x_q : next_x;
      if (home_i || (mark_i && !rewind_i)) begin
        start_y_q <= home_i ? home_y_q : next_y;
        start_x_q <= home_i ? home_x_q : next_x;
      end
    end
    if (rst_i) lane_q <= PW'(P);
  end
endmodule
