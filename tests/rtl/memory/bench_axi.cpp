// bl_axi_reader and bl_axi_writer: random regions under random stalls, throughput, faults, flushes.
// Arguments: folder (unused), mode, seed, latency, stall in percent.
#include "Vtop.h"
#include "bench.h"

struct Bench {
  VerilatedContext context;
  Vtop top{&context};
  std::vector<uint8_t> data;
  Random random;
  Memory memory;
  Bus bus;
  uint64_t cycles = 0;

  Bench(uint64_t seed, unsigned latency, double stall)
      : data(1 << 16), random(seed), memory(data, seed + 1, latency, stall) {
    for (auto& byte : data) byte = uint8_t(random.below(256));
    top.rst_i = 1;
    for (int i = 0; i < 4; i++) tick();
    top.rst_i = 0;
    tick();
  }

  // One cycle: before() sees settled outputs and may change inputs that only registers look at.
  void tick() {
    top.clk_i = 0;
    top.m_arready_i = bus.arready; top.m_rvalid_i = bus.rvalid; top.m_rlast_i = bus.rlast; top.m_rresp_i = bus.rresp;
    top.m_awready_i = bus.awready; top.m_wready_i = bus.wready; top.m_bvalid_i = bus.bvalid; top.m_bresp_i = bus.bresp;
    std::memcpy(&top.m_rdata_i, bus.rdata.w, 16);
    top.eval();
    bus.arvalid = top.m_arvalid_o; bus.araddr = top.m_araddr_o; bus.arlen = top.m_arlen_o; bus.rready = top.m_rready_o;
    bus.arsize = top.m_arsize_o; bus.arburst = top.m_arburst_o;
    bus.awvalid = top.m_awvalid_o; bus.awaddr = top.m_awaddr_o; bus.awlen = top.m_awlen_o; bus.bready = top.m_bready_o;
    bus.awsize = top.m_awsize_o; bus.awburst = top.m_awburst_o;
    bus.wvalid = top.m_wvalid_o; bus.wlast = top.m_wlast_o; bus.wstrb = top.m_wstrb_o;
    std::memcpy(bus.wdata.w, &top.m_wdata_o, 16);
    if (!top.rst_i) memory.step(bus);
    top.clk_i = 1;
    top.eval();
    top.r_start_i = top.w_start_i = 0;
    CHECK(++cycles < 2000000, "it hangs");
  }

  void start(uint64_t address, uint32_t beats, bool write) {
    top.addr_i = address;
    top.beats_i = beats;
    (write ? top.w_start_i : top.r_start_i) = 1;
    tick();
  }

  // Reads a region to its end and compares it, pausing the reader where the data are held as well; returns the cycles from
  // start to the last beat.
  uint64_t read(uint64_t address, uint32_t beats, double hold) {
    const uint64_t from = cycles;
    start(address, beats, false);
    uint64_t got = 0;
    while (got < beats) {
      top.r_ready_i = !random.chance(hold);
      if (hold > 0 && random.chance(0.05)) top.pause_i = !top.pause_i;
      const bool paused = top.pause_i && !top.m_arvalid_o;
      top.clk_i = 0;
      top.eval();
      const bool take = top.r_valid_o && top.r_ready_i;
      Beat beat;
      std::memcpy(beat.w, &top.r_data_o, 16);
      const bool last = top.r_last_o;
      CHECK(top.r_busy_o, "busy fell at beat %llu of %u", (unsigned long long)got, beats);
      tick();
      CHECK(!paused || !top.m_arvalid_o, "a burst was requested while the reader paused");
      if (take) {
        CHECK(!std::memcmp(beat.w, &data[address + 16 * got], 16), "beat %llu", (unsigned long long)got);
        CHECK(last == (got + 1 == beats), "last at beat %llu of %u", (unsigned long long)got, beats);
        ++got;
      }
    }
    const uint64_t took = cycles - from;
    top.r_ready_i = 1;
    top.pause_i = 0;
    for (int i = 0; i < 3; i++) tick();
    CHECK(!top.r_busy_o && !top.r_error_o && !top.r_valid_o, "busy %d error %d after the region", top.r_busy_o, top.r_error_o);
    return took;
  }

  // Writes random data and compares the whole memory; returns the cycles until busy fell.
  uint64_t write(uint64_t address, uint32_t beats, double hold) {
    std::vector<uint8_t> expected = data;
    const uint64_t from = cycles;
    start(address, beats, true);
    Beat beat{};
    bool offered = false;
    for (uint64_t put = 0; put < beats;) {
      if (!offered && !random.chance(hold)) {
        for (auto& w : beat.w) w = uint32_t(random.below(1ull << 32));
        offered = true;
      }
      top.w_valid_i = offered;
      std::memcpy(&top.w_data_i, beat.w, 16);
      top.clk_i = 0;
      top.eval();
      const bool took = offered && top.w_ready_o;
      tick();
      if (took) {
        std::memcpy(&expected[address + 16 * put++], beat.w, 16);
        offered = false;
      }
    }
    top.w_valid_i = 1;   // more than the region: must not be taken
    top.clk_i = 0; top.eval();
    CHECK(!top.w_ready_o, "takes more beats than the region has");
    top.w_valid_i = 0;
    while (top.w_busy_o) tick();
    CHECK(!top.w_error_o && memory.quiet(), "error %d or responses open", top.w_error_o);
    CHECK(expected == data, "memory differs after a write of %u beats at %llx", beats, (unsigned long long)address);
    return cycles - from;
  }

