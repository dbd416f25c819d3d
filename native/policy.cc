#include "policy.h"

namespace seine {

uint32_t policy_decide_all(const PolicyContext& c, const uint32_t* questions, uint32_t count, int32_t* rules) {
  using namespace PolicyQuestion;
  constexpr uint32_t GROUP = 16;
  uint32_t missing = 0;
  for (uint32_t first = 0; first < count; first += GROUP) {
    const uint32_t end = first + GROUP < count ? first + GROUP : count;
    const auto question = [&](uint32_t i) { return questions + static_cast<size_t>(i) * WORDS; };
    for (uint32_t i = first; i < end; i++) {
      const uint32_t* q = question(i);
      policy_prefetch(c, q[DIRECTION], q[PORT], q + PEER, static_cast<int>(q[FAMILY]));
    }
    for (uint32_t i = first; i < end; i++) {
      const uint32_t* q = question(i);
      policy_prefetch_memo(c, q[DIRECTION], q[PORT], q + PEER, static_cast<int>(q[FAMILY]));
    }
    for (uint32_t i = first; i < end; i++) {
      const uint32_t* q = question(i);
      rules[i] = policy_decide(c, q[DIRECTION], q[PORT], q + PEER, nullptr, static_cast<int>(q[FAMILY]),
                               static_cast<uint8_t>(q[PROTOCOL]), q[DST_PORT]);
      missing += rules[i] == POLICY_NOT_MEMOISED;
    }
  }
  return missing;
}

}  // namespace seine
