// Splits a weight port's stream (docs/spec/streams.md): one tag beat, then up to 128/TagW data beats, each for the lane that
// its tag names. One lane write per cycle; a lane that is not ready holds the port back, tags included.
//   lane_valid_o  one-hot; beat_o is common to all lanes
// The reads of its lanes pass through a register here, as does their clearing: every port has its own copies.
// Resource: 530 flip-flops, a Lanes-wide decoder.
module bl_weight_port #(
  parameter int unsigned Lanes = 8
) (
  input  logic             clk_i,
  input  logic             rst_i,
  input  logic             clear_i,
  input  logic [127:0]     data_i,
  input  logic             valid_i,
  output logic             ready_o,
  output logic [Lanes-1:0] lane_valid_o,
  input  logic [Lanes-1:0] lane_held_i,       // of lane_valid_o: the beat could not be stored
  output logic [127:0]     beat_o,
  input  logic [8:0]       cmd_i,
  output logic [8:0]       cmd_o,
  output logic             clear_o           // rst_i or clear_i, one cycle later
);
  (* dont_touch = "yes" *) logic [8:0] cmd_q;
  (* dont_touch = "yes" *) logic       clear_q;
  assign cmd_o   = cmd_q;
  assign clear_o = clear_q;
  always_ff @(posedge clk_i) begin
    clear_q <= rst_i | clear_i;
    cmd_q   <= (rst_i || clear_i) ? '0 : cmd_i;
  end

  localparam int unsigned LaneW = (Lanes > 1) ? $clog2(Lanes) : 1;
  localparam int unsigned TagW  = 1 << $clog2(LaneW);   // power of two >= LaneW
  localparam int unsigned Tags  = 128 / TagW;
  localparam int unsigned IndexW = $clog2(Tags);

  if (Lanes == 0 || Lanes > 256) begin : g_bad
    $fatal(1, "%m: Lanes = %0d; legal: 1..256", Lanes);
  end

  logic [127:0]        data;
  logic                valid, ready;
  bl_skid #(.Width(128)) u_skid (
    .clk_i, .rst_i, .clear_i, .valid_i, .ready_o, .data_i, .valid_o(valid), .ready_i(ready), .data_o(data)
  );

  logic [127:0]        tags_q;    // the next data beat's tag is the lowest
  logic [IndexW-1:0]   index_q;
  logic                tagged_q;  // tags_q holds tags
  logic [LaneW-1:0]    lane;
  logic                take, is_data, out_free;
  logic [Lanes-1:0]    valid_q;

  assign lane         = tags_q[LaneW-1:0];
  assign out_free     = lane_held_i == '0;
  assign ready        = out_free;
  assign take         = valid & ready;
  assign is_data      = take & tagged_q;
  assign lane_valid_o = valid_q;

  always_ff @(posedge clk_i) begin
    if (take) begin
      if (!tagged_q) begin
        tags_q   <= data;
        tagged_q <= 1'b1;
        index_q  <= '0;
      end else begin
        tags_q   <= tags_q >> TagW;
        tagged_q <= ~&index_q;
        index_q  <= index_q + 1'b1;
        beat_o   <= data;
      end
    end
    if (out_free) begin
      for (int l = 0; l < int'(Lanes); l++) valid_q[l] <= is_data && 32'(lane) == 32'(l);
    end
    if (rst_i || clear_i) begin
      tagged_q <= 1'b0;
      valid_q  <= '0;
    end
  end
endmodule
