// First-in first-out queue with valid/ready on both sides; the head falls through (data_o with valid_o, without a request).
// Depth <= 64: LUT memory, read combinationally. Above: block RAM, whose output register holds the head.
//   count_o   words inside, head included
//   clear_i   empties it at the next edge
// Throughput one word per cycle; latency 1 cycle (LUT memory) or 2 (block RAM).
// Resource: Depth × Width bits, three counters.
module bl_fifo #(
  parameter int unsigned Width = 8,
  parameter int unsigned Depth = 16,
  localparam int unsigned AddrW = $clog2(Depth),
  localparam int unsigned CntW  = AddrW + 1
) (
  input  logic             clk_i,
  input  logic             rst_i,
  input  logic             clear_i,
  input  logic             valid_i,
  output logic             ready_o,
  input  logic [Width-1:0] data_i,
  output logic             valid_o,
  input  logic             ready_i,
  output logic [Width-1:0] data_o,
  output logic [CntW-1:0]  count_o
);
  if (Width == 0 || Depth < 2 || (Depth & (Depth - 1)) != 0) begin : g_bad
    $fatal(1, "%m: Width = %0d, Depth = %0d; legal: Width > 0, Depth a power of two from 2", Width, Depth);
  end

  logic [AddrW-1:0] in_q, out_q;
  logic [CntW-1:0]  count_q;
  logic             push, pop;

  assign push    = valid_i & ready_o;
  assign pop     = valid_o & ready_i;
  assign ready_o = ~count_q[CntW-1];
  assign count_o = count_q;

  always_ff @(posedge clk_i) begin
    if (push) in_q <= in_q + 1'b1;
    count_q <= count_q + CntW'(push) - CntW'(pop);
    if (rst_i || clear_i) begin
      in_q    <= '0;
      count_q <= '0;
    end
  end

  if (Depth <= 64) begin : g_lut
    (* ram_style = "distributed" *)
    logic [Width-1:0] mem [Depth];
    assign data_o  = mem[out_q];
    assign valid_o = count_q != '0;
    always_ff @(posedge clk_i) begin
      if (push) mem[in_q] <= data_i;
      if (pop) out_q <= out_q + 1'b1;
      if (rst_i || clear_i) out_q <= '0;
    end
  end else begin : g_block
    (* ram_style = "block" *)
    logic [Width-1:0] mem [Depth];
    logic [Width-1:0] head_q;
    logic [CntW-1:0]  stored_q;   // words in the memory, the head register not counted
    logic             head_valid_q, fetch;

    assign fetch   = stored_q != '0 && (!head_valid_q || ready_i);
    assign data_o  = head_q;
    assign valid_o = head_valid_q;
    always_ff @(posedge clk_i) begin
      if (push) mem[in_q] <= data_i;
      if (fetch) head_q <= mem[out_q];
    end
    always_ff @(posedge clk_i) begin
      if (fetch) out_q <= out_q + 1'b1;
      if (fetch) head_valid_q <= 1'b1;
      else if (pop) head_valid_q <= 1'b0;
      stored_q <= stored_q + CntW'(push) - CntW'(fetch);
      if (rst_i || clear_i) begin
        out_q        <= '0;
        head_valid_q <= 1'b0;
        stored_q     <= '0;
      end
    end
  end
endmodule
