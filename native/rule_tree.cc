// Groups of headers go down a tree together, level by level: what the next level needs is prefetched while the others of
// the group are looked at, and lists are appended to without branches, since how deep a header goes can't be predicted.
#include "rule_tree.h"
#include <atomic>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace seine {
namespace {

using namespace RuleTree;

constexpr uint32_t GROUP = 64;

struct Header {
  uint64_t addresses;  // src << 32 | dst
  uint64_t rest;       // source port << 48 | destination port << 32 | protocol
};
// Of each header, what a pack is compared with: rule_tree.h, P_*.
struct Operands {
  uint32_t src[GROUP], dst[GROUP], protocol[GROUP], sport[GROUP], dport[GROUP];
};
struct Item {
  uint32_t reference, header;
};

inline void prefetch_block(const uint32_t* tree, uint32_t reference) {
  const char* at = reinterpret_cast<const char*>(tree + (reference & ~15u));
  __builtin_prefetch(at);
  __builtin_prefetch(at + 64);
  __builtin_prefetch(at + 128);
}

struct Portable {
  static inline uint64_t extract(uint64_t word, uint64_t mask) {
    uint64_t found = 0;
    for (uint64_t bit = 1; mask != 0; bit <<= 1, mask &= mask - 1)
      if ((word & mask & -mask) != 0) found |= bit;
    return found;
  }
  static inline uint32_t ones(uint64_t mask) { return static_cast<uint32_t>(__builtin_popcountll(mask)); }
  // A bit for each lane that matches.
  static inline uint32_t compare(const uint32_t* pack, const Operands& o, uint32_t i) {
    uint32_t found = 0;
    for (uint32_t lane = 0; lane < LANES; lane++) {
      const uint32_t meta = pack[P_META + lane];
      const uint64_t src = pack[P_SRC + lane] ^ o.src[i], dst = pack[P_DST + lane] ^ o.dst[i];
      const uint32_t sport = pack[P_SPORT + lane], dport = pack[P_DPORT + lane];
      const uint32_t s = o.sport[i] & 0xffff, d = o.dport[i] & 0xffff;
      const bool holds = (src >> (meta & 0xff)) == 0 && (dst >> (meta >> 8 & 0xff)) == 0 &&
                         ((meta ^ o.protocol[i]) & (meta >> 8) & 0x00ff0000) == 0 && (sport & 0xffff) <= s &&
                         s <= (~sport >> 16) && (dport & 0xffff) <= d && d <= (~dport >> 16);
      found |= static_cast<uint32_t>(holds) << lane;
    }
    return found;
  }
};

#if defined(__x86_64__)
#define SEINE_FAST __attribute__((target("avx2,bmi,bmi2,popcnt")))
struct Avx2 {
  SEINE_FAST static inline uint64_t extract(uint64_t word, uint64_t mask) { return _pext_u64(word, mask); }
  SEINE_FAST static inline uint32_t ones(uint64_t mask) { return static_cast<uint32_t>(_mm_popcnt_u64(mask)); }
  SEINE_FAST static inline __m256i all(uint32_t word) { return _mm256_set1_epi32(static_cast<int>(word)); }
  SEINE_FAST static inline __m256i field(const uint32_t* pack, uint32_t at) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(pack + at));
  }
  SEINE_FAST static inline uint32_t compare(const uint32_t* pack, const Operands& o, uint32_t i) {
    const __m256i low = all(0xff), meta = field(pack, P_META), high = _mm256_srli_epi32(meta, 8);
    const __m256i src = _mm256_srlv_epi32(_mm256_xor_si256(field(pack, P_SRC), all(o.src[i])), _mm256_and_si256(meta, low));
    const __m256i dst = _mm256_srlv_epi32(_mm256_xor_si256(field(pack, P_DST), all(o.dst[i])), _mm256_and_si256(high, low));
    const __m256i protocol =
        _mm256_and_si256(_mm256_and_si256(_mm256_xor_si256(meta, all(o.protocol[i])), high), all(0x00ff0000));
    // low - port and ~high - ~port, both 0 where saturated: the port lies within.
    const __m256i sport = _mm256_subs_epu16(field(pack, P_SPORT), all(o.sport[i]));
    const __m256i dport = _mm256_subs_epu16(field(pack, P_DPORT), all(o.dport[i]));
    const __m256i differs = _mm256_or_si256(_mm256_or_si256(_mm256_or_si256(src, dst), _mm256_or_si256(sport, dport)), protocol);
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(differs, _mm256_setzero_si256()))));
  }
};
#endif

