// Internet checksum; documented in src/wire/checksum.ts.
#pragma once
#include <cstddef>
#include <cstdint>
namespace seine {
// One's complement sum of big-endian 16-bit words, folded to 16 bits; `initial` is any 32-bit sum.
uint32_t checksum_sum(const uint8_t* octets, size_t length, uint32_t initial);
inline uint16_t internet_checksum(const uint8_t* octets, size_t length, uint32_t initial) {
  return static_cast<uint16_t>(~checksum_sum(octets, length, initial));
}
bool checksum_uses_avx2();
uint16_t update_checksum16(uint16_t checksum, uint16_t before, uint16_t after);
}
