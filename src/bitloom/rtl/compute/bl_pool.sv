// Pooling over taps: acc_o[p][c] = max or Σ of act_i[p][c] from first_i to last_i, one tap a cycle (valid_i).
// Maximum (max_i): lanes with inside_i[p] = 0 do not take part; -128 if none does. Sum: every tap counts (outside lanes carry
// the pad code). valid_o: 1 cycle after last_i; acc_o then holds until the next valid_i. |sum| < 2^23 is the caller's part.
// Resource: P·C × (24-bit adder, 8-bit comparator, 24 flip-flops).
module bl_pool #(
  parameter int unsigned P = 2,
  parameter int unsigned C = 8
) (
  input  logic                        clk_i,
  input  logic                        rst_i,
  input  logic                        valid_i,
  input  logic                        first_i,
  input  logic                        last_i,
  input  logic                        max_i,
  input  logic [P-1:0]                inside_i,
  input  logic [P-1:0][C-1:0][7:0]    act_i,
  output logic                        valid_o,
  output logic [P-1:0][C-1:0][23:0]   acc_o
);
  if (P < 1 || C < 1) begin : g_bad
    $fatal(1, "%m: P = %0d, C = %0d; legal: at least 1", P, C);
  end

  for (genvar p = 0; p < P; p++) begin : g_pixel
    for (genvar c = 0; c < C; c++) begin : g_channel
      logic signed [7:0]  code, top;
      logic signed [23:0] base;
      assign code = act_i[p][c];
      assign top  = first_i ? -8'sd128 : acc_o[p][c][7:0];
      assign base = first_i ? 24'sd0 : acc_o[p][c];
      always_ff @(posedge clk_i) begin
        if (valid_i) begin
          if (max_i) acc_o[p][c] <= 24'((inside_i[p] && code > top) ? code : top);
          else       acc_o[p][c] <= base + 24'(code);
        end
      end
    end
  end

  always_ff @(posedge clk_i) valid_o <= valid_i & last_i & ~rst_i;
endmodule
