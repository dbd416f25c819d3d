// The sweep of a shard's timing wheel: ends records that are due, frees entries that have expired and have none. Says what
// FlowAccounting.sweep of src/conntrack/flow-accounting.ts says.
#pragma once
#include "shard.h"
#include <cstdint>

namespace seine {

// Sweeps up to `now`, ns since 1970. False: the ring of records is full; the wheel stands where the reference can go on.
bool sweep_shard(const Shard& shard, uint64_t now);

}  // namespace seine
