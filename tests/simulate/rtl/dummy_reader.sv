// Reads `bursts_i` bursts of 16 beats from `base_i`, several outstanding; sums the beats' low words.
// `violate_i`: 1 address changes while waiting, 2 valid falls while waiting, 3 crosses 4 KiB, 4 too long a burst.
module dummy_reader #(
  parameter int unsigned Outstanding = 8
) (
  input  logic         clk_i,
  input  logic         rst_i,
  input  logic         start_i,
  input  logic [31:0]  bursts_i,
  input  logic [63:0]  base_i,
  input  logic [3:0]   violate_i,
  output logic         busy_o,
  output logic         error_o,      // bad response or last at a wrong beat; sticky
  output logic [31:0]  sum_o,
  output logic [63:0]  araddr_o,
  output logic [7:0]   arlen_o,
  output logic         arvalid_o,
  input  logic         arready_i,
  input  logic [127:0] rdata_i,
  input  logic [1:0]   rresp_i,
  input  logic         rlast_i,
  input  logic         rvalid_i,
  output logic         rready_o
);
  logic [31:0] asked_q, got_q;
  logic        active_q;
  logic [3:0]  beat_q;
  assign rready_o = 1'b1;
  assign busy_o   = active_q && (asked_q != bursts_i || got_q != bursts_i || arvalid_o);
  assign arlen_o  = violate_i == 4'd4 ? 8'd31 : 8'd15;

  always_ff @(posedge clk_i) begin
    if (arvalid_o && arready_i) begin
      arvalid_o <= 1'b0;
      araddr_o  <= araddr_o + 64'd256;
    end else if (arvalid_o && violate_i == 4'd1) begin
      araddr_o <= araddr_o + 64'd256;
    end else if (arvalid_o && violate_i == 4'd2) begin
      arvalid_o <= 1'b0;
    end else if (active_q && !arvalid_o && asked_q != bursts_i && asked_q - got_q < Outstanding) begin
      arvalid_o <= 1'b1;
      asked_q   <= asked_q + 32'd1;
    end
    if (rvalid_i) begin
      sum_o  <= sum_o + rdata_i[31:0];
      beat_q <= beat_q + 4'd1;
      if (rresp_i != 2'b00 || rlast_i != (beat_q == 4'd15)) error_o <= 1'b1;
      if (rlast_i) begin
        beat_q <= '0;
        got_q  <= got_q + 32'd1;
      end
    end
    if (!busy_o) active_q <= 1'b0;
    if (start_i) begin
      active_q <= 1'b1;
      asked_q <= '0;
      got_q   <= '0;
      beat_q  <= '0;
      sum_o   <= '0;
      error_o <= 1'b0;
      araddr_o <= base_i + (violate_i == 4'd3 ? 64'd3856 : 64'd0);
    end
    if (rst_i) begin
      active_q  <= 1'b0;
      arvalid_o <= 1'b0;
      error_o   <= 1'b0;
    end
  end
endmodule
