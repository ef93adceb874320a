// bl_cmd_fetch: shows commands one after the other, looks at every tap of each in random order, writes down what it saw.
// Define TAPS. Arguments: folder, seed, latency, stall in percent, fault (0 none, 1 bad response), beat of the fault.
// stream.bin in; seen.bin out: 81 bytes of header and then 11 bytes per tap. Prints commands, error, beats, longest wait.
#include "Vtop.h"
#include "bench.h"

int main(int, char** argv) {
  const std::string folder = argv[1];
  Random random(std::strtoull(argv[2], nullptr, 10));
  const auto stream = read_file(folder + "/stream.bin");
  constexpr uint64_t Base = 2 * 4096 - 96;
  std::vector<uint8_t> data(Base, 0xee);
  data.insert(data.end(), stream.begin(), stream.end());
  data.resize(data.size() + 4096, 0xee);
  Memory memory(data, random.below(1000), unsigned(std::atoi(argv[3])), std::atoi(argv[4]) / 100.0);
  Bus bus;
  VerilatedContext context;
  Vtop top{&context};
  uint64_t cycles = 0;
  auto tick = [&] {
    top.clk_i = 0;
    top.m_arready_i = bus.arready; top.m_rvalid_i = bus.rvalid; top.m_rlast_i = bus.rlast; top.m_rresp_i = bus.rresp;
    std::memcpy(&top.m_rdata_i, bus.rdata.w, 16);
    top.eval();
    bus.arvalid = top.m_arvalid_o; bus.araddr = top.m_araddr_o; bus.arlen = top.m_arlen_o; bus.rready = top.m_rready_o;
    if (!top.rst_i) memory.step(bus);
    top.clk_i = 1;
    top.eval();
    top.start_i = 0;
    top.cmd_ready_i = 0;
    CHECK(++cycles < 1000000, "hangs");
  };
  top.rst_i = 1;
  for (int i = 0; i < 4; i++) tick();
  top.rst_i = 0;

  std::vector<uint8_t> seen;
  uint64_t commands = 0, longest = 0;
  auto run = [&](uint64_t most) {
    top.clear_i = 1;
    tick();
    top.clear_i = 0;
    seen.clear();
    commands = longest = 0;
    top.base_i = Base;
    top.beats_i = uint32_t(stream.size() / 16);
    top.start_i = 1;
    tick();
    while (commands < most) {
      uint64_t wait = 0;
      while (!top.cmd_valid_o && top.error_o == 0) { tick(); ++wait; CHECK(wait < 5000, "neither command nor error"); }
      if (!top.cmd_valid_o) break;
      if (commands > 0) longest = std::max(longest, wait);
      std::vector<uint8_t> head(sizeof(top.cmd_o));
      std::memcpy(head.data(), &top.cmd_o, head.size());
      const unsigned taps = (head[2] >> 4) | unsigned(head[3] & 63) << 4;
      seen.insert(seen.end(), head.begin(), head.begin() + 81);
      std::vector<uint8_t> of_taps(taps * 11);
      std::vector<unsigned> order(taps);
      for (unsigned i = 0; i < taps; i++) order[i] = i;
      for (unsigned i = taps; i > 1; i--) std::swap(order[i - 1], order[random.below(i)]);
      for (unsigned i : order) {
        top.tap_index_i = i;
        tick();
        std::memcpy(&of_taps[i * 11], &top.tap_o, 11);
      }
      seen.insert(seen.end(), of_taps.begin(), of_taps.end());
      for (uint64_t n = random.chance(0.5) ? random.below(200) : 0; n > 0; n--) tick();
      CHECK(top.cmd_valid_o && !std::memcmp(head.data(), &top.cmd_o, head.size()), "command changed while it was shown");
      ++commands;
      const bool end = head[0] == 2;
      top.cmd_ready_i = 1;
      tick();
      if (end) break;
    }
  };
  auto flush = [&] {
    top.flush_i = 1;
    do tick(); while (top.busy_o);
    top.flush_i = 0;
    CHECK(memory.quiet() && !top.cmd_valid_o && top.error_o == 0, "not clean after the flush");
  };
  run(1 + random.below(3));
  flush();
  memory.fault = std::atoi(argv[5]) ? Memory::BadResponse : Memory::None;
  memory.fault_beat = int64_t(memory.beats_read) + std::atoi(argv[6]);
  run(uint64_t(-1));
  for (int i = 0; i < 200; i++) tick();
  CHECK(!top.cmd_valid_o, "a command after the end");
  std::printf("commands %llu\nerror %u\nbeats %u\nlongest_wait %llu\n", (unsigned long long)commands, top.error_o, top.beats_o,
              (unsigned long long)longest);
  flush();
  write_file(folder + "/seen.bin", seen);
  return 0;
}
