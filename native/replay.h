// Plan replay; documented in src/conntrack/replay.ts.
#pragma once
#include "batch.h"
#include "table.h"
namespace seine {
// What the kernels of one shard work on; made once (native/addon.cc checks every size then).
struct Shard {
  Table table;
  const uint32_t* epochs;         // by port number, 65,536
  const double* timeouts;         // ns, by src/conntrack/timeouts.ts
  const double* record_timeouts;  // ns: idle, active
  uint8_t* classes;
  uint32_t class_mask;
  uint64_t* counters;  // src/metrics/shared-counters.ts
  uint64_t* rules;     // packets, octets, connections by rule id
  uint32_t rules_max;
};
// Offsets of the timeouts used, as src/conntrack/timeouts.ts orders them; given at load.
struct ReplayTimeouts {
  uint32_t tcp_syn_sent, tcp_syn_recv, tcp_established, tcp_fin_wait, tcp_time_wait, tcp_close, udp_first, udp_single,
      udp_multiple;
};
extern ReplayTimeouts replay_timeouts;
// Where src/metrics/shared-counters.ts keeps packets and octets by verdict, and drops by stage × 64 + reason; given at load.
struct CounterIndices {
  uint32_t packets, octets, drops, total;
};
extern CounterIndices counter_indices;
uint32_t replay_rows(const Shard& shard, BatchColumns* batch, const int32_t* rows, uint32_t count, int32_t* slow);
}
