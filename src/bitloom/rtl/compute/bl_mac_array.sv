// sum_o[p][m] = Σ_c digit(m, c)·act(p, c), exact, sign-extended to 32 bits; four products per DSP (docs/spec/arithmetic.md).
// digit_i comes one cycle after its act_i. Latency: 5 + ceil(log3 C) cycles from act_i to sum_o. Throughput 1.
// Contract: digits in [-15, 15], activations in [-127, 127].
// The lane overlap is removed after summation: with lo = P[9:0], up = P[21:10] and hi (two LUT6 a lane pair) of each DSP,
//   sum of lane 0 = Σlo + 1024·Σhi - 2048·C,  sum of lane 1 = Σup - Σhi - 2048·C  (lanes 2, 3 alike from bit 22).
// The two low bits that hi needs are delayed once per (m, c) and per (p, c), not per DSP; A is formed once per
// (m pair, c), B once per (p pair, c) and registered ahead of the DSPs that share it.
// Define BITLOOM_FAST: the same sums and latency by plain integers, three pixels in one 64-bit product.
// Resource: P·C·M/4 DSPs; LUT and flip-flops: benchmarks/results/resources.json.
module bl_mac_array #(
  parameter int unsigned P = 2,
  parameter int unsigned C = 8,
  parameter int unsigned M = 16
) (
  input  logic                       clk_i,
  input  logic [P-1:0][C-1:0][7:0]   act_i,
  input  logic [4:0][M-1:0][C-1:0]   digit_i,
  output logic [P-1:0][M-1:0][31:0]  sum_o
);
  if (P < 2 || P % 2 != 0 || M < 2 || M % 2 != 0 || C < 2 || C > 128) begin : g_bad
    $fatal(1, "%m: P = %0d, C = %0d, M = %0d; legal: P and M even, C 2..128", P, C, M);
  end

