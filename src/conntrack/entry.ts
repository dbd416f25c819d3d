/**
 * One entry of the connection table: ENTRY_WORDS u32 words in shared memory, both directions in one entry.
 * native/entry.h mirrors these offsets (compared at load). An entry is a connection (allowed by policy), a denied one
 * (each direction judged on its own, kept so that it stays denied and is recorded) or a loose record (packets that
 * belong to no connection: ICMP, spoofed, invalid, other in-port), whose key holds the in-port too.
 */
export const ENTRY_WORDS = 56;
export const E = {
  src: 0, // IPv4 address, or the last word of the IPv6 one (whole in the address block)
  dst: 1,
  ports: 2, // srcPort | dstPort << 16; ICMP: the request's type × 256 + code << 16
  key: 3, // protocol | family << 8 (| LOOSE_KEY) | vlan << 16
  discriminator: 4, // ICMP identifier; of a loose record its in-port
  hash: 5,
  status: 6,
  expires: 7, // u64 ns, two words
  wheelNext: 9, // entry + 1
  wheelPrev: 10,
  listNext: 11, // eviction list
  listPrev: 12,
  epochIn: 13, // epochs of the original direction's two ports when the plan was made
  epochOut: 14,
  origin: 15, // in-port of the original direction | wheel slot << 16
  direction: 16, // first direction; the reply's lies DIRECTION_WORDS on
  tcp: 48, // first side; the reply's lies TCP_WORDS on
} as const;

/** Offsets within a direction: its open flow record, then its plan. */
export const DIRECTION_WORDS = 16;
export const D = {
  interfaces: 0, // inPort | outPort << 16
  marks: 1, // tos | tcpFlags << 8 | verdict << 16 | dropReason << 24
  packets: 2,
  octets: 4,
  frameOctets: 6,
  first: 8,
  last: 10,
  planPort: 12, // outPort | tunnel << 16
  planVerdict: 13, // verdict | dropReason << 8 | stage << 16 | rewrite << 24
  ingressRule: 14,
  egressRule: 15,
} as const;

/** Offsets within one side's TCP window state. */
export const TCP_WORDS = 4;
export const T = { end: 0, maxEnd: 1, maxWindow: 2, scale: 3 } as const;
/** In T.scale: the shift in its low octet; whether it is known, or the SYN was never seen. */
export const SCALE_SEEN_SYN = 0x100;
export const SCALE_OFFERED = 0x200;

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
} as const;
