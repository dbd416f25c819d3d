// The connection table as native code sees it: pointers into the memory of src/conntrack/table.ts, and what that file does,
// done here in the same way.
#pragma once
#include "entry.h"
#include <cstddef>
#include <atomic>
#include <cstdint>
#include <cstring>

namespace seine {

inline uint64_t get64(const uint32_t* at) {
  uint64_t value;
  std::memcpy(&value, at, 8);
  return value;
}
inline void put64(uint32_t* at, uint64_t value) { std::memcpy(at, &value, 8); }

constexpr uint32_t SLOT_ENTRY = 0xffffff;

// An entry's stores lie between these two: what a crash leaves marked is torn, and recovery mends it. The fences keep the
// compiler from moving stores out; x86 retires them in order.
inline void begin_change(uint32_t* e, uint32_t status) {
  e[E::STATUS] = status | Status::BUSY;
  std::atomic_thread_fence(std::memory_order_release);
}
inline void end_change(uint32_t* e) {
  std::atomic_thread_fence(std::memory_order_release);
  e[E::STATUS] &= ~Status::BUSY;
}

struct Table {
  uint32_t* words;
  uint32_t capacity, slot_mask;
  uint32_t *wheel, *slots, *cold, *entries, *addresses;
  uint32_t *plan_header, *plan_slots, *plans;
  uint32_t plan_slot_mask, plan_capacity;

  uint32_t* entry(uint32_t index) const { return entries + static_cast<size_t>(index) * ENTRY_WORDS; }
  uint32_t* cold_of(uint32_t index) const { return cold + static_cast<size_t>(index) * COLD_WORDS; }
  uint32_t* plan(uint32_t number) const { return plans + static_cast<size_t>(number) * PLAN_WORDS; }

  // The first entry whose slot bears the hash's tag, as a slot holds it: nearly always the right one, if any is. 0: none.
  [[gnu::always_inline]] uint32_t candidate(uint32_t hash) const {
    for (uint32_t slot = hash & slot_mask;; slot = (slot + 1) & slot_mask) {
      const uint32_t held = slots[slot];
      if (held == 0 || ((held ^ hash) >> 24) == 0) return held & SLOT_ENTRY;
    }
  }

  // A new entry of a key without discriminator (TCP, UDP); −1: no room. `address`: words 0–3 source, 4–7 destination.
  int64_t insert(uint32_t hash, const uint32_t* address, uint32_t ports, uint32_t key, uint32_t status) const;
  // Takes an entry out of index, wheel and lists, and frees it and its plans. Its records are the caller's to end before.
  void remove(uint32_t index) const;
  // Eviction lists: 0 unreplied, 1 closing.
  void list(uint32_t index, uint32_t which) const;
  void unlist(uint32_t index) const;
  // Links an entry to the wheel's slot of its deadline (a tick), or brings it forward to it.
  void arm(uint32_t index, double deadline) const;
  void unlink_wheel(uint32_t index) const;

  // Plans (src/conntrack/plan-table.ts). `key`: the words before P::REFERENCES. One more reference to what is returned.
  uint32_t intern(const uint32_t* key) const;
  void release(uint32_t plan) const;
  void set_plan(uint32_t index, uint32_t direction, uint32_t port, uint32_t decision, uint32_t ingress_rule, uint32_t egress_rule,
                uint32_t in_port) const;
};

// Fills the pointers from a table's memory; false where its header does not fit its size.
bool open_table(uint32_t* words, size_t size, Table& out);

}  // namespace seine
