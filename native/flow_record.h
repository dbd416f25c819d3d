// A packed flow record: mirrors src/flow/flow-record.ts (compared at load).
#pragma once
#include <cstdint>

namespace seine {

namespace R {
enum Word : uint32_t {
  SRC = 0,
  DST = 4,
  PORTS = 8,
  PROTOCOL = 9,
  INTERFACES = 10,
  VERDICT = 11,
  PACKETS = 12,
  OCTETS = 14,
  FRAME_OCTETS = 16,
  START = 18,
  END = 20,
  EXPORT = 22,
  INGRESS_RULE = 24,
  EGRESS_RULE = 25,
};
}  // namespace R
constexpr uint32_t RECORD_WORDS = 26;

}  // namespace seine
