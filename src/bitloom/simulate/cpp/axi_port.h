// Memory side of the AXI4 masters: a read port and a write port, with protocol checks and fault injection.
#pragma once
#include <array>
#include <cstdint>
#include <cstring>
#include <string>

#include "common.h"
#include "ddr.h"

namespace bitloom {

constexpr uint32_t kMaxBurst = 16;  // beats, docs/spec/rtl.md
constexpr uint32_t kQueue = 64;     // room for outstanding bursts

// An address channel as the master drives it.
struct AddressPins {
  bool valid = false;
  uint64_t address = 0;
  uint32_t len = 0, size = 0, burst = 0, id = 0;
  bool operator==(const AddressPins&) const = default;
};

struct Burst {
  uint64_t address = 0, ripe = 0;
  uint32_t beats = 0;
};

// A first-in first-out queue of bursts without allocation.
class BurstQueue {
 public:
  bool empty() const { return count_ == 0; }
  uint32_t size() const { return count_; }
  Burst& head() { return ring_[first_]; }
  void push(const Burst& burst) {
    ring_[(first_ + count_) % kQueue] = burst;
    ++count_;
  }
  void pop() {
    first_ = (first_ + 1) % kQueue;
    --count_;
  }

 private:
  std::array<Burst, kQueue> ring_{};
  uint32_t first_ = 0, count_ = 0;
};

struct PortStats {
  uint64_t bursts = 0, beats = 0;
  uint64_t starved = 0;      // cycles in which a beat was due and the shared bandwidth was used up (or in refresh)
  uint64_t held = 0;         // cycles in which a beat stood on the channel and the master was not ready
  uint64_t latency_sum = 0;  // of all bursts, address handshake to first beat taken
  uint64_t outstanding_max = 0;
};

// Rules that both address channels obey; raises Failure(kProtocol).
class AddressChecker {
 public:
  void check(const std::string& port, const char* channel, uint64_t now, const AddressPins& pins, bool ready);

 private:
  AddressPins held_;
};

class ReadPort {
 public:
  std::string name;
  PortStats stats;
  FaultPlan fault;
  // driven
  bool arready = false, rvalid = false, rlast = false;
  uint32_t rresp = 0;
  std::array<uint32_t, 4> rdata{};

  bool idle() const { return queue_.empty() && !rvalid; }
  uint32_t outstanding() const { return queue_.size(); }
  void begin_run() { run_beats_ = run_bursts_ = 0; fault = {}; }

  // Decides what the port drives in this cycle; true when a beat was due and got no bandwidth.
  bool drive(uint64_t now, Ddr& ddr, Stalls& stalls) {
    arready = queue_.size() < ddr.timing.outstanding && !stalls.hit() && !stuck_address();
    if (rvalid || queue_.empty()) return false;
    Burst& head = queue_.head();
    if (now < head.ripe || stalls.hit()) return false;
    if (fault.kind == Fault::StuckData && !fault.write && run_beats_ >= fault.at) {
      fault.fired = true;
      return false;
    }
    if (!ddr.take()) {
      ++stats.starved;
      return true;
    }
    present(head, ddr);
    return false;
  }

  void sample(uint64_t now, const AddressPins& pins, bool rready, const Ddr& ddr) {
    checker_.check(name, "ar", now, pins, arready);
    if (pins.valid && arready) {
      queue_.push({pins.address, now + ddr.timing.read_latency, pins.len + 1});
      ++stats.bursts;
      ++run_bursts_;
      if (queue_.size() > stats.outstanding_max) stats.outstanding_max = queue_.size();
    }
    if (!rvalid) return;
    if (!rready) {
      ++stats.held;
      return;
    }
    rvalid = false;
    ++stats.beats;
    ++run_beats_;
    Burst& head = queue_.head();
    if (first_) stats.latency_sum += now - (head.ripe - ddr.timing.read_latency);
    first_ = false;
    head.address += kBeatBytes;
    if (--head.beats == 0) {
      queue_.pop();
      first_ = true;
    }
  }

 private:
  bool stuck_address() {
    if (fault.kind != Fault::StuckAddress || fault.write || run_bursts_ < fault.at) return false;
    return fault.fired = true;
  }
  void present(Burst& head, Ddr& ddr);

  BurstQueue queue_;
  AddressChecker checker_;
  bool first_ = true;
  uint64_t run_beats_ = 0, run_bursts_ = 0;
};

class WritePort {
 public:
  std::string name;
  PortStats stats;
  FaultPlan fault;
  bool awready = false, wready = false, bvalid = false;
  uint32_t bresp = 0;

  bool idle() const { return addresses_.empty() && responses_.empty() && !bvalid; }
  void begin_run() { run_bursts_ = run_beats_ = run_responses_ = 0; fault = {}; }

  // Like ReadPort::drive.
  bool drive(uint64_t now, Ddr& ddr, Stalls& stalls) {
    awready = addresses_.size() + responses_.size() < ddr.timing.outstanding && !stalls.hit() &&
              !stuck(Fault::StuckAddress, run_bursts_);
    const bool due = !addresses_.empty() && !stalls.hit() && !stuck(Fault::StuckData, run_beats_);
    wready = due && ddr.take();
    if (!bvalid && !responses_.empty() && now >= responses_.head().ripe && !stalls.hit() &&
        !stuck(Fault::StuckResponse, run_responses_)) {
      bvalid = true;
      bresp = responses_.head().beats;
      if (fault.kind == Fault::Response && fault.write && run_responses_ >= fault.at && !fault.fired) {
        bresp = 2;
        fault.fired = true;
      }
    }
    return due && !wready;
  }

  // `data` points at the 16 bytes of the beat.
  void sample(uint64_t now, const AddressPins& pins, bool wvalid, const uint32_t* data, uint32_t strobe, bool wlast,
              bool bready, Ddr& ddr);

 private:
  bool stuck(Fault kind, uint64_t count) {
    if (fault.kind != kind || !fault.write || count < fault.at) return false;
    return fault.fired = true;
  }

  BurstQueue addresses_, responses_;
  AddressChecker checker_;
  bool held_ = false, held_last_ = false, bad_ = false;
  std::array<uint32_t, 4> held_data_{};
  uint32_t held_strobe_ = 0;
  uint64_t run_bursts_ = 0, run_beats_ = 0, run_responses_ = 0;
};

}  // namespace bitloom
