// One stage of a stream with registers in both directions: no path from ready_i to ready_o, none from valid_i to valid_o.
//   clear_i   empties it at the next edge
// Throughput 1, latency 1 cycle. Resource: 2·Width + 2 flip-flops, Width LUTs.
module bl_skid #(
  parameter int unsigned Width = 8
) (
  input  logic             clk_i,
  input  logic             rst_i,
  input  logic             clear_i,
  input  logic             valid_i,
  output logic             ready_o,
  input  logic [Width-1:0] data_i,
  output logic             valid_o,
  input  logic             ready_i,
  output logic [Width-1:0] data_o
);
  if (Width == 0) begin : g_bad
    $fatal(1, "%m: Width = %0d; legal: > 0", Width);
  end

  logic [Width-1:0] hold_q;      // holds a word while ready_o is low

  always_ff @(posedge clk_i) begin
    if (ready_o) hold_q <= data_i;
    if (~valid_o | ready_i) begin
      data_o  <= ready_o ? data_i : hold_q;
      valid_o <= ~ready_o | valid_i;
      ready_o <= 1'b1;
    end else if (valid_i) begin
      ready_o <= 1'b0;
    end
    if (rst_i || clear_i) begin
      valid_o <= 1'b0;
      ready_o <= 1'b1;
    end
  end
endmodule
