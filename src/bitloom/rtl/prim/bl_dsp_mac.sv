// One DSP48E2: p_o = a_i · b_i + c_i + Rnd, signed; a_i and b_i in cycle t, c_i in cycle t+1, p_o in cycle t+3.
// Define BITLOOM_DSP48E2: the explicit instance. Else: its behavioural twin. Throughput 1. Resource: 1 DSP48E2.
module bl_dsp_mac #(
  parameter logic [47:0] Rnd = 48'd0
) (
  input  logic               clk_i,
  input  logic signed [26:0] a_i,
  input  logic signed [17:0] b_i,
  input  logic signed [47:0] c_i,
  output logic signed [47:0] p_o
);
`ifdef BITLOOM_DSP48E2
  DSP48E2 #(
    .AMULTSEL("A"), .BMULTSEL("B"), .A_INPUT("DIRECT"), .B_INPUT("DIRECT"), .USE_MULT("MULTIPLY"), .RND(Rnd),
    .AREG(1), .ACASCREG(1), .BREG(1), .BCASCREG(1), .MREG(1), .PREG(1), .CREG(1), .DREG(0), .ADREG(0),
    .ALUMODEREG(0), .CARRYINREG(0), .CARRYINSELREG(0), .INMODEREG(0), .OPMODEREG(0)
  ) u_dsp (
    .CLK(clk_i), .A({{3{a_i[26]}}, a_i}), .B(b_i), .C(c_i), .D(27'd0), .P(p_o),
    .OPMODE(9'b10_011_01_01), .ALUMODE(4'd0), .INMODE(5'd0), .CARRYIN(1'b0), .CARRYINSEL(3'd0),
    .CEA1(1'b0), .CEA2(1'b1), .CEB1(1'b0), .CEB2(1'b1), .CEM(1'b1), .CEP(1'b1), .CEC(1'b1), .CED(1'b0), .CEAD(1'b0),
    .CEALUMODE(1'b0), .CECARRYIN(1'b0), .CECTRL(1'b0), .CEINMODE(1'b0),
    .RSTA(1'b0), .RSTB(1'b0), .RSTM(1'b0), .RSTP(1'b0), .RSTC(1'b0), .RSTD(1'b0), .RSTALLCARRYIN(1'b0),
    .RSTALUMODE(1'b0), .RSTCTRL(1'b0), .RSTINMODE(1'b0),
    .ACIN(30'd0), .BCIN(18'd0), .PCIN(48'd0), .CARRYCASCIN(1'b0), .MULTSIGNIN(1'b0),
    .ACOUT(), .BCOUT(), .PCOUT(), .CARRYCASCOUT(), .CARRYOUT(), .MULTSIGNOUT(), .OVERFLOW(), .UNDERFLOW(),
    .PATTERNDETECT(), .PATTERNBDETECT(), .XOROUT()
  );
`else
  logic signed [26:0] a_q;
  logic signed [17:0] b_q;
  logic signed [47:0] m_q, c_q;

  always_ff @(posedge clk_i) begin
    a_q <= a_i;
    b_q <= b_i;
    c_q <= c_i;
    m_q <= 48'(a_q) * 48'(b_q);
    p_o <= m_q + c_q + Rnd;
  end
`endif
endmodule
