// Frames as they leave; documented in src/batch/compose.ts and src/batch/rewrite-table.ts.
#pragma once
#include "batch.h"
namespace seine {
constexpr size_t REWRITE_TABLE_SIZE = 65536 * 8 + 4096 * 64;
int64_t compose_rows(const BatchColumns* batch, const uint8_t* data, const uint8_t* table, const int32_t* rows,
                     uint32_t count, uint8_t* out, size_t out_at, size_t out_size, uint32_t* sizes);
}
