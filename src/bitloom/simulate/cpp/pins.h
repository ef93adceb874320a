// Typed access to the ports of the Verilated top, whatever type Verilator picked for a width.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "verilated.h"

namespace bitloom {

// `width` bits (at most 64) of a port from bit `lsb`; neither may cut a 32-bit word unevenly.
template <class T>
inline uint64_t get(const T& port, uint32_t lsb, uint32_t width) {
  const uint64_t mask = width == 64 ? ~0ull : (1ull << width) - 1;
  if constexpr (std::is_integral_v<T>) {
    return (static_cast<uint64_t>(port) >> lsb) & mask;
  } else {
    if (width <= 32) return (static_cast<uint64_t>(port[lsb / 32]) >> (lsb % 32)) & mask;
    return (static_cast<uint64_t>(port[lsb / 32]) | static_cast<uint64_t>(port[lsb / 32 + 1]) << 32) & mask;
  }
}

// Sets `width` <= 8 bits of a port of at most 32 bits.
template <class T>
inline void put(T& port, uint32_t lsb, uint32_t width, uint32_t value) {
  static_assert(std::is_integral_v<T>);
  const T mask = static_cast<T>(((1u << width) - 1) << lsb);
  port = static_cast<T>((port & static_cast<T>(~mask)) | (static_cast<T>(value << lsb) & mask));
}

// Copies a beat into beat `index` of a wide port.
template <class T>
inline void put_beat(T& port, uint32_t index, const uint32_t* beat) {
  for (uint32_t i = 0; i < 4; ++i) port[index * 4 + i] = beat[i];
}

}  // namespace bitloom
