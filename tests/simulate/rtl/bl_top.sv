// A dummy with the accelerator's ports, to test the harness. Registers as the real one; the run is chosen by TIMEOUT:
//   [0] the weight ports read COMMAND_BEATS bursts each, port i from PROGRAM + i * 1 MiB
//   [1] COMMAND_BEATS bursts are copied from INPUT to OUTPUT, one after the other, and traced as layer 1
//   [2] the command port reads COMMAND_BEATS bursts from PROGRAM
//   [3] never done
//   [11:8] violation of the readers (dummy_reader)    [15:12] of the copier: 1 last missing, 2 data changes while
//   waiting, 3 done before the response, 4 strobe 0x00FF (no violation)
// CYCLES_TOTAL counts from start to done; CYCLES_COMPUTE is the sum that weight port 0 read.
module bl_top #(
  parameter int unsigned P = 2, C = 8, M = 8, T = 8, DC = 4, WP = 1, RingWords = 512, ActRows = 64, TapEntries = 64,
  parameter logic [31:0] ArchHash = 32'd0
) (
  input  logic                  clk_i, rst_i,
  input  logic [7:0]            s_axi_awaddr_i,
  input  logic                  s_axi_awvalid_i,
  output logic                  s_axi_awready_o,
  input  logic [31:0]           s_axi_wdata_i,
  input  logic [3:0]            s_axi_wstrb_i,
  input  logic                  s_axi_wvalid_i,
  output logic                  s_axi_wready_o,
  output logic [1:0]            s_axi_bresp_o,
  output logic                  s_axi_bvalid_o,
  input  logic                  s_axi_bready_i,
  input  logic [7:0]            s_axi_araddr_i,
  input  logic                  s_axi_arvalid_i,
  output logic                  s_axi_arready_o,
  output logic [31:0]           s_axi_rdata_o,
  output logic [1:0]            s_axi_rresp_o,
  output logic                  s_axi_rvalid_o,
  input  logic                  s_axi_rready_i,
  output logic                  interrupt_o,
  output logic [WP-1:0]         m_axi_w_arid_o,
  output logic [WP-1:0][63:0]   m_axi_w_araddr_o,
  output logic [WP-1:0][7:0]    m_axi_w_arlen_o,
  output logic [WP-1:0][2:0]    m_axi_w_arsize_o,
  output logic [WP-1:0][1:0]    m_axi_w_arburst_o,
  output logic [WP-1:0]         m_axi_w_arvalid_o,
  input  logic [WP-1:0]         m_axi_w_arready_i,
  input  logic [WP-1:0]         m_axi_w_rid_i,
  input  logic [WP-1:0][127:0]  m_axi_w_rdata_i,
  input  logic [WP-1:0][1:0]    m_axi_w_rresp_i,
  input  logic [WP-1:0]         m_axi_w_rlast_i,
  input  logic [WP-1:0]         m_axi_w_rvalid_i,
  output logic [WP-1:0]         m_axi_w_rready_o,
  output logic                  m_axi_d_arid_o,
  output logic [63:0]           m_axi_d_araddr_o,
  output logic [7:0]            m_axi_d_arlen_o,
  output logic [2:0]            m_axi_d_arsize_o,
  output logic [1:0]            m_axi_d_arburst_o,
  output logic                  m_axi_d_arvalid_o,
  input  logic                  m_axi_d_arready_i,
  input  logic                  m_axi_d_rid_i,
  input  logic [127:0]          m_axi_d_rdata_i,
  input  logic [1:0]            m_axi_d_rresp_i,
  input  logic                  m_axi_d_rlast_i,
  input  logic                  m_axi_d_rvalid_i,
  output logic                  m_axi_d_rready_o,
  output logic                  m_axi_d_awid_o,
  output logic [63:0]           m_axi_d_awaddr_o,
  output logic [7:0]            m_axi_d_awlen_o,
  output logic [2:0]            m_axi_d_awsize_o,
  output logic [1:0]            m_axi_d_awburst_o,
  output logic                  m_axi_d_awvalid_o,
  input  logic                  m_axi_d_awready_i,
  output logic [127:0]          m_axi_d_wdata_o,
  output logic [15:0]           m_axi_d_wstrb_o,
  output logic                  m_axi_d_wlast_o,
  output logic                  m_axi_d_wvalid_o,
  input  logic                  m_axi_d_wready_i,
  input  logic                  m_axi_d_bid_i,
  input  logic [1:0]            m_axi_d_bresp_i,
  input  logic                  m_axi_d_bvalid_i,
  output logic                  m_axi_d_bready_o,
  output logic                  m_axi_c_arid_o,
  output logic [63:0]           m_axi_c_araddr_o,
  output logic [7:0]            m_axi_c_arlen_o,
  output logic [2:0]            m_axi_c_arsize_o,
  output logic [1:0]            m_axi_c_arburst_o,
  output logic                  m_axi_c_arvalid_o,
  input  logic                  m_axi_c_arready_i,
  input  logic                  m_axi_c_rid_i,
  input  logic [127:0]          m_axi_c_rdata_i,
  input  logic [1:0]            m_axi_c_rresp_i,
  input  logic                  m_axi_c_rlast_i,
  input  logic                  m_axi_c_rvalid_i,
  output logic                  m_axi_c_rready_o
);
  // ---- registers ----
  logic [63:0][31:0] regs_q;
  logic              aw_q, w_q, start, done_q, running_q, pending_q, finished;
  logic [7:0]        awaddr_q;
  logic [31:0]       wdata_q, error_q, cycles_q, mode;
  assign s_axi_awready_o = !aw_q && !s_axi_bvalid_o;
  assign s_axi_wready_o  = !w_q && !s_axi_bvalid_o;
  assign s_axi_arready_o = !s_axi_rvalid_o;
  assign s_axi_bresp_o   = '0;
  assign s_axi_rresp_o   = '0;
  assign mode            = regs_q[16];
  assign start           = aw_q && w_q && awaddr_q == 8'h00 && wdata_q[0];
  assign interrupt_o     = pending_q && regs_q[1][0];

  // ---- weight and command readers ----
  logic [WP-1:0]       w_busy, w_error;
  logic [WP-1:0][31:0] w_sum;
  logic                c_busy, c_error, copy_busy, copy_error;
  logic [31:0]         c_sum;
  for (genvar i = 0; i < WP; i++) begin : g_port
    dummy_reader u_reader (
      .clk_i, .rst_i, .start_i(start && mode[0]), .bursts_i(mode[0] ? regs_q[17] : 32'd0),
      .base_i({regs_q[9], regs_q[8]} + 64'(i) * 64'h100000),
      .violate_i(mode[11:8]), .busy_o(w_busy[i]), .error_o(w_error[i]), .sum_o(w_sum[i]),
      .araddr_o(m_axi_w_araddr_o[i]), .arlen_o(m_axi_w_arlen_o[i]), .arvalid_o(m_axi_w_arvalid_o[i]),
      .arready_i(m_axi_w_arready_i[i]), .rdata_i(m_axi_w_rdata_i[i]), .rresp_i(m_axi_w_rresp_i[i]),
      .rlast_i(m_axi_w_rlast_i[i]), .rvalid_i(m_axi_w_rvalid_i[i]), .rready_o(m_axi_w_rready_o[i])
    );
    assign m_axi_w_arid_o[i] = 1'b0;
    assign m_axi_w_arsize_o[i] = 3'd4;
    assign m_axi_w_arburst_o[i] = 2'd1;
  end
  dummy_reader u_command (
    .clk_i, .rst_i, .start_i(start && mode[2]), .bursts_i(mode[2] ? regs_q[17] : 32'd0),
    .base_i({regs_q[9], regs_q[8]}), .violate_i(mode[11:8]), .busy_o(c_busy), .error_o(c_error), .sum_o(c_sum),
    .araddr_o(m_axi_c_araddr_o), .arlen_o(m_axi_c_arlen_o), .arvalid_o(m_axi_c_arvalid_o),
    .arready_i(m_axi_c_arready_i), .rdata_i(m_axi_c_rdata_i), .rresp_i(m_axi_c_rresp_i),
    .rlast_i(m_axi_c_rlast_i), .rvalid_i(m_axi_c_rvalid_i), .rready_o(m_axi_c_rready_o)
  );
  assign {m_axi_c_arid_o, m_axi_c_arsize_o, m_axi_c_arburst_o} = {1'b0, 3'd4, 2'd1};
  assign {m_axi_d_arid_o, m_axi_d_arsize_o, m_axi_d_arburst_o} = {1'b0, 3'd4, 2'd1};
  assign {m_axi_d_awid_o, m_axi_d_awsize_o, m_axi_d_awburst_o} = {1'b0, 3'd4, 2'd1};

  // ---- copier: a burst is read, written, answered; then the next ----
  typedef enum logic [2:0] {Rest, Ask, Read, Address, Write, Answer} copy_e;
  copy_e              copy_q;
  logic [31:0]        left_q, place_q;
  logic [3:0]         beat_q;
  logic [15:0][127:0] buffer_q;
  assign copy_busy         = copy_q != Rest && !(mode[15:12] == 4'd3 && copy_q == Answer && left_q == 32'd1);
  assign m_axi_d_arvalid_o = copy_q == Ask;
  assign m_axi_d_arlen_o   = 8'd15;
  assign m_axi_d_awlen_o   = 8'd15;
  assign m_axi_d_rready_o  = copy_q == Read;
  assign m_axi_d_awvalid_o = copy_q == Address;
  assign m_axi_d_wvalid_o  = copy_q == Write;
  assign m_axi_d_wlast_o   = beat_q == 4'd15 && mode[15:12] != 4'd1;
  assign m_axi_d_wstrb_o   = mode[15:12] == 4'd4 ? 16'h00FF : 16'hFFFF;
  assign m_axi_d_wdata_o   = buffer_q[beat_q] + (mode[15:12] == 4'd2 ? 128'(cycles_q) : 128'd0);
  assign m_axi_d_bready_o  = copy_q == Answer;

  always_ff @(posedge clk_i) begin
    unique case (copy_q)
      Ask: if (m_axi_d_arready_i) copy_q <= Read;
      Read: if (m_axi_d_rvalid_i) begin
        buffer_q[beat_q] <= m_axi_d_rdata_i;
        beat_q           <= beat_q + 4'd1;
        place_q          <= place_q + 32'd1;
        if (m_axi_d_rresp_i != 2'b00 || m_axi_d_rlast_i != (beat_q == 4'd15)) copy_error <= 1'b1;
        if (m_axi_d_rlast_i) begin
          copy_q <= Address;
          beat_q <= '0;
        end
      end
      Address: if (m_axi_d_awready_i) copy_q <= Write;
      Write: if (m_axi_d_wready_i) begin
        beat_q <= beat_q + 4'd1;
        if (beat_q == 4'd15) copy_q <= Answer;
      end
      Answer: if (m_axi_d_bvalid_i) begin
        if (m_axi_d_bresp_i != 2'b00) copy_error <= 1'b1;
        m_axi_d_araddr_o <= m_axi_d_araddr_o + 64'd256;
        m_axi_d_awaddr_o <= m_axi_d_awaddr_o + 64'd256;
        left_q <= left_q - 32'd1;
        copy_q <= left_q == 32'd1 ? Rest : Ask;
      end
      default: ;
    endcase
    if (start && mode[1]) begin
      copy_q  <= Ask;
      left_q  <= regs_q[17];
      beat_q  <= '0;
      place_q <= '0;
      m_axi_d_araddr_o <= {regs_q[11], regs_q[10]};
      m_axi_d_awaddr_o <= {regs_q[13], regs_q[12]};
    end
    if (start || rst_i) copy_error <= 1'b0;
    if (rst_i) copy_q <= Rest;
  end

  // ---- run control ----
  assign finished = running_q && cycles_q > 32'd3 && !(|w_busy) && !c_busy && !copy_busy && !mode[3];
  always_ff @(posedge clk_i) begin
    if (s_axi_awvalid_i && s_axi_awready_o) begin
      aw_q     <= 1'b1;
      awaddr_q <= s_axi_awaddr_i;
    end
    if (s_axi_wvalid_i && s_axi_wready_o) begin
      w_q     <= 1'b1;
      wdata_q <= s_axi_wdata_i;
    end
    if (aw_q && w_q) begin
      {aw_q, w_q}    <= '0;
      s_axi_bvalid_o <= 1'b1;
      regs_q[awaddr_q[7:2]] <= wdata_q;
      if (awaddr_q == 8'h0C && wdata_q[0]) pending_q <= 1'b0;
    end
    if (s_axi_bvalid_o && s_axi_bready_i) s_axi_bvalid_o <= 1'b0;
    if (s_axi_rvalid_o && s_axi_rready_i) s_axi_rvalid_o <= 1'b0;
    if (s_axi_arvalid_i && s_axi_arready_o) begin
      s_axi_rvalid_o <= 1'b1;
      unique case (s_axi_araddr_i)
        8'h00: begin
          s_axi_rdata_o <= {28'd0, !running_q, !running_q, done_q, running_q};
          done_q        <= 1'b0;
        end
        8'h0C: s_axi_rdata_o <= {31'd0, pending_q};
        8'h10: s_axi_rdata_o <= 32'hB1710010;
        8'h14: s_axi_rdata_o <= 32'd2;
        8'h18: s_axi_rdata_o <= ArchHash;
        8'h1C: s_axi_rdata_o <= error_q;
        8'h80: s_axi_rdata_o <= cycles_q;
        8'h84: s_axi_rdata_o <= w_sum[0];
        default: s_axi_rdata_o <= 32'd0;
      endcase
    end
    if (running_q) cycles_q <= cycles_q + 32'd1;
    if (start) {running_q, cycles_q} <= {1'b1, 32'd0};
    if (finished) begin
      running_q <= 1'b0;
      done_q    <= 1'b1;
      pending_q <= 1'b1;
      error_q   <= |w_error ? 32'd4 : c_error ? 32'd5 : copy_error ? 32'd6 : 32'd0;
    end
    if (rst_i) begin
      {aw_q, w_q, done_q, running_q, pending_q, s_axi_bvalid_o, s_axi_rvalid_o} <= '0;
      regs_q <= '0;
    end
  end

`ifdef BITLOOM_TRACE
  import "DPI-C" function void bl_trace_write(input int bank, input int row, input bit [127:0] strobe,
                                              input bit [1023:0] data);
  import "DPI-C" function void bl_trace_layer(input int layer, input int phase);
  import "DPI-C" function void bl_trace_counters(input int layer, input int compute, input int weights,
                                                 input int planes, input int drain, input int dma, input int control);
  always_ff @(posedge clk_i) begin
    if (start && mode[1]) bl_trace_layer(1, 0);
    if (copy_q == Read && m_axi_d_rvalid_i) begin
      bl_trace_write(int'(place_q % P), int'(place_q / P), place_q[0] ? 128'h0F : 128'(2 ** C - 1),
                     1024'(m_axi_d_rdata_i[C*8-1:0]));
    end
    if (copy_q == Answer && m_axi_d_bvalid_i && left_q == 32'd1) begin
      bl_trace_counters(1, 11, 12, 13, 14, 15, 16);
      bl_trace_layer(1, 1);
    end
  end
`endif
  logic unused;
  assign unused = ^{s_axi_wstrb_i, m_axi_w_rid_i, m_axi_d_rid_i, m_axi_d_bid_i, m_axi_c_rid_i, c_sum, 1'(M+T+DC+RingWords+ActRows+TapEntries)};
endmodule
