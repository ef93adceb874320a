// bl_regs behind a random AXI4-Lite master: reads and writes run side by side with their own stalls, against a model.
// Arguments: folder (unused), seed, transfers.
#include "Vtop.h"
#include "bench.h"
#include <map>

struct Model {
  std::map<unsigned, uint32_t> rw;      // plain registers
  bool start = false, done = false, ready = false, gie = false;
  unsigned ier = 0, isr = 0;
  uint64_t starts = 0;
};

int main(int, char** argv) {
  Random random(std::strtoull(argv[2], nullptr, 10));
  const uint64_t transfers = std::strtoull(argv[3], nullptr, 10);
  VerilatedContext context;
  Vtop top{&context};
  Model model;
  const unsigned plain[] = {0x20, 0x24, 0x28, 0x2c, 0x30, 0x34, 0x38, 0x3c, 0x40, 0x44};
  for (unsigned a : plain) model.rw[a] = 0;
  auto inputs = [&] {
    for (int i = 0; i < 7; i++) top.counters_i[i] = uint32_t(random.below(1ull << 32));
    top.layer_i = random.below(4096);
    top.beats_weights_i = random.below(1ull << 32); top.beats_read_i = random.below(1ull << 32);
    top.beats_write_i = random.below(1ull << 32);
  };
  auto expected = [&](unsigned address) -> uint32_t {
    address &= ~3u;
    if (model.rw.count(address)) return model.rw[address];
    switch (address) {
      case 0x00: return unsigned(model.start) | unsigned(model.done) << 1 | unsigned(top.idle_i && !model.start) << 2
                        | unsigned(model.ready) << 3;
      case 0x04: return model.gie;
      case 0x08: return model.ier;
      case 0x0c: return model.isr;
      case 0x10: return 0xB1710010;
      case 0x14: return 2;
      case 0x18: return HASH;
      case 0x1c: return top.error_i;
      case 0x48: return top.layer_i;
      case 0x9c: return top.beats_weights_i;
      case 0xa0: return top.beats_read_i;
      case 0xa4: return top.beats_write_i;
      default: return address >= 0x80 && address <= 0x98 ? top.counters_i[(address - 0x80) / 4] : 0;
    }
  };

  // The write engine: address and data offered independently; applied when the response comes. The read engine likewise.
  struct { bool active = false, aw = false, w = false; unsigned address = 0, strobe = 0; uint32_t data = 0; } wr;
  struct { bool active = false; unsigned address = 0; bool pending = false; uint32_t want = 0; unsigned of = 0; } rd;
  uint64_t writes = 0, reads = 0, dones = 0, interrupts = 0, running = 0, clears = 0;
  unsigned fill_aw = 0, fill_w = 0;
  top.rst_i = 1;
  top.idle_i = 1;
  inputs();
  for (int i = 0; i < 4; i++) { top.clk_i = 0; top.eval(); top.clk_i = 1; top.eval(); }
  top.rst_i = 0;
  const unsigned known[] = {0x00, 0x00, 0x04, 0x08, 0x0c, 0x0c, 0x10, 0x14, 0x18, 0x1c, 0x48, 0x80, 0x84, 0x88, 0x8c, 0x90, 0x94,
                            0x98, 0x9c, 0xa0, 0xa4};
  auto pick = [&]() -> unsigned {
    if (random.chance(0.2)) return 4 * unsigned(random.below(64));
    if (random.chance(0.4)) return plain[random.below(10)];
    return known[random.below(21)];
  };

  for (uint64_t cycle = 0; writes + reads < transfers; cycle++) {
    CHECK(cycle < 100 * transfers + 1000, "hangs");
    if (!wr.active && random.chance(0.6)) {
      wr = {true, true, true, pick(), unsigned(random.chance(0.6) ? 15 : random.below(16)), uint32_t(random.below(1ull << 32))};
      fill_aw = unsigned(random.below(4)); fill_w = unsigned(random.below(4));
    }
    if (!rd.active && random.chance(0.7)) rd = {true, pick(), rd.pending, rd.want, rd.of};
    top.s_awvalid_i = wr.active && wr.aw && fill_aw == 0;
    top.s_wvalid_i = wr.active && wr.w && fill_w == 0;
    if (fill_aw) --fill_aw;
    if (fill_w) --fill_w;
    top.s_awaddr_i = wr.address; top.s_wdata_i = wr.data; top.s_wstrb_i = wr.strobe;
    top.s_arvalid_i = rd.active;
    top.s_araddr_i = rd.address;
    top.s_bready_i = random.chance(0.6);
    top.s_rready_i = random.chance(0.6);
    top.done_i = running > 0 && random.chance(0.02);
    if (top.done_i) top.error_i = random.chance(0.5) ? 0 : 1 + random.below(8);
    if (random.chance(0.1)) inputs();
    top.clk_i = 0;
    top.eval();
    CHECK(top.interrupt_o == (model.gie && model.isr), "interrupt %d", top.interrupt_o);
    interrupts += top.interrupt_o;
    CHECK(top.s_rresp_o == 0 && top.s_bresp_o == 0, "a response other than OKAY");
    CHECK(top.program_base_o == (uint64_t(model.rw[0x24]) << 32 | model.rw[0x20]), "program base");
    CHECK(top.scratch_base_o == (uint64_t(model.rw[0x3c]) << 32 | model.rw[0x38]), "scratch base");
    CHECK(top.input_base_o == (uint64_t(model.rw[0x2c]) << 32 | model.rw[0x28]), "input base");
    CHECK(top.output_base_o == (uint64_t(model.rw[0x34]) << 32 | model.rw[0x30]), "output base");
    CHECK(top.timeout_o == model.rw[0x40] && top.command_beats_o == model.rw[0x44], "timeout or beats");

    const bool aw = top.s_awvalid_i && top.s_awready_o, w = top.s_wvalid_i && top.s_wready_o;
    const bool ar = top.s_arvalid_i && top.s_arready_o;
    const bool b = top.s_bvalid_o && top.s_bready_i, r = top.s_rvalid_o && top.s_rready_i;
    CHECK(!(top.s_arvalid_i && !rd.pending && !top.s_arready_o), "a read is blocked");
    if (r) {
      CHECK(rd.pending && top.s_rdata_o == rd.want, "read of %02x: %08x, expected %08x", rd.of, top.s_rdata_o, rd.want);
      rd.pending = false;
      ++reads;
    }
    const bool start_now = top.start_o;
    if (ar) {
      rd.want = expected(rd.address);
      rd.of = rd.address;
      rd.pending = true;
      rd.active = false;
    }
    // Both taken and room for the response: the module writes in this cycle.
    const bool write_now = wr.active && !wr.aw && !wr.w && (!top.s_bvalid_o || top.s_bready_i);
    const unsigned address = wr.address & ~3u;
    const bool done = top.done_i, idle = top.idle_i;
    top.clk_i = 1;
    top.eval();

    // ---- the model's edge ----
    if (ar && rd.of < 4) { clears += model.done; model.done = model.ready = false; }
    unsigned toggle = 0;
    bool begin = false;
    const unsigned events = done ? (1u | (top.error_i ? 2u : 0u)) & model.ier : 0;
    if (write_now) {
      if (model.rw.count(address)) {
        for (int i = 0; i < 4; i++)
          if (wr.strobe >> i & 1) model.rw[address] = (model.rw[address] & ~(255u << 8 * i)) | (wr.data & 255u << 8 * i);
      } else if (wr.strobe & 1) {
        if (address == 0x04) model.gie = wr.data & 1;
        if (address == 0x08) model.ier = wr.data & 3;
        if (address == 0x0c) toggle = wr.data & 3;
        if (address == 0x00) begin = (wr.data & 1) && idle && !model.start;
      }
    }
    if (done) {
      model.start = false;
      model.done = model.ready = true;
      running = 0;
      ++dones;
    }
    model.isr = (model.isr ^ toggle) | events;
    if (begin) { model.start = true; ++model.starts; }
    if (done) top.idle_i = 1;
    if (start_now) { top.idle_i = 0; running = 1; }
    CHECK(top.start_o == begin, "start_o %d, expected %d", top.start_o, begin);
    if (write_now) wr.active = false;
    if (aw) wr.aw = false;
    if (w) wr.w = false;
    writes += b;
  }
  CHECK(dones > 10 && interrupts > 10 && clears > 5 && model.starts == dones + running, "dones %llu interrupts %llu clears %llu",
        (unsigned long long)dones, (unsigned long long)interrupts, (unsigned long long)clears);
  std::printf("reads %llu\nwrites %llu\ndones %llu\n", (unsigned long long)reads, (unsigned long long)writes, (unsigned long long)dones);
  return 0;
}
