// Flow records on their way out: their order, and NetFlow v5's records. Packed form: src/flow/flow-record.ts. References and
// meaning of all arguments: src/export/record-sort.ts, src/export/netflow5-records.ts.
#pragma once
#include <cstddef>
#include <cstdint>
#include "flow_record.h"

namespace seine {

constexpr uint32_t NETFLOW5_HEADER_SIZE = 24, NETFLOW5_RECORD_SIZE = 48, NETFLOW5_RECORDS_MAX = 30;

// Doubles, as JavaScript has them.
struct Netflow5State {
  double records, flows, taken, v6, boot_ms, clock_ms, clock_ns, now_ms, now_ns, octets_word, add_base, icmp_source;
};

// `words` and `out` have `count` records of room, `before` is ns since 1970.
uint32_t take_records(uint32_t* words, uint32_t count, bool all, uint64_t before, uint32_t* out);

// `words` has `size` words, `octets` room for a whole datagram; the state's octets_word is OCTETS or FRAME_OCTETS, its records
// at most NETFLOW5_RECORDS_MAX.
size_t encode_records(Netflow5State* state, const uint32_t* words, size_t size, size_t at, uint8_t* octets);

}  // namespace seine
