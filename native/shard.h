// What the kernels of one shard work on: made once (native/addon.cc checks every size then), but for what an apply changes.
#pragma once
#include "policy.h"
#include "table.h"
#include <cstdint>

namespace seine {

// Offsets of the timeouts used, as src/conntrack/timeouts.ts orders them; given at load.
struct TimeoutIndices {
  uint32_t tcp_syn_sent, tcp_syn_recv, tcp_established, tcp_fin_wait, tcp_time_wait, tcp_close, udp_first, udp_single, udp_multiple;
};
extern TimeoutIndices timeout_indices;
// The same timeouts in whole ns.
struct TimeoutsNs {
  uint64_t tcp_syn_sent, tcp_syn_recv, tcp_established, tcp_fin_wait, tcp_time_wait, tcp_close, udp_first, udp_single, udp_multiple;
};
inline TimeoutsNs timeouts_ns(const double* t) {
  const TimeoutIndices& i = timeout_indices;
  const auto ns = [t](uint32_t index) { return static_cast<uint64_t>(t[index]); };
  return {ns(i.tcp_syn_sent), ns(i.tcp_syn_recv), ns(i.tcp_established), ns(i.tcp_fin_wait), ns(i.tcp_time_wait),
          ns(i.tcp_close),    ns(i.udp_first),    ns(i.udp_single),      ns(i.udp_multiple)};
}
// Where src/metrics/shared-counters.ts keeps packets and octets by verdict, and drops by stage × 64 + reason; given at load.
struct CounterIndices {
  uint32_t packets, octets, drops, connections_created, total;
};
extern CounterIndices counter_indices;

// A ring of ended records (src/flow/records-ring.ts).
struct RecordsRing {
  uint32_t* words;   // records
  uint32_t* header;  // head in word 0, tail in word 16
  uint32_t mask;
  // Records that can be written without waiting.
  uint32_t room() const { return mask + 1 - (header[0] - __atomic_load_n(header + 16, __ATOMIC_ACQUIRE)); }
};

// What stands for a generation of objects (src/pipeline/forwarding.ts): pointers hold for one call.
struct Generation {
  bool metering;
  const uint32_t* routes;
  const uint32_t* owners;
  const uint32_t* own_node;
  const uint32_t* peers;   // other nodes' addresses
  uint32_t tunnel_port;    // VXLAN's UDP port
  const uint8_t* ports;  // 8 octets a port number: MAC, 1 where the MAC is known, PortKind
  PolicyContext policy;
};

struct Shard {
  Table table;
  const uint32_t* epochs;         // by port number, 65,536
  TimeoutsNs timeouts;
  const double* record_timeouts;  // ns: idle, active
  uint8_t* classes;               // one octet a turn class
  uint32_t class_mask;
  uint64_t* counters;  // src/metrics/shared-counters.ts
  uint64_t* rules;     // packets, octets, connections by rule id
  uint32_t rules_max;
  // src/pipeline/shard.ts: entries by in-port, 65,536 for each shard; a line of peaks, then a line of totals for each shard.
  // Other shards' are written by other threads.
  int32_t* endpoints;
  int32_t* totals;
  uint32_t shard, shards;
  RecordsRing records;
  uint32_t max, max_per_endpoint;
  bool tcp_loose, tcp_liberal, replay;
};

}  // namespace seine
