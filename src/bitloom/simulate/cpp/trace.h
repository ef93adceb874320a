// What the RTL tells through DPI: every write to the activation memory, and start, end and counters of every command.
#pragma once
#include <cstdint>
#include <cstdio>
#include <vector>

#include "common.h"

namespace bitloom {

struct CommandStamp {
  int layer = 0;
  uint64_t start = 0, end = 0;                 // cycles of the harness clock
  uint32_t causes[6] = {0, 0, 0, 0, 0, 0};     // running totals: compute, weights, planes, drain, input, control
  bool has_causes = false;
  uint64_t dump_offset = 0, dump_words = 0;    // in the dump file
};

class Trace {
 public:
  Trace(int pixels, int channels, int rows);
  uint64_t now = 0;
  bool dump = false;
  std::vector<std::pair<uint32_t, uint32_t>> row_ranges;  // dump only these rows [first, end); empty: all
  std::vector<CommandStamp> commands;                     // of the current run

  void open(const std::string& path);
  void begin_run() { commands.clear(); open_ = false; }
  void write(int bank, int row, const uint32_t* strobe, const uint32_t* data);
  void layer(int number, int phase);
  void counters(const uint32_t causes[6]);
  bool pending() const { return pending_; }
  // Writes the words changed since the last dump for the command that just ended: (bank u16, pad u16, row u32) each,
  // then their bytes.
  void flush();
  void close();
  int last_layer() const { return commands.empty() ? -1 : commands.back().layer; }

 private:
  bool wanted(uint32_t row) const;
  uint32_t pixels_, channels_, rows_;
  std::vector<uint8_t> shadow_, dirty_, scratch_;
  std::vector<uint32_t> changed_;  // bank*rows + row
  bool pending_ = false, open_ = false;
  std::FILE* file_ = nullptr;
  uint64_t offset_ = 0;
};

// The trace that the DPI functions write to.
extern Trace* g_trace;

}  // namespace bitloom
