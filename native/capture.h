// The walk over a capture's ordinary packets. Reference and meaning of all arguments: src/capture/scan.ts.
#pragma once
#include <cstddef>
#include <cstdint>
#include "batch.h"

namespace seine {

struct ScanState {
  uint32_t format, little, position, end, rows_limit, count, octets, clock_low, clock_high, in_port, in_port_step, reserved[5];
};
struct CaptureInterface {
  uint32_t link, ns_per_unit;
};
enum Scan : int { SCAN_NEED_MORE, SCAN_FULL, SCAN_OTHER };
enum CaptureFormat : uint32_t { FORMAT_PCAP, FORMAT_PCAPNG };
enum LinkKind : uint32_t { LINK_ETHERNET, LINK_RAW, LINK_RAW4, LINK_RAW6, LINK_LOOPBACK, LINK_COOKED1, LINK_COOKED2, LINK_KINDS };

constexpr uint32_t CAPTURED_MAX_SIZE = 262144, PACKET_OPTIONS_MAX_SIZE = 256 * 1024;
constexpr uint32_t FRAME_MAX_SIZE = 65557, BATCH_OCTETS_LIMIT = 3 * 1024 * 1024;

// `state`: position ≤ end ≤ the data's size, position ≥ 16, rows_limit ≤ BATCH_ROWS; link kinds are below LINK_KINDS. Columns
// and own_time (two words a row), interface_id have BATCH_ROWS rows.
Scan scan_records(BatchColumns* b, uint8_t* data, ScanState* state, const CaptureInterface* interfaces, uint32_t interface_count,
                  uint32_t* own_time, uint32_t* interface_id);

}  // namespace seine
