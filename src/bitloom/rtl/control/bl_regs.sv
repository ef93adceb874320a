// AXI4-Lite registers (docs/spec/commands.md, "Registers"): HLS-style control, interrupt, bases, counters.
//   CTRL   start: write 1 while idle (ignored otherwise), reads 1 until done; done and ready: set by done_i, clear on read
//   ISR    a bit is set by its event when its IER bit is set, toggled by writing 1; interrupt_o = GIE & any ISR bit
// A read never blocks; an address outside the map reads 0 and ignores writes, with response OKAY. Write strobes count.
// Reads and writes are independent; each takes at least one transfer every two cycles.
// Resource: about 500 flip-flops, one read multiplexer.
module bl_regs
  import bl_pkg::*;
#(
  parameter logic [31:0] ArchHash = 32'd0
) (
  input  logic             clk_i,
  input  logic             rst_i,
  input  logic [7:0]       s_awaddr_i,
  input  logic             s_awvalid_i,
  output logic             s_awready_o,
  input  logic [31:0]      s_wdata_i,
  input  logic [3:0]       s_wstrb_i,
  input  logic             s_wvalid_i,
  output logic             s_wready_o,
  output logic [1:0]       s_bresp_o,
  output logic             s_bvalid_o,
  input  logic             s_bready_i,
  input  logic [7:0]       s_araddr_i,
  input  logic             s_arvalid_i,
  output logic             s_arready_o,
  output logic [31:0]      s_rdata_o,
  output logic [1:0]       s_rresp_o,
  output logic             s_rvalid_o,
  input  logic             s_rready_i,
  output logic             interrupt_o,
  output logic             start_o,           // pulse
  output logic [63:0]      program_base_o,
  output logic [63:0]      input_base_o,
  output logic [63:0]      output_base_o,
  output logic [63:0]      scratch_base_o,
  output logic [31:0]      timeout_o,
  output logic [31:0]      command_beats_o,
  input  logic             idle_i,
  input  logic             done_i,            // pulse
  input  logic [7:0]       error_i,
  input  logic [11:0]      layer_i,
  input  logic [6:0][31:0] counters_i,        // total, compute, weights, planes, drain, input, control
  input  logic [31:0]      beats_weights_i,
  input  logic [31:0]      beats_read_i,
  input  logic [31:0]      beats_write_i
);
  // ---- write channel: address and data are taken independently ----
  logic        aw_full_q, w_full_q, write;
  logic [7:0]  aw_q;
  logic [31:0] w_q;
  logic [3:0]  strb_q;

  assign s_awready_o = ~aw_full_q;
  assign s_wready_o  = ~w_full_q;
  assign s_bresp_o   = 2'b00;
  assign s_rresp_o   = 2'b00;
  assign write       = aw_full_q & w_full_q & (~s_bvalid_o | s_bready_i);

  always_ff @(posedge clk_i) begin
    if (s_awvalid_i && s_awready_o) aw_q <= s_awaddr_i;
    if (s_wvalid_i && s_wready_o) begin
      w_q    <= s_wdata_i;
      strb_q <= s_wstrb_i;
    end
    aw_full_q  <= (aw_full_q & ~write) | (s_awvalid_i & s_awready_o);
    w_full_q   <= (w_full_q & ~write) | (s_wvalid_i & s_wready_o);
    s_bvalid_o <= write | (s_bvalid_o & ~s_bready_i);
    if (rst_i) begin
      aw_full_q  <= 1'b0;
      w_full_q   <= 1'b0;
      s_bvalid_o <= 1'b0;
    end
  end

  // ---- registers ----
  logic [31:0] mask;
  logic        start_q, done_q, ready_q, gie_q;
  logic [1:0]  ier_q, isr_q, toggle, events;
  logic        read, read_ctrl, wr_ctrl, unused_align;

  assign mask         = {{8{strb_q[3]}}, {8{strb_q[2]}}, {8{strb_q[1]}}, {8{strb_q[0]}}};
  assign unused_align = ^{aw_q[1:0], s_araddr_i[1:0]};
  assign wr_ctrl      = write && aw_q[7:2] == RegCtrl[7:2] && strb_q[0];
  assign toggle       = (write && aw_q[7:2] == RegIsr[7:2] && strb_q[0]) ? w_q[1:0] : 2'b00;
  assign events       = {done_i & (error_i != ErrNone), done_i} & ier_q;
  assign read         = s_arvalid_i & s_arready_o;
  assign read_ctrl    = read && s_araddr_i[7:2] == RegCtrl[7:2];
  assign interrupt_o  = gie_q & (isr_q != '0);

  function automatic logic [31:0] merge(logic [31:0] old, logic [31:0] data, logic [31:0] strobe);
    return (old & ~strobe) | (data & strobe);
  endfunction

  always_ff @(posedge clk_i) begin
    start_o <= 1'b0;
    if (write) begin
      unique case ({aw_q[7:2], 2'b00})
        RegGie:          if (strb_q[0]) gie_q <= w_q[0];
        RegIer:          if (strb_q[0]) ier_q <= w_q[1:0];
        RegProgramLo:    program_base_o[31:0]  <= merge(program_base_o[31:0], w_q, mask);
        RegProgramHi:    program_base_o[63:32] <= merge(program_base_o[63:32], w_q, mask);
        RegInputLo:      input_base_o[31:0]    <= merge(input_base_o[31:0], w_q, mask);
        RegInputHi:      input_base_o[63:32]   <= merge(input_base_o[63:32], w_q, mask);
        RegOutputLo:     output_base_o[31:0]   <= merge(output_base_o[31:0], w_q, mask);
        RegOutputHi:     output_base_o[63:32]  <= merge(output_base_o[63:32], w_q, mask);
        RegScratchLo:    scratch_base_o[31:0]  <= merge(scratch_base_o[31:0], w_q, mask);
        RegScratchHi:    scratch_base_o[63:32] <= merge(scratch_base_o[63:32], w_q, mask);
        RegTimeout:      timeout_o             <= merge(timeout_o, w_q, mask);
        RegCommandBeats: command_beats_o       <= merge(command_beats_o, w_q, mask);
        default: ;
      endcase
    end
    if (read_ctrl) begin
      done_q  <= 1'b0;
      ready_q <= 1'b0;
    end
    if (done_i) begin
      start_q <= 1'b0;
      done_q  <= 1'b1;
      ready_q <= 1'b1;
    end
    if (wr_ctrl && w_q[0] && idle_i && !start_q) begin
      start_q <= 1'b1;
      start_o <= 1'b1;
    end
    isr_q <= (isr_q ^ toggle) | events;
    if (rst_i) begin
      start_o         <= 1'b0;
      start_q         <= 1'b0;
      done_q          <= 1'b0;
      ready_q         <= 1'b0;
      gie_q           <= 1'b0;
      ier_q           <= '0;
      isr_q           <= '0;
      program_base_o  <= '0;
      input_base_o    <= '0;
      output_base_o   <= '0;
      scratch_base_o  <= '0;
      timeout_o       <= '0;
      command_beats_o <= '0;
    end
  end

  // ---- read channel ----
  logic [31:0] value;
  assign s_arready_o = ~s_rvalid_o | s_rready_i;

  always_comb begin
    unique case ({s_araddr_i[7:2], 2'b00})
      RegCtrl:          value = {28'd0, ready_q, idle_i & ~start_q, done_q, start_q};
      RegGie:           value = {31'd0, gie_q};
      RegIer:           value = {30'd0, ier_q};
      RegIsr:           value = {30'd0, isr_q};
      RegId:            value = HardwareId;
      RegVersion:       value = FormatVersion;
      RegArchHash:      value = ArchHash;
      RegError:         value = {24'd0, error_i};
      RegProgramLo:     value = program_base_o[31:0];
      RegProgramHi:     value = program_base_o[63:32];
      RegInputLo:       value = input_base_o[31:0];
      RegInputHi:       value = input_base_o[63:32];
      RegOutputLo:      value = output_base_o[31:0];
      RegOutputHi:      value = output_base_o[63:32];
      RegScratchLo:     value = scratch_base_o[31:0];
      RegScratchHi:     value = scratch_base_o[63:32];
      RegTimeout:       value = timeout_o;
      RegCommandBeats:  value = command_beats_o;
      RegLayer:         value = {20'd0, layer_i};
      RegCyclesTotal:   value = counters_i[0];
      RegCyclesCompute: value = counters_i[1];
      RegCyclesWeights: value = counters_i[2];
      RegCyclesPlanes:  value = counters_i[3];
      RegCyclesDrain:   value = counters_i[4];
      RegCyclesInput:   value = counters_i[5];
      RegCyclesControl: value = counters_i[6];
      RegBeatsWeights:  value = beats_weights_i;
      RegBeatsRead:     value = beats_read_i;
      RegBeatsWrite:    value = beats_write_i;
      default:          value = '0;
    endcase
  end

  always_ff @(posedge clk_i) begin
    if (read) s_rdata_o <= value;
    s_rvalid_o <= read | (s_rvalid_o & ~s_rready_i);
    if (rst_i) s_rvalid_o <= 1'b0;
  end
endmodule
