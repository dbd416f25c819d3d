#include "sweep.h"
#include "records.h"
#include <algorithm>

namespace seine {
namespace {

constexpr uint32_t LOOSE_KEY = 0x8000, TOTALS_WORDS = 16, ENTRIES = 0, CONNECTIONS = 2;
// An entry ends one record a direction at most.
constexpr uint32_t RECORDS_PER_ENTRY = 2;

struct Sweep {
  const Shard& c;
  const Records records;
  const uint64_t now;

  void count_out(uint32_t total) const { __atomic_sub_fetch(c.totals + (1 + c.shard) * TOTALS_WORDS + total, 1, __ATOMIC_SEQ_CST); }

  // Book-keeping of an entry that goes (Shard.removed of src/pipeline/shard.ts).
  void removed(uint32_t index) const {
    const uint32_t in_port = c.table.cold_of(index)[C::ORIGIN] & 0xffff;
    __atomic_sub_fetch(c.endpoints + c.shard * size_t{65536} + in_port, 1, __ATOMIC_SEQ_CST);
    count_out(ENTRIES);
    if ((c.table.entry(index)[E::STATUS] & (Status::DENIED | Status::LOOSE)) == 0) count_out(CONNECTIONS);
  }

  void visit(uint32_t index) const {
    const uint32_t* e = c.table.entry(index);
    for (uint32_t direction = 0; direction < 2; direction++)
      if ((e[E::STATUS] & record_bit(direction)) != 0) records.end_if_due(index, direction, now);
    const bool open = (e[E::STATUS] & (Status::RECORD0 | Status::RECORD1)) != 0;
    if (open || (now < get64(e + E::EXPIRES) && (e[E::KEY] & LOOSE_KEY) == 0)) {
      c.table.arm(index, records.due_tick(index));
      return;
    }
    removed(index);
    c.table.remove(index);
  }
};

}  // namespace

bool sweep_shard(const Shard& c, uint64_t now) {
  const Table& t = c.table;
  if (t.words[H::STARTED] == 0) return true;
  const uint64_t last = get64(t.words + H::TICK_LOW), tick = now >> TICK_SHIFT;
  if (tick == 0 || tick - 1 <= last) return true;
  const uint64_t slots = std::min<uint64_t>(tick - 1 - last, WHEEL_SLOTS);
  const Sweep sweep{c, Records{c}, now};
  put64(t.words + H::TICK_LOW, tick - 1);
  for (uint64_t i = 1; i <= slots; i++) {
    const uint32_t slot = static_cast<uint32_t>((last + i) % WHEEL_SLOTS);
    // The slot's chain is taken off first: what is armed again may land in the same slot, a turn later.
    uint32_t next = t.wheel[slot];
    t.wheel[slot] = 0;
    while (next != 0) {
      const uint32_t index = next - 1;
      uint32_t* cold = t.cold_of(index);
      if (c.records.room() < RECORDS_PER_ENTRY) {
        // The rest of the chain goes back, before what was armed there meanwhile.
        uint32_t end = index;
        while (t.cold_of(end)[C::WHEEL_NEXT] != 0) end = t.cold_of(end)[C::WHEEL_NEXT] - 1;
        const uint32_t there = t.wheel[slot];
        t.cold_of(end)[C::WHEEL_NEXT] = there;
        if (there != 0) t.cold_of(there - 1)[C::WHEEL_PREV] = end + 1;
        cold[C::WHEEL_PREV] = 0;
        t.wheel[slot] = index + 1;
        put64(t.words + H::TICK_LOW, last + i - 1);
        return false;
      }
      next = cold[C::WHEEL_NEXT];
      cold[C::ORIGIN] &= 0xffff;
      cold[C::WHEEL_NEXT] = 0;
      cold[C::WHEEL_PREV] = 0;
      if (next != 0) {
        t.cold_of(next - 1)[C::WHEEL_PREV] = 0;
        // The wheel's order is not the memory's: the next entry is on its way meanwhile.
        __builtin_prefetch(t.entry(next - 1));
        __builtin_prefetch(t.entry(next - 1) + 16);
        __builtin_prefetch(t.cold_of(next - 1));
      }
      sweep.visit(index);
    }
  }
  return true;
}

}  // namespace seine
