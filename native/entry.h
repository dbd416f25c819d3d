// One entry of the connection table, and plans: mirrors src/conntrack/entry.ts, plan-table.ts and table.ts (compared at load).
#pragma once
#include <cstdint>

namespace seine {

constexpr uint32_t ENTRY_WORDS = 32, COLD_WORDS = 12, DIRECTION_WORDS = 8, TCP_WORDS = 3, PLAN_WORDS = 8;
namespace E {
constexpr uint32_t SRC = 0, DST = 1, PORTS = 2, KEY = 3, STATUS = 4, EPOCHS = 5, EXPIRES = 6, TCP = 8, DISCRIMINATOR = 8,
                   SCALES = 14, ACTIVE_DUE = 15, DIRECTION = 16;
}
namespace D {
constexpr uint32_t PLAN = 0, MARKS = 1, PACKETS = 2, EXCESS = 3, OCTETS = 4, LAST = 6;
}
namespace C {
constexpr uint32_t FIRST = 0, INTERFACES = 4, WHEEL_NEXT = 6, WHEEL_PREV = 7, LIST_NEXT = 8, LIST_PREV = 9, ORIGIN = 10, HASH = 11;
}
namespace T {
constexpr uint32_t END = 0, MAX_END = 1, MAX_WINDOW = 2;
}
namespace P {
constexpr uint32_t PORT = 0, DECISION = 1, INGRESS_RULE = 2, EGRESS_RULE = 3, INTERFACES = 4, BASIS = 5, REFERENCES = 6, RULE = 7;
}
namespace Status {
constexpr uint32_t USED = 0x100, SEEN_REPLY = 0x200, DENIED = 0x400, LOOSE = 0x800, MULTIPLE = 0x1000, LIST_UNREPLIED = 0x2000,
                   LIST_CLOSING = 0x4000, RECORD0 = 0x8000, RECORD1 = 0x10000, PLAN0 = 0x20000, PLAN1 = 0x40000, CLOSED = 0x80000,
                   FLOOD = 0x100000, CUT = 0x200000, REPLAY0 = 0x400000, REPLAY1 = 0x800000, BUSY = 0x1000000;
}

// Header of the table (src/conntrack/table.ts).
constexpr uint32_t HEADER_WORDS = 64, WHEEL_SLOTS = 4096, TICK_SHIFT = 27;
namespace H {
constexpr uint32_t CAPACITY = 0, SLOT_MASK = 1, FRESH = 2, FREE = 3, USED = 4, UNREPLIED_HEAD = 5, UNREPLIED_TAIL = 6, CLOSING_HEAD = 7,
                   CLOSING_TAIL = 8, TICK_LOW = 9, TICK_HIGH = 10, STARTED = 11, WHEEL_AT = 12, SLOTS_AT = 13, COLD_AT = 14,
                   ENTRIES_AT = 15, ADDRESSES_AT = 16, PLANS_AT = 17;
}

}  // namespace seine
