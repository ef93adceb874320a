// One RAM with a read port A and a read-or-write port B. Both reads take two cycles (array, then output register).
// Port B with we_b_i writes and leaves q_b_o unchanged. Reading and writing one row in the same cycle from
// different ports returns either word: the scheduler keeps them apart.
// Resource: Depth × Width bits; with 64-bit multiples and Depth >= 4096 one URAM288 per 4096 × 64 bits.
module bl_ram_rr #(
  parameter int unsigned Width = 64,
  parameter int unsigned Depth = 256,
  localparam int unsigned AddrW = $clog2(Depth)
) (
  input  logic             clk_i,
  input  logic             en_a_i,
  input  logic [AddrW-1:0] row_a_i,
  output logic [Width-1:0] q_a_o,
  input  logic             en_b_i,
  input  logic             we_b_i,
  input  logic [AddrW-1:0] row_b_i,
  input  logic [Width-1:0] d_b_i,
  output logic [Width-1:0] q_b_o
);
  if (Width == 0 || Depth < 2) begin : g_bad
    $fatal(1, "%m: Width = %0d, Depth = %0d; legal: Width > 0, Depth >= 2", Width, Depth);
  end

  (* ram_style = (Depth >= 4096) ? "ultra" : "block" *)
  logic [Width-1:0] mem [Depth];
  logic [Width-1:0] a_q, b_q;

  always_ff @(posedge clk_i) begin
    if (en_a_i) a_q <= mem[row_a_i];
    q_a_o <= a_q;
  end

  always_ff @(posedge clk_i) begin
    if (en_b_i) begin
      if (we_b_i) mem[row_b_i] <= d_b_i;
      else        b_q <= mem[row_b_i];
    end
    q_b_o <= b_q;
  end
endmodule
