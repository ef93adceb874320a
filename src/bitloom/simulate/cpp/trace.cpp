#include "trace.h"

#include <cstring>

#include "svdpi.h"

namespace bitloom {

Trace* g_trace = nullptr;

Trace::Trace(int pixels, int channels, int rows)
    : pixels_(static_cast<uint32_t>(pixels)),
      channels_(static_cast<uint32_t>(channels)),
      rows_(static_cast<uint32_t>(rows)),
      shadow_(size_t{pixels_} * rows_ * channels_),
      dirty_(size_t{pixels_} * rows_) {
  changed_.reserve(size_t{pixels_} * rows_);
  commands.reserve(4096);
}

void Trace::open(const std::string& path) {
  file_ = std::fopen(path.c_str(), "wb");
  if (file_ == nullptr) throw Failure(kBadJob, "cannot write " + path);
}

void Trace::close() {
  if (file_ != nullptr && std::fclose(file_) != 0) throw Failure(kBadJob, "the dump file could not be written: disk full?");
  file_ = nullptr;
}

void Trace::write(int bank, int row, const uint32_t* strobe, const uint32_t* data) {
  if (bank < 0 || row < 0 || static_cast<uint32_t>(bank) >= pixels_ || static_cast<uint32_t>(row) >= rows_) {
    throw Failure(kProtocol, "write to activation memory outside its size: bank " + std::to_string(bank) + " row " +
                                 std::to_string(row) + " in cycle " + std::to_string(now));
  }
  const uint32_t index = static_cast<uint32_t>(bank) * rows_ + static_cast<uint32_t>(row);
  uint8_t* word = shadow_.data() + size_t{index} * channels_;
  const auto* bytes = reinterpret_cast<const uint8_t*>(data);
  for (uint32_t i = 0; i < channels_; i += 4) {
    const uint32_t four = strobe[i / 32] >> (i % 32) & 0xF;
    if (four == 0xF) {
      std::memcpy(word + i, bytes + i, 4);
    } else {
      for (uint32_t k = 0; k < 4; ++k)
        if (four >> k & 1) word[i + k] = bytes[i + k];
    }
  }
  if (dump && !dirty_[index]) {
    dirty_[index] = 1;
    changed_.push_back(index);
  }
}

void Trace::layer(int number, int phase) {
  if (phase == 0) {
    CommandStamp stamp;
    stamp.layer = number;
    stamp.start = now;
    commands.push_back(stamp);
    open_ = true;
  } else {
    if (!open_ || commands.back().layer != number) {
      throw Failure(kProtocol, "bl_trace_layer: end of layer " + std::to_string(number) + " without its start in cycle " +
                                   std::to_string(now));
    }
    commands.back().end = now;
    open_ = false;
    pending_ = true;
  }
}

void Trace::counters(const uint32_t causes[6]) {
  if (commands.empty()) return;
  std::memcpy(commands.back().causes, causes, sizeof commands.back().causes);
  commands.back().has_causes = true;
}

bool Trace::wanted(uint32_t row) const {
  if (row_ranges.empty()) return true;
  for (const auto& [first, end] : row_ranges)
    if (row >= first && row < end) return true;
  return false;
}

void Trace::flush() {
  pending_ = false;
  if (!dump || file_ == nullptr || changed_.empty()) return;
  scratch_.clear();
  uint64_t words = 0;
  for (const uint32_t index : changed_) {
    if (!wanted(index % rows_)) continue;
    const uint32_t head[2] = {index / rows_, index % rows_};
    const auto* bytes = reinterpret_cast<const uint8_t*>(head);
    scratch_.insert(scratch_.end(), bytes, bytes + sizeof head);
    ++words;
  }
  for (const uint32_t index : changed_) {
    if (wanted(index % rows_)) {
      const uint8_t* word = shadow_.data() + size_t{index} * channels_;
      scratch_.insert(scratch_.end(), word, word + channels_);
    }
    dirty_[index] = 0;
  }
  changed_.clear();
  commands.back().dump_offset = offset_;
  commands.back().dump_words = words;
  if (std::fwrite(scratch_.data(), 1, scratch_.size(), file_) != scratch_.size())
    throw Failure(kBadJob, "the dump file could not be written: disk full?");
  offset_ += scratch_.size();
}

}  // namespace bitloom

extern "C" {

void bl_trace_write(int bank, int row, const svBitVecVal* strobe, const svBitVecVal* data) {
  if (bitloom::g_trace != nullptr) bitloom::g_trace->write(bank, row, strobe, data);
}

void bl_trace_layer(int layer, int phase) {
  if (bitloom::g_trace != nullptr) bitloom::g_trace->layer(layer, phase);
}

void bl_trace_counters(int /*layer*/, int compute, int weights, int planes, int drain, int dma, int control) {
  if (bitloom::g_trace == nullptr) return;
  const uint32_t causes[6] = {static_cast<uint32_t>(compute), static_cast<uint32_t>(weights),
                              static_cast<uint32_t>(planes),  static_cast<uint32_t>(drain),
                              static_cast<uint32_t>(dma),     static_cast<uint32_t>(control)};
  bitloom::g_trace->counters(causes);
}
}