// One body for both forms: always_inline, so that it is compiled for the target of the function that it is used in.
template <typename Cpu>
__attribute__((always_inline)) inline void classify_group(const uint32_t* tree, const uint32_t* version, const uint32_t* tuples,
                                                          uint32_t count, int32_t* results) {
  Header headers[GROUP];
  Operands o;
  uint64_t best[GROUP];
  Item nodes[GROUP], leaves[2 * GROUP], chains[GROUP], found[GROUP];
  for (uint32_t i = 0; i < count; i++) {
    const uint32_t* t = tuples + i * TUPLE_WORDS;
    std::memcpy(&headers[i], t, sizeof(Header));
    const uint32_t sport = t[3] >> 16, dport = t[3] & 0xffff;
    o.dst[i] = t[0];
    o.src[i] = t[1];
    o.protocol[i] = (t[2] & 0xff) << 16;
    o.sport[i] = sport | (sport ^ 0xffff) << 16;
    o.dport[i] = dport | (dport ^ 0xffff) << 16;
    best[i] = ~0ull;
  }
  const uint64_t* rules = reinterpret_cast<const uint64_t*>(tree + tree[RULES_AT]);
  const uint32_t trees = version[0];
  for (uint32_t t = 0; t < trees; t++) {
    const uint32_t root = version[1 + 2 * t];
    const uint64_t tree_best = static_cast<uint64_t>(version[2 + 2 * t]) << 32;
    uint32_t n = 0, leaf_count = 0, chain_count = 0, found_count = 0;
    // Every header that this tree may still have something better for.
    const bool is_leaf = (root & 15) != 0 && (root & 15) != CHAIN, is_chain = (root & 15) == CHAIN;
    Item* start = is_leaf ? leaves : is_chain ? chains : nodes;
    uint32_t waiting = 0;
    if (root != 0)
      for (uint32_t i = 0; i < count; i++) {
        start[waiting] = {root, i};
        waiting += best[i] > tree_best;
      }
    (is_leaf ? leaf_count : is_chain ? chain_count : n) = waiting;
    while (n + leaf_count + chain_count != 0) {
      while (n != 0) {
        uint32_t left = 0;
        for (uint32_t k = 0; k < n; k++) {
          const Item item = nodes[k];
          const uint32_t* node = tree + item.reference;
          uint64_t a, b;
          std::memcpy(&a, node, 8);
          std::memcpy(&b, node + 2, 8);
          const Header& h = headers[item.header];
          const uint64_t index = Cpu::extract(h.addresses, a) | Cpu::extract(h.rest, b) << Cpu::ones(a);
          const uint32_t child = node[NODE_MASKS + index], kind = child & 15;
          prefetch_block(tree, child);
          nodes[left] = leaves[leaf_count] = chains[chain_count] = {child, item.header};
          left += kind == 0 && child != 0;
          leaf_count += kind - 1 < CHAIN - 1;
          chain_count += kind == CHAIN;
        }
        n = left;
      }
      // A chain's leaf now, and what follows only for headers that found nothing in it; rare, so one at a time.
      for (uint32_t k = 0; k < chain_count; k++) {
        uint32_t reference = chains[k].reference;
        const uint32_t i = chains[k].header;
        uint32_t slot = UINT32_MAX;
        while (slot == UINT32_MAX && reference != 0) {
          const uint32_t* block = tree + (reference & ~15u);
          const bool more = (reference & 15) == CHAIN;
          const uint32_t leaf = more ? block[0] : reference;
          const uint32_t* pack = tree + (leaf & ~15u);
          for (uint32_t packs = leaf & 15; packs != 0; packs--, pack += PACK_WORDS) {
            const uint32_t lanes = Cpu::compare(pack, o, i);
            if (lanes == 0) continue;
            slot = pack[P_SLOT + __builtin_ctz(lanes)];
            break;
          }
          reference = more ? block[1] : 0;
        }
        found[found_count] = {slot, i};
        found_count += slot != UINT32_MAX;
      }
      chain_count = 0;
      while (leaf_count != 0) {
        uint32_t left = 0;
        for (uint32_t k = 0; k < leaf_count; k++) {
          const Item item = leaves[k];
          const uint32_t* pack = tree + (item.reference & ~15u);
          const uint32_t lanes = Cpu::compare(pack, o, item.header);
          const uint32_t slot = pack[P_SLOT + __builtin_ctz(lanes | 0x80)];
          __builtin_prefetch(rules + slot);
          found[found_count] = {slot, item.header};
          found_count += lanes != 0;
          // The next pack: one fewer, a pack further on.
          const uint32_t next = item.reference + PACK_WORDS - 1;
          __builtin_prefetch(tree + (next & ~15u) + PACK_WORDS);
          leaves[left] = {next, item.header};
          left += (lanes == 0) & ((item.reference & 15) > 1);
        }
        leaf_count = left;
      }
    }
    for (uint32_t k = 0; k < found_count; k++) {
      const uint64_t rule = rules[found[k].reference];
      uint64_t& b = best[found[k].header];
      b = rule < b ? rule : b;
    }
  }
  for (uint32_t i = 0; i < count; i++) results[i] = static_cast<int32_t>(best[i]);
}

using Group = void (*)(const uint32_t*, const uint32_t*, const uint32_t*, uint32_t, int32_t*);

void portable_group(const uint32_t* tree, const uint32_t* version, const uint32_t* tuples, uint32_t count, int32_t* results) {
  classify_group<Portable>(tree, version, tuples, count, results);
}
#if defined(__x86_64__)
SEINE_FAST void avx2_group(const uint32_t* tree, const uint32_t* version, const uint32_t* tuples, uint32_t count, int32_t* results) {
  classify_group<Avx2>(tree, version, tuples, count, results);
}
#endif

}  // namespace

bool rule_tree_uses_avx2() {
#if defined(__x86_64__)
  static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
  return has;
#else
  return false;
#endif
}

void classify_rules(uint32_t* tree, uint32_t reader, const uint32_t* tuples, uint32_t count, int32_t* results, bool portable) {
  Group group = portable_group;
#if defined(__x86_64__)
  if (!portable && rule_tree_uses_avx2()) group = avx2_group;
#endif
  // The epoch is seen by the writer before the version is read, so that what the version reaches stays (arena.ts).
  std::atomic_ref<uint32_t> epoch(tree[EPOCH]), own(tree[READERS + reader * UNIT_WORDS]), version(tree[VERSION]);
  own.store(epoch.load(std::memory_order_seq_cst), std::memory_order_seq_cst);
  const uint32_t* const now = tree + version.load(std::memory_order_seq_cst);
  for (uint32_t at = 0; at < count; at += GROUP)
    group(tree, now, tuples + static_cast<size_t>(at) * TUPLE_WORDS, count - at < GROUP ? count - at : GROUP, results + at);
  own.store(0, std::memory_order_release);
}

}  // namespace seine
