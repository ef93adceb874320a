// Shadow and active digits of one lane of C channels, kept as five bit planes: digit of c = {digit_o[4][c] .. digit_o[0][c]}.
// All inputs are registered here first, so that swap and clear have the loads of one lane each. After that register:
//   plane_valid_i with {first, signed}:
//     1 1   digit <= {5{plane}}              first plane of a signed digit
//     1 0   digit <= {4'b0, plane}           first plane of an unsigned digit
//     0 0   digit <= {digit[3:0], plane}     any further plane
//     0 1   digit <= {{4{plane}}, 1'b1}      the plane of a binary weight: +1, or -1 where it is set
//   clear_i   shadow digits <= 0; with plane_valid_i the plane instead
//   swap_i    active <= shadow as it was before this cycle's planes; digit_o changes in the next cycle
// Reset only of swap and plane_valid: a step clears the shadow before its planes. Resource: 11·C flip-flops, about 5·C LUTs.
module bl_weight_regs #(
  parameter int unsigned C = 8
) (
  input  logic              clk_i,
  input  logic              rst_i,
  input  logic              swap_i,
  input  logic              clear_i,
  input  logic              plane_valid_i,
  input  logic              plane_first_i,
  input  logic              plane_signed_i,
  input  logic [C-1:0]      plane_i,
  output logic [4:0][C-1:0] digit_o
);
  if (C < 1) begin : g_bad
    $fatal(1, "%m: C = %0d; legal: at least 1", C);
  end

  (* dont_touch = "yes" *) logic              swap_q, clear_q, valid_q, first_q, signed_q;
  logic [C-1:0]      plane_q;
  logic [4:0][C-1:0] shadow_q;

  always_ff @(posedge clk_i) begin
    swap_q   <= swap_i;
    clear_q  <= clear_i;
    valid_q  <= plane_valid_i;
    first_q  <= plane_first_i;
    signed_q <= plane_signed_i;
    plane_q  <= plane_i;
    if (valid_q) begin
      shadow_q[0] <= plane_q | {C{signed_q & ~first_q}};
      for (int k = 1; k < 5; k++) shadow_q[k] <= first_q | signed_q ? plane_q & {C{signed_q}} : shadow_q[k-1];
    end else if (clear_q) begin
      shadow_q <= '0;
    end
    if (swap_q) digit_o <= shadow_q;
    if (rst_i) begin
      swap_q  <= 1'b0;
      valid_q <= 1'b0;
    end
  end
endmodule
