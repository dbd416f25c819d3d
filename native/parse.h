// Frames to columns; documented in src/batch/parse.ts. `by_table`: hash by table even where the processor has the
// instruction, for tests.
#pragma once
#include "batch.h"
namespace seine {
void parse_rows(BatchColumns* batch, const uint8_t* data, uint32_t first, uint32_t count, bool by_table = false);
}
