// Plan replay; documented in src/conntrack/replay.ts.
#pragma once
#include "batch.h"
namespace seine {
struct ReplayContext {
  uint32_t* words;  // the whole table memory
  uint32_t slot_mask;
  uint32_t slots_at, entries_at, addresses_at;  // word offsets
  const uint32_t* epochs;
  const double* timeouts;
  const double* record_timeouts;
  uint8_t* classes;
  uint32_t class_mask;
};
// Offsets of the timeouts used, as src/conntrack/timeouts.ts orders them; given at load.
struct ReplayTimeouts {
  uint32_t tcp_syn_sent, tcp_syn_recv, tcp_established, tcp_fin_wait, tcp_time_wait, tcp_close, udp_first, udp_single,
      udp_multiple;
};
extern ReplayTimeouts replay_timeouts;
uint32_t replay_rows(const ReplayContext& context, BatchColumns* batch, const int32_t* rows, uint32_t count,
                     int32_t* slow);
}
