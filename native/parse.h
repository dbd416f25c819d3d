// Frames to columns; documented in src/batch/parse.ts.
#pragma once
#include "batch.h"
namespace seine {
void parse_rows(BatchColumns* batch, const uint8_t* data, uint32_t first, uint32_t count);
}
