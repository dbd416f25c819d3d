// Internet checksum (RFC 1071 section 2: the sum may be taken in any byte order and wider words), RFC 1624 update.
#include "checksum.h"
#include <cstring>

namespace seine {
namespace {

inline uint32_t fold(uint64_t sum) {
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint32_t>(sum);
}

// 32-bit words into 64-bit sums in the machine's order; the compiler vectorises it for each target.
#if defined(__x86_64__)
__attribute__((target_clones("avx2", "default")))
#endif
uint64_t sum_words(const uint8_t* octets, size_t words) {
  uint64_t sum = 0;
  for (size_t i = 0; i < words; i++) {
    uint32_t word;
    std::memcpy(&word, octets + i * 4, 4);
    sum += word;
  }
  return sum;
}

}  // namespace

uint32_t checksum_sum(const uint8_t* octets, size_t length, uint32_t initial) {
  uint64_t sum = sum_words(octets, length / 4);
  size_t at = length & ~static_cast<size_t>(3);
  uint8_t rest[4] = {0, 0, 0, 0};
  std::memcpy(rest, octets + at, length - at);
  uint32_t word;
  std::memcpy(&word, rest, 4);
  const uint32_t folded = fold(sum + word);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  const uint32_t swapped = ((folded & 0xff) << 8) | (folded >> 8);
#else
  const uint32_t swapped = folded;
#endif
  return fold(static_cast<uint64_t>(swapped) + initial);
}

bool checksum_uses_avx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2");
#else
  return false;
#endif
}

uint16_t update_checksum16(uint16_t checksum, uint16_t before, uint16_t after) {
  return static_cast<uint16_t>(
      ~fold(static_cast<uint64_t>(static_cast<uint16_t>(~checksum)) + static_cast<uint16_t>(~before) + after));
}

}  // namespace seine
