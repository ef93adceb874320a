// The simulated accelerator with its clock, its DDR and an AXI4-Lite master.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "Vbl_top.h"
#include "axi_port.h"
#include "common.h"
#include "ddr.h"
#include "trace.h"
#include "verilated.h"

#ifndef BITLOOM_WP
#error "BITLOOM_WP must be the number of weight ports"
#endif

namespace bitloom {

constexpr uint32_t kWeightPorts = BITLOOM_WP;

class Machine {
 public:
  Machine(VerilatedContext& context, Trace& trace);

  Ddr ddr;
  Stalls stalls;
  std::array<ReadPort, kWeightPorts> weights;
  ReadPort data_read, command;
  WritePort data_write;

  uint64_t cycle() const { return cycle_; }
  bool interrupt() const { return top_->interrupt_o; }
  void reset(int cycles);
  // One clock cycle.
  void step();
  // AXI4-Lite transactions; Failure(kTimeout) after `lite_timeout` cycles.
  void lite_write(uint32_t address, uint32_t value);
  uint32_t lite_read(uint32_t address);
  uint64_t lite_timeout = 10000;
  bool idle() const;
  // The port of a name (w0.., d, c), or null; write channels: `d` with `write`.
  FaultPlan* fault_plan(const std::string& port, bool write);
  void begin_run();
  template <class F>
  void each_read_port(F f) {
    for (ReadPort& port : weights) f(port);
    f(data_read);
    f(command);
  }
  std::string describe_ports();
  void finish() { top_->final(); }

 private:
  void drive();
  void sample();
  void sample_lite();
  [[noreturn]] void lite_violation(const std::string& what) const;

  std::unique_ptr<Vbl_top> top_;
  Trace& trace_;
  uint64_t cycle_ = 0;
  uint32_t turn_ = 0;
  struct {
    bool awvalid = false, wvalid = false, arvalid = false, bready = false, rready = false;
  } lite_;  // driven in the next cycle
  // AXI4-Lite master: what is still to be sent or awaited of the running transaction.
  bool aw_left_ = false, w_left_ = false, b_left_ = false, ar_left_ = false, r_left_ = false;
  bool b_held_ = false, r_held_ = false;
  uint32_t read_value_ = 0, held_value_ = 0, lite_response_ = 0;
};

}  // namespace bitloom
