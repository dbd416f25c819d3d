// The connection table as native code sees it: pointers into the memory of src/conntrack/table.ts.
#pragma once
#include "entry.h"
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace seine {

inline uint64_t get64(const uint32_t* at) {
  uint64_t value;
  std::memcpy(&value, at, 8);
  return value;
}
inline void put64(uint32_t* at, uint64_t value) { std::memcpy(at, &value, 8); }

struct Table {
  uint32_t* words;
  uint32_t capacity, slot_mask;
  uint32_t *wheel, *slots, *cold, *entries, *addresses;
  uint32_t *plan_header, *plan_slots, *plans;
  uint32_t plan_slot_mask, plan_capacity;

  uint32_t* entry(uint32_t index) const { return entries + static_cast<size_t>(index) * ENTRY_WORDS; }
  uint32_t* cold_of(uint32_t index) const { return cold + static_cast<size_t>(index) * COLD_WORDS; }
  uint32_t* plan(uint32_t number) const { return plans + static_cast<size_t>(number) * PLAN_WORDS; }
};

constexpr uint32_t SLOT_ENTRY = 0xffffff;

// Fills the pointers from a table's memory; false where its header does not fit its size.
bool open_table(uint32_t* words, size_t size, Table& out);

}  // namespace seine
