// Latencies that neighbours of a block rely on. Each value is checked against the block by its tests.
package bl_latency_pkg;
  localparam int unsigned DspLatency     = 3;  // bl_dsp_quad, bl_dsp_mac: operands -> product
  localparam int unsigned RequantLatency = 8;  // bl_requant: acc_i -> code_o
  localparam int unsigned ResDelay       = 3;  // bl_requant: res_i comes this many cycles after its acc_i
endpackage
