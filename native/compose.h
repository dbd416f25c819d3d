// Frames as they leave; documented in src/batch/compose.ts and src/batch/rewrite-table.ts.
#pragma once
#include "batch.h"
namespace seine {
constexpr size_t REWRITE_TABLE_SIZE = 65536 * 8 + 4096 * 64;
/** Octets that encapsulation adds at most: Ethernet, IPv6, UDP, VXLAN. */
constexpr size_t COMPOSE_OVERHEAD_MAX = 14 + 40 + 16;
/** Octets of a row's frame as it leaves; 0 where its outer length would pass 65,535. */
size_t composed_size(const BatchColumns* batch, const uint8_t* table, uint32_t row);
/** Writes them to `out`. */
void compose_row(const BatchColumns* batch, const uint8_t* data, const uint8_t* table, uint32_t row, uint8_t* out);
int64_t compose_rows(const BatchColumns* batch, const uint8_t* data, const uint8_t* table, const int32_t* rows,
                     uint32_t count, uint8_t* out, size_t out_at, size_t out_size, uint32_t* sizes);
}
