// Addresses of a tensor that is written or added: walks the grid group by group, for ever, and gives for every group the
// bank and the row (relative to the tensor's base) of each lane, whether the lane is written, and its round: lanes of one
// round hit distinct banks.
//   n = phase·phase_pixels + (y >> split)·pitch + (x >> split), y = oy + y0, phase = {y[0], x[0]} & split
//   bank = n mod P, row = n div P (by a constant multiplier, exact for n < 2^18)
// Handshake: valid_o/pop_i, first word falls through. Throughput 1 group per cycle after 7 cycles of fill.
// Resource: 2·P multipliers (P of them vanish when P is a power of two).
module bl_drain_addr
  import bl_pkg::*;
#(
  parameter int unsigned P       = 2,
  parameter int unsigned ActRows = 256,
  localparam int unsigned RowW   = $clog2(ActRows),
  localparam int unsigned BankW  = $clog2(P),
  localparam int unsigned RoundW = $clog2(P + 1)
) (
  input  logic                     clk_i,
  input  logic                     rst_i,
  input  logic                     init_i,       // a new command: cmd_i is stable from here on
  input  cmd_t                     cmd_i,        // the grid
  input  logic                     split_i,      // the layout
  input  logic [16:0]              pitch_i,
  input  logic [16:0]              phase_pixels_i,
  input  logic [11:0]              y0_i,
  output logic                     valid_o,
  output logic [P-1:0]             lanes_o,      // written lanes
  output logic [P-1:0][BankW-1:0]  bank_o,
  output logic [P-1:0][RowW-1:0]   row_o,
  output logic [P-1:0][RoundW-1:0] round_o,
  output logic [RoundW-1:0]        rounds_o,     // rounds of this group; 0: nothing is written
  input  logic                     pop_i
);
  localparam int unsigned Shift = 22;
  localparam int unsigned Recip = ((1 << Shift) + P - 1) / P;
  localparam int unsigned Stages = 6;

  logic              coords_ready, run_q, en;
  logic [15:0]       group_q;
  logic              last_group;
  logic [P-1:0][11:0] oy;
  logic [P-1:0][16:0] ox;
  logic [Stages-1:0] valid_q;
  logic [18:0]       phase2_q, phase3_q;
  logic              unused_cmd;
  assign unused_cmd = ^cmd_i;

  assign last_group = group_q == cmd_i.n_groups - 16'd1;
  assign en         = ~valid_q[Stages-1] | pop_i;

  bl_coords #(.P(P)) u_coords (
    .clk_i, .rst_i, .init_i,
    .rows_i(12'hFFF), .grid_w_i(cmd_i.grid_w), .adv_y_i(cmd_i.adv_y), .adv_x_i(cmd_i.adv_x),
    .next_i  (en & run_q & ~last_group), .mark_i(1'b0), .rewind_i(1'b0),
    .home_i  (en & run_q & last_group),
    .ready_o (coords_ready), .oy_o(oy), .ox_o(ox)
  );

  always_ff @(posedge clk_i) begin
    run_q <= coords_ready & ~init_i;
    if (init_i) group_q <= '0;
    else if (en && run_q) group_q <= last_group ? '0 : group_q + 16'd1;
    phase2_q <= {1'b0, phase_pixels_i, 1'b0};
    phase3_q <= {2'b0, phase_pixels_i} + {1'b0, phase_pixels_i, 1'b0};
    if (rst_i || init_i) valid_q <= '0;
    else if (en) valid_q <= {valid_q[Stages-2:0], run_q};
    if (rst_i) run_q <= 1'b0;
  end

  for (genvar p = 0; p < P; p++) begin : g_lane
    logic [11:0] y1_q, ry2_q;
    logic [16:0] x1_q, rx2_q;
    logic [28:0] line3_q;
    logic [17:0] base2_q, rest3_q, flat4_q, flat5_q;
    logic [39:0] quot5_q;
    logic        in1_q, in2_q, in3_q, in4_q, in5_q, in6_q;
    logic [RowW-1:0]  row6_q;
    logic [BankW-1:0] bank6_q;
    logic [1:0]  phase1;
    logic        unused_bits;

    assign phase1 = split_i ? {y1_q[0], x1_q[0]} : 2'b00;
    assign unused_bits = ^{line3_q[28:18], quot5_q[Shift-1:0], phase2_q[18], phase3_q[18]};

    always_ff @(posedge clk_i) begin
      if (en) begin
        // 1: output coordinates
        y1_q  <= oy[p] + y0_i;
        x1_q  <= ox[p];
        in1_q <= oy[p] < cmd_i.out_h && ox[p] < cmd_i.out_w;
        // 2: coordinates inside the image or phase image
        ry2_q <= split_i ? {1'b0, y1_q[11:1]} : y1_q;
        rx2_q <= split_i ? {1'b0, x1_q[16:1]} : x1_q;
        unique case (phase1)
          2'd0: base2_q <= '0;
          2'd1: base2_q <= {1'b0, phase_pixels_i};
          2'd2: base2_q <= phase2_q[17:0];
          default: base2_q <= phase3_q[17:0];
        endcase
        in2_q <= in1_q;
        // 3, 4: flat position
        line3_q <= ry2_q * pitch_i;
        rest3_q <= base2_q + {1'b0, rx2_q};
        in3_q   <= in2_q;
        flat4_q <= line3_q[17:0] + rest3_q;
        in4_q   <= in3_q;
        // 5: quotient, 6: row and bank
        quot5_q <= flat4_q * 22'(Recip);
        flat5_q <= flat4_q;
        in5_q   <= in4_q;
        row6_q  <= RowW'(quot5_q[39:Shift]);
        bank6_q <= BankW'(flat5_q - 18'(quot5_q[39:Shift] * 18'(P)));
        in6_q   <= in5_q;
      end
    end

    assign lanes_o[p] = in6_q;
    assign bank_o[p]  = bank6_q;
    assign row_o[p]   = row6_q;
  end

  // The round of a lane is the number of earlier written lanes of the same bank.
  always_comb begin
    rounds_o = '0;
    for (int p = 0; p < int'(P); p++) begin
      round_o[p] = '0;
      for (int e = 0; e < p; e++) begin
        if (lanes_o[e] && bank_o[e] == bank_o[p]) round_o[p] = round_o[p] + 1'b1;
      end
      if (lanes_o[p] && round_o[p] >= rounds_o) rounds_o = round_o[p] + 1'b1;
    end
  end

  assign valid_o = valid_q[Stages-1];
endmodule
