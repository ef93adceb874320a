// Pooling over taps, one pixel: acc_o[c] = max or Σ of act_i[c] from first_i to last_i, one tap a cycle (valid_i).
// valid_i, first_i, last_i, max_i, inside_i come one cycle before act_i of the same tap and are registered here: each pixel has
// its own copies. Maximum (max_i): a pixel with inside_i = 0 does not take part; -128 if it never does. Sum: every tap counts
// (outside lanes carry the pad code). valid_o: 2 cycles after last_i; acc_o then holds until the next tap. |sum| < 2^23 is the
// caller's part. Resource: C × (24-bit adder, 8-bit comparator, 24 flip-flops).
module bl_pool #(
  parameter int unsigned C = 8
) (
  input  logic                clk_i,
  input  logic                rst_i,
  input  logic                valid_i,
  input  logic                first_i,
  input  logic                last_i,
  input  logic                max_i,
  input  logic                inside_i,
  input  logic [C-1:0][7:0]   act_i,
  output logic                valid_o,
  output logic [C-1:0][23:0]  acc_o
);
  if (C < 1) begin : g_bad
    $fatal(1, "%m: C = %0d; legal: at least 1", C);
  end

  (* dont_touch = "yes" *) logic valid_q, first_q, last_q, max_q, inside_q;
  always_ff @(posedge clk_i) begin
    valid_q  <= valid_i & ~rst_i;
    first_q  <= first_i;
    last_q   <= last_i;
    max_q    <= max_i;
    inside_q <= inside_i;
    valid_o  <= valid_q & last_q & ~rst_i;
  end

  for (genvar c = 0; c < C; c++) begin : g_channel
    logic signed [7:0]  code, top;
    logic signed [23:0] base;
    assign code = act_i[c];
    assign top  = first_q ? -8'sd128 : acc_o[c][7:0];
    assign base = first_q ? 24'sd0 : acc_o[c];
    always_ff @(posedge clk_i) begin
      if (valid_q) begin
        if (max_q) acc_o[c] <= 24'((inside_q && code > top) ? code : top);
        else       acc_o[c] <= base + 24'(code);
      end
    end
  end
endmodule
