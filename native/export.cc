#include "export.h"
#include <algorithm>
#include <cstring>
#include <vector>

namespace seine {
namespace {

uint64_t u64(const uint32_t* at) { return (static_cast<uint64_t>(at[1]) << 32) | at[0]; }

int compare_words(const uint32_t* a, const uint32_t* b, uint32_t count) {
  for (uint32_t i = 0; i < count; i++)
    if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
  return 0;
}
template <typename T>
int compare(T a, T b) {
  return a == b ? 0 : a < b ? -1 : 1;
}

// Of records with the same time of export.
bool precedes(const uint32_t* a, const uint32_t* b) {
  int differs = compare(a[R::VERDICT] & 0xff, b[R::VERDICT] & 0xff);
  if (differs == 0) differs = compare_words(a, b, 8);
  if (differs == 0) differs = compare(a[R::PROTOCOL] & 0xff, b[R::PROTOCOL] & 0xff);
  if (differs == 0) differs = compare(a[R::PORTS] & 0xffff, b[R::PORTS] & 0xffff);
  if (differs == 0) differs = compare(a[R::PORTS] >> 16, b[R::PORTS] >> 16);
  if (differs == 0) differs = compare(a[R::INTERFACES] & 0xffff, b[R::INTERFACES] & 0xffff);
  if (differs == 0) differs = compare(u64(a + R::START), u64(b + R::START));
  if (differs == 0) differs = compare_words(a, b, RECORD_WORDS);
  return differs < 0;
}

void put16(uint8_t* at, uint32_t value) {
  const uint16_t swapped = __builtin_bswap16(static_cast<uint16_t>(value));
  std::memcpy(at, &swapped, 2);
}
void put32(uint8_t* at, uint32_t value) {
  const uint32_t swapped = __builtin_bswap32(value);
  std::memcpy(at, &swapped, 4);
}

}  // namespace

uint32_t take_records(uint32_t* words, uint32_t count, bool all, uint64_t before, uint32_t* out) {
  struct Due {
    uint64_t time;
    uint32_t record;
  };
  std::vector<Due> due;
  due.reserve(count);
  for (uint32_t record = 0; record < count; record++) {
    const uint64_t time = u64(words + static_cast<size_t>(record) * RECORD_WORDS + R::EXPORT);
    if (all || time < before) due.push_back({time, record});
  }
  const auto at = [words](uint32_t record) { return words + static_cast<size_t>(record) * RECORD_WORDS; };
  std::sort(due.begin(), due.end(), [&](const Due& a, const Due& b) {
    return a.time != b.time ? a.time < b.time : precedes(at(a.record), at(b.record));
  });
  for (size_t i = 0; i < due.size(); i++) std::memcpy(out + i * RECORD_WORDS, at(due[i].record), RECORD_WORDS * 4);
  uint32_t kept = 0;
  for (uint32_t record = 0; record < count && !all; record++) {
    if (u64(at(record) + R::EXPORT) < before) continue;
    if (kept != record) std::memcpy(at(kept), at(record), RECORD_WORDS * 4);
    kept++;
  }
  return static_cast<uint32_t>(due.size());
}

size_t encode_records(Netflow5State* state, const uint32_t* words, size_t size, size_t at, uint8_t* octets) {
  constexpr double UPTIME_MAX_MS = 4294967295.0;
  constexpr uint64_t NS_PER_MS = 1000000;
  constexpr uint32_t ICMP = 1;
  const size_t octets_word = static_cast<size_t>(state->octets_word);
  const bool mangled = state->add_base >= 0;
  const uint32_t base = mangled ? static_cast<uint32_t>(state->add_base) : 0;
  Netflow5State s = *state;
  uint8_t* o = octets + NETFLOW5_HEADER_SIZE + static_cast<size_t>(s.records) * NETFLOW5_RECORD_SIZE;
  for (; at + RECORD_WORDS <= size; at += RECORD_WORDS) {
    const uint32_t* w = words + at;
    if ((w[R::VERDICT] & 0xff) != 4) {
      s.v6++;
      s.taken++;
      continue;
    }
    if (s.records == NETFLOW5_RECORDS_MAX) break;
    if (w[R::PACKETS + 1] != 0 || w[octets_word + 1] != 0) break;
    const double start = static_cast<double>(u64(w + R::START) / NS_PER_MS), end = static_cast<double>(u64(w + R::END) / NS_PER_MS);
    const double clock = std::max(s.now_ms, end);
    if (clock - start > UPTIME_MAX_MS) break;
    const double clock_ns = clock == s.now_ms ? s.now_ns : 0;
    const bool later = s.records == 0 || clock > s.clock_ms || (clock == s.clock_ms && clock_ns > s.clock_ns);
    if (s.boot_ms < 0 || start < s.boot_ms || (later ? clock : s.clock_ms) - s.boot_ms > UPTIME_MAX_MS) break;
    if (later) {
      s.clock_ms = clock;
      s.clock_ns = clock_ns;
    }
    const uint32_t protocol = w[R::PROTOCOL], ports = w[R::PORTS];
    uint32_t src_port = ports & 0xffff, dst_port = ports >> 16;
    if ((protocol & 0xff) == ICMP && s.icmp_source == 1) {
      src_port = dst_port;
      dst_port = 0;
    }
    uint32_t input = w[R::INTERFACES] & 0xffff, output = w[R::INTERFACES] >> 16;
    if (mangled) {
      input = base | (input & 0x1ff);
      output = base | (output & 0x1ff);
    }
    put32(o, w[R::SRC]);
    put32(o + 4, w[R::DST]);
    put32(o + 8, 0);
    put16(o + 12, input);
    put16(o + 14, output);
    put32(o + 16, w[R::PACKETS]);
    put32(o + 20, w[octets_word]);
    put32(o + 24, static_cast<uint32_t>(start - s.boot_ms));
    put32(o + 28, static_cast<uint32_t>(std::max(0.0, end - s.boot_ms)));
    put16(o + 32, src_port);
    put16(o + 34, dst_port);
    o[36] = 0;
    o[37] = static_cast<uint8_t>(protocol >> 16);
    o[38] = static_cast<uint8_t>(protocol);
    o[39] = static_cast<uint8_t>((protocol >> 8) & 0xfc);
    put32(o + 40, 0);
    put32(o + 44, 0);
    o += NETFLOW5_RECORD_SIZE;
    s.records++;
    s.flows++;
    s.taken++;
  }
  *state = s;
  return at;
}

}  // namespace seine
