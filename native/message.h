// Batches as clients send them and verdicts as they get them, in both encodings: MessagePack maps of the Unix socket
// (contract §4) and protobuf messages of gRPC (contract §5). References: src/batch/msgpack.ts and src/batch/protobuf.ts.
#pragma once
#include <cstddef>
#include <cstdint>
#include "batch.h"

namespace seine {

// src/batch/head.ts
enum HeadFlag : uint32_t { HEAD_NEGATIVE = 1, HEAD_RETURN_PACKETS = 2, HEAD_TIMED = 4 };
struct BatchHead {
  uint32_t id_low;
  uint32_t id_high;
  uint32_t flags;
};

// Reads one request into a batch: columns offset, length, wireLength, frameOctets, inPort, timeNs where given, and the frames.
// Returns how many frames it has; 0 for what is no sound batch within limits: the reference then says what is wrong. The
// columns may have been written to even then.
uint32_t read_msgpack(BatchColumns* b, uint8_t* data, size_t data_size, const uint8_t* message, size_t size, BatchHead* head);
uint32_t read_protobuf(BatchColumns* b, uint8_t* data, size_t data_size, const uint8_t* message, size_t size, BatchHead* head);

// Octets that the five verdict columns of `count` rows take at most, with everything around them.
constexpr size_t verdicts_bound(uint32_t count) { return 160 + static_cast<size_t>(count) * 13; }
// Writes the verdicts of a batch, `extra` more keys to follow (MessagePack), without the length in front. Returns the octets
// written; `out` holds verdicts_bound(count).
size_t write_msgpack(const BatchColumns* b, uint32_t count, const BatchHead& head, uint32_t extra, uint8_t* out);
size_t write_protobuf(const BatchColumns* b, uint32_t count, const BatchHead& head, uint8_t* out);

}  // namespace seine
