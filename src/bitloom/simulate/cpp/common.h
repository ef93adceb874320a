// Shared small types of the simulation harness.
#pragma once
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>

namespace bitloom {

// Exit codes of the process; bitloom/simulate/results.py gives them their Python meaning.
enum ExitCode : int { kOk = 0, kBadJob = 2, kProtocol = 3, kTimeout = 4 };

// Ends the simulation with an exit code and a text for the user.
struct Failure : std::runtime_error {
  Failure(int code_, const std::string& text) : std::runtime_error(text), code(code_) {}
  int code;
};

inline std::string hex(uint64_t value) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

// Faults that a job can ask for; names as in bitloom/simulate/job.py.
enum class Fault { None, Response, EarlyLast, LateLast, StuckAddress, StuckData, StuckResponse };

// One fault on one port: it fires at the first legal occasion at or after beat (or burst) number `at` of the run.
struct FaultPlan {
  Fault kind = Fault::None;
  uint64_t at = 0;
  bool write = false;  // on the write channels of the port
  bool fired = false;
};

// Random stalls: one draw of 8 bits per channel and cycle, reproducible by seed.
class Stalls {
 public:
  void configure(double probability, uint64_t seed) {
    threshold_ = static_cast<uint32_t>(probability * 256.0 + 0.5);
    state_ = seed * 0x9E3779B97F4A7C15ull + 0xD1B54A32D192ED03ull;
  }
  bool hit() {
    if (threshold_ == 0) return false;
    if (left_ == 0) {
      state_ ^= state_ >> 12;
      state_ ^= state_ << 25;
      state_ ^= state_ >> 27;
      bits_ = state_ * 0x2545F4914F6CDD1Dull;
      left_ = 8;
    }
    const uint32_t draw = static_cast<uint32_t>(bits_ & 0xFF);
    bits_ >>= 8;
    --left_;
    return draw < threshold_;
  }

 private:
  uint32_t threshold_ = 0;
  uint64_t state_ = 1, bits_ = 0;
  int left_ = 0;
};

}  // namespace bitloom
