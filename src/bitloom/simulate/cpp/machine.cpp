#include "machine.h"

#include "pins.h"

namespace bitloom {

Machine::Machine(VerilatedContext& context, Trace& trace) : top_(std::make_unique<Vbl_top>(&context)), trace_(trace) {
  for (uint32_t i = 0; i < kWeightPorts; ++i) weights[i].name = "w" + std::to_string(i);
  data_read.name = data_write.name = "d";
  command.name = "c";
}

void Machine::reset(int cycles) {
  top_->rst_i = 1;
  for (int i = 0; i < cycles; ++i) {
    top_->clk_i = 0;
    top_->eval();
    top_->clk_i = 1;
    top_->eval();
    ++cycle_;
  }
  top_->rst_i = 0;
}

void Machine::begin_run() {
  each_read_port([](ReadPort& port) { port.begin_run(); });
  data_write.begin_run();
}

bool Machine::idle() const {
  for (const ReadPort& port : weights)
    if (!port.idle()) return false;
  return data_read.idle() && command.idle() && data_write.idle();
}

FaultPlan* Machine::fault_plan(const std::string& port, bool write) {
  if (write) return port == "d" ? &data_write.fault : nullptr;
  FaultPlan* found = nullptr;
  each_read_port([&](ReadPort& p) {
    if (p.name == port) found = &p.fault;
  });
  return found;
}

std::string Machine::describe_ports() {
  std::string text;
  each_read_port([&](ReadPort& port) {
    text += "; port " + port.name + ": " + std::to_string(port.stats.beats) + " beats, " +
            std::to_string(port.outstanding()) + " bursts outstanding" + (port.rvalid ? ", beat not taken" : "");
  });
  text += "; port d wrote " + std::to_string(data_write.stats.beats) + " beats";
  return text;
}

void Machine::step() {
  drive();
  top_->clk_i = 0;
  top_->eval();
  sample();
  top_->clk_i = 1;
  trace_.now = cycle_;
  top_->eval();
  if (trace_.pending()) trace_.flush();
  ++cycle_;
}

void Machine::drive() {
  ddr.begin_cycle(cycle_);
  // The ports share the bandwidth in rotating order; the first that got nothing is first in the next cycle.
  constexpr uint32_t kPorts = kWeightPorts + 3;
  uint32_t next = kPorts;
  for (uint32_t i = 0; i < kPorts; ++i) {
    const uint32_t port = turn_ + i < kPorts ? turn_ + i : turn_ + i - kPorts;
    bool starved = false;
    if (port < kWeightPorts) {
      starved = weights[port].drive(cycle_, ddr, stalls);
    } else if (port == kWeightPorts) {
      starved = data_read.drive(cycle_, ddr, stalls);
    } else if (port == kWeightPorts + 1) {
      starved = data_write.drive(cycle_, ddr, stalls);
    } else {
      starved = command.drive(cycle_, ddr, stalls);
    }
    if (starved && next == kPorts) next = port;
  }
  if (next != kPorts) turn_ = next;
  Vbl_top& t = *top_;
  for (uint32_t i = 0; i < kWeightPorts; ++i) {
    const ReadPort& port = weights[i];
    put(t.m_axi_w_arready_i, i, 1, port.arready);
    put(t.m_axi_w_rvalid_i, i, 1, port.rvalid);
    if (port.rvalid) {
      put(t.m_axi_w_rlast_i, i, 1, port.rlast);
      put(t.m_axi_w_rresp_i, 2 * i, 2, port.rresp);
      put_beat(t.m_axi_w_rdata_i, i, port.rdata.data());
    }
  }
  t.s_axi_awvalid_i = lite_.awvalid;
  t.s_axi_wvalid_i = lite_.wvalid;
  t.s_axi_arvalid_i = lite_.arvalid;
  t.s_axi_bready_i = lite_.bready;
  t.s_axi_rready_i = lite_.rready;
  t.m_axi_d_arready_i = data_read.arready;
  t.m_axi_d_rvalid_i = data_read.rvalid;
  t.m_axi_d_rlast_i = data_read.rlast;
  t.m_axi_d_rresp_i = static_cast<CData>(data_read.rresp);
  put_beat(t.m_axi_d_rdata_i, 0, data_read.rdata.data());
  t.m_axi_d_awready_i = data_write.awready;
  t.m_axi_d_wready_i = data_write.wready;
  t.m_axi_d_bvalid_i = data_write.bvalid;
  t.m_axi_d_bresp_i = static_cast<CData>(data_write.bresp);
  t.m_axi_c_arready_i = command.arready;
  t.m_axi_c_rvalid_i = command.rvalid;
  t.m_axi_c_rlast_i = command.rlast;
  t.m_axi_c_rresp_i = static_cast<CData>(command.rresp);
  put_beat(t.m_axi_c_rdata_i, 0, command.rdata.data());
}

void Machine::sample() {
  const Vbl_top& t = *top_;
  for (uint32_t i = 0; i < kWeightPorts; ++i) {
    AddressPins pins;
    pins.valid = get(t.m_axi_w_arvalid_o, i, 1);
    if (pins.valid) {
      pins.address = get(t.m_axi_w_araddr_o, 64 * i, 64);
      pins.len = static_cast<uint32_t>(get(t.m_axi_w_arlen_o, 8 * i, 8));
      pins.size = static_cast<uint32_t>(get(t.m_axi_w_arsize_o, 3 * i, 3));
      pins.burst = static_cast<uint32_t>(get(t.m_axi_w_arburst_o, 2 * i, 2));
      pins.id = static_cast<uint32_t>(get(t.m_axi_w_arid_o, i, 1));
    }
    weights[i].sample(cycle_, pins, get(t.m_axi_w_rready_o, i, 1), ddr);
  }
  AddressPins pins;
  pins.valid = t.m_axi_d_arvalid_o;
  if (pins.valid) {
    pins = {true, t.m_axi_d_araddr_o, t.m_axi_d_arlen_o, t.m_axi_d_arsize_o, t.m_axi_d_arburst_o, t.m_axi_d_arid_o};
  }
  data_read.sample(cycle_, pins, t.m_axi_d_rready_o, ddr);
  pins = {};
  pins.valid = t.m_axi_c_arvalid_o;
  if (pins.valid) {
    pins = {true, t.m_axi_c_araddr_o, t.m_axi_c_arlen_o, t.m_axi_c_arsize_o, t.m_axi_c_arburst_o, t.m_axi_c_arid_o};
  }
  command.sample(cycle_, pins, t.m_axi_c_rready_o, ddr);
  pins = {};
  pins.valid = t.m_axi_d_awvalid_o;
  if (pins.valid) {
    pins = {true, t.m_axi_d_awaddr_o, t.m_axi_d_awlen_o, t.m_axi_d_awsize_o, t.m_axi_d_awburst_o, t.m_axi_d_awid_o};
  }
  data_write.sample(cycle_, pins, t.m_axi_d_wvalid_o, t.m_axi_d_wdata_o.data(), t.m_axi_d_wstrb_o, t.m_axi_d_wlast_o,
                    t.m_axi_d_bready_o, ddr);
  sample_lite();
}

void Machine::lite_violation(const std::string& what) const {
  throw Failure(kProtocol, "AXI4-Lite protocol violation in cycle " + std::to_string(cycle_) + ": " + what);
}

// Samples the control slave and decides what the master drives in the next cycle.
void Machine::sample_lite() {
  const Vbl_top& t = *top_;
  const auto send = [this](bool& valid, bool ready, bool& left) {
    if (valid && ready) valid = left = false;
    else if (left && !valid && !stalls.hit()) valid = true;
  };
  const bool had_address = aw_left_ || w_left_, had_read = ar_left_;
  send(lite_.awvalid, t.s_axi_awready_o, aw_left_);
  send(lite_.wvalid, t.s_axi_wready_o, w_left_);
  send(lite_.arvalid, t.s_axi_arready_o, ar_left_);

  if (b_held_ && !t.s_axi_bvalid_o) lite_violation("bvalid fell before bready");
  if (t.s_axi_bvalid_o && (!b_left_ || had_address)) lite_violation("a write response without its request");
  b_held_ = t.s_axi_bvalid_o && !lite_.bready;
  if (t.s_axi_bvalid_o && lite_.bready) {
    b_left_ = false;
    lite_response_ = t.s_axi_bresp_o;
  }
  if (r_held_ && !t.s_axi_rvalid_o) lite_violation("rvalid fell before rready");
  if (r_held_ && t.s_axi_rdata_o != held_value_) lite_violation("rdata changed before rready");
  if (t.s_axi_rvalid_o && (!r_left_ || had_read)) lite_violation("read data without a request");
  r_held_ = t.s_axi_rvalid_o && !lite_.rready;
  held_value_ = t.s_axi_rdata_o;
  if (t.s_axi_rvalid_o && lite_.rready) {
    r_left_ = false;
    read_value_ = t.s_axi_rdata_o;
    lite_response_ = t.s_axi_rresp_o;
  }
  lite_.bready = b_left_ && !stalls.hit();
  lite_.rready = r_left_ && !stalls.hit();
}

void Machine::lite_write(uint32_t address, uint32_t value) {
  top_->s_axi_awaddr_i = static_cast<CData>(address);
  top_->s_axi_wdata_i = value;
  top_->s_axi_wstrb_i = 0xF;
  aw_left_ = w_left_ = b_left_ = true;
  const uint64_t until = cycle_ + lite_timeout;
  while (b_left_) {
    step();
    if (cycle_ > until) throw Failure(kTimeout, "AXI4-Lite write to " + hex(address) + " was not answered");
  }
  if (lite_response_ != 0) lite_violation("write to " + hex(address) + " got response " + std::to_string(lite_response_));
}

uint32_t Machine::lite_read(uint32_t address) {
  top_->s_axi_araddr_i = static_cast<CData>(address);
  ar_left_ = r_left_ = true;
  const uint64_t until = cycle_ + lite_timeout;
  while (r_left_) {
    step();
    if (cycle_ > until) throw Failure(kTimeout, "AXI4-Lite read of " + hex(address) + " was not answered");
  }
  if (lite_response_ != 0) lite_violation("read of " + hex(address) + " got response " + std::to_string(lite_response_));
  return read_value_;
}

}  // namespace bitloom
