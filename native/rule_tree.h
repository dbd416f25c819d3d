// First rule of each 5-tuple. Layout and meaning: src/policy/rule-tree/layout.ts; reference: src/policy/rule-tree/classify.ts.
#pragma once
#include <cstddef>
#include <cstdint>

namespace seine {

namespace RuleTree {
enum : uint32_t { MAGIC_AT = 0, WORDS = 1, EPOCH = 2, VERSION = 3, RULES_AT = 4, RULE_CAPACITY = 5, FAMILY = 6, READERS = 16 };
enum : uint32_t { MAGIC = 0x52544c31, UNIT_WORDS = 16, READERS_MAX = 64, LANES = 8, CHAIN = 15 };

// By the words of an address.
template <uint32_t A>
struct Layout {
  static constexpr uint32_t TUPLE_WORDS = 2 * A + 2, DST = 0, SRC = A, PROTOCOL = 2 * A, PORTS = 2 * A + 1;
  static constexpr uint32_t P_SRC = 0, P_DST = A * LANES, P_META = 2 * A * LANES, P_SRC_PORTS = P_META + LANES,
                            P_DST_PORTS = P_META + 2 * LANES, P_SLOT = P_META + 3 * LANES, PACK_WORDS = P_META + 4 * LANES;
};
inline uint32_t tuple_words(const uint32_t* tree) { return tree[FAMILY] == 6 ? Layout<4>::TUPLE_WORDS : Layout<1>::TUPLE_WORDS; }
}  // namespace RuleTree

// The caller has checked the header of `tree`, and that the arrays hold `count` tuples and results.
void classify_rules(uint32_t* tree, uint32_t reader, const uint32_t* tuples, uint32_t count, int32_t* results, bool portable);
bool rule_tree_uses_avx2();

}  // namespace seine
