// First rule of each 5-tuple. Layout and meaning: src/policy/rule-tree/layout.ts; reference: src/policy/rule-tree/classify.ts.
#pragma once
#include <cstddef>
#include <cstdint>

namespace seine {

namespace RuleTree {
enum : uint32_t { MAGIC_AT = 0, WORDS = 1, EPOCH = 2, VERSION = 3, RULES_AT = 4, RULE_CAPACITY = 5, READERS = 16 };
enum : uint32_t { MAGIC = 0x52544c31, UNIT_WORDS = 16, READERS_MAX = 64, NODE_MASKS = 4, LANES = 8, PACK_WORDS = 48, CHAIN = 15, TUPLE_WORDS = 4 };
enum : uint32_t { P_SRC = 0, P_DST = 8, P_META = 16, P_SPORT = 24, P_DPORT = 32, P_SLOT = 40 };
}  // namespace RuleTree

// The caller has checked the header of `tree`, and that the arrays hold `count` tuples and results.
void classify_rules(uint32_t* tree, uint32_t reader, const uint32_t* tuples, uint32_t count, int32_t* results, bool portable);
bool rule_tree_uses_avx2();

}  // namespace seine