`ifdef BITLOOM_FAST
  localparam int unsigned Levels = (C <= 3) ? 1 : (C <= 9) ? 2 : (C <= 27) ? 3 : (C <= 81) ? 4 : 5;
  localparam int unsigned NB    = (P + 2) / 3;      // 64-bit words that hold P activations, 21 bits apart
  localparam int unsigned Depth = Levels + 3;       // a ring of results instead of shift registers
  localparam int unsigned PtrW  = $clog2(Depth);
  localparam longint      Half  = (64'sd1 << 20) | (64'sd1 << 41) | (64'sd1 << 62);

  logic [4:0][M-1:0][C-1:0] seen;
  longint          weight [M*C];
  longint          pack [NB*C];
  longint          result [Depth*NB*M];
  longint          out_d [NB*M];
  longint          out_q [NB*M];
  logic [PtrW-1:0] ptr_q;

  // verilator lint_off BLKSEQ
  always_ff @(posedge clk_i) begin
    if (digit_i != seen) begin
      seen = digit_i;
      /* verilator unroll_disable */
      for (int m = 0; m < int'(M); m++) begin
        automatic logic [C-1:0] b0 = digit_i[0][m], b1 = digit_i[1][m], b2 = digit_i[2][m], b3 = digit_i[3][m];
        automatic logic [C-1:0] b4 = digit_i[4][m];
        /* verilator unroll_disable */
        for (int c = 0; c < int'(C); c++) begin
          weight[m*int'(C) + c] = (64'(b0[c])) + (64'(b1[c]) << 1) + (64'(b2[c]) << 2) + (64'(b3[c]) << 3)
                                  - (64'(b4[c]) << 4);
        end
      end
    end
    /* verilator unroll_disable */
    for (int i = 0; i < int'(NB*M); i++) out_d[i] = result[int'(ptr_q)*int'(NB*M) + i];
    out_q <= out_d;  // the only value that another process reads
    /* verilator unroll_disable */
    for (int b = 0; b < int'(NB); b++) begin
      /* verilator unroll_disable */
      for (int m = 0; m < int'(M); m++) begin
        automatic longint sum = Half;
        /* verilator unroll_disable */
        for (int c = 0; c < int'(C); c++) sum += weight[m*int'(C) + c] * pack[b*int'(C) + c];
        result[int'(ptr_q)*int'(NB*M) + b*int'(M) + m] = sum;
      end
    end
    /* verilator unroll_disable */
    for (int b = 0; b < int'(NB); b++) begin
      /* verilator unroll_disable */
      for (int c = 0; c < int'(C); c++) begin
        automatic longint word = 0;
        for (int l = 0; l < 3; l++) begin
          if (b * 3 + l < int'(P)) word += 64'(signed'(act_i[(b*3+l < int'(P)) ? b*3+l : 0][c])) <<< (21 * l);
        end
        pack[b*int'(C) + c] = word;
      end
    end
    ptr_q = (32'(ptr_q) >= Depth - 1) ? '0 : ptr_q + 1'b1;
  end
  // verilator lint_on BLKSEQ

  for (genvar p = 0; p < P; p++) begin : g_pixel
    for (genvar m = 0; m < M; m++) begin : g_channel
      assign sum_o[p][m] = 32'(out_q[(p/3)*M + m][21*(p%3) +: 21]) - 32'd1048576;
    end
  end
`else
  localparam int unsigned PP   = P / 2;
  localparam int unsigned MP   = M / 2;
  localparam int unsigned SumW = 12 + $clog2(C);

  // ---- shared operands ----
  logic [PP-1:0][C-1:0][17:0] b_q;
  logic [MP-1:0][C-1:0][26:0] a;
  logic [PP-1:0][C-1:0][1:0]  act1_low_q, act2_low_q, act_low_q;  // a1[1:0]; the last in step with the product
  logic [M-1:0][C-1:0][1:0]   dig1_low_q, dig2_low_q, dig_low_q;  // digit[1:0], likewise

  for (genvar c = 0; c < C; c++) begin : g_operand
    for (genvar i = 0; i < PP; i++) begin : g_b
      always_ff @(posedge clk_i) begin
        b_q[i][c] <= {act_i[2*i+1][c] - 8'(act_i[2*i][c][7]), {2{act_i[2*i][c][7]}}, act_i[2*i][c]};
        // b_q[11:10] is a1[1:0] - (a0 < 0).
        act1_low_q[i][c] <= b_q[i][c][11:10] + {1'b0, b_q[i][c][9]};
      end
    end
    for (genvar j = 0; j < MP; j++) begin : g_a
      logic [4:0] w0, w1;
      assign w0 = {digit_i[4][2*j][c], digit_i[3][2*j][c], digit_i[2][2*j][c], digit_i[1][2*j][c], digit_i[0][2*j][c]};
      assign w1 = {digit_i[4][2*j+1][c], digit_i[3][2*j+1][c], digit_i[2][2*j+1][c], digit_i[1][2*j+1][c],
                   digit_i[0][2*j+1][c]};
      assign a[j][c] = {w1 - 5'(w0[4]), {17{w0[4]}}, w0};
    end
    for (genvar m = 0; m < M; m++) begin : g_low
      always_ff @(posedge clk_i) dig1_low_q[m][c] <= {digit_i[1][m][c], digit_i[0][m][c]};
    end
  end
  always_ff @(posedge clk_i) begin
    act2_low_q <= act1_low_q;
    act_low_q  <= act2_low_q;
    dig2_low_q <= dig1_low_q;
    dig_low_q  <= dig2_low_q;
  end

  // ---- products and sums ----
  logic [PP-1:0][MP-1:0][4*SumW-1:0] sum;
  for (genvar i = 0; i < PP; i++) begin : g_row
    for (genvar j = 0; j < MP; j++) begin : g_col
      bl_dsp_column #(.C(C)) u_column (
        .clk_i, .a_i(a[j]), .b_i(b_q[i]), .dig_low_i(dig_low_q[2*j +: 2]), .act_low_i(act_low_q[i]), .sum_o(sum[i][j])
      );
      for (genvar k = 0; k < 4; k++) begin : g_out
        assign sum_o[2*i+k%2][2*j+k/2] = 32'(signed'(sum[i][j][k*SumW +: SumW]));
      end
    end
  end
`endif
endmodule
