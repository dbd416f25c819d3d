// Symmetric tuple hash: CRC-32C by SSE4.2's instruction where the processor has it, else by table.
#include "tuple_hash.h"
#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace seine {
namespace {

constexpr uint32_t SEED = 0x9e3779b9;

struct Table {
  uint32_t word[256];
  constexpr Table() : word() {
    for (uint32_t i = 0; i < 256; i++) {
      uint32_t crc = i;
      for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) ? 0x82f63b78u : 0);
      word[i] = crc;
    }
  }
};
constexpr Table TABLE;

inline uint32_t step_table(uint32_t crc, uint32_t word) {
  uint32_t c = crc ^ word;
  for (int i = 0; i < 4; i++) c = (c >> 8) ^ TABLE.word[c & 0xff];
  return c;
}

struct Ordered {
  const uint32_t* low;
  const uint32_t* high;
  uint32_t ports;
};

inline Ordered order(const uint32_t* address, int words, uint32_t src_port, uint32_t dst_port) {
  bool forward = true;
  int i = 0;
  for (; i < words; i++) {
    if (address[i] != address[4 + i]) {
      forward = address[i] < address[4 + i];
      break;
    }
  }
  if (i == words) forward = src_port <= dst_port;
  return forward ? Ordered{address, address + 4, src_port | (dst_port << 16)}
                 : Ordered{address + 4, address, dst_port | (src_port << 16)};
}

inline uint32_t finish(uint32_t crc) {
  crc = (crc ^ (crc >> 16)) * 0x85ebca6bu;
  return crc ^ (crc >> 13);
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t hash_hardware(const uint32_t* address, int family, uint32_t protocol,
                                                         uint32_t src_port, uint32_t dst_port) {
  const int words = family == 6 ? 4 : 1;
  const Ordered o = order(address, words, src_port, dst_port);
  uint32_t crc = SEED;
  for (int i = 0; i < words; i++) crc = _mm_crc32_u32(crc, o.low[i]);
  for (int i = 0; i < words; i++) crc = _mm_crc32_u32(crc, o.high[i]);
  crc = _mm_crc32_u32(crc, o.ports);
  crc = _mm_crc32_u32(crc, protocol);
  return finish(crc);
}
const bool HARDWARE = __builtin_cpu_supports("sse4.2");
#else
const bool HARDWARE = false;
#endif

}  // namespace

uint32_t tuple_hash_table(const uint32_t* address, int family, uint32_t protocol, uint32_t src_port,
                          uint32_t dst_port) {
  const int words = family == 6 ? 4 : 1;
  const Ordered o = order(address, words, src_port, dst_port);
  uint32_t crc = SEED;
  for (int i = 0; i < words; i++) crc = step_table(crc, o.low[i]);
  for (int i = 0; i < words; i++) crc = step_table(crc, o.high[i]);
  return finish(step_table(step_table(crc, o.ports), protocol));
}

uint32_t tuple_hash(const uint32_t* address, int family, uint32_t protocol, uint32_t src_port, uint32_t dst_port) {
#if defined(__x86_64__)
  if (HARDWARE) return hash_hardware(address, family, protocol, src_port, dst_port);
#endif
  return tuple_hash_table(address, family, protocol, src_port, dst_port);
}

bool tuple_hash_uses_hardware() { return HARDWARE; }

}  // namespace seine
