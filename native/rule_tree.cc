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

template <uint32_t A>
struct Header {
  uint64_t words[A + 1];  // the tuple's, two by two
};
// Of each header, what a pack's fields are compared with.
template <uint32_t A>
struct Operands {
  uint32_t src[A][GROUP], dst[A][GROUP], protocol[GROUP], src_ports[GROUP], dst_ports[GROUP];
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
  // What differs of an address's word, whose prefix leaves `open` bits of all that follow it open.
  static inline uint64_t differs(uint64_t differ, int open) { return differ >> (open < 0 ? 0 : open > 32 ? 32 : open); }
  // A bit for each lane that matches.
  template <uint32_t A>
  static inline uint32_t compare(const uint32_t* pack, const Operands<A>& o, uint32_t i) {
    using L = Layout<A>;
    uint32_t found = 0;
    for (uint32_t lane = 0; lane < LANES; lane++) {
      const uint32_t meta = pack[L::P_META + lane];
      uint64_t address = 0;
      for (uint32_t w = 0; w < A; w++) {
        const int after = 32 * static_cast<int>(A - 1 - w);
        address |= differs(pack[L::P_SRC + w * LANES + lane] ^ o.src[w][i], static_cast<int>(meta & 0xff) - after) |
                   differs(pack[L::P_DST + w * LANES + lane] ^ o.dst[w][i], static_cast<int>(meta >> 8 & 0xff) - after);
      }
      const uint32_t sport = pack[L::P_SRC_PORTS + lane], dport = pack[L::P_DST_PORTS + lane];
      const uint32_t s = o.src_ports[i] & 0xffff, d = o.dst_ports[i] & 0xffff;
      const bool holds = address == 0 && ((meta ^ o.protocol[i]) & (meta >> 8) & 0x00ff0000) == 0 && (sport & 0xffff) <= s &&
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
  // What differs of an address's word: `open` bits of it and of what follows, `after`, are open.
  SEINE_FAST static inline __m256i differs(__m256i word, uint32_t wanted, __m256i open, uint32_t after) {
    // A shift by 32 and more gives 0.
    const __m256i here = after == 0 ? open : _mm256_max_epi32(_mm256_sub_epi32(open, all(after)), _mm256_setzero_si256());
    return _mm256_srlv_epi32(_mm256_xor_si256(word, all(wanted)), here);
  }
  template <uint32_t A>
  SEINE_FAST static inline uint32_t compare(const uint32_t* pack, const Operands<A>& o, uint32_t i) {
    using L = Layout<A>;
    const __m256i low = all(0xff), meta = field(pack, L::P_META), high = _mm256_srli_epi32(meta, 8);
    const __m256i src_open = _mm256_and_si256(meta, low), dst_open = _mm256_and_si256(high, low);
    __m256i differ = _mm256_and_si256(_mm256_and_si256(_mm256_xor_si256(meta, all(o.protocol[i])), high), all(0x00ff0000));
    for (uint32_t w = 0; w < A; w++) {
      const uint32_t after = 32 * (A - 1 - w);
      differ = _mm256_or_si256(differ, differs(field(pack, L::P_SRC + w * LANES), o.src[w][i], src_open, after));
      differ = _mm256_or_si256(differ, differs(field(pack, L::P_DST + w * LANES), o.dst[w][i], dst_open, after));
    }
    // low - port and ~high - ~port, both 0 where saturated: the port lies within.
    differ = _mm256_or_si256(differ, _mm256_subs_epu16(field(pack, L::P_SRC_PORTS), all(o.src_ports[i])));
    differ = _mm256_or_si256(differ, _mm256_subs_epu16(field(pack, L::P_DST_PORTS), all(o.dst_ports[i])));
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(differ, _mm256_setzero_si256()))));
  }
};
#endif

