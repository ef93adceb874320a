// bl_weights against a stream made in Python: headers, digits of every step, step information, pace.
// Defines C, M, WP, LATENCY come with the build. Arguments: folder, seed, latency, stall in percent, pace.
//   pace 0: random gaps between steps; 1: a step is taken as soon as it is ready and must come without a bubble once its
//   words can be in the ring (all of them are, before the first vector is pushed)
// Files: port<w>.bin the streams; vectors.bin u32 {steps, tiles, passes, max planes hi, max planes lo}; headers.bin u64 [M] a vector;
// digits.bin int8 [M][C] for every (vector, step, pass).
#include "Vtop.h"
#include "bench.h"
#include <bit>

using Digits = std::vector<int8_t>;

struct Vector { uint32_t steps, tiles, passes, planes[2]; std::vector<uint64_t> header; std::vector<Digits> digits; };

// The port w of a packed vector port, whatever Verilator made of it.
template <typename T> void put(T& port, unsigned w, unsigned bits, const void* value) {
  std::memcpy(reinterpret_cast<char*>(&port) + w * bits / 8, value, bits / 8);
}
template <typename T> uint64_t get(const T& port, unsigned w, unsigned bits) {
  uint64_t raw[2] = {0, 0};
  const unsigned at = w * bits;
  std::memcpy(raw, reinterpret_cast<const char*>(&port) + at / 8, std::min<size_t>(sizeof(T) - at / 8, 9));
  const uint64_t low = at % 8 ? (raw[0] >> at % 8 | raw[1] << (64 - at % 8)) : raw[0];
  return bits == 64 ? low : low & ((1ull << bits) - 1);
}
template <typename T> bool bit(const T& port, unsigned at) {
  return reinterpret_cast<const unsigned char*>(&port)[at / 8] >> at % 8 & 1;
}

