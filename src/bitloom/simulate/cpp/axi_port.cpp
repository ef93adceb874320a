// Rules, faults and data movement of the memory-side AXI ports.
#include "axi_port.h"

namespace bitloom {

namespace {

[[noreturn]] void violation(const std::string& port, const std::string& what, uint64_t now) {
  throw Failure(kProtocol, "AXI protocol violation on port " + port + " in cycle " + std::to_string(now) + ": " + what);
}

}  // namespace

void AddressChecker::check(const std::string& port, const char* channel, uint64_t now, const AddressPins& pins,
                           bool ready) {
  const std::string c = channel;
  if (held_.valid) {
    if (!pins.valid) violation(port, c + "valid fell before " + c + "ready", now);
    if (!(pins == held_)) {
      violation(port, c + " payload changed before " + c + "ready: address " + hex(held_.address) + " became " +
                          hex(pins.address) + ", len " + std::to_string(held_.len) + " became " +
                          std::to_string(pins.len), now);
    }
  } else if (pins.valid) {
    if (pins.len >= kMaxBurst)
      violation(port, c + "len = " + std::to_string(pins.len) + ": a burst has at most 16 beats (len 15)", now);
    if (pins.size != 4) violation(port, c + "size = " + std::to_string(pins.size) + ", must be 4 (16 bytes)", now);
    if (pins.burst != 1) violation(port, c + "burst = " + std::to_string(pins.burst) + ", must be 1 (INCR)", now);
    if (pins.id != 0) violation(port, c + "id = " + std::to_string(pins.id) + ", must be 0", now);
    if (pins.address % kBeatBytes != 0)
      violation(port, c + "addr = " + hex(pins.address) + " is not a multiple of 16", now);
    const uint64_t last = pins.address + (pins.len + 1) * kBeatBytes - 1;
    if (pins.address / 4096 != last / 4096) {
      violation(port, c + " burst of " + std::to_string(pins.len + 1) + " beats at " + hex(pins.address) +
                          " crosses a 4 KiB border", now);
    }
  }
  if (pins.valid && !ready) {
    held_ = pins;
  } else {
    held_.valid = false;
  }
}

void ReadPort::present(Burst& head, Ddr& ddr) {
  rvalid = true;
  rlast = head.beats == 1;
  rresp = 0;
  if (const uint8_t* from = ddr.find(head.address)) {
    std::memcpy(rdata.data(), from, kBeatBytes);
  } else {
    rresp = 3;  // DECERR
    rdata.fill(0xDEADBEEF);
  }
  if (fault.kind == Fault::None || fault.write || fault.fired || run_beats_ < fault.at) return;
  if (fault.kind == Fault::Response) {
    rresp = 2;  // SLVERR
    fault.fired = true;
  } else if (fault.kind == Fault::EarlyLast && !rlast) {
    rlast = true;  // the rest of the burst never comes
    head.beats = 1;
    fault.fired = true;
  } else if (fault.kind == Fault::LateLast && rlast) {
    rlast = false;  // one beat more than was asked for
    head.beats = 2;
    fault.fired = true;
  }
}

void WritePort::sample(uint64_t now, const AddressPins& pins, bool wvalid, const uint32_t* data, uint32_t strobe,
                       bool wlast, bool bready, Ddr& ddr) {
  checker_.check(name, "aw", now, pins, awready);
  if (held_) {
    if (!wvalid) violation(name, "wvalid fell before wready", now);
    if (std::memcmp(held_data_.data(), data, kBeatBytes) != 0 || held_strobe_ != strobe || held_last_ != wlast)
      violation(name, "w payload changed before wready", now);
  }
  held_ = wvalid && !wready;
  if (held_) {
    std::memcpy(held_data_.data(), data, kBeatBytes);
    held_strobe_ = strobe;
    held_last_ = wlast;
    if (!addresses_.empty()) ++stats.starved;
  }
  if (wready && !wvalid) ddr.refund();
  if (wready && wvalid) {
    Burst& head = addresses_.head();
    if (uint8_t* to = ddr.find(head.address)) {
      if (strobe == 0xFFFF) {
        std::memcpy(to, data, kBeatBytes);
      } else {
        const auto* from = reinterpret_cast<const uint8_t*>(data);
        for (uint32_t i = 0; i < kBeatBytes; ++i)
          if (strobe >> i & 1) to[i] = from[i];
      }
    } else {
      bad_ = true;
    }
    ++stats.beats;
    ++run_beats_;
    head.address += kBeatBytes;
    --head.beats;
    if (wlast != (head.beats == 0)) {
      violation(name, wlast ? "wlast came with " + std::to_string(head.beats) + " beats of the burst left"
                            : "wlast is missing on the last beat of a burst", now);
    }
    if (wlast) {
      const uint64_t asked = head.ripe;
      addresses_.pop();
      // A response keeps its code in `beats`.
      responses_.push({asked, now + ddr.timing.write_latency, bad_ ? 3u : 0u});
      bad_ = false;
    }
  }
  if (pins.valid && awready) {
    addresses_.push({pins.address, now, pins.len + 1});
    ++stats.bursts;
    ++run_bursts_;
    const uint64_t waiting = addresses_.size() + responses_.size();
    if (waiting > stats.outstanding_max) stats.outstanding_max = waiting;
  }
  if (bvalid) {
    if (bready) {
      stats.latency_sum += now - responses_.head().address;
      bvalid = false;
      responses_.pop();
      ++run_responses_;
    } else {
      ++stats.held;
    }
  }
}

}  // namespace bitloom