  void region(uint64_t& address, uint32_t& beats) {
    beats = 1 + uint32_t(random.below(random.chance(0.3) ? 8 : 300));
    address = 16 * random.below(4096 - beats);
    if (random.chance(0.3)) address = 4096 * (1 + random.below(8)) - 16 * random.below(20);   // around a 4 KiB border
  }

  void flush(bool pulse) {
    top.flush_i = 1;
    tick();
    if (pulse) top.flush_i = 0;
    while (top.r_busy_o || top.w_busy_o) tick();
    top.flush_i = 0;
    CHECK(!top.r_error_o && !top.w_error_o, "error after the flush");
  }
};

int main(int, char** argv) {
  const std::string mode = argv[2];
  const uint64_t seed = std::strtoull(argv[3], nullptr, 10);
  const unsigned latency = unsigned(std::atoi(argv[4]));
  Bench bench(seed, latency, std::atoi(argv[5]) / 100.0);
  uint64_t address;
  uint32_t beats;
  if (mode == "random") {
    for (int i = 0; i < 60; i++) {
      bench.region(address, beats);
      const double hold = bench.random.chance(0.3) ? 0.7 : 0.1;
      if (i % 2) bench.read(address, beats, hold); else bench.write(address, beats, hold);
    }
    CHECK(bench.memory.most_outstanding > 1 || latency < 16, "never two bursts open");
    std::printf("beats %llu\n", (unsigned long long)(bench.memory.beats_read + bench.memory.beats_written));
  } else if (mode == "speed") {
    std::printf("read_cycles %llu\n", (unsigned long long)bench.read(4096 - 64, 3000, 0));
    std::printf("write_cycles %llu\n", (unsigned long long)bench.write(4096 - 64, 3000, 0));
  } else if (mode == "empty") {
    bench.start(64, 0, false);
    bench.start(64, 0, true);
    for (int i = 0; i < 10; i++) { bench.tick(); CHECK(!bench.top.r_busy_o && !bench.top.w_busy_o, "busy without beats"); }
    bench.read(64, 5, 0);
    bench.write(64, 5, 0);
  } else if (mode == "flush") {
    for (int i = 0; i < 60; i++) {
      bench.region(address, beats);
      bench.top.r_ready_i = bench.random.chance(0.5);
      bench.start(address, beats, false);
      bench.start(address, beats, true);
      bench.top.w_valid_i = 1;
      for (uint64_t n = bench.random.below(200); n > 0; n--) bench.tick();
      bench.flush(bench.random.chance(0.5));
      bench.top.w_valid_i = 0;
      CHECK(bench.memory.quiet(), "bursts open after the flush");
      bench.region(address, beats);
      bench.read(address, beats, 0.2);
      bench.write(address, beats, 0.2);
    }
  } else if (mode == "busy") {
    bench.start(0, 50, false);
    bench.tick();
    CHECK(!bench.top.r_error_o, "error too early");
    bench.start(0, 50, false);
    CHECK(bench.top.r_error_o, "no error on a start while busy");
    bench.flush(false);
    bench.start(0, 50, true);
    bench.tick();
    bench.start(0, 50, true);
    CHECK(bench.top.w_error_o, "no error on a start while busy");
    bench.flush(false);
    bench.read(0, 50, 0);
    bench.write(0, 50, 0);
  } else if (mode == "faults") {
    using F = Memory::Fault;
    for (F fault : {F::BadResponse, F::EarlyLast, F::EarlyLastShort, F::LateLast, F::MissingLast, F::Stuck}) {
      for (int i = 0; i < 10; i++) {
        bench.region(address, beats);
        beats += 40;
        address = 16 * (address / 16 % (4096 - beats));
        if (fault == F::LateLast || fault == F::MissingLast) {
          address &= ~255ull;                                     // so that the last beats of bursts are known
          bench.memory.fault_beat = int64_t(bench.memory.beats_read + 15 + 16 * bench.random.below(beats / 16));
        } else {
          bench.memory.fault_beat = int64_t(bench.memory.beats_read + bench.random.below(16) + 1);
          if (fault != F::BadResponse) { address &= ~255ull; bench.memory.fault_beat = int64_t(bench.memory.beats_read + 3); }
        }
        bench.memory.fault = fault;
        bench.top.r_ready_i = 1;
        bench.start(address, beats, false);
        const uint64_t from = bench.cycles;
        while (!bench.top.r_error_o && bench.cycles - from < 5000) bench.tick();
        CHECK(bench.top.r_error_o == (fault != F::Stuck), "fault %d: error %d", int(fault), bench.top.r_error_o);
        if (fault == F::Stuck) bench.memory.fault = F::None;     // released while the flush waits
        bench.flush(bench.random.chance(0.5));
        for (int n = 0; n < 50; n++) bench.tick();
        bench.memory.fault = F::None;
        CHECK(bench.memory.quiet(), "fault %d: bursts open after the flush", int(fault));
        bench.region(address, beats);
        bench.read(address, beats, 0.1);
      }
    }
    for (int i = 0; i < 10; i++) {
      bench.memory.fault = F::BadResponse;
      bench.memory.fault_beat = int64_t(bench.memory.bursts_written + bench.random.below(3));
      bench.start(4096, 200, true);
      bench.top.w_valid_i = 1;
      const uint64_t from = bench.cycles;
      while (!bench.top.w_error_o && bench.cycles - from < 5000) bench.tick();
      CHECK(bench.top.w_error_o, "a bad write response raises no error");
      bench.flush(true);
      bench.top.w_valid_i = 0;
      bench.memory.fault = F::None;
      bench.write(4096 - 48, 20, 0.3);
    }
  } else {
    CHECK(false, "unknown mode %s", mode.c_str());
  }
  return 0;
}
