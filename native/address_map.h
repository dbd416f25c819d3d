// Longest-prefix look-ups in an address map; its layout and its writer are documented in src/flow/address-map.ts. A map is one
// block of words, swapped whole: no look-up sees half a change.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>

namespace seine {

namespace AddressMapHead {
constexpr uint32_t HOSTS4 = 0, PREFIXES4 = 2, HOSTS6 = 4, PREFIXES6 = 6, LENGTHS6 = 8, LENGTHS4 = 16, HEAD = 272;
}

inline uint32_t address_hash4(uint32_t a, uint32_t length) {
  uint32_t h = (a ^ (length * 0x85ebca6bu)) * 0x9e3779b1u;
  h = (h ^ (h >> 15)) * 0x2c1b3c6du;
  return h ^ (h >> 13);
}
inline uint32_t address_hash6(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t length) {
  uint32_t h = (a ^ (length * 0x85ebca6bu)) * 0x9e3779b1u;
  h = ((h ^ (h >> 15)) + b) * 0x85ebca6bu;
  h = ((h ^ (h >> 13)) + c) * 0xc2b2ae35u;
  h = ((h ^ (h >> 16)) + d) * 0x27d4eb2fu;
  return h ^ (h >> 15);
}
// Bits of the `word`th word of an address that a prefix of that length holds.
inline uint32_t address_mask(uint32_t length, uint32_t word) {
  const int32_t bits = static_cast<int32_t>(length) - static_cast<int32_t>(word * 32);
  return bits <= 0 ? 0 : bits >= 32 ? 0xffffffffu : ~(0xffffffffu >> bits);
}

// Prefetches the slot of the whole address: most look-ups of pods end there.
inline void address_prefetch(const uint32_t* map, const uint32_t* address, int family) {
  using namespace AddressMapHead;
  if (family == 6) {
    const uint32_t slot = address_hash6(address[0], address[1], address[2], address[3], 0) & map[HOSTS6 + 1];
    __builtin_prefetch(map + map[HOSTS6] + static_cast<size_t>(slot) * 8);
  } else {
    const uint32_t slot = address_hash4(address[0], 0) & map[HOSTS4 + 1];
    __builtin_prefetch(map + map[HOSTS4] + static_cast<size_t>(slot) * 2);
  }
}

inline uint32_t address_lookup4(const uint32_t* map, uint32_t a) {
  using namespace AddressMapHead;
  const uint32_t* base = map + map[HOSTS4];
  uint32_t mask = map[HOSTS4 + 1];
  for (uint32_t slot = address_hash4(a, 0) & mask;; slot = (slot + 1) & mask) {
    const uint32_t* s = base + static_cast<size_t>(slot) * 2;
    if (s[1] == 0) break;
    if (s[0] == a) return s[1];
  }
  uint32_t lengths = map[LENGTHS4 + (a >> 24)];
  base = map + map[PREFIXES4];
  mask = map[PREFIXES4 + 1];
  while (lengths != 0) {
    const uint32_t length = 31 - static_cast<uint32_t>(std::countl_zero(lengths));
    lengths &= ~(1u << length);
    const uint32_t key = a & address_mask(length, 0);
    for (uint32_t slot = address_hash4(key, length) & mask;; slot = (slot + 1) & mask) {
      const uint32_t* s = base + static_cast<size_t>(slot) * 4;
      if (s[2] == 0) break;
      if (s[0] == key && s[1] == length) return s[2];
    }
  }
  return 0;
}

inline uint32_t address_lookup6(const uint32_t* map, const uint32_t* address) {
  using namespace AddressMapHead;
  const uint32_t a = address[0], b = address[1], c = address[2], d = address[3];
  const uint32_t* base = map + map[HOSTS6];
  uint32_t mask = map[HOSTS6 + 1];
  for (uint32_t slot = address_hash6(a, b, c, d, 0) & mask;; slot = (slot + 1) & mask) {
    const uint32_t* s = base + static_cast<size_t>(slot) * 8;
    if (s[4] == 0) break;
    if (s[0] == a && s[1] == b && s[2] == c && s[3] == d) return s[4];
  }
  base = map + map[PREFIXES6];
  mask = map[PREFIXES6 + 1];
  for (int word = 3; word >= 0; word--) {
    uint32_t lengths = map[LENGTHS6 + word];
    while (lengths != 0) {
      const uint32_t bit = 31 - static_cast<uint32_t>(std::countl_zero(lengths));
      lengths &= ~(1u << bit);
      const uint32_t length = static_cast<uint32_t>(word) * 32 + bit;
      const uint32_t k = a & address_mask(length, 0), l = b & address_mask(length, 1);
      const uint32_t m = c & address_mask(length, 2), n = d & address_mask(length, 3);
      for (uint32_t slot = address_hash6(k, l, m, n, length) & mask;; slot = (slot + 1) & mask) {
        const uint32_t* s = base + static_cast<size_t>(slot) * 8;
        if (s[5] == 0) break;
        if (s[0] == k && s[1] == l && s[2] == m && s[3] == n && s[4] == length) return s[5];
      }
    }
  }
  return 0;
}

// The value of the longest prefix that holds the address (4 words, IPv4 in the first); 0 = none. family: 4 or 6.
inline uint32_t address_lookup(const uint32_t* map, const uint32_t* address, int family) {
  return family == 6 ? address_lookup6(map, address) : address_lookup4(map, address[0]);
}

// Do a map's tables lie within its `size` words? For whoever takes one from outside.
inline bool address_map_fits(const uint32_t* map, size_t size) {
  using namespace AddressMapHead;
  if (size < HEAD) return false;
  constexpr uint32_t STRIDE[4] = {2, 4, 8, 8};
  for (int table = 0; table < 4; table++) {
    const uint64_t start = map[table * 2], slots = static_cast<uint64_t>(map[table * 2 + 1]) + 1;
    if ((slots & (slots - 1)) != 0 || start < HEAD || start + slots * STRIDE[table] > size) return false;
  }
  return true;
}

}  // namespace seine
