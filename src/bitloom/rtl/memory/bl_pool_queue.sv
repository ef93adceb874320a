// Four pool results of one pixel between the pool unit and the drain; the issue engine's credits keep it from overflowing.
// The head falls through: it is valid whenever a job for it has been offered.
// Resource: 4 × C·24 bits of LUT memory.
module bl_pool_queue #(
  parameter int unsigned C = 8
) (
  input  logic                      clk_i,
  input  logic                      rst_i,
  input  logic                      push_i,
  input  logic [C-1:0][23:0] data_i,
  input  logic                      pop_i,
  output logic [C-1:0][23:0] data_o
);
  (* ram_style = "distributed" *)
  logic [C*24-1:0] mem [4];
  logic [1:0] in_q, out_q;

  assign data_o = mem[out_q];

  always_ff @(posedge clk_i) begin
    if (push_i) mem[in_q] <= data_i;
    in_q  <= in_q + 2'(push_i);
    out_q <= out_q + 2'(pop_i);
    if (rst_i) begin
      in_q  <= '0;
      out_q <= '0;
    end
  end
endmodule
