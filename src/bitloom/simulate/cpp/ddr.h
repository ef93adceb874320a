// DDR: named regions of bytes, and the bandwidth that all masters share.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "common.h"

namespace bitloom {

constexpr uint64_t kBeatBytes = 16;

struct Region {
  std::string name;
  uint64_t base = 0;
  std::vector<uint8_t> bytes;
  bool holds(uint64_t address, uint64_t size) const {
    return address >= base && size <= bytes.size() && address - base <= bytes.size() - size;
  }
};

// Bandwidth: a token bucket filled at the sustained rate between refreshes; at most `peak` bytes a cycle.
struct DdrTiming {
  double peak = 64.0;           // bytes per cycle on the pins
  double rate = 57.0;           // bytes per cycle between refreshes
  uint64_t read_latency = 45;   // cycles from the address handshake to the first beat
  uint64_t write_latency = 30;  // cycles from the last beat to the response
  uint64_t refresh_every = 2340, refresh_cycles = 105, refresh_phase = 0;
  uint32_t outstanding = 16;    // bursts a port queues
};

class Ddr {
 public:
  DdrTiming timing;
  std::vector<Region> regions;

  // Starts a cycle: refills the bucket, or closes it for a refresh.
  void begin_cycle(uint64_t now) {
    grants_ = static_cast<int>(timing.peak / kBeatBytes);
    if (grants_ < 1) grants_ = 1;
    if (timing.refresh_cycles != 0 && (now + timing.refresh_phase) % timing.refresh_every < timing.refresh_cycles) {
      grants_ = 0;
      return;
    }
    tokens_ += timing.rate;
    const double cap = (timing.peak > kBeatBytes ? timing.peak : kBeatBytes) + kBeatBytes;
    if (tokens_ > cap) tokens_ = cap;
  }
  // Takes the right to move one beat in this cycle.
  bool take() {
    if (grants_ == 0 || tokens_ < kBeatBytes) return false;
    --grants_;
    tokens_ -= kBeatBytes;
    return true;
  }
  // Gives it back: nothing moved.
  void refund() {
    tokens_ += kBeatBytes;
  }

  // The bytes of a beat, or null outside every region (the first such address is kept).
  uint8_t* find(uint64_t address) {
    for (Region& region : regions)
      if (region.holds(address, kBeatBytes)) return region.bytes.data() + (address - region.base);
    if (!outside_) {
      outside_ = true;
      outside_address_ = address;
    }
    return nullptr;
  }
  Region* holding(uint64_t address, uint64_t size) {
    for (Region& region : regions)
      if (region.holds(address, size)) return &region;
    return nullptr;
  }
  bool outside() const { return outside_; }
  uint64_t outside_address() const { return outside_address_; }
  void forget_outside() { outside_ = false; }

 private:
  double tokens_ = 0.0;
  int grants_ = 0;
  bool outside_ = false;
  uint64_t outside_address_ = 0;
};

}  // namespace bitloom
