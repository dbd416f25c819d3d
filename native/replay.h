// Plan replay; documented in src/conntrack/replay.ts.
#pragma once
#include "packet.h"
#include "shard.h"
namespace seine {

// What the fast path says of a packet.
struct Outcome {
  const uint32_t* plan;
  uint32_t index, direction;
  uint8_t ct;
};

// Rows of a batch whose columns are filled. Returns how many it left in `slow`.
uint32_t replay_rows(const Shard& shard, BatchColumns* batch, const int32_t* rows, uint32_t count, int32_t* slow);

}  // namespace seine
