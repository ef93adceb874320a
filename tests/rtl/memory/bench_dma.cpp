// bl_dma run over a list of commands, with an activation memory of P banks and a DDR memory that stalls.
// Defines C, P, ROWS. Arguments: folder, seed, latency, stall in percent (AXI and activation memory alike), mode.
// Files in: commands.bin (96-byte headers, each followed by a u64 address), ddr.bin, act.bin ([P][ROWS][C]).
// Files out: ddr_out.bin, act_out.bin. Prints the cycles of command i as cycles<i>, load_count of the last LOAD.
// mode: run | abort (each command is flushed once in the middle, then done whole) | bad_read | bad_write
#include "Vtop.h"
#include "bench.h"

int main(int, char** argv) {
  const std::string folder = argv[1], mode = argv[5];
  Random random(std::strtoull(argv[2], nullptr, 10));
  const double stall = std::atoi(argv[4]) / 100.0;
  auto ddr = read_file(folder + "/ddr.bin");
  auto act = read_file(folder + "/act.bin");
  const auto commands = read_file(folder + "/commands.bin");
  CHECK(act.size() == size_t(P) * ROWS * C && commands.size() % 104 == 0, "sizes");
  Memory memory(ddr, random.below(1000), unsigned(std::atoi(argv[3])), stall);
  Bus bus;
  VerilatedContext context;
  Vtop top{&context};
  uint64_t cycles = 0, written = 0;
  std::deque<std::vector<uint8_t>> reads(3);   // ReadLatency

  auto word = [&](unsigned bank, unsigned row) { return &act[(size_t(bank) * ROWS + row) * C]; };
  auto tick = [&] {
    top.clk_i = 0;
    top.m_arready_i = bus.arready; top.m_rvalid_i = bus.rvalid; top.m_rlast_i = bus.rlast; top.m_rresp_i = bus.rresp;
    top.m_awready_i = bus.awready; top.m_wready_i = bus.wready; top.m_bvalid_i = bus.bvalid; top.m_bresp_i = bus.bresp;
    std::memcpy(&top.m_rdata_i, bus.rdata.w, 16);
    top.wr_ready_i = !random.chance(stall);
    top.rd_ready_i = !random.chance(stall);
    // A word that nobody asked for is noise.
    if (reads.front().empty()) for (unsigned i = 0; i < C; i++) reinterpret_cast<char*>(&top.rd_data_i)[i] = char(random.below(256));
    else std::memcpy(&top.rd_data_i, reads.front().data(), C);
    reads.pop_front();
    top.eval();
    bus.arvalid = top.m_arvalid_o; bus.araddr = top.m_araddr_o; bus.arlen = top.m_arlen_o; bus.rready = top.m_rready_o;
    bus.awvalid = top.m_awvalid_o; bus.awaddr = top.m_awaddr_o; bus.awlen = top.m_awlen_o; bus.bready = top.m_bready_o;
    bus.wvalid = top.m_wvalid_o; bus.wlast = top.m_wlast_o; bus.wstrb = top.m_wstrb_o;
    std::memcpy(bus.wdata.w, &top.m_wdata_o, 16);
    if (top.rst_i) {
      reads.emplace_back();
    } else {
      if (top.wr_valid_o && top.wr_ready_i) {
        CHECK(top.wr_bank_o < P && top.wr_row_o < ROWS, "write to bank %u row %u", top.wr_bank_o, top.wr_row_o);
        std::memcpy(word(top.wr_bank_o, top.wr_row_o), &top.wr_data_o, C);
        ++written;
      }
      reads.emplace_back();
      if (top.rd_valid_o && top.rd_ready_i) {
        CHECK(top.rd_bank_o < P && top.rd_row_o < ROWS, "read of bank %u row %u", top.rd_bank_o, top.rd_row_o);
        const uint8_t* at = word(top.rd_bank_o, top.rd_row_o);
        reads.back().assign(at, at + C);
      }
      memory.step(bus);
    }
    top.clk_i = 1;
    top.eval();
    top.start_i = 0;
    CHECK(++cycles < 3000000, "hangs");
  };

  top.rst_i = 1;
  for (int i = 0; i < 4; i++) tick();
  top.rst_i = 0;
  top.clear_i = 1;
  tick();
  top.clear_i = 0;
  auto start = [&](size_t i) {
    std::memcpy(&top.cmd_i, &commands[i * 104], sizeof(top.cmd_i));
    std::memcpy(&top.addr_i, &commands[i * 104 + 96], 8);
    written = 0;
    top.start_i = 1;
    tick();
    for (size_t w = 0; w < sizeof(top.cmd_i); w++) reinterpret_cast<char*>(&top.cmd_i)[w] = char(random.below(256));
    reinterpret_cast<char*>(&top.cmd_i)[sizeof(top.cmd_i) - 1] = 0;
  };
  auto flush = [&] {
    top.flush_i = 1;
    tick();
    while (top.busy_o) tick();
    top.flush_i = 0;
    CHECK(memory.quiet(), "bursts open after the flush");
    for (int i = 0; i < 4; i++) tick();
  };

  for (size_t i = 0; i * 104 < commands.size(); i++) {
    if (mode == "abort") {
      start(i);
      for (uint64_t n = random.below(150); n > 0; n--) tick();
      flush();
    }
    if (mode == "bad_read" || mode == "bad_write") {
      memory.fault = Memory::BadResponse;
      memory.fault_beat = int64_t(mode == "bad_read" ? memory.beats_read + 3 : memory.bursts_written);
      const bool load = commands[i * 104] == 6;
      start(i);
      while (top.busy_o && !top.read_error_o && !top.write_error_o) tick();
      CHECK(top.read_error_o == load && top.write_error_o == !load, "errors %d %d", top.read_error_o, top.write_error_o);
      flush();
      memory.fault = Memory::None;
    }
    const uint64_t from = cycles;
    start(i);
    bool was = true;
    while (top.busy_o) {
      tick();
      was = top.busy_o;
    }
    CHECK(!was && memory.quiet() && !top.read_error_o && !top.write_error_o, "errors %d %d", top.read_error_o, top.write_error_o);
    std::printf("cycles%zu %llu\n", i, (unsigned long long)(cycles - from));
    if (commands[i * 104] == 6) CHECK(top.load_count_o == written, "load_count %u of %llu", top.load_count_o, (unsigned long long)written);
    tick();
  }
  std::printf("load_count %u\nbeats_read %u\nbeats_write %u\n", top.load_count_o, top.beats_read_o, top.beats_write_o);
  if (mode == "run") {
    CHECK(top.beats_read_o == memory.beats_read && top.beats_write_o == memory.beats_written, "counters");
  }
  write_file(folder + "/ddr_out.bin", ddr);
  write_file(folder + "/act_out.bin", act);
  return 0;
}
