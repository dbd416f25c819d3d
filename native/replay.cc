// Plan replay over rows whose columns are filled (src/conntrack/replay.ts).
#include "each_row.h"

namespace seine {

TimeoutIndices timeout_indices{};
CounterIndices counter_indices{};

uint32_t replay_rows(const Shard& c, BatchColumns* b, const int32_t* rows, uint32_t count, int32_t* slow) {
  const RecordLimits limits(c.record_timeouts);
  return each_row(c, b, rows, count, slow, [&](const Packet& p, uint32_t, Outcome& o) {
    const int64_t found = find(c.table, p);
    return found >= 0 && replay_packet(c, limits, p, found, o);
  });
}

}  // namespace seine
