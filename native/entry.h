// One entry of the connection table: mirrors src/conntrack/entry.ts (compared at load).
#pragma once
#include <cstdint>

namespace seine {

constexpr uint32_t ENTRY_WORDS = 56, DIRECTION_WORDS = 16, TCP_WORDS = 4;
namespace E {
constexpr uint32_t SRC = 0, DST = 1, PORTS = 2, KEY = 3, DISCRIMINATOR = 4, HASH = 5, STATUS = 6, EXPIRES = 7,
                   LIST_NEXT = 11, LIST_PREV = 12, EPOCH_IN = 13, EPOCH_OUT = 14, ORIGIN = 15, DIRECTION = 16, TCP = 48;
}
namespace D {
constexpr uint32_t INTERFACES = 0, MARKS = 1, PACKETS = 2, OCTETS = 4, FRAME_OCTETS = 6, FIRST = 8, LAST = 10,
                   PLAN_PORT = 12, PLAN_VERDICT = 13, INGRESS_RULE = 14, EGRESS_RULE = 15;
}
namespace T {
constexpr uint32_t END = 0, MAX_END = 1, MAX_WINDOW = 2, SCALE = 3;
}
namespace Status {
constexpr uint32_t SEEN_REPLY = 0x200, DENIED = 0x400, MULTIPLE = 0x1000, LIST_UNREPLIED = 0x2000, LIST_CLOSING = 0x4000, RECORD0 = 0x8000, RECORD1 = 0x10000,
                   PLAN0 = 0x20000, PLAN1 = 0x40000, CLOSED = 0x80000, FLOOD = 0x100000, CUT = 0x200000;
}

// Header of the table (src/conntrack/table.ts).
namespace H {
constexpr uint32_t CLOSING_HEAD = 7, CLOSING_TAIL = 8;
}

}  // namespace seine
