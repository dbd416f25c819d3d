// The way of TCP and UDP packets over plain IP, decided natively as the stages decide them (src/pipeline): established connections
// by their plan, and what comes before that where nothing unusual is about it — handshakes, closing, first packets of admitted
// connections, records that are due. Whatever else there is, is left to the stages, untouched.
#pragma once
#include "replay.h"
namespace seine {

// How a call takes its rows.
struct JudgeOptions {
  uint32_t shard, shards;  // rows of other shards are left
  bool all_columns;        // fill every column of the rows that are finished, not only what front ends read
  bool by_table;           // tuple hash by table
  // Port 1 brings frames in VXLAN: the row becomes the inner frame where it is finished.
  bool tunnel_encapsulated;
};

// Rows 0 … count − 1 of a batch as its front end filled it. Returns how many it left in `rest`, in order, with their columns
// filled by parse_rows. `clock`: never goes back; in: the latest time so far, out: that of the last row. Times are
// clamped to it, or set to it where `stamp`.
uint32_t judge_batch(const Shard& shard, const Generation& generation, BatchColumns* batch, const uint8_t* data, uint32_t count,
                     const JudgeOptions& options, uint64_t& clock, bool stamp, int32_t* rest);

// The same for rows whose columns are filled.
uint32_t judge_rows(const Shard& shard, const Generation& generation, BatchColumns* batch, const uint8_t* data, const int32_t* rows,
                    uint32_t count, int32_t* rest);

}  // namespace seine
