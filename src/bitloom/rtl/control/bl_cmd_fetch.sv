// Reads the command stream: HeaderBeats beats, then the command's taps, and holds one command ahead of the running one.
//   start_i     beats_i beats from base_i; only while busy_o is low
//   cmd_o       valid with cmd_valid_o, stable until cmd_ready_i, which means: finished, show the next
//   tap_o       tap tap_index_i of the command shown, one cycle later (two banks: the next command's taps come in meanwhile)
//   error_o     ErrorCode, sticky until start_i or flush_i: BAD_OPCODE unknown opcode, BAD_FIELD more than TapEntries taps
//               or a stream that ends without END, AXI_COMMAND a read error. It belongs to what follows the commands shown:
//               look at it while cmd_valid_o is low. Beats after END are not looked at.
// Resource: two commands of CommandBits, 2·TapEntries × TapBits of block RAM, a reader with a FIFO of 32 beats.
module bl_cmd_fetch
  import bl_pkg::*;
#(
  parameter int unsigned TapEntries = 256,
  localparam int unsigned TapW = $clog2(TapEntries)
) (
  input  logic             clk_i,
  input  logic             rst_i,
  input  logic             clear_i,        // zeroes beats_o
  input  logic             flush_i,
  input  logic             start_i,
  input  logic [63:0]      base_i,
  input  logic [31:0]      beats_i,
  output logic             busy_o,
  output logic [7:0]       error_o,
  output logic [31:0]      beats_o,
  output logic             cmd_valid_o,
  output cmd_t             cmd_o,
  input  logic             cmd_ready_i,
  input  logic [TapW-1:0]  tap_index_i,
  output tap_t             tap_o,
  output logic             m_arid_o,
  output logic [63:0]      m_araddr_o,
  output logic [7:0]       m_arlen_o,
  output logic [2:0]       m_arsize_o,
  output logic [1:0]       m_arburst_o,
  output logic             m_arvalid_o,
  input  logic             m_arready_i,
  input  logic             m_rid_i,
  input  logic [127:0]     m_rdata_i,
  input  logic [1:0]       m_rresp_i,
  input  logic             m_rlast_i,
  input  logic             m_rvalid_i,
  output logic             m_rready_o
);
  if (TapEntries < 2 || TapEntries > 512 || (TapEntries & (TapEntries - 1)) != 0) begin : g_bad
    $fatal(1, "%m: TapEntries = %0d; legal: a power of two 2..512", TapEntries);
  end

  logic [127:0] data;
  logic         valid, ready, last, read_error, beat;
  bl_axi_reader #(.Outstanding(2), .FifoDepth(32)) u_reader (
    .clk_i, .rst_i, .start_i, .addr_i(base_i), .beats_i, .flush_i, .pause_i(1'b0), .busy_o, .error_o(read_error), .beat_o(beat),
    .data_o(data), .valid_o(valid), .ready_i(ready), .last_o(last),
    .m_arid_o, .m_araddr_o, .m_arlen_o, .m_arsize_o, .m_arburst_o, .m_arvalid_o, .m_arready_i,
    .m_rid_i, .m_rdata_i, .m_rresp_i, .m_rlast_i, .m_rvalid_i, .m_rready_o
  );

  always_ff @(posedge clk_i) begin
    beats_o <= beats_o + 32'(beat);
    if (rst_i || clear_i) beats_o <= '0;
  end

  // ---- the next command ----
  typedef enum logic [2:0] {Off, Head, Check, Taps, Held} state_e;
  localparam int unsigned HeadBits = HeaderBeats * 128;
  state_e              state_q;
  logic [HeadBits-1:0] head_q;
  logic [2:0]          head_at_q;
  logic [9:0]          tap_at_q;
  logic                ended_q;      // the stream's last beat has been taken
  logic                bank_q;       // taps of the command shown
  cmd_t                next;
  logic                known, fits, take, show;
  tap_t                tap_in;
  logic                unused;

  assign next   = head_q[CommandBits-1:0];
  assign tap_in = data[TapBits-1:0];
  assign unused = ^head_q[HeadBits-1:CommandBits];
  assign ready  = (state_q == Head || state_q == Taps) && !ended_q;
  assign take   = valid & ready;
  assign show   = state_q == Held && (!cmd_valid_o || cmd_ready_i);
  assign fits   = 32'(next.n_taps) <= TapEntries;
  always_comb begin
    unique case (next.opcode)
      OpBegin, OpEnd, OpWeights, OpConv, OpPool, OpLoad, OpStore: known = 1'b1;
      default: known = 1'b0;
    endcase
  end

  always_ff @(posedge clk_i) begin
    if (take && state_q == Head) head_q <= {data, head_q[HeadBits-1:128]};
    if (take && last) ended_q <= 1'b1;

    unique case (state_q)
      Head: begin
        if (take) begin
          head_at_q <= head_at_q + 3'd1;
          if (head_at_q == 3'(HeaderBeats - 1)) state_q <= Check;
        end else if (ended_q) begin
          state_q <= Off;
          error_o <= ErrBadField;
        end
      end
      Check: begin
        tap_at_q <= '0;
        if (!known || !fits) begin
          state_q <= Off;
          error_o <= known ? ErrBadField : ErrBadOpcode;
        end else begin
          state_q <= (next.n_taps == '0) ? Held : Taps;
        end
      end
      Taps: begin
        if (take) begin
          tap_at_q <= tap_at_q + 10'd1;
          if (tap_at_q + 10'd1 == next.n_taps) state_q <= Held;
        end else if (ended_q) begin
          state_q <= Off;
          error_o <= ErrBadField;
        end
      end
      Held: if (show) begin
        state_q   <= (next.opcode == OpEnd || error_o != ErrNone) ? Off : Head;
        head_at_q <= '0;
      end
      default: ;
    endcase

    if (show) begin
      cmd_o       <= next;
      cmd_valid_o <= 1'b1;
      bank_q      <= ~bank_q;
    end else if (cmd_ready_i) begin
      cmd_valid_o <= 1'b0;
    end

    // A complete command that is held is still shown.
    if (read_error && error_o == ErrNone && state_q != Off) begin
      error_o <= ErrAxiCommand;
      if (state_q != Held || show) state_q <= Off;
    end

    if (start_i && !busy_o) begin
      state_q   <= Head;
      head_at_q <= '0;
      ended_q   <= beats_i == '0;
      error_o   <= ErrNone;
    end
    if (rst_i || flush_i) begin
      state_q     <= Off;
      cmd_valid_o <= 1'b0;
      error_o     <= ErrNone;
      bank_q      <= 1'b0;
    end
  end

  // ---- taps ----
  (* ram_style = "block" *)
  logic [TapBits-1:0] mem [2*TapEntries];
  always_ff @(posedge clk_i) begin
    if (take && state_q == Taps) mem[{~bank_q, tap_at_q[TapW-1:0]}] <= tap_in;
    tap_o <= mem[{bank_q, tap_index_i}];
  end
endmodule
