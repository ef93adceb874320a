// Header words of every lane, 4 vectors deep (docs/spec/streams.md): {sign of m, pre, s_sel, m, bias} of lane l, vector tag ptag.
//   hdr_valid_i   word hdr_index_i of all M headers is written to slot hdr_ptag_i
//   bias_o        bias of bias_ptag_i, 1 cycle later;  m_o, s_o, pre_o: of param_ptag_i, 1 cycle later
// Resource: 4 × M·53 bits of LUT memory, two read ports for the bias part; 53·M flip-flops.
module bl_params #(
  parameter int unsigned C = 8,
  parameter int unsigned M = 16
) (
  input  logic                hdr_valid_i,
  input  logic                clk_i,
  input  logic [3:0]          hdr_index_i,
  input  logic [1:0]          hdr_ptag_i,
  input  logic [M-1:0][C-1:0] hdr_i,
  input  logic [1:0]          bias_ptag_i,
  output logic [M-1:0][31:0]  bias_o,
  input  logic [1:0]          param_ptag_i,
  output logic [M-1:0][17:0]  m_o,
  output logic [M-1:0][1:0]   s_o,
  output logic [M-1:0]        pre_o
);
  localparam int unsigned HeaderBits = 52;
  localparam int unsigned Words      = (HeaderBits + C - 1) / C;
  localparam int unsigned SignBit    = 56;
  if (C < 4 || C > 128 || (C & (C - 1)) != 0) begin : g_bad
    $fatal(1, "%m: C = %0d; legal: 4, 8, 16, 32, 64, 128", C);
  end

  logic [M-1:0][HeaderBits-1:0] bias_head, param_head;

  // One memory for each word of the header; bits past HeaderBits are not kept.
  for (genvar w = 0; w < Words; w++) begin : g_word
    localparam int unsigned Lsb   = w * C;
    localparam int unsigned Width = (Lsb + C > HeaderBits) ? HeaderBits - Lsb : C;
    (* ram_style = "distributed" *)
    logic [M*Width-1:0] mem [4];
    logic [M*Width-1:0] word, bias_word, param_word;
    for (genvar l = 0; l < M; l++) begin : g_lane
      assign word[l*Width +: Width] = hdr_i[l][Width-1:0];
      assign bias_head[l][Lsb +: Width]  = bias_word[l*Width +: Width];
      assign param_head[l][Lsb +: Width] = param_word[l*Width +: Width];
    end
    assign bias_word  = mem[bias_ptag_i];
    assign param_word = mem[param_ptag_i];
    always_ff @(posedge clk_i) if (hdr_valid_i && 32'(hdr_index_i) == w) mem[hdr_ptag_i] <= word;
  end

  // The sign of m is past the lane's bits, which the weight lanes keep.
  (* ram_style = "distributed" *)
  logic [M-1:0] sign_mem [4];
  logic [M-1:0] sign_word, param_sign;
  for (genvar l = 0; l < M; l++) begin : g_sign
    assign sign_word[l] = hdr_i[l][SignBit % C];
  end
  assign param_sign = sign_mem[param_ptag_i];
  always_ff @(posedge clk_i) begin
    if (hdr_valid_i && 32'(hdr_index_i) == SignBit / C) sign_mem[hdr_ptag_i] <= sign_word;
  end

  logic [M-1:0] unused_lane;
  for (genvar l = 0; l < M; l++) begin : g_out
    always_ff @(posedge clk_i) begin
      bias_o[l] <= bias_head[l][31:0];
      m_o[l]    <= {param_sign[l], param_head[l][48:32]};
      s_o[l]    <= param_head[l][50:49];
      pre_o[l]  <= param_head[l][51];
    end
    assign unused_lane[l] = ^{bias_head[l][51:32], param_head[l][31:0], hdr_i[l]};
  end
  logic unused_bits;
  assign unused_bits = ^unused_lane;
endmodule
