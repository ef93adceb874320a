// What the benches share: checks, random stalls, a memory behind AXI4 with protocol checks and faults.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <utility>
#include <vector>

#define CHECK(ok, ...)                                                   \
  do {                                                                   \
    if (!(ok)) {                                                         \
      std::fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #ok);      \
      std::fprintf(stderr, __VA_ARGS__);                                 \
      std::fprintf(stderr, "\n");                                        \
      std::exit(1);                                                      \
    }                                                                    \
  } while (0)

struct Random {
  std::mt19937_64 engine;
  explicit Random(uint64_t seed) : engine(seed) {}
  uint64_t below(uint64_t n) { return engine() % n; }
  bool chance(double p) { return double(engine() >> 11) * 0x1p-53 < p; }
};

inline std::vector<uint8_t> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  CHECK(file.good(), "cannot read %s", path.c_str());
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_file(const std::string& path, const std::vector<uint8_t>& data) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(data.data()), std::streamsize(data.size()));
  CHECK(file.good(), "cannot write %s", path.c_str());
}

struct Beat {
  uint32_t w[4];
  bool operator==(const Beat& o) const { return !std::memcmp(w, o.w, 16); }
};

// Signals of one AXI4 master, as seen by the memory. Copy the module's outputs in before the clock edge, step, copy out after.
struct Bus {
  bool arvalid = false, rready = false, awvalid = false, wvalid = false, wlast = false, bready = false;
  uint64_t araddr = 0, awaddr = 0;
  unsigned arlen = 0, arsize = 4, arburst = 1, awlen = 0, awsize = 4, awburst = 1, wstrb = 0xffff;
  Beat wdata{};
  bool arready = false, rvalid = false, rlast = false, awready = false, wready = false, bvalid = false;
  unsigned rresp = 0, bresp = 0;
  Beat rdata{};
};

struct Memory {
  enum Fault { None, BadResponse, EarlyLast, EarlyLastShort, LateLast, MissingLast, Stuck };
  struct Burst { uint64_t address; unsigned beats; uint64_t ready_at; };
  std::vector<uint8_t>& data;
  Random random;
  unsigned latency;
  double stall;            // chance of a stall, per channel and cycle
  Fault fault = None;
  int64_t fault_beat = -1; // R beat (or, for a write response, burst) that goes wrong
  uint64_t now = 0, beats_read = 0, beats_written = 0, bursts_written = 0;
  std::deque<Burst> reads, writes;
  std::deque<uint64_t> responses;
  std::deque<std::pair<Beat, bool>> came;   // W beats whose address has not come
  unsigned in_burst = 0, w_index = 0;
  bool was_ar = false, was_aw = false, was_w = false, extra = false;
  uint64_t old_ar = 0, old_aw = 0;
  Beat old_w{};
  size_t most_outstanding = 0;

  Memory(std::vector<uint8_t>& memory, uint64_t seed, unsigned cycles, double chance)
      : data(memory), random(seed), latency(cycles), stall(chance) {}

  void check_burst(uint64_t address, unsigned len, unsigned size, unsigned burst) {
    CHECK(address % 16 == 0 && size == 4 && burst == 1 && len < 16, "address %llx len %u", (unsigned long long)address, len);
    CHECK(address / 4096 == (address + 16 * len + 15) / 4096, "burst at %llx of %u beats crosses 4 KiB",
          (unsigned long long)address, len + 1);
    CHECK(address + 16 * (len + 1) <= data.size(), "burst at %llx of %u beats leaves the memory",
          (unsigned long long)address, len + 1);
  }

  // One clock edge: handshakes on the present values, then the values of the next cycle.
  void step(Bus& b) {
    ++now;
    CHECK(!was_ar || (b.arvalid && b.araddr == old_ar), "AR withdrawn or changed before ready");
    CHECK(!was_aw || (b.awvalid && b.awaddr == old_aw), "AW withdrawn or changed before ready");
    CHECK(!was_w || (b.wvalid && b.wdata == old_w), "W withdrawn or changed before ready");
    was_ar = b.arvalid && !b.arready;
    was_aw = b.awvalid && !b.awready;
    was_w = b.wvalid && !b.wready;
    old_ar = b.araddr; old_aw = b.awaddr; old_w = b.wdata;

    if (b.arvalid && b.arready) {
      check_burst(b.araddr, b.arlen, b.arsize, b.arburst);
      reads.push_back({b.araddr, b.arlen + 1, now + latency});
      most_outstanding = std::max(most_outstanding, reads.size());
    }
    if (b.rvalid && b.rready) {
      ++beats_read;
      if (extra) {
        extra = false;
        if (b.rlast) { reads.pop_front(); in_burst = 0; }
      } else if (b.rlast && fault == EarlyLastShort) {
        reads.pop_front(); in_burst = 0;
      } else if (++in_burst == reads.front().beats) {
        if (!b.rlast && fault == LateLast) { extra = true; --in_burst; }
        else { reads.pop_front(); in_burst = 0; }
      }
      b.rvalid = false;
    }
    if (!b.rvalid && !reads.empty() && now >= reads.front().ready_at && !random.chance(stall)) {
      const Burst& burst = reads.front();
      b.rvalid = true;
      std::memcpy(b.rdata.w, &data[burst.address + 16 * in_burst], 16);
      const bool faulty = int64_t(beats_read) == fault_beat;
      b.rresp = faulty && fault == BadResponse ? 2 : 0;
      b.rlast = in_burst + 1 == burst.beats;
      if (faulty && (fault == EarlyLast || fault == EarlyLastShort)) b.rlast = true;
      if (int64_t(beats_read) == fault_beat && (fault == LateLast || fault == MissingLast) && !extra) b.rlast = false;
      if (extra) b.rlast = true;
    }
    b.arready = fault != Stuck && !random.chance(stall);

    if (b.awvalid && b.awready) {
      check_burst(b.awaddr, b.awlen, b.awsize, b.awburst);
      writes.push_back({b.awaddr, b.awlen + 1, 0});
    }
    if (b.wvalid && b.wready) {
      CHECK(b.wstrb == 0xffff, "strobe %x", b.wstrb);
      came.push_back({b.wdata, b.wlast});
    }
    while (!writes.empty() && !came.empty()) {
      Burst& burst = writes.front();
      const auto [beat, last] = came.front();
      came.pop_front();
      std::memcpy(&data[burst.address + 16 * w_index], beat.w, 16);
      ++beats_written;
      CHECK(last == (w_index + 1 == burst.beats), "wlast at beat %u of %u", w_index + 1, burst.beats);
      if (++w_index == burst.beats) {
        responses.push_back(now + latency);
        writes.pop_front();
        w_index = 0;
      }
    }
    if (b.bvalid && b.bready) { b.bvalid = false; ++bursts_written; }
    if (!b.bvalid && !responses.empty() && now >= responses.front() && !random.chance(stall)) {
      b.bvalid = true;
      b.bresp = fault == BadResponse && int64_t(bursts_written) == fault_beat ? 2 : 0;
      responses.pop_front();
    }
    b.awready = fault != Stuck && !random.chance(stall);
    b.wready = fault != Stuck && !random.chance(stall);
  }

  // Nothing requested or announced is open.
  bool quiet() const { return reads.empty() && writes.empty() && came.empty() && responses.empty(); }
};