int main(int, char** argv) {
  const std::string folder = argv[1];
  Random random(std::strtoull(argv[2], nullptr, 10));
  const unsigned latency = unsigned(std::atoi(argv[3]));
  const double stall = std::atoi(argv[4]) / 100.0;
  const bool pace = std::atoi(argv[5]) != 0;
  constexpr unsigned Hdr = C >= 64 ? 1 : 64 / C;

  // ---- files ----
  std::vector<Vector> vectors;
  {
    const auto info = read_file(folder + "/vectors.bin");
    const auto headers = read_file(folder + "/headers.bin");
    const auto digits = read_file(folder + "/digits.bin");
    size_t at = 0;
    for (size_t v = 0; v * 20 < info.size(); v++) {
      Vector x;
      std::memcpy(&x, &info[v * 20], 20);
      x.header.resize(M);
      std::memcpy(x.header.data(), &headers[v * M * 8], M * 8);
      for (uint32_t s = 0; s < x.steps * x.passes; s++, at += M * C)
        x.digits.emplace_back(digits.begin() + long(at), digits.begin() + long(at + M * C));
      vectors.push_back(x);
    }
    CHECK(at == digits.size() && !vectors.empty(), "%zu digits used of %zu", at, digits.size());
  }
  std::vector<std::vector<uint8_t>> data(WP);
  std::vector<Memory> memories;
  std::vector<Bus> bus(WP);
  std::vector<uint32_t> beats(WP);
  constexpr uint64_t Base = 3 * 4096 - 80;
  for (unsigned w = 0; w < WP; w++) {
    const auto stream = read_file(folder + "/port" + std::to_string(w) + ".bin");
    beats[w] = uint32_t(stream.size() / 16);
    data[w].assign(Base, 0xee);
    data[w].insert(data[w].end(), stream.begin(), stream.end());
    memories.emplace_back(data[w], 77 + w + random.below(1000), latency, stall);
  }

  VerilatedContext context;
  Vtop top{&context};
  uint64_t cycles = 0;

  // ---- what bl_compute would do ----
  Digits shadow(M * C), active(M * C);
  std::deque<int> swaps(LATENCY, 0);     // step_take delayed by the latency
  size_t hdr_vector = 0, hdr_words = 0;  // header in progress
  std::vector<std::vector<uint64_t>> seen_header;
  // steps taken whose swap is to come
  struct Taken { size_t vector, index; };
  std::deque<Taken> taken;
  size_t vector = 0, tile = 0, index = 0, pushed = 0, checked = 0;
  uint64_t gap = 0, last_take = 0, waited_ddr = 0, bubbles = 0, first_take = 0, between = 0, vector_end = 0;

  auto edge = [&](bool take) {
    top.step_take_i = take;
    top.clk_i = 0;
    for (unsigned w = 0; w < WP; w++) {
      put(top.m_rdata_i, w, 128, bus[w].rdata.w);
    }
    unsigned ar = 0, rv = 0, rl = 0, rr = 0;
    for (unsigned w = 0; w < WP; w++) {
      ar |= unsigned(bus[w].arready) << w; rv |= unsigned(bus[w].rvalid) << w; rl |= unsigned(bus[w].rlast) << w;
      rr |= bus[w].rresp << (2 * w);
    }
    top.m_arready_i = ar; top.m_rvalid_i = rv; top.m_rlast_i = rl; top.m_rresp_i = rr;
    top.eval();
    for (unsigned w = 0; w < WP; w++) {
      bus[w].arvalid = bit(top.m_arvalid_o, w); bus[w].araddr = get(top.m_araddr_o, w, 64);
      bus[w].arlen = unsigned(get(top.m_arlen_o, w, 8)); bus[w].rready = bit(top.m_rready_o, w);
      bus[w].arsize = unsigned(get(top.m_arsize_o, w, 3)); bus[w].arburst = unsigned(get(top.m_arburst_o, w, 2));
    }
    // Compute side, on the values of this cycle.
    if (!top.rst_i) {
      swaps.push_back(take);
      const bool swap = swaps.front();
      swaps.pop_front();
      if (swap) {
        active = shadow;
        const Taken now = taken.front();
        taken.pop_front();
        const Digits& want = vectors[now.vector].digits[now.index];
        for (unsigned i = 0; i < M * C; i++)
          CHECK(active[i] == want[i], "vector %zu step·pass %zu lane %u channel %u: %d, expected %d", now.vector, now.index,
                i / C, i % C, active[i], want[i]);
        ++checked;
        CHECK(seen_header.size() > now.vector && seen_header[now.vector] == vectors[now.vector].header,
              "header of vector %zu is wrong or late", now.vector);
      }
      if (top.clear_digits_o) std::fill(shadow.begin(), shadow.end(), 0);
      for (unsigned l = 0; l < M; l++) {
        if (!bit(top.plane_valid_o, l)) continue;
        const bool first = bit(top.plane_first_o, l), sign = bit(top.plane_signed_o, l);
        for (unsigned c = 0; c < C; c++) {
          const int plane = bit(top.plane_o, l * C + c);
          int8_t& digit = shadow[l * C + c];
          const int later = sign ? (-plane & 31) | 1 : ((digit << 1) | plane) & 31;
          const int five = first ? (sign ? -plane & 31 : plane) : later;
          digit = int8_t(five >= 16 ? five - 32 : five);
        }
      }
      if (top.hdr_valid_o) {
        CHECK(top.hdr_index_o == hdr_words && top.hdr_ptag_o == hdr_vector % 4, "header word %u of ptag %u, expected %zu of %zu",
              top.hdr_index_o, top.hdr_ptag_o, hdr_words, hdr_vector % 4);
        if (hdr_words == 0) seen_header.emplace_back(M, 0);
        for (unsigned l = 0; l < M; l++)
          for (unsigned c = 0; c < C; c++) {
            const bool one = bit(top.hdr_o, l * C + c);
            if (hdr_words * C + c < 64) seen_header.back()[l] |= uint64_t(one) << (hdr_words * C + c);
            else CHECK(!one, "upper half of a header word is not zero");
          }
        if (++hdr_words == Hdr) { hdr_words = 0; ++hdr_vector; }
      }
    }
    waited_ddr += top.wait_ddr_o;
    const bool vec_taken = top.vec_valid_i && top.vec_ready_o;
    if (!top.rst_i) for (unsigned w = 0; w < WP; w++) memories[w].step(bus[w]);
    top.clk_i = 1;
    top.eval();
    top.start_i = 0;
    if (vec_taken) ++pushed;
    CHECK(++cycles < 3000000, "hangs at vector %zu tile %zu step·pass %zu", vector, tile, index);
    CHECK(!top.error_o, "error_o");
  };

  auto run = [&](size_t stop_after) {
    for (unsigned w = 0; w < WP; w++) {
      top.addr_i = Base;
      top.beats_i = beats[w];
      top.start_i = 1u << w;
      edge(false);
    }
    if (pace) for (int i = 0; i < 4000; i++) edge(false);
    while (vector < vectors.size() && checked < stop_after) {
      top.vec_valid_i = pushed < vectors.size() && (pace || !random.chance(0.2));
      if (top.vec_valid_i) {
        top.vec_steps_i = vectors[pushed].steps; top.vec_tiles_i = uint16_t(vectors[pushed].tiles); top.vec_ptag_i = pushed % 4;
      }
      top.clk_i = 0;
      top.eval();
      const bool take = top.step_ready_o && gap == 0;
      if (gap > 0) --gap;
      if (take) {
        const Vector& v = vectors[vector];
        const bool hi = v.passes == 2 && index % 2 == 0;
        CHECK(top.two_pass_o == (v.passes == 2) && top.pass_hi_o == hi, "vector %zu: two_pass %d hi %d", vector, top.two_pass_o,
              top.pass_hi_o);
        CHECK(top.step_ptag_o == vector % 4, "ptag %u", top.step_ptag_o);
        CHECK(top.step_last_o == (index + 1 == v.digits.size()), "step_last %d at %zu", top.step_last_o, index);
        const uint64_t need = std::max<uint32_t>(1, v.planes[hi ? 1 : 0]);
        if (pace) {
          if (index != 0 || tile != 0) {
            if (cycles - last_take != need) ++bubbles;
            CHECK(cycles - last_take == need, "vector %zu tile %zu step·pass %zu came %llu cycles after the one before, not %llu",
                  vector, tile, index, (unsigned long long)(cycles - last_take), (unsigned long long)need);
          } else if (vector > 0) {
            between = std::max<uint64_t>(between, cycles - vector_end - need);
          }
        } else if (random.chance(0.5)) {
          gap = random.below(random.chance(0.1) ? 200 : 12);
        }
        if (first_take == 0) first_take = cycles;
        last_take = cycles;
        taken.push_back({vector, index});
        if (++index == v.digits.size()) {
          index = 0;
          if (++tile == v.tiles) { tile = 0; ++vector; vector_end = cycles; }
        }
      }
      edge(take);
    }
    top.vec_valid_i = 0;
  };

  top.rst_i = 1;
  for (int i = 0; i < 5; i++) edge(false);
  top.rst_i = 0;
  edge(false);
  auto flush = [&] {
    top.flush_i = 1;
    for (int i = 0; i < int(LATENCY) + 2; i++) edge(false);
    while (top.busy_o) edge(false);
    top.flush_i = 0;
    seen_header.clear();
    taken.clear();
    std::fill(swaps.begin(), swaps.end(), 0);
    vector = tile = index = pushed = checked = hdr_vector = hdr_words = gap = 0;
  };
  if (!pace) {   // abort a run in the middle; the next one must not notice
    run(1 + random.below(20));
    flush();
  }
  top.clear_i = 1;
  edge(false);
  top.clear_i = 0;
  waited_ddr = 0;
  run(size_t(-1));
  for (int i = 0; i < int(LATENCY) + 2; i++) edge(false);
  size_t all = 0, stream = 0;
  for (const auto& v : vectors) all += v.digits.size() * v.tiles;
  for (uint32_t n : beats) stream += n;
  CHECK(checked == all, "%zu steps checked of %zu", checked, all);
  // Beats of lanes that have no more words to give may stay in the FIFO only if a ring is full: not with whole streams read.
  for (int i = 0; i < 3000 && top.busy_o; i++) edge(false);
  CHECK(!top.busy_o && top.beats_o == stream, "busy %d, %u beats counted of %zu", top.busy_o, top.beats_o, stream);
  std::printf("steps %zu\nwaited_ddr %llu\nbetween_vectors %llu\n", all, (unsigned long long)waited_ddr,
              (unsigned long long)between);
  return 0;
}
