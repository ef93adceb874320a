// Drain: accumulators (or pool results) -> requantize -> residual -> activation memory, P lanes × DC channels a cycle.
// A job is one tile of one vector (conv) or one group of one chunk (pool). For every group, slice of DC channels and round
// (lanes of distinct banks) one operation enters the pipeline. A residual is read through port A of the half of the memory
// that the array does not read (res_side); where it lies in the same half, through port B, which the writes need as well: then
// one operation every second cycle (they fall on cycles of opposite parity). Lanes of a round must have distinct residual
// banks too: the compiler sees to it.
//   job_valid_i/job_ready_o   job, held until ready_o, which is a register: it was taken in the cycle before
//   buf_free_o[b]             accumulator buffer b has been read entirely
//   pool_pop_o                the pool result at the head of its queue is used in this cycle for the last time
//   idle_o                    nothing queued, nothing in flight, all writes done
// Resource: P·DC requantizers, two address generators, two P×P crossbars of DC and C bytes.
// Longer than the house wishes: one pipeline, whose stages share the state of a round; cut, its ports would outnumber its lines.
module bl_drain
  import bl_pkg::*;
#(
  parameter int unsigned P       = 2,
  parameter int unsigned C       = 8,
  parameter int unsigned M       = 16,
  parameter int unsigned T       = 8,
  parameter int unsigned DC      = 4,
  parameter int unsigned ActRows = 256,
  localparam int unsigned RowW   = $clog2(ActRows),
  localparam int unsigned BankW  = $clog2(P),
  localparam int unsigned NS     = C / DC,
  localparam int unsigned NC     = M / C,
  localparam int unsigned GroupW = $clog2(T)
) (
  input  logic                        clk_i,
  input  logic                        rst_i,
  input  logic                        init_i,
  input  cmd_t                        cmd_i,
  // job
  input  logic                        job_valid_i,
  output logic                        job_ready_o,
  input  logic                        job_pool_i,
  input  logic                        job_buf_i,
  input  logic [7:0]                  job_groups_i,
  input  logic [7:0]                  job_chunks_i,
  input  logic [17:0]                 job_out_row_i,
  input  logic [17:0]                 job_res_row_i,
  input  logic [1:0]                  job_ptag_i,
  output logic [1:0]                  buf_free_o,
  output logic                        active_o,
  output logic                        idle_o,
  // accumulators two cycles, parameters one cycle after the request
  output logic                        acc_buf_o,
  output logic [GroupW-1:0]           acc_group_o,
  input  logic [P-1:0][M-1:0][31:0]   acc_i,
  output logic [1:0]                  param_ptag_o,
  input  logic [M-1:0][17:0]          param_m_i,
  input  logic [M-1:0][1:0]           param_s_i,
  input  logic [M-1:0]                param_pre_i,
  // pool results
  input  logic [P-1:0][C-1:0][23:0]   pool_acc_i,
  output logic                        pool_pop_o,
  // memory port B
  output logic [P-1:0]                mem_en_o,
  output logic                        mem_we_o,
  output logic [P-1:0][NS-1:0]        mem_slice_o,
  output logic [P-1:0][RowW-1:0]      mem_row_o,
  output logic [P-1:0][C-1:0][7:0]    mem_d_o,
  input  logic [P-1:0][C-1:0][7:0]    mem_q_i,
  // memory port A, residual
  output logic [P-1:0]                res_en_o,
  output logic [P-1:0][RowW-1:0]      res_row_o,
  input  logic [P-1:0][C-1:0][7:0]    res_q_i
);
  import bl_latency_pkg::*;

  // Write comes WriteDelay cycles after the residual read; the sum is odd so that both can alternate on port B.
  localparam int unsigned WriteDelay = RequantLatency + 1 + (RequantLatency % 2);
  localparam int unsigned SliceW = (NS > 1) ? $clog2(NS) : 1;
  localparam int unsigned RoundW = $clog2(P + 1);

  // ---- job and operation selection (cycle u) ----
  logic              busy_q, pool_q, buf_q, parity_q;
  logic [7:0]        groups_left_q, group_q, chunks_q, chunk_left_q, chunk_q;
  logic              one_chunk_q;
  logic [SliceW-1:0] slice_q;
  logic [RoundW-1:0] round_q;
  logic [17:0]       out_row0_q, res_row0_q, out_row_q, res_row_q;
  logic [1:0]        ptag_q;
  logic              out_valid, res_valid, addr_valid, addr_pop;
  logic [P-1:0]      addr_lanes;
  logic [P-1:0][BankW-1:0]  addr_bank;
  logic [P-1:0][RowW-1:0]   addr_row;
  logic [P-1:0][RoundW-1:0] addr_round;
  logic [RoundW-1:0] addr_rounds;
  logic [P-1:0][BankW-1:0]  res_bank;
  logic [P-1:0][RowW-1:0]   res_row;
  logic [P-1:0]             unused_lanes;
  logic [P:0][RoundW-1:0]   unused_rounds;
  logic [1:0]               unused_counts;
  // Registered one step ahead: the present round, behind the first one, is the last; slice, chunk and group are the last,
  // and all three together (end_job_q); this cycle is free for an operation (turn_q).
  logic              first_round_q, end_round_q, end_slice_q, end_chunk_q, end_group_q, end_job_q, turn_q;
  logic              end_slice, end_chunk, end_group;
  logic              slow_residual, step_ok, op, no_lane, single, last_round, group_end, job_end, job_take;

  bl_drain_addr #(.P(P), .ActRows(ActRows)) u_addr (
    .clk_i, .rst_i, .init_i, .cmd_i,
    .split_i(cmd_i.out_split), .pitch_i(cmd_i.out_pitch), .phase_pixels_i(cmd_i.out_phase_pixels), .y0_i(cmd_i.out_y0),
    .valid_o(out_valid), .lanes_o(addr_lanes), .bank_o(addr_bank), .row_o(addr_row), .round_o(addr_round),
    .rounds_o(addr_rounds), .none_o(no_lane), .single_o(single), .pop_i(addr_pop)
  );
  bl_drain_addr #(.P(P), .ActRows(ActRows)) u_res_addr (
    .clk_i, .rst_i, .init_i, .cmd_i,
    .split_i(cmd_i.res_split), .pitch_i(cmd_i.res_pitch), .phase_pixels_i(cmd_i.res_phase_pixels), .y0_i(cmd_i.res_y0),
    .valid_o(res_valid), .lanes_o(unused_lanes), .bank_o(res_bank), .row_o(res_row), .round_o(unused_rounds[P-1:0]),
    .rounds_o(unused_rounds[P]), .none_o(unused_counts[0]), .single_o(unused_counts[1]), .pop_i(addr_pop)
  );
  // Both walk the same grid from the same start, so they are valid together.
  assign addr_valid = out_valid & res_valid;

  assign slow_residual = cmd_i.residual & ~cmd_i.res_side;
  assign step_ok     = busy_q & addr_valid & turn_q;
  assign op          = step_ok & ~no_lane;
  assign last_round  = first_round_q ? single : end_round_q;
  assign group_end   = no_lane | (last_round & end_slice_q & end_chunk_q);
  assign addr_pop    = step_ok & group_end;
  assign job_end     = step_ok & ((no_lane & end_group_q) | (last_round & end_job_q));
  assign job_take    = job_valid_i & ~job_ready_o & (~busy_q | job_end);
  assign active_o    = busy_q;
  assign acc_buf_o   = buf_q;
  assign acc_group_o = group_q[GroupW-1:0];

  always_comb begin
    {end_slice, end_chunk, end_group} = {end_slice_q, end_chunk_q, end_group_q};
    if (step_ok && group_end) begin
      end_slice = NS == 1;
      end_chunk = one_chunk_q;
      end_group = groups_left_q == 8'd2;
    end else if (step_ok && last_round) begin
      end_slice = end_slice_q ? NS == 1 : 32'(slice_q) + 32'd2 == NS;
      if (end_slice_q) end_chunk = chunk_left_q == 8'd2;
    end
    if (job_take) begin
      end_slice = NS == 1;
      end_chunk = job_chunks_i == 8'd1;
      end_group = job_groups_i == 8'd1;
    end
  end

  always_ff @(posedge clk_i) begin
    parity_q   <= ~parity_q;
    buf_free_o <= '0;
    if (job_end && !pool_q) buf_free_o[buf_q] <= 1'b1;
    turn_q     <= ~slow_residual | ~parity_q;
    if (step_ok) begin
      if (group_end) begin
        group_q       <= group_q + 8'd1;
        groups_left_q <= groups_left_q - 8'd1;
        chunk_q       <= '0;
        chunk_left_q  <= chunks_q;
        slice_q       <= '0;
        round_q       <= '0;
        first_round_q <= 1'b1;
        out_row_q     <= out_row0_q;
        res_row_q     <= res_row0_q;
      end else if (!last_round) begin
        round_q       <= round_q + 1'b1;
        first_round_q <= 1'b0;
        end_round_q   <= round_q + RoundW'(2) == addr_rounds;
      end else begin
        round_q       <= '0;
        first_round_q <= 1'b1;
        if (!end_slice_q) begin
          slice_q <= slice_q + 1'b1;
        end else begin
          slice_q      <= '0;
          chunk_q      <= chunk_q + 8'd1;
          chunk_left_q <= chunk_left_q - 8'd1;
          out_row_q    <= out_row_q + cmd_i.out_chunk_rows;
          res_row_q    <= res_row_q + cmd_i.res_chunk_rows;
        end
      end
    end
    end_slice_q <= end_slice;
    end_chunk_q <= end_chunk;
    end_group_q <= end_group;
    end_job_q   <= end_slice & end_chunk & end_group;
    job_ready_o <= job_take;
    if (job_end) busy_q <= 1'b0;
    if (job_take) begin
      busy_q     <= 1'b1;
      pool_q     <= job_pool_i;
      buf_q      <= job_buf_i;
      groups_left_q <= job_groups_i;
      chunks_q      <= job_chunks_i;
      chunk_left_q  <= job_chunks_i;
      one_chunk_q   <= job_chunks_i == 8'd1;
      first_round_q <= 1'b1;
      ptag_q     <= job_ptag_i;
      out_row0_q <= job_out_row_i;
      res_row0_q <= job_res_row_i;
      out_row_q  <= job_out_row_i;
      res_row_q  <= job_res_row_i;
      group_q    <= '0;
      chunk_q    <= '0;
      slice_q    <= '0;
      round_q    <= '0;
    end
    if (rst_i) begin
      busy_q      <= 1'b0;
      job_ready_o <= 1'b0;
      parity_q    <= 1'b0;
      turn_q      <= ~slow_residual;
    end
  end

  // ---- cycle u+1: the lanes of the round; accumulators and parameters are addressed ----
  logic                          op1_q, pool1_q, pool_pop1_q;
  logic [P-1:0]                  hit1_q;
  logic [P-1:0][BankW-1:0]       lane_bank1_q, res_bank1_q;
  logic [P-1:0][RowW-1:0]        lane_row1_q, lane_res1_q;
  logic [SliceW-1:0]             slice1_q;
  logic [7:0]                    chunk1_q;
  logic [1:0]                    ptag1_q;
  logic [RowW-1:0]               out_base1_q, res_base1_q;
  logic                          unused_rows;
  assign unused_rows  = ^{out_row_q, res_row_q, group_q, cmd_i};
  assign param_ptag_o = ptag1_q;
  assign pool_pop_o   = pool_pop1_q;

  always_ff @(posedge clk_i) begin
    op1_q        <= op;
    pool1_q      <= pool_q;
    pool_pop1_q  <= job_end & pool_q & ~rst_i;
    slice1_q     <= slice_q;
    chunk1_q     <= chunk_q;
    ptag1_q      <= ptag_q;
    out_base1_q  <= out_row_q[RowW-1:0];
    res_base1_q  <= res_row_q[RowW-1:0];
    lane_bank1_q <= addr_bank;
    lane_row1_q  <= addr_row;
    res_bank1_q  <= res_bank;
    lane_res1_q  <= res_row;
    for (int p = 0; p < int'(P); p++) hit1_q[p] <= op & addr_lanes[p] & (addr_round[p] == round_q);
  end

  // ---- cycle u+2: lane-to-bank selection; accumulators and parameters arrive ----
  logic                          op2_q, pool2_q;
  logic [P-1:0]                  bank_en2_q, res_en2_q;
  logic [P-1:0][BankW-1:0]       bank_lane2_q, res_bank2_q;
  logic [P-1:0][RowW-1:0]        bank_row2_q, res_row2_q;
  logic [SliceW-1:0]             slice2_q;
  logic [7:0]                    chunk2_q;
  logic [RowW-1:0]               out_base2_q, res_base2_q;

  always_ff @(posedge clk_i) begin
    op2_q        <= op1_q;
    pool2_q      <= pool1_q;
    slice2_q     <= slice1_q;
    chunk2_q     <= chunk1_q;
    out_base2_q  <= out_base1_q;
    res_base2_q  <= res_base1_q;
    res_bank2_q  <= res_bank1_q;
    bank_en2_q   <= '0;
    res_en2_q    <= '0;
    for (int b = 0; b < int'(P); b++) begin
      bank_lane2_q[b] <= '0;
      bank_row2_q[b]  <= '0;
      res_row2_q[b]   <= '0;
      for (int p = 0; p < int'(P); p++) begin
        if (hit1_q[p] && lane_bank1_q[p] == BankW'(b)) begin
          bank_en2_q[b]   <= 1'b1;
          bank_lane2_q[b] <= BankW'(p);
          bank_row2_q[b]  <= lane_row1_q[p];
        end
        if (hit1_q[p] && res_bank1_q[p] == BankW'(b)) begin
          res_en2_q[b]  <= cmd_i.residual;
          res_row2_q[b] <= lane_res1_q[p];
        end
      end
    end
  end

  // ---- cycle u+3: one slice into the requantizers; the residual is read ----
  logic                        op3_q;
  logic [P-1:0]                bank_en3_q, res_en3_q;
  logic [P-1:0][BankW-1:0]     bank_lane3_q, res_bank3_q;
  logic [P-1:0][RowW-1:0]      rd_row3_q, wr_row3_q;
  logic [SliceW-1:0]           slice3_q;
  logic [P-1:0][DC-1:0][31:0]  acc3_q;
  logic [DC-1:0][17:0]         m3_q;
  logic [DC-1:0][1:0]          s3_q;
  logic [DC-1:0]               pre3_q;

  always_ff @(posedge clk_i) begin
    op3_q        <= op2_q;
    bank_en3_q   <= bank_en2_q;
    res_en3_q    <= res_en2_q;
    bank_lane3_q <= bank_lane2_q;
    res_bank3_q  <= res_bank2_q;
    slice3_q     <= slice2_q;
    for (int b = 0; b < int'(P); b++) begin
      rd_row3_q[b] <= res_row2_q[b] + res_base2_q;
      wr_row3_q[b] <= bank_row2_q[b] + out_base2_q;
    end
    for (int j = 0; j < int'(DC); j++) begin
      m3_q[j]   <= {1'b0, cmd_i.pool_mult};
      s3_q[j]   <= cmd_i.pool_s_sel;
      pre3_q[j] <= cmd_i.pool_pre;
      if (!pool2_q) begin
        for (int c = 0; c < int'(NC); c++) begin
          for (int s = 0; s < int'(NS); s++) begin
            if (chunk2_q == 8'(c) && (NS == 1 || slice2_q == SliceW'(s))) begin
              m3_q[j]   <= param_m_i[c*int'(C) + s*int'(DC) + j];
              s3_q[j]   <= param_s_i[c*int'(C) + s*int'(DC) + j];
              pre3_q[j] <= param_pre_i[c*int'(C) + s*int'(DC) + j];
            end
          end
        end
      end
    end
  end

  // The sums: a unit, with its own copies of the choice, for each pixel and up to 16 channels.
  localparam int unsigned PickW = (DC > 16) ? 16 : DC;
  for (genvar p = 0; p < P; p++) begin : g_pick_pixel
    for (genvar k = 0; k < DC / PickW; k++) begin : g_pick
      logic [NC*NS-1:0][PickW-1:0][31:0] sums;
      logic [NS-1:0][PickW-1:0][23:0]    pools;
      for (genvar n = 0; n < NC * NS; n++) begin : g_sum
        assign sums[n] = acc_i[p][n*DC + k*PickW +: PickW];
      end
      for (genvar n = 0; n < NS; n++) begin : g_pool
        assign pools[n] = pool_acc_i[p][n*DC + k*PickW +: PickW];
      end
      bl_drain_pick #(.Width(PickW), .Chunks(NC), .Slices(NS)) u_pick (
        .clk_i, .pool_i(pool1_q), .chunk_i(chunk1_q), .slice_i(slice1_q), .pool_bias_i(cmd_i.pool_bias),
        .pools_i(pools), .sums_i(sums), .sum_o(acc3_q[p][k*PickW +: PickW])
      );
    end
  end

  // ---- residual: port A or B read in cycle u+3, data in u+5, bank to lane, into the requantizers in u+6 ----
  logic [P-1:0][BankW-1:0]       res_bank_d;    // u+4
  logic [SliceW-1:0]             slice_d;
  logic [P-1:0][DC-1:0][7:0]     res6_q;

  always_ff @(posedge clk_i) begin
    res_bank_d <= res_bank3_q;
    slice_d    <= slice3_q;
  end
  for (genvar p = 0; p < P; p++) begin : g_residual
    bl_drain_residual #(.P(P), .C(C), .DC(DC)) u_residual (
      .clk_i, .residual_i(cmd_i.residual), .side_i(cmd_i.res_side), .from_i(res_bank_d[p]), .slice_i(slice_d),
      .a_i(res_q_i), .b_i(mem_q_i), .code_o(res6_q[p])
    );
  end

  logic [P-1:0][DC-1:0][7:0] code;
  for (genvar p = 0; p < P; p++) begin : g_lane
    for (genvar j = 0; j < DC; j++) begin : g_channel
      bl_requant u_requant (
        .clk_i,
        .acc_i     (acc3_q[p][j]),
        .m_i       (m3_q[j]),
        .s_i       (s3_q[j]),
        .pre_i     (pre3_q[j]),
        .res_i     (res6_q[p][j]),
        .res_mult_i(cmd_i.res_mult),
        .post_i    (cmd_i.post),
        .lo_i      (cmd_i.clamp_lo),
        .hi_i      (cmd_i.clamp_hi),
        .code_o    (code[p][j])
      );
    end
  end

  // ---- write: meta data waits for the codes ----
  logic [WriteDelay-1:0]                     wr_op_q;
  logic [WriteDelay-2:0][P-1:0]              wr_en_q;
  logic [WriteDelay-2:0][P-1:0][BankW-1:0]   wr_lane_q;
  logic [WriteDelay-2:0][P-1:0][RowW-1:0]    wr_row_q;
  logic [WriteDelay-1:0][SliceW-1:0]         wr_slice_q;
  logic [P-1:0][DC-1:0][7:0]                 code_d;
  logic [P-1:0][DC-1:0][7:0]                 wr_d_q;

  if (RequantLatency % 2 == 1) begin : g_align
    always_ff @(posedge clk_i) code_d <= code;
  end else begin : g_direct
    assign code_d = code;
  end

  always_ff @(posedge clk_i) begin
    wr_op_q    <= {wr_op_q[WriteDelay-2:0], op3_q};
    wr_en_q    <= {wr_en_q[WriteDelay-3:0], bank_en3_q};
    wr_lane_q  <= {wr_lane_q[WriteDelay-3:0], bank_lane3_q};
    wr_row_q   <= {wr_row_q[WriteDelay-3:0], wr_row3_q};
    wr_slice_q <= {wr_slice_q[WriteDelay-2:0], slice3_q};
    for (int b = 0; b < int'(P); b++) wr_d_q[b] <= code_d[wr_lane_q[WriteDelay-2][b]];
    if (rst_i) begin
      wr_op_q <= '0;
      wr_en_q <= '0;
    end
  end

  // Port B is registered whole: a write or a residual's read, of the stage before.
  always_ff @(posedge clk_i) begin
    mem_we_o <= wr_op_q[WriteDelay-2];
    for (int b = 0; b < int'(P); b++) begin
      mem_en_o[b]  <= wr_op_q[WriteDelay-2] ? wr_en_q[WriteDelay-2][b] : res_en2_q[b] & ~cmd_i.res_side;
      mem_row_o[b] <= wr_op_q[WriteDelay-2] ? wr_row_q[WriteDelay-2][b] : res_row2_q[b] + res_base2_q;
    end
    if (rst_i) begin
      mem_we_o <= 1'b0;
      mem_en_o <= '0;
    end
  end
  always_comb begin
    for (int b = 0; b < int'(P); b++) begin
      mem_d_o[b] = {NS{wr_d_q[b]}};
      for (int s = 0; s < int'(NS); s++) mem_slice_o[b][s] = (NS == 1) || wr_slice_q[WriteDelay-1] == SliceW'(s);
    end
  end

  assign res_en_o  = res_en3_q & {P{cmd_i.res_side}};
  assign res_row_o = rd_row3_q;

  assign idle_o = ~busy_q & ~job_valid_i & ~op1_q & ~op2_q & ~op3_q & ~(|wr_op_q);
endmodule
