#include "table.h"

namespace seine {
namespace {

// As src/conntrack/plan-table.ts sizes its index.
constexpr uint32_t PLAN_HEADER_WORDS = 16;
uint64_t power_of_two(double least) {
  uint64_t size = 64;
  while (static_cast<double>(size) < least) size *= 2;
  return size;
}

}  // namespace

bool open_table(uint32_t* words, size_t size, Table& out) {
  if (size < HEADER_WORDS) return false;
  const uint64_t capacity = words[H::CAPACITY], slots = static_cast<uint64_t>(words[H::SLOT_MASK]) + 1;
  if (capacity == 0 || capacity >= SLOT_ENTRY || slots != power_of_two(2.0 * static_cast<double>(capacity))) return false;
  const uint64_t plans = 2 * capacity + 1, plan_slots = power_of_two(static_cast<double>(plans) * 1.5);
  const auto part = [&](uint32_t where, uint64_t length) { return static_cast<uint64_t>(words[where]) + length <= size && words[where] >= HEADER_WORDS; };
  if (!part(H::WHEEL_AT, WHEEL_SLOTS) || !part(H::SLOTS_AT, slots) || !part(H::COLD_AT, capacity * COLD_WORDS) ||
      !part(H::ENTRIES_AT, capacity * ENTRY_WORDS) || !part(H::ADDRESSES_AT, capacity * 8) ||
      !part(H::PLANS_AT, PLAN_HEADER_WORDS + plan_slots + plans * PLAN_WORDS))
    return false;
  out.words = words;
  out.capacity = static_cast<uint32_t>(capacity);
  out.slot_mask = static_cast<uint32_t>(slots - 1);
  out.wheel = words + words[H::WHEEL_AT];
  out.slots = words + words[H::SLOTS_AT];
  out.cold = words + words[H::COLD_AT];
  out.entries = words + words[H::ENTRIES_AT];
  out.addresses = words + words[H::ADDRESSES_AT];
  out.plan_header = words + words[H::PLANS_AT];
  out.plan_slots = out.plan_header + PLAN_HEADER_WORDS;
  out.plans = out.plan_slots + plan_slots;
  out.plan_slot_mask = static_cast<uint32_t>(plan_slots - 1);
  out.plan_capacity = static_cast<uint32_t>(plans);
  return true;
}

}  // namespace seine
