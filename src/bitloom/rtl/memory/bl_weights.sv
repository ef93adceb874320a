// Weights: WP DDR readers and ports, M ring lanes and the engine that reads them.
//   start_i[w]  port w reads beats_i beats from addr_i (a WEIGHTS command)
//   flush_i     at the start of a run: aborts the readers, empties rings and engine
//   yield_i     somebody else needs the memory (LOAD): the ports ask for nothing new unless the engine waits for words
//   clear_i     zeroes the beat counter
//   vec_*, step_*, wait_ddr_o: see control/bl_weight_engine.sv
//   clear_digits_o, plane_*_o, hdr_*_o come exactly WeightLatency cycles after the decision: a plane decided in the cycle of
//   step_take_i arrives together with a swap delayed by WeightLatency
// Latency: command register, memory, output register, word multiplexer (with its own register from WeightLatency = 4 on).
// Resource: M lanes of RingWords·C bits of block RAM, WP readers (4 BRAM36 each), M·C multiplexers of 128/C inputs.
module bl_weights #(
  parameter int unsigned C             = 8,
  parameter int unsigned M             = 8,
  parameter int unsigned WP            = 1,
  parameter int unsigned RingWords     = 512,
  parameter int unsigned WeightLatency = 3
) (
  input  logic                 clk_i,
  input  logic                 rst_i,
  input  logic                 clear_i,
  input  logic                 flush_i,
  input  logic                 yield_i,
  output logic                 busy_o,
  output logic                 error_o,
  input  logic [WP-1:0]        start_i,
  input  logic [63:0]          addr_i,
  input  logic [31:0]          beats_i,
  output logic                 beat_o,
  output logic [31:0]          beats_o,
  input  logic                 vec_valid_i,
  output logic                 vec_ready_o,
  input  logic [19:0]          vec_steps_i,
  input  logic [15:0]          vec_tiles_i,
  input  logic [1:0]           vec_ptag_i,
  output logic                 step_ready_o,
  input  logic                 step_take_i,
  output logic                 two_pass_o,
  output logic                 pass_hi_o,
  output logic [1:0]           step_ptag_o,
  output logic                 step_last_o,
  output logic                 wait_ddr_o,
  output logic                 clear_digits_o,
  output logic [M-1:0]         plane_valid_o,
  output logic [M-1:0]         plane_first_o,
  output logic [M-1:0]         plane_signed_o,
  output logic [M-1:0][C-1:0]  plane_o,
  output logic                 hdr_valid_o,
  output logic [3:0]           hdr_index_o,
  output logic [1:0]           hdr_ptag_o,
  output logic [M-1:0][C-1:0]  hdr_o,
  output logic [WP-1:0]        m_arid_o,
  output logic [WP-1:0][63:0]  m_araddr_o,
  output logic [WP-1:0][7:0]   m_arlen_o,
  output logic [WP-1:0][2:0]   m_arsize_o,
  output logic [WP-1:0][1:0]   m_arburst_o,
  output logic [WP-1:0]        m_arvalid_o,
  input  logic [WP-1:0]        m_arready_i,
  input  logic [WP-1:0]        m_rid_i,
  input  logic [WP-1:0][127:0] m_rdata_i,
  input  logic [WP-1:0][1:0]   m_rresp_i,
  input  logic [WP-1:0]        m_rlast_i,
  input  logic [WP-1:0]        m_rvalid_i,
  output logic [WP-1:0]        m_rready_o
);
  localparam int unsigned Lanes    = M / WP;
  localparam int unsigned MuxReg   = (WeightLatency >= 4) ? 1 : 0;
  localparam int unsigned CmdRegs  = WeightLatency - 2 - MuxReg;
  localparam int unsigned HdrWords = (C >= 64) ? 1 : 64 / C;

  if (WeightLatency < 3 || WP == 0 || M % WP != 0) begin : g_bad
    $fatal(1, "%m: WeightLatency = %0d, M = %0d, WP = %0d; legal: WeightLatency >= 3, WP divides M", WeightLatency, M, WP);
  end

  // ---- ports and lanes ----
  logic [M-1:0]         lane_valid, lane_held, lanes_header;
  logic [M-1:0][4:0]    lanes_steps;
  logic [WP-1:0][127:0] lane_beat;
  logic [8:0]           cmd_last;               // reads for the lanes, before the ports' registers
  logic [WP-1:0][8:0]   lane_cmd;
  logic [WP-1:0]        lane_clear;
  logic [M-1:0][2:0]    planes_hi, planes_lo;
  logic                 rsv_header, rsv_step;
  logic [WP-1:0]        busy, error, beat;
  logic                 pause_q;

  always_ff @(posedge clk_i) pause_q <= yield_i & ~wait_ddr_o;

  for (genvar w = 0; w < WP; w++) begin : g_port
    logic [127:0] data;
    logic         valid, ready, last;
    bl_axi_reader u_reader (
      .clk_i, .rst_i, .start_i(start_i[w]), .addr_i, .beats_i, .flush_i, .pause_i(pause_q),
      .busy_o(busy[w]), .error_o(error[w]), .beat_o(beat[w]),
      .data_o(data), .valid_o(valid), .ready_i(ready), .last_o(last),
      .m_arid_o(m_arid_o[w]), .m_araddr_o(m_araddr_o[w]), .m_arlen_o(m_arlen_o[w]), .m_arsize_o(m_arsize_o[w]),
      .m_arburst_o(m_arburst_o[w]), .m_arvalid_o(m_arvalid_o[w]), .m_arready_i(m_arready_i[w]),
      .m_rid_i(m_rid_i[w]), .m_rdata_i(m_rdata_i[w]), .m_rresp_i(m_rresp_i[w]), .m_rlast_i(m_rlast_i[w]),
      .m_rvalid_i(m_rvalid_i[w]), .m_rready_o(m_rready_o[w])
    );
    bl_weight_port #(.Lanes(Lanes)) u_port (
      .clk_i, .rst_i, .clear_i(flush_i), .data_i(data), .valid_i(valid), .ready_o(ready),
      .lane_valid_o(lane_valid[w*Lanes +: Lanes]), .lane_held_i(lane_held[w*Lanes +: Lanes]), .beat_o(lane_beat[w]),
      .cmd_i(cmd_last), .cmd_o(lane_cmd[w]), .clear_o(lane_clear[w])
    );
    logic unused_last;
    assign unused_last = last;
  end

  assign busy_o  = |busy;
  assign error_o = |error;
  assign beat_o  = |beat;
  always_ff @(posedge clk_i) begin
    beats_o <= beats_o + 32'($countones(beat));
    if (rst_i || clear_i) beats_o <= '0;
  end

  // ---- decisions, and their way to the lanes ----
  logic       dec_valid, dec_header, dec_hi, dec_free, dec_rewind, dec_clear;
  logic [3:0] dec_index;
  logic [1:0] dec_ptag;
  logic [7:0] side_q [WeightLatency];     // what goes beside their words
  logic       planes_valid_q;

  always_ff @(posedge clk_i) begin
    side_q[0] <= {dec_clear, dec_header, dec_index, dec_ptag};
    for (int i = 1; i < int'(WeightLatency); i++) side_q[i] <= side_q[i-1];
    planes_valid_q <= hdr_valid_o && hdr_index_o == 4'(HdrWords - 1);
    if (rst_i || flush_i) begin
      for (int i = 0; i < int'(WeightLatency); i++) side_q[i] <= '0;
      planes_valid_q <= 1'b0;
    end
  end

  // CmdRegs registers on the way to the lanes, the last of which are the ports'.
  logic [8:0] decided;
  assign decided = {dec_valid, dec_header, dec_index, dec_hi, dec_free, dec_rewind};
  if (CmdRegs == 1) begin : g_direct
    assign cmd_last = decided;
  end else begin : g_regs
    logic [8:0] cmd_q [CmdRegs-1];
    always_ff @(posedge clk_i) begin
      cmd_q[0] <= decided;
      for (int i = 1; i < int'(CmdRegs) - 1; i++) cmd_q[i] <= cmd_q[i-1];
      if (rst_i || flush_i) for (int i = 0; i < int'(CmdRegs) - 1; i++) cmd_q[i] <= '0;
    end
    assign cmd_last = cmd_q[CmdRegs-2];
  end

  assign {clear_digits_o, hdr_valid_o, hdr_index_o, hdr_ptag_o}        = side_q[WeightLatency-1];
  assign hdr_o = plane_o;

  bl_weight_engine #(.C(C), .M(M)) u_engine (
    .clk_i, .rst_i, .clear_i(flush_i),
    .vec_valid_i, .vec_ready_o, .vec_steps_i, .vec_tiles_i, .vec_ptag_i,
    .step_ready_o, .step_take_i, .two_pass_o, .pass_hi_o, .step_ptag_o, .step_last_o, .wait_ddr_o,
    .rsv_step_o(rsv_step), .rsv_header_o(rsv_header), .lanes_header_i(lanes_header), .lanes_steps_i(lanes_steps),
    .planes_valid_i(planes_valid_q),
    .lanes_planes_hi_i(planes_hi), .lanes_planes_lo_i(planes_lo),
    .cmd_valid_o(dec_valid), .cmd_header_o(dec_header), .cmd_index_o(dec_index), .cmd_hi_o(dec_hi),
    .cmd_release_o(dec_free), .cmd_rewind_o(dec_rewind), .clear_digits_o(dec_clear), .hdr_ptag_o(dec_ptag)
  );

  for (genvar l = 0; l < M; l++) begin : g_lane
    bl_weight_lane #(.C(C), .RingWords(RingWords), .MuxReg(MuxReg)) u_lane (
      .clk_i, .clear_i(lane_clear[l/Lanes]),
      .wr_valid_i(lane_valid[l]), .wr_held_o(lane_held[l]), .wr_data_i(lane_beat[l/Lanes]),
      .rsv_header_i(rsv_header), .rsv_step_i(rsv_step), .header_o(lanes_header[l]), .steps_o(lanes_steps[l]),
      .cmd_i(lane_cmd[l/Lanes]),
      .planes_hi_o(planes_hi[l]), .planes_lo_o(planes_lo[l]), .word_o(plane_o[l]),
      .plane_valid_o(plane_valid_o[l]), .plane_first_o(plane_first_o[l]), .plane_signed_o(plane_signed_o[l])
    );
  end
endmodule
