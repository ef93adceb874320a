// One pixel's sums, Width channels of a slice, into the requantizers: accumulators of one chunk and slice, or a pool result.
//   pool_i, chunk_i, slice_i   together with pools_i, one cycle before sums_i of the same operation; kept here, decoded, so that
//                              each unit has its own few loads for every register of the choice
// Latency: 2 cycles from the choice, 1 from the sums. Resource: Width × 32 multiplexers of Chunks·Slices + 1 inputs.
module bl_drain_pick #(
  parameter int unsigned Width  = 4,
  parameter int unsigned Chunks = 2,
  parameter int unsigned Slices = 2,
  localparam int unsigned SliceW = (Slices > 1) ? $clog2(Slices) : 1,
  localparam int unsigned N      = Chunks * Slices
) (
  input  logic                           clk_i,
  input  logic                           pool_i,
  input  logic [7:0]                     chunk_i,
  input  logic [SliceW-1:0]              slice_i,
  input  logic [31:0]                    pool_bias_i,
  input  logic [Slices-1:0][Width-1:0][23:0] pools_i,
  input  logic [N-1:0][Width-1:0][31:0]  sums_i,
  output logic [Width-1:0][31:0]         sum_o
);
  if (Width == 0 || Chunks == 0 || Slices == 0) begin : g_bad
    $fatal(1, "%m: Width = %0d, Chunks = %0d, Slices = %0d; legal: > 0", Width, Chunks, Slices);
  end

  (* dont_touch = "yes" *) logic         pool_q;
  (* dont_touch = "yes" *) logic [N-1:0] take_q;
  (* dont_touch = "yes" *) logic [31:0]  bias_q;   // the command's, stable
  logic [Width-1:0][31:0] pooled_q;

  always_ff @(posedge clk_i) begin
    pool_q <= pool_i;
    bias_q <= pool_bias_i;
    for (int c = 0; c < int'(Chunks); c++) begin
      for (int s = 0; s < int'(Slices); s++) begin
        take_q[c*int'(Slices) + s] <= chunk_i == 8'(c) && (Slices == 1 || slice_i == SliceW'(s));
      end
    end
    for (int j = 0; j < int'(Width); j++) begin
      automatic logic [23:0] pooled = pools_i[(Slices > 1) ? int'(slice_i) : 0][j];
      automatic logic [31:0] sum    = '0;
      for (int n = 0; n < int'(N); n++) sum |= sums_i[n][j] & {32{take_q[n]}};
      pooled_q[j] <= {{8{pooled[23]}}, pooled} + bias_q;
      sum_o[j]    <= pool_q ? pooled_q[j] : sum;
    end
  end
endmodule
