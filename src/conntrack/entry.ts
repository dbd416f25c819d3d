/**
 * One entry of the connection table: ENTRY_WORDS hot words (two cache lines, all that a packet of an established connection
 * reads and writes), and COLD_WORDS more in an array of their own, which only slow rows and the timing wheel touch.
 * native/entry.h mirrors these offsets (compared at load). An entry is a connection (allowed by policy), a denied one
 * (each direction judged on its own, kept so that it stays denied and is recorded) or a loose record (packets that
 * belong to no connection: ICMP, spoofed, invalid, other in-port), whose key holds the in-port too.
 */
export const ENTRY_WORDS = 32;
export const E = {
  src: 0, // IPv4 address, or the last word of the IPv6 one (whole in the address block)
  dst: 1,
  ports: 2, // srcPort | dstPort << 16; ICMP: the request's type × 256 + code << 16
  key: 3, // protocol | family << 8 (| LOOSE_KEY) | vlan << 16
  status: 4,
  epochs: 5, // sum of the epochs of the original direction's two ports when the plans were made: both only grow
  expires: 6, // u64 ns, two words
  tcp: 8, // TCP: first side's window; the reply's lies TCP_WORDS on
  discriminator: 8, // ICMP: identifier; of a loose record: its in-port. Neither has TCP windows
  scales: 14, // window scales, SCALE_* bits: original side in the low half
  activeDue: 15, // low word of the tick in which an open record may reach its active timeout; never later than that
  direction: 16, // first direction; the reply's lies DIRECTION_WORDS on
} as const;

/** Offsets within a direction: its plan (conntrack/plan-table.ts) and its open flow record. */
export const DIRECTION_WORDS = 8;
export const D = {
  plan: 0, // 0 = none
  marks: 1, // tos | tcpFlags << 8 | verdict << 16 | dropReason << 24
  packets: 2, // ended with `resources` before it overflows
  excess: 3, // frame octets less layer-3 octets; the same
  octets: 4, // u64
  last: 6, // u64 ns
} as const;

/** Offsets of the cold words. */
export const COLD_WORDS = 12;
export const C = {
  first: 0, // u64 ns of the original direction's record, then of the reply's
  interfaces: 4, // inPort | outPort << 16 of either direction's record
  wheelNext: 6, // entry + 1
  wheelPrev: 7,
  listNext: 8, // eviction list
  listPrev: 9,
  origin: 10, // in-port of the original direction | wheel slot + 1 << 16
  hash: 11,
} as const;

/** Offsets within one side's TCP window state. */
export const TCP_WORDS = 3;
export const T = { end: 0, maxEnd: 1, maxWindow: 2 } as const;
/** A side's half of E.scales: the shift in its low octet; whether it is known, or the SYN was never seen. */
export const SCALE_SEEN_SYN = 0x100;
export const SCALE_OFFERED = 0x200;
export const scaleOf = (words: Uint32Array, at: number, side: number): number =>
  (words[at + E.scales]! >>> (side * 16)) & 0xffff;
export const setScale = (words: Uint32Array, at: number, side: number, scale: number): void => {
  words[at + E.scales] = (words[at + E.scales]! & (side === 0 ? 0xffff0000 : 0xffff)) | (scale << (side * 16));
};

export const LOOSE_KEY = 0x8000; // in E.key

/** Bits of E.status. The low octet holds the protocol's states: TCP a side each (4 bits), SCTP its state. */
export const Status = {
  Used: 0x100,
  SeenReply: 0x200,
  Denied: 0x400,
  Loose: 0x800,
  Multiple: 0x1000, // UDP and others: the original side sent more than one packet
  ListUnreplied: 0x2000,
  ListClosing: 0x4000,
  Record0: 0x8000, // the direction's flow record is open
  Record1: 0x10000,
  Plan0: 0x20000, // the direction's plan holds (subject to the epochs)
  Plan1: 0x40000,
  Closed: 0x80000, // TCP: reset, or both FINs acknowledged
  Flood: 0x100000, // goes to many ports: decided by the stages each time
  Cut: 0x200000, // Denied, and was admitted before a change: both directions stay closed until a SYN begins anew
  Replay0: 0x400000, // the open record is the plan's: same ports, same verdict. Then the fast path may go on
  Replay1: 0x800000,
  Busy: 0x1000000, // being changed: what a crash leaves with this bit is torn
} as const;
