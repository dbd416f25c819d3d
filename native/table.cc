#include "table.h"
#include <algorithm>

namespace seine {
namespace {

// As src/conntrack/plan-table.ts sizes its index.
constexpr uint32_t PLAN_HEADER_WORDS = 16;
uint64_t power_of_two(double least) {
  uint64_t size = 64;
  while (static_cast<double>(size) < least) size *= 2;
  return size;
}

constexpr uint32_t FRESH = 0, FREE = 1, USED = 2;  // of the plans' header
constexpr uint32_t KEY_WORDS = 6;
constexpr uint32_t FORWARD = 1, DROPPED = 0xfffd, EGRESS_STAGE = 5;

uint32_t plan_hash(const uint32_t* key) {
  uint32_t hash = 0;
  for (uint32_t i = 0; i < KEY_WORDS; i++) hash = ((hash ^ key[i]) * 0x9e3779b1u) ^ (hash >> 15);
  return hash ^ (hash >> 16);
}

}  // namespace

int64_t Table::insert(uint32_t hash, const uint32_t* address, uint32_t ports, uint32_t key, uint32_t status) const {
  uint32_t index;
  if (words[H::FREE] != 0) {
    index = words[H::FREE] - 1;
    words[H::FREE] = cold_of(index)[C::WHEEL_NEXT];
  } else if (words[H::FRESH] < capacity) {
    index = words[H::FRESH];
    words[H::FRESH] = index + 1;
  } else {
    return -1;
  }
  uint32_t* e = entry(index);
  uint32_t* c = cold_of(index);
  std::memset(e, 0, ENTRY_WORDS * 4);
  std::memset(c, 0, COLD_WORDS * 4);
  const bool six = (key & 0xf00) == 0x600;
  e[E::SRC] = address[six ? 3 : 0];
  e[E::DST] = address[six ? 7 : 4];
  e[E::PORTS] = ports;
  e[E::KEY] = key;
  c[C::HASH] = hash;
  e[E::STATUS] = status | Status::USED;
  if (six) std::memcpy(addresses + static_cast<size_t>(index) * 8, address, 32);
  uint32_t slot = hash & slot_mask;
  while (slots[slot] != 0) slot = (slot + 1) & slot_mask;
  slots[slot] = (index + 1) | (hash >> 24 << 24);
  words[H::USED]++;
  return index;
}

void Table::remove(uint32_t index) const {
  uint32_t* e = entry(index);
  uint32_t* c = cold_of(index);
  unlink_wheel(index);
  unlist(index);
  for (uint32_t direction = 0; direction < 2; direction++) release(e[E::DIRECTION + direction * DIRECTION_WORDS + D::PLAN]);
  for (uint32_t direction = 0; direction < 2; direction++) e[E::DIRECTION + direction * DIRECTION_WORDS + D::PLAN] = 0;
  uint32_t slot = c[C::HASH] & slot_mask;
  while ((slots[slot] & SLOT_ENTRY) != index + 1) slot = (slot + 1) & slot_mask;
  // Backward shift: later entries of the run move up unless that would put them before their home slot.
  for (uint32_t next = (slot + 1) & slot_mask; slots[next] != 0; next = (next + 1) & slot_mask) {
    const uint32_t home = cold_of((slots[next] & SLOT_ENTRY) - 1)[C::HASH] & slot_mask;
    if (((next - home) & slot_mask) >= ((next - slot) & slot_mask)) {
      slots[slot] = slots[next];
      slot = next;
    }
  }
  slots[slot] = 0;
  e[E::STATUS] = 0;
  c[C::WHEEL_NEXT] = words[H::FREE];
  words[H::FREE] = index + 1;
  words[H::USED]--;
}

void Table::list(uint32_t index, uint32_t which) const {
  unlist(index);
  const uint32_t head = which == 0 ? H::UNREPLIED_HEAD : H::CLOSING_HEAD, tail = head + 1;
  const uint32_t last = words[tail];
  uint32_t* c = cold_of(index);
  c[C::LIST_PREV] = last;
  c[C::LIST_NEXT] = 0;
  if (last == 0) words[head] = index + 1;
  else cold_of(last - 1)[C::LIST_NEXT] = index + 1;
  words[tail] = index + 1;
  entry(index)[E::STATUS] |= which == 0 ? Status::LIST_UNREPLIED : Status::LIST_CLOSING;
}

void Table::unlist(uint32_t index) const {
  uint32_t& status = entry(index)[E::STATUS];
  if ((status & (Status::LIST_UNREPLIED | Status::LIST_CLOSING)) == 0) return;
  const uint32_t head = (status & Status::LIST_UNREPLIED) != 0 ? H::UNREPLIED_HEAD : H::CLOSING_HEAD;
  const uint32_t* c = cold_of(index);
  const uint32_t next = c[C::LIST_NEXT], prev = c[C::LIST_PREV];
  if (prev == 0) words[head] = next;
  else cold_of(prev - 1)[C::LIST_NEXT] = next;
  if (next == 0) words[head + 1] = prev;
  else cold_of(next - 1)[C::LIST_PREV] = prev;
  status &= ~(Status::LIST_UNREPLIED | Status::LIST_CLOSING);
}

void Table::arm(uint32_t index, double deadline) const {
  uint32_t* c = cold_of(index);
  if (words[H::STARTED] == 0) {
    words[H::STARTED] = 1;
    put64(words + H::TICK_LOW, static_cast<uint64_t>(deadline - 1));
  }
  const uint64_t last = get64(words + H::TICK_LOW);
  const uint64_t due = static_cast<uint64_t>(
      std::min(std::max(deadline, static_cast<double>(last + 1)), static_cast<double>(last + WHEEL_SLOTS - 1)));
  const int64_t linked = static_cast<int64_t>(c[C::ORIGIN] >> 16) - 1;
  if (linked >= 0) {
    const uint64_t waits = (static_cast<uint64_t>(linked) - last % WHEEL_SLOTS + WHEEL_SLOTS) % WHEEL_SLOTS;
    if (waits != 0 && waits <= due - last) return;
    unlink_wheel(index);
  }
  const uint32_t slot = static_cast<uint32_t>(due % WHEEL_SLOTS);
  const uint32_t head = wheel[slot];
  c[C::WHEEL_PREV] = 0;
  c[C::WHEEL_NEXT] = head;
  if (head != 0) cold_of(head - 1)[C::WHEEL_PREV] = index + 1;
  wheel[slot] = index + 1;
  c[C::ORIGIN] = (c[C::ORIGIN] & 0xffff) | ((slot + 1) << 16);
}

void Table::unlink_wheel(uint32_t index) const {
  uint32_t* c = cold_of(index);
  const int64_t slot = static_cast<int64_t>(c[C::ORIGIN] >> 16) - 1;
  if (slot < 0) return;
  const uint32_t next = c[C::WHEEL_NEXT], prev = c[C::WHEEL_PREV];
  if (prev == 0) wheel[slot] = next;
  else cold_of(prev - 1)[C::WHEEL_NEXT] = next;
  if (next != 0) cold_of(next - 1)[C::WHEEL_PREV] = prev;
  c[C::ORIGIN] &= 0xffff;
  c[C::WHEEL_NEXT] = 0;
  c[C::WHEEL_PREV] = 0;
}

uint32_t Table::intern(const uint32_t* key) const {
  uint32_t slot = plan_hash(key) & plan_slot_mask;
  for (; plan_slots[slot] != 0; slot = (slot + 1) & plan_slot_mask) {
    uint32_t* at = plan(plan_slots[slot]);
    if (std::memcmp(at, key, KEY_WORDS * 4) != 0) continue;
    at[P::REFERENCES]++;
    return plan_slots[slot];
  }
  uint32_t made = plan_header[FREE];
  if (made != 0) plan_header[FREE] = plan(made)[P::REFERENCES];
  else made = plan_header[FRESH]++;
  uint32_t* at = plan(made);
  std::memcpy(at, key, KEY_WORDS * 4);
  at[P::REFERENCES] = 1;
  const bool denied = (key[P::DECISION] & 0xff) != FORWARD && ((key[P::DECISION] >> 16) & 0xff) == EGRESS_STAGE;
  at[P::RULE] = denied ? key[P::EGRESS_RULE] : key[P::INGRESS_RULE] != 0 ? key[P::INGRESS_RULE] : key[P::EGRESS_RULE];
  plan_slots[slot] = made;
  plan_header[USED]++;
  return made;
}

void Table::release(uint32_t number) const {
  if (number == 0) return;
  uint32_t* at = plan(number);
  if (--at[P::REFERENCES] != 0) return;
  uint32_t slot = plan_hash(at) & plan_slot_mask;
  while (plan_slots[slot] != number) slot = (slot + 1) & plan_slot_mask;
  for (uint32_t next = (slot + 1) & plan_slot_mask; plan_slots[next] != 0; next = (next + 1) & plan_slot_mask) {
    const uint32_t home = plan_hash(plan(plan_slots[next])) & plan_slot_mask;
    if (((next - home) & plan_slot_mask) >= ((next - slot) & plan_slot_mask)) {
      plan_slots[slot] = plan_slots[next];
      slot = next;
    }
  }
  plan_slots[slot] = 0;
  std::memset(at, 0, PLAN_WORDS * 4);
  at[P::REFERENCES] = plan_header[FREE];
  plan_header[FREE] = number;
  plan_header[USED]--;
}

void Table::set_plan(uint32_t index, uint32_t direction, uint32_t port, uint32_t decision, uint32_t ingress_rule, uint32_t egress_rule,
                     uint32_t in_port) const {
  uint32_t* e = entry(index);
  uint32_t& number = e[E::DIRECTION + direction * DIRECTION_WORDS + D::PLAN];
  const uint32_t original = direction == 0 ? port : plan(e[E::DIRECTION + D::PLAN])[P::PORT];
  const uint32_t out = (decision & 0xff) == FORWARD ? port & 0xffff : DROPPED;
  const uint32_t key[KEY_WORDS] = {port, decision, ingress_rule, egress_rule, (in_port & 0xffff) | (out << 16),
                                   (cold_of(index)[C::ORIGIN] & 0xffff) | (original << 16)};
  const uint32_t made = intern(key);
  release(number);
  number = made;
  e[E::STATUS] &= ~(direction == 0 ? Status::REPLAY0 : Status::REPLAY1);
}

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
