/**
 * The ordinary records of a NetFlow v5 datagram, as many as fit: IPv4, counters in 32 bits, times that the datagram's boot and
 * clock can say. What is out of the ordinary stops it, and netflow5.ts deals with that one. Reference of native/export.cc.
 */
import { R, RECORD_WORDS } from '../flow/flow-record.js';

export const NETFLOW5_HEADER_SIZE = 24;
export const NETFLOW5_RECORD_SIZE = 48;
export const NETFLOW5_RECORDS_MAX = 30;
export const UPTIME_MAX_MS = 0xffffffff;
const ICMP = 1;

/** The encoder's state, doubles: milliseconds since 1970 are whole numbers in them. */
export const N = {
  records: 0, // in the datagram in hand
  flows: 1, // of them, those that end a flow record
  taken: 2, // packed records taken in all, written or lost
  v6: 3, // of them, IPv6 ones, which are passed over
  bootMs: 4, // −1 before the first record
  clockMs: 5, // header clock of the datagram in hand, and the rest of its millisecond
  clockNs: 6,
  nowMs: 7, // the engine's clock, and the rest of its millisecond
  nowNs: 8,
  octetsWord: 9, // R.octets or R.frameOctets
  addBase: 10, // what interfaces' lower 9 bits are added to; −1: interfaces as they are
  icmpSource: 11, // 1: ICMP type and code in the source port
} as const;
export const STATE_NUMBERS = 12;

/** Whole milliseconds of a 64-bit count of nanoseconds given as two words: exact, without BigInt. */
export function millisecondsOf(low: number, high: number): number {
  // 2^32 = 4294 × 10^6 + 967296, and high × 967296 + low stays below 2^53.
  return high * 4294 + Math.floor((high * 967_296 + low) / 1_000_000);
}

/**
 * Writes records of `words` from word `at` on into the datagram `octets`, until it is full, they end, or the next one is none
 * for it. Returns the word where it stopped.
 */
export function encodeRecords(state: Float64Array, words: Uint32Array, at: number, octets: Uint8Array): number {
  const octetsWord = state[N.octetsWord]!;
  for (; at + RECORD_WORDS <= words.length; at += RECORD_WORDS) {
    if ((words[at + R.verdict]! & 0xff) !== 4) {
      state[N.v6] = state[N.v6]! + 1;
      state[N.taken] = state[N.taken]! + 1;
      continue;
    }
    if (state[N.records] === NETFLOW5_RECORDS_MAX) return at;
    if (words[at + R.packets + 1] !== 0 || words[at + octetsWord + 1] !== 0) return at;
    const startMs = millisecondsOf(words[at + R.start]!, words[at + R.start + 1]!);
    const endMs = millisecondsOf(words[at + R.end]!, words[at + R.end + 1]!);
    const clockMs = Math.max(state[N.nowMs]!, endMs);
    if (clockMs - startMs > UPTIME_MAX_MS) return at;
    const clockNs = clockMs === state[N.nowMs] ? state[N.nowNs]! : 0;
    const first = state[N.records] === 0;
    const later = first || clockMs > state[N.clockMs]! || (clockMs === state[N.clockMs] && clockNs > state[N.clockNs]!);
    const clock = later ? clockMs : state[N.clockMs]!;
    const bootMs = state[N.bootMs]!;
    if (bootMs < 0 || startMs < bootMs || clock - bootMs > UPTIME_MAX_MS) return at;
    if (later) {
      state[N.clockMs] = clockMs;
      state[N.clockNs] = clockNs;
    }
    writeRecord(state, words, at, words[at + R.packets]!, words[at + octetsWord]!, startMs, endMs, octets);
    state[N.flows] = state[N.flows]! + 1;
    state[N.taken] = state[N.taken]! + 1;
  }
  return at;
}

/** The next record of the datagram. */
export function writeRecord(
  state: Float64Array,
  words: Uint32Array,
  at: number,
  packets: number,
  octetCount: number,
  startMs: number,
  endMs: number,
  octets: Uint8Array,
): void {
  const view = new DataView(octets.buffer, octets.byteOffset, octets.length);
  const o = NETFLOW5_HEADER_SIZE + state[N.records]! * NETFLOW5_RECORD_SIZE;
  const bootMs = state[N.bootMs]!;
  const protocol = words[at + R.protocol]!;
  const ports = words[at + R.ports]!;
  const interfaces = words[at + R.interfaces]!;
  let srcPort = ports & 0xffff;
  let dstPort = ports >>> 16;
  if ((protocol & 0xff) === ICMP && state[N.icmpSource] === 1) {
    srcPort = dstPort;
    dstPort = 0;
  }
  let input = interfaces & 0xffff;
  let output = interfaces >>> 16;
  if (state[N.addBase]! >= 0) {
    input = state[N.addBase]! | (input & 0x1ff);
    output = state[N.addBase]! | (output & 0x1ff);
  }
  view.setUint32(o, words[at + R.src]!);
  view.setUint32(o + 4, words[at + R.dst]!);
  view.setUint32(o + 8, 0); // NextHop
  view.setUint16(o + 12, input);
  view.setUint16(o + 14, output);
  view.setUint32(o + 16, packets);
  view.setUint32(o + 20, octetCount);
  view.setUint32(o + 24, Math.max(0, startMs - bootMs));
  view.setUint32(o + 28, Math.max(0, endMs - bootMs));
  view.setUint16(o + 32, srcPort);
  view.setUint16(o + 34, dstPort);
  view.setUint8(o + 36, 0); // pad1
  view.setUint8(o + 37, protocol >>> 16); // tcp_flags
  view.setUint8(o + 38, protocol);
  view.setUint8(o + 39, (protocol >>> 8) & 0xfc); // tos: DSCP bits
  view.setUint32(o + 40, 0); // src_as, dst_as
  view.setUint32(o + 44, 0); // src_mask, dst_mask, pad2
  state[N.records] = state[N.records]! + 1;
}
