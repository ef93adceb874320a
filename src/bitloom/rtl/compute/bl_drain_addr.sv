// Addresses of a tensor that is written or added: walks the grid group by group, for ever, and gives for every group the
// bank and the row (relative to the tensor's base) of each lane, whether the lane is written, and its round: lanes of one
// round hit distinct banks.
//   n = phase·phase_pixels + (y >> split)·pitch + (x >> split), y = oy + y0, phase = {y[0], x[0]} & split
//   bank = n mod P, row = n div P (by a constant multiplier, exact for n < 2^18)
// Handshake: valid_o/pop_i, first word falls through. Throughput 1 group per cycle after 15 cycles of fill.
// The pipeline never stops: a group enters it when the queue behind it has a place (credits), so nothing is enabled by pop_i
// but the queue. Resource: P multipliers, 2·P where P is no power of two; a queue of 32 groups in LUT memory.
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
  output logic [RoundW-1:0]        rounds_o,     // rounds of this group
  output logic                     none_o,       // rounds_o is 0: nothing is written
  output logic                     single_o,     // rounds_o is 0 or 1
  input  logic                     pop_i
);
  // n div P = (n >> 1) div (P / 2), by a reciprocal: exact, since (n >> 1)·(Recip·(P/2) - 2^Shift) < 2^17·8 < 2^Shift.
  localparam int unsigned Half   = P / 2;
  localparam int unsigned Shift  = 22;
  localparam int unsigned Recip  = ((1 << Shift) + Half - 1) / Half;
  localparam int unsigned Depth  = 32;
  localparam int unsigned Stages = 12;
  localparam int unsigned LaneW  = 1 + BankW + RowW + RoundW;

  if (P < 2 || P % 2 != 0 || P > 16) begin : g_bad
    $fatal(1, "%m: P = %0d; legal: 2, 4, .. 16", P);
  end

  // ---- groups enter ----
  logic               coords_ready, run_q, enter, last_q;
  logic [15:0]        left_q, n_last_q;     // groups behind the present one; of the whole grid
  logic [5:0]         credit_q;             // places that no group on its way has claimed
  logic [P-1:0][11:0] oy;
  logic [P-1:0][16:0] ox;
  logic [Stages-1:0]  valid_q;              // [k]: a group in stage k + 1
  logic [18:0]        phase2_q, phase3_q;
  logic               unused_cmd;
  assign unused_cmd = ^{cmd_i, phase2_q[18], phase3_q[18]};
  assign enter      = run_q & (credit_q != '0);

  bl_coords #(.P(P)) u_coords (
    .clk_i, .rst_i, .init_i,
    .rows_i(12'hFFF), .grid_w_i(cmd_i.grid_w), .adv_y_i(cmd_i.adv_y), .adv_x_i(cmd_i.adv_x),
    .go_i    (enter), .mark_i(1'b0), .rewind_i(1'b0), .home_i(last_q),
    .ready_o (coords_ready), .oy_o(oy), .ox_o(ox)
  );

  always_ff @(posedge clk_i) begin
    run_q    <= coords_ready & ~init_i;
    n_last_q <= cmd_i.n_groups - 16'd1;
    phase2_q <= {1'b0, phase_pixels_i, 1'b0};
    phase3_q <= {2'b0, phase_pixels_i} + {1'b0, phase_pixels_i, 1'b0};
    valid_q  <= {valid_q[Stages-2:0], enter};
    credit_q <= credit_q - 6'(enter) + 6'(pop_i);
    if (enter) begin
      left_q <= last_q ? n_last_q : left_q - 16'd1;
      last_q <= last_q ? n_last_q == '0 : left_q == 16'd1;
    end
    if (init_i) begin
      left_q <= cmd_i.n_groups - 16'd1;
      last_q <= cmd_i.n_groups == 16'd1;
    end
    if (rst_i || init_i) begin
      valid_q  <= '0;
      credit_q <= 6'(Depth);
    end
    if (rst_i) run_q <= 1'b0;
  end

  // ---- the pipeline, lane by lane ----
  logic [P-1:0]             lane9_q, lane10_q, lane11_q, lane12_q;
  logic [P-1:0][BankW-1:0]  bank9_q, bank10_q, bank11_q, bank12_q;
  logic [P-1:0][RowW-1:0]   row9_q, row10_q, row11_q, row12_q;
  logic [P-1:0][RoundW-1:0] round10_q, round11_q, round12_q;
  logic [P-1:0]             used11_q;      // [r]: some lane has round r
  logic [RoundW-1:0]        rounds12_q;
  logic                     none12_q, single12_q;

  for (genvar p = 0; p < P; p++) begin : g_lane
    logic [11:0]          y1_q, ry2_q;
    logic [16:0]          x1_q, rx2_q;
    logic [17:0]          base2_q, rest3_q, flat8;
    logic [47:0]          flat5;
    logic [2:0][17:0]     flat_q;      // stages 6, 7, 8
    logic [17:0]          quot8;
    logic [7:0]           in_q;        // stages 1 to 8
    logic [1:0]           phase1;

    assign phase1 = split_i ? {y1_q[0], x1_q[0]} : 2'b00;
    always_ff @(posedge clk_i) begin
      in_q  <= {in_q[6:0], oy[p] < cmd_i.out_h && ox[p] < cmd_i.out_w};
      // 1: coordinates in the tensor
      y1_q  <= oy[p] + y0_i;
      x1_q  <= ox[p];
      // 2: coordinates inside the image or phase image
      ry2_q <= split_i ? {1'b0, y1_q[11:1]} : y1_q;
      rx2_q <= split_i ? {1'b0, x1_q[16:1]} : x1_q;
      unique case (phase1)
        2'd0: base2_q <= '0;
        2'd1: base2_q <= {1'b0, phase_pixels_i};
        2'd2: base2_q <= phase2_q[17:0];
        default: base2_q <= phase3_q[17:0];
      endcase
      // 3: what is added to the line's product
      rest3_q <= base2_q + {1'b0, rx2_q};
      flat_q  <= {flat_q[1:0], flat5[17:0]};
    end

    // 3 to 5: flat position
    bl_dsp_mac u_flat (
      .clk_i, .a_i({15'd0, ry2_q}), .b_i({1'b0, pitch_i}), .c_i({30'd0, rest3_q}), .p_o(flat5)
    );
    assign flat8 = flat_q[2];

    // 6 to 8: quotient
    if ((P & (P - 1)) == 0) begin : g_shift
      assign quot8 = flat8 >> BankW;
    end else begin : g_product
      logic [47:0] product;
      logic        unused_product;
      bl_dsp_mac u_quot (
        .clk_i, .a_i(27'(Recip)), .b_i({1'b0, flat5[17:1]}), .c_i(48'd0), .p_o(product)
      );
      assign quot8 = product[Shift +: 18];
      assign unused_product = ^{product[47:Shift+18], product[Shift-1:0]};
    end

    // 9: row and bank
    always_ff @(posedge clk_i) begin
      lane9_q[p] <= in_q[7];
      row9_q[p]  <= RowW'(quot8);
      bank9_q[p] <= flat8[BankW-1:0] - quot8[BankW-1:0] * BankW'(P);
    end
    logic unused_bits;
    assign unused_bits = ^{flat5[47:18], quot8, flat8};
  end

  // 10: the round of a lane is the number of earlier written lanes of the same bank. 11: the rounds
  // that occur, which are the first ones. 12: their number.
  logic [P-1:0][RoundW-1:0] round9;
  logic [P-1:0]             used10;
  always_comb begin
    for (int p = 0; p < int'(P); p++) begin
      automatic logic [P-1:0] same = '0;
      for (int e = 0; e < p; e++) same[e] = lane9_q[e] && bank9_q[e] == bank9_q[p];
      round9[p] = RoundW'($countones(same));
    end
    used10 = '0;
    for (int r = 0; r < int'(P); r++) begin
      for (int p = r; p < int'(P); p++) used10[r] |= lane10_q[p] && round10_q[p] == RoundW'(r);
    end
  end
  always_ff @(posedge clk_i) begin
    lane10_q   <= lane9_q;
    bank10_q   <= bank9_q;
    row10_q    <= row9_q;
    round10_q  <= round9;
    lane11_q   <= lane10_q;
    bank11_q   <= bank10_q;
    row11_q    <= row10_q;
    round11_q  <= round10_q;
    used11_q   <= used10;
    lane12_q   <= lane11_q;
    bank12_q   <= bank11_q;
    row12_q    <= row11_q;
    round12_q  <= round11_q;
    rounds12_q <= RoundW'($countones(used11_q));
    none12_q   <= ~used11_q[0];
    single12_q <= ~used11_q[1];
  end

  // ---- the queue and its head ----
  localparam int unsigned WordW = P * LaneW + RoundW + 2;
  logic             queue_valid, queue_take, unused_ready;
  logic [WordW-1:0] queue_word, head_q;
  logic [5:0]       unused_count;
  bl_fifo #(.Width(WordW), .Depth(Depth)) u_queue (
    .clk_i, .rst_i, .clear_i(init_i),
    .valid_i(valid_q[Stages-1]), .ready_o(unused_ready), .data_i({lane12_q, bank12_q, row12_q, round12_q, rounds12_q, none12_q, single12_q}),
    .valid_o(queue_valid), .ready_i(queue_take), .data_o(queue_word), .count_o(unused_count)
  );
  assign queue_take = ~valid_o | pop_i;
  assign {lanes_o, bank_o, row_o, round_o, rounds_o, none_o, single_o} = head_q;

  always_ff @(posedge clk_i) begin
    if (queue_take) begin
      head_q  <= queue_word;
      valid_o <= queue_valid;
    end
    if (rst_i || init_i) valid_o <= 1'b0;
  end
endmodule
