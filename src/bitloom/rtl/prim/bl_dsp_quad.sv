// One DSP48E2: p_o = a_i · b_i + 2^11·(1 + 2^10 + 2^22 + 2^32), the low 44 bits, 3 cycles later.
// With a_i = w0 + w1·2^22 and b_i = a0 + a1·2^10 (digits in [-15, 15], activations in [-127, 127]) it holds four products
// at bits 0, 10, 22, 32 (docs/spec/arithmetic.md); the owner removes the overlap of the lanes.
// Define BITLOOM_DSP48E2: the explicit instance. Else: its behavioural twin. Throughput 1. Resource: 1 DSP48E2.
module bl_dsp_quad (
  input  logic        clk_i,
  input  logic [26:0] a_i,
  input  logic [17:0] b_i,
  output logic [43:0] p_o
);
  localparam logic [47:0] Rnd = 48'h0802_0020_0800;  // bits 11, 21, 33, 43

`ifdef BITLOOM_DSP48E2
  logic [47:0] p;
  assign p_o = p[43:0];

  DSP48E2 #(
    .AMULTSEL("A"), .BMULTSEL("B"), .A_INPUT("DIRECT"), .B_INPUT("DIRECT"), .USE_MULT("MULTIPLY"), .RND(Rnd),
    .AREG(1), .ACASCREG(1), .BREG(1), .BCASCREG(1), .MREG(1), .PREG(1), .CREG(0), .DREG(0), .ADREG(0),
    .ALUMODEREG(0), .CARRYINREG(0), .CARRYINSELREG(0), .INMODEREG(0), .OPMODEREG(0)
  ) u_dsp (
    .CLK(clk_i), .A({{3{a_i[26]}}, a_i}), .B(b_i), .C(48'd0), .D(27'd0), .P(p),
    .OPMODE(9'b10_000_01_01), .ALUMODE(4'd0), .INMODE(5'd0), .CARRYIN(1'b0), .CARRYINSEL(3'd0),
    .CEA1(1'b0), .CEA2(1'b1), .CEB1(1'b0), .CEB2(1'b1), .CEM(1'b1), .CEP(1'b1), .CEC(1'b0), .CED(1'b0), .CEAD(1'b0),
    .CEALUMODE(1'b0), .CECARRYIN(1'b0), .CECTRL(1'b0), .CEINMODE(1'b0),
    .RSTA(1'b0), .RSTB(1'b0), .RSTM(1'b0), .RSTP(1'b0), .RSTC(1'b0), .RSTD(1'b0), .RSTALLCARRYIN(1'b0),
    .RSTALUMODE(1'b0), .RSTCTRL(1'b0), .RSTINMODE(1'b0),
    .ACIN(30'd0), .BCIN(18'd0), .PCIN(48'd0), .CARRYCASCIN(1'b0), .MULTSIGNIN(1'b0),
    .ACOUT(), .BCOUT(), .PCOUT(), .CARRYCASCOUT(), .CARRYOUT(), .MULTSIGNOUT(), .OVERFLOW(), .UNDERFLOW(),
    .PATTERNDETECT(), .PATTERNBDETECT(), .XOROUT()
  );
  logic unused_p;
  assign unused_p = ^p[47:44];
`else
  logic signed [26:0] a_q;
  logic signed [17:0] b_q;
  logic signed [43:0] m_q;

  always_ff @(posedge clk_i) begin
    a_q <= a_i;
    b_q <= b_i;
    m_q <= 44'(a_q) * 44'(b_q);
    p_o <= m_q + Rnd[43:0];
  end
  logic unused_rnd;
  assign unused_rnd = ^Rnd[47:44];
`endif
endmodule
