// Symmetric tuple hash; documented in src/flow/tuple-hash.ts. Inline for kernels that hash row by row: they are compiled
// once for each way of taking a CRC-32C step, and choose between the two once a call.
#pragma once
#include <cstdint>

namespace seine {

constexpr uint32_t TUPLE_HASH_SEED = 0x9e3779b9;

struct Crc32cTable {
  uint32_t word[256];
  constexpr Crc32cTable() : word() {
    for (uint32_t i = 0; i < 256; i++) {
      uint32_t crc = i;
      for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) ? 0x82f63b78u : 0);
      word[i] = crc;
    }
  }
};
inline constexpr Crc32cTable CRC32C_TABLE;

struct TableStep {
  static uint32_t step(uint32_t crc, uint32_t word) {
    uint32_t c = crc ^ word;
    for (int i = 0; i < 4; i++) c = (c >> 8) ^ CRC32C_TABLE.word[c & 0xff];
    return c;
  }
};

#if defined(__x86_64__)
// SSE4.2's instruction. As assembly, because an intrinsic may only be inlined where the whole function is built for SSE4.2.
struct InstructionStep {
  static uint32_t step(uint32_t crc, uint32_t word) {
    asm("crc32l %[word], %[crc]" : [crc] "+r"(crc) : [word] "rm"(word) : "cc");
    return crc;
  }
};
// Asked only where tuple_hash_uses_hardware().
using HardwareStep = InstructionStep;
#else
using HardwareStep = TableStep;
#endif

// `source` and `destination`: WORDS words in host order. Ports are 16 bits.
template <typename Crc, int WORDS>
inline uint32_t tuple_hash_of(const uint32_t* source, const uint32_t* destination, uint32_t protocol, uint32_t src_port, uint32_t dst_port) {
  bool forward = src_port <= dst_port;
  for (int i = WORDS - 1; i >= 0; i--) forward = source[i] == destination[i] ? forward : source[i] < destination[i];
  // Without branches: which end is the lower one is as good as random.
  uint32_t low[WORDS], high[WORDS];
  for (int i = 0; i < WORDS; i++) {
    low[i] = forward ? source[i] : destination[i];
    high[i] = forward ? destination[i] : source[i];
  }
  uint32_t crc = TUPLE_HASH_SEED;
  for (int i = 0; i < WORDS; i++) crc = Crc::step(crc, low[i]);
  for (int i = 0; i < WORDS; i++) crc = Crc::step(crc, high[i]);
  crc = Crc::step(crc, forward ? src_port | (dst_port << 16) : dst_port | (src_port << 16));
  crc = Crc::step(crc, protocol);
  crc = (crc ^ (crc >> 16)) * 0x85ebca6bu;
  return crc ^ (crc >> 13);
}

// `address`: words 0–3 source, 4–7 destination.
template <typename Crc>
inline uint32_t tuple_hash_by(const uint32_t* address, int family, uint32_t protocol, uint32_t src_port, uint32_t dst_port) {
  return family == 6 ? tuple_hash_of<Crc, 4>(address, address + 4, protocol, src_port, dst_port)
                     : tuple_hash_of<Crc, 1>(address, address + 4, protocol, src_port, dst_port);
}

// By the instruction where the processor has it, else by table.
uint32_t tuple_hash(const uint32_t* address, int family, uint32_t protocol, uint32_t src_port, uint32_t dst_port);
bool tuple_hash_uses_hardware();
// The table form, for tests on processors that have the instruction.
uint32_t tuple_hash_table(const uint32_t* address, int family, uint32_t protocol, uint32_t src_port, uint32_t dst_port);

}  // namespace seine
