// Ports and parameters of the vendor's cells that the RTL instantiates; synthesis maps onto them.
(* blackbox *)
module DSP48E2 #(
  parameter AMULTSEL = "A", parameter BMULTSEL = "B", parameter A_INPUT = "DIRECT", parameter B_INPUT = "DIRECT",
  parameter USE_MULT = "MULTIPLY", parameter [47:0] RND = 48'd0,
  parameter integer AREG = 1, parameter integer ACASCREG = 1, parameter integer BREG = 1, parameter integer BCASCREG = 1,
  parameter integer MREG = 1, parameter integer PREG = 1, parameter integer CREG = 1, parameter integer DREG = 1,
  parameter integer ADREG = 1, parameter integer ALUMODEREG = 1, parameter integer CARRYINREG = 1,
  parameter integer CARRYINSELREG = 1, parameter integer INMODEREG = 1, parameter integer OPMODEREG = 1
) (
  input CLK, input [29:0] A, input [17:0] B, input [47:0] C, input [26:0] D, output [47:0] P,
  input [8:0] OPMODE, input [3:0] ALUMODE, input [4:0] INMODE, input CARRYIN, input [2:0] CARRYINSEL,
  input CEA1, input CEA2, input CEB1, input CEB2, input CEM, input CEP, input CEC, input CED, input CEAD,
  input CEALUMODE, input CECARRYIN, input CECTRL, input CEINMODE,
  input RSTA, input RSTB, input RSTM, input RSTP, input RSTC, input RSTD, input RSTALLCARRYIN,
  input RSTALUMODE, input RSTCTRL, input RSTINMODE,
  input [29:0] ACIN, input [17:0] BCIN, input [47:0] PCIN, input CARRYCASCIN, input MULTSIGNIN,
  output [29:0] ACOUT, output [17:0] BCOUT, output [47:0] PCOUT, output CARRYCASCOUT, output [3:0] CARRYOUT,
  output MULTSIGNOUT, output OVERFLOW, output UNDERFLOW, output PATTERNDETECT, output PATTERNBDETECT,
  output [7:0] XOROUT
);
endmodule
(* blackbox *)
module LUT6_2 #(parameter [63:0] INIT = 64'd0) (
  input I0, input I1, input I2, input I3, input I4, input I5, output O6, output O5
);
endmodule
(* blackbox *)
module CARRY8 #(parameter CARRY_TYPE = "SINGLE_CY8") (
  input CI, input CI_TOP, input [7:0] DI, input [7:0] S, output [7:0] O, output [7:0] CO
);
endmodule
