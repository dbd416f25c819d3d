// The loop over rows whose columns are filled: groups of rows whose index slots, entries and plans are prefetched before they are
// looked at, so that cache misses overlap.
#pragma once
#include "replay_packet.h"

namespace seine {

constexpr uint32_t GROUP = 16;

// Prefetches what a group of rows will need. A compiler takes a function that only prefetches for one without effect, and
// calls of it away (GCC 12 does): always inlined, they stay.
struct Lookahead {
  const Table& t;
  const BatchColumns* b;
  const int32_t* rows;
  uint32_t count;

  [[gnu::always_inline]] uint32_t* slot(uint32_t i) const { return t.slots + (b->hash[rows[i]] & t.slot_mask); }
  [[gnu::always_inline]] void slots(uint32_t from) const {
    for (uint32_t i = from; i < std::min(count, from + GROUP); i++) __builtin_prefetch(slot(i));
  }
  // The slot's first candidate: right for nearly all rows at a load of one half.
  [[gnu::always_inline]] void entries(uint32_t from) const {
    for (uint32_t i = from; i < std::min(count, from + GROUP); i++) {
      const uint32_t held = t.candidate(b->hash[rows[i]]);
      if (held == 0) continue;
      const uint32_t* e = t.entry(held - 1);
      __builtin_prefetch(e, 1);
      __builtin_prefetch(e + 16, 1);
    }
  }
  [[gnu::always_inline]] void plans(uint32_t from) const {
    for (uint32_t i = from; i < std::min(count, from + GROUP); i++) {
      const uint32_t held = t.candidate(b->hash[rows[i]]);
      if (held == 0) continue;
      const uint32_t* e = t.entry(held - 1);
      const uint32_t r = static_cast<uint32_t>(rows[i]);
      // Where both ends have one address this may be the other direction's, and no harm is done.
      const uint32_t turn = e[E::SRC] == b->address[r * 8 + (b->kind[r] == IP6 ? 3 : 0)] ? 0 : DIRECTION_WORDS;
      __builtin_prefetch(t.plan(e[E::DIRECTION + turn + D::PLAN]));
    }
  }
};

// Gives each row of the common kind to `decide(packet, row, outcome)`, writes and counts what it finishes, and lists the others in
// `rest`, in order, with every later row that may be of the same connection. Returns how many those are.
template <typename Decide>
inline uint32_t each_row(const Shard& c, BatchColumns* b, const int32_t* rows, uint32_t count, int32_t* rest, const Decide& decide) {
  std::memset(c.classes, 0, c.class_mask + 1);
  uint32_t left = 0;
  Counts counts;
  const Lookahead look{c.table, b, rows, count};
  for (uint32_t group = 0; group < 3 * GROUP; group += GROUP) look.slots(group);
  for (uint32_t group = 0; group < 2 * GROUP; group += GROUP) look.entries(group);
  look.plans(0);
  for (uint32_t group = 0; group < count; group += GROUP) {
    const uint32_t end = std::min(count, group + GROUP);
    look.slots(group + 3 * GROUP);
    look.entries(group + 2 * GROUP);
    look.plans(group + GROUP);
    for (uint32_t i = group; i < end; i++) {
      const uint32_t r = static_cast<uint32_t>(rows[i]);
      uint8_t& taken = c.classes[b->hash[r] & c.class_mask];
      Packet p;
      Outcome o;
      if (taken == 0 && read_columns(b, r, p) && decide(p, r, o)) {
        write_verdict(b, r, o);
        write_decision(b, r, o);
        count_packet(c, counts, o.plan, p.frame_octets);
        continue;
      }
      if (b->flags[r] & SOUND) taken = 1;
      rest[left++] = static_cast<int32_t>(r);
    }
  }
  counts.add_to(c);
  return left;
}

}  // namespace seine
