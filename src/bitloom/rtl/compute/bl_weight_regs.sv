// Shadow and active digits of M lanes × C channels, kept as five bit planes: digit of (m, c) = {digit_o[4][m][c] .. [0][m][c]}.
//   plane_valid_i[m] and first: digit <= signed ? {5{plane}} : {4'b0, plane};  valid, not first: digit <= {digit[3:0], plane}
//   clear_i   shadow digits <= 0; a lane with plane_valid_i takes the plane instead
//   swap_i    active <= shadow as it was before this cycle's planes; digit_o changes in the next cycle
// No reset: a step clears the shadow before its planes. Resource: 10·M·C flip-flops, about 5·M·C LUTs.
module bl_weight_regs #(
  parameter int unsigned C = 8,
  parameter int unsigned M = 16
) (
  input  logic                         clk_i,
  input  logic                         swap_i,
  input  logic                         clear_i,
  input  logic [M-1:0]                 plane_valid_i,
  input  logic [M-1:0]                 plane_first_i,
  input  logic [M-1:0]                 plane_signed_i,
  input  logic [M-1:0][C-1:0]          plane_i,
  output logic [4:0][M-1:0][C-1:0]     digit_o
);
  if (C < 1 || M < 1) begin : g_bad
    $fatal(1, "%m: C = %0d, M = %0d; legal: at least 1", C, M);
  end

  logic [4:0][M-1:0][C-1:0] shadow_q;

  for (genvar m = 0; m < M; m++) begin : g_lane
    always_ff @(posedge clk_i) begin
      if (plane_valid_i[m]) begin
        shadow_q[0][m] <= plane_i[m];
        for (int k = 1; k < 5; k++) begin
          shadow_q[k][m] <= plane_first_i[m] ? plane_i[m] & {C{plane_signed_i[m]}} : shadow_q[k-1][m];
        end
      end else if (clear_i) begin
        for (int k = 0; k < 5; k++) shadow_q[k][m] <= '0;
      end
    end
  end

  always_ff @(posedge clk_i) begin
    if (swap_i) digit_o <= shadow_q;
  end
endmodule
