// sum_o = a_i + b_i + c_i, unsigned, combinational.
// Define BITLOOM_ADD3: explicit LUT6_2 and CARRY8, one LUT a bit (the vendor's tools map the plain expression alike; open
// synthesis needs two LUTs a bit for it). Resource: Width + 1 LUTs.
module bl_add3 #(
  parameter int unsigned Width = 12
) (
  input  logic [Width-1:0] a_i,
  input  logic [Width-1:0] b_i,
  input  logic [Width-1:0] c_i,
  output logic [Width+1:0] sum_o
);
`ifdef BITLOOM_ADD3
  // Bit i: O6 = a ^ b ^ c ^ y, O5 = majority(a, b, c) = y of bit i + 1; the carry chain adds y where O6 is 0.
  localparam int unsigned N  = Width + 2;
  localparam int unsigned NB = (N + 7) / 8;
  logic [N-1:0]    a, b, c;
  logic [Width+1:0] y;
  logic [8*NB-1:0] s, d, o;
  logic [8*NB-1:0] co;
  assign a = N'(a_i);
  assign b = N'(b_i);
  assign c = N'(c_i);
  logic            unused_y;
  assign unused_y = y[Width+1];  // three zeros have no majority
  assign y[0]  = 1'b0;
  assign sum_o = o[N-1:0];
  for (genvar i = 0; i < 8 * NB; i++) begin : g_bit
    if (i <= Width) begin : g_used
      // I5 = 1 separates the two functions of I0..I4: O6 = I0^I1^I2^I3, O5 = majority(I0, I1, I2).
      LUT6_2 #(.INIT(64'h6996_6996_e8e8_e8e8)) u_lut (
        .I0(a[i]), .I1(b[i]), .I2(c[i]), .I3(y[i]), .I4(1'b0), .I5(1'b1), .O6(s[i]), .O5(y[i+1])
      );
      assign d[i] = y[i];
    end else begin : g_pad
      assign s[i] = 1'b0;
      assign d[i] = 1'b0;
    end
  end
  for (genvar k = 0; k < NB; k++) begin : g_carry
    CARRY8 #(.CARRY_TYPE("SINGLE_CY8")) u_carry (
      .CI(k == 0 ? 1'b0 : co[(k == 0 ? 1 : 8*k) - 1]), .CI_TOP(1'b0), .DI(d[8*k+:8]), .S(s[8*k+:8]), .O(o[8*k+:8]),
      .CO(co[8*k+:8])
    );
  end
`else
  assign sum_o = (Width+2)'(a_i) + (Width+2)'(b_i) + (Width+2)'(c_i);
`endif
endmodule