// One body for both forms: always_inline, so that it is compiled for the target of the function that it is used in.
template <typename Cpu, uint32_t A>
__attribute__((always_inline)) inline void classify_group(const uint32_t* tree, const uint32_t* version, const uint32_t* tuples,
                                                          uint32_t count, int32_t* results) {
  using L = Layout<A>;
  Header<A> headers[GROUP];
  Operands<A> o;
  uint64_t best[GROUP];
  Item nodes[GROUP], leaves[GROUP], chains[GROUP], found[GROUP];
  for (uint32_t i = 0; i < count; i++) {
    const uint32_t* t = tuples + i * L::TUPLE_WORDS;
    std::memcpy(&headers[i], t, sizeof headers[i]);
    for (uint32_t w = 0; w < A; w++) {
      o.dst[w][i] = t[L::DST + w];
      o.src[w][i] = t[L::SRC + w];
    }
    const uint32_t sport = t[L::PORTS] >> 16, dport = t[L::PORTS] & 0xffff;
    o.protocol[i] = (t[L::PROTOCOL] & 0xff) << 16;
    o.src_ports[i] = sport | (sport ^ 0xffff) << 16;
    o.dst_ports[i] = dport | (dport ^ 0xffff) << 16;
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
          const Header<A>& h = headers[item.header];
          uint64_t index = 0;
          for (uint32_t w = 0, rank = 0; w <= A; w++) {
            uint64_t mask;
            std::memcpy(&mask, node + 2 * w, 8);
            index |= Cpu::extract(h.words[w], mask) << rank;
            if (w < A) rank += Cpu::ones(mask);
          }
          const uint32_t child = node[L::TUPLE_WORDS + index], kind = child & 15;
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
          for (uint32_t packs = leaf & 15; packs != 0; packs--, pack += L::PACK_WORDS) {
            const uint32_t lanes = Cpu::template compare<A>(pack, o, i);
            if (lanes == 0) continue;
            slot = pack[L::P_SLOT + __builtin_ctz(lanes)];
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
          const uint32_t lanes = Cpu::template compare<A>(pack, o, item.header);
          const uint32_t slot = pack[L::P_SLOT + __builtin_ctz(lanes | 0x80)];
          __builtin_prefetch(rules + slot);
          found[found_count] = {slot, item.header};
          found_count += lanes != 0;
          // The next pack: one fewer, a pack further on.
          const uint32_t next = item.reference + L::PACK_WORDS - 1;
          __builtin_prefetch(tree + (next & ~15u) + L::PACK_WORDS);
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

template <uint32_t A>
void portable_group(const uint32_t* tree, const uint32_t* version, const uint32_t* tuples, uint32_t count, int32_t* results) {
  classify_group<Portable, A>(tree, version, tuples, count, results);
}
#if defined(__x86_64__)
template <uint32_t A>
SEINE_FAST void avx2_group(const uint32_t* tree, const uint32_t* version, const uint32_t* tuples, uint32_t count, int32_t* results) {
  classify_group<Avx2, A>(tree, version, tuples, count, results);
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
  const bool ip6 = tree[FAMILY] == 6;
  Group group = ip6 ? portable_group<4> : portable_group<1>;
#if defined(__x86_64__)
  if (!portable && rule_tree_uses_avx2()) group = ip6 ? avx2_group<4> : avx2_group<1>;
#endif
  // The epoch is seen by the writer before the version is read, so that what the version reaches stays (arena.ts).
  std::atomic_ref<uint32_t> epoch(tree[EPOCH]), own(tree[READERS + reader * UNIT_WORDS]), version(tree[VERSION]);
  own.store(epoch.load(std::memory_order_seq_cst), std::memory_order_seq_cst);
  const uint32_t* const now = tree + version.load(std::memory_order_seq_cst);
  for (uint32_t at = 0; at < count; at += GROUP)
    group(tree, now, tuples + static_cast<size_t>(at) * tuple_words(tree), count - at < GROUP ? count - at : GROUP, results + at);
  own.store(0, std::memory_order_release);
}

}  // namespace seine
