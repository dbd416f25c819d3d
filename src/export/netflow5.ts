/**
 * NetFlow v5 (Cisco's "NetFlow Export Datagram Format"): packed flow records → datagrams of at most 30 records.
 * Header 24 octets, record 48, all in network order. Pure: flow_sequence belongs to a collector, so that who sends
 * writes it (`writeSequence`). IPv6 is not in this format: such records are counted, not written.
 *
 * First and Last are milliseconds since a boot that the collector works out as header time − SysUptime. The boot is
 * kept for as long as it serves, and moved, between two datagrams, where a record began before it or where 32 bits of
 * milliseconds (49.7 days) would not reach the clock.
 */
import { R, RECORD_WORDS } from '../flow/flow-record.js';

export const NETFLOW5_HEADER_SIZE = 24;
export const NETFLOW5_RECORD_SIZE = 48;
export const NETFLOW5_RECORDS_MAX = 30;
const DATAGRAM_SIZE = NETFLOW5_HEADER_SIZE + NETFLOW5_RECORDS_MAX * NETFLOW5_RECORD_SIZE;
const FLOW_SEQUENCE = 16;

const COUNTER_MAX = 0xffffffff;
const UPTIME_MAX_MS = 0xffffffff;
/** How far before the first record's start a boot is put, so that flows that began earlier rarely move it: one day. */
const BOOT_MARGIN_MS = 86_400_000;
const ICMP = 1;

export interface Netflow5Settings {
  engineId: number;
  engineType: number;
  /** Mangle interfaces to (engineId & 0x7f) << 9 | (port & 0x1ff), as OVS's add_id_to_interface. */
  addToInterface: boolean;
  icmpPort: 'destination' | 'source';
  octets: 'layer3' | 'frame';
}

export interface Netflow5Datagram {
  /** The whole datagram; flow_sequence is 0 until `writeSequence`. */
  octets: Uint8Array;
  /** Records in it, by which flow_sequence moves on. */
  records: number;
  /** Flow records that end in it: fewer than `records` where counters were split. */
  flows: number;
  /** How many records the encoder had taken in all when it was whole. */
  upTo: number;
}
/** `unsplittable`: more octets than 2^32−1 for every packet, which no sum of v5 records can say. */
export type Netflow5Loss = 'ipv6' | 'unsplittable';

export function writeSequence(datagram: Uint8Array, sequence: number): void {
  datagram[FLOW_SEQUENCE] = sequence >>> 24;
  datagram[FLOW_SEQUENCE + 1] = sequence >>> 16;
  datagram[FLOW_SEQUENCE + 2] = sequence >>> 8;
  datagram[FLOW_SEQUENCE + 3] = sequence;
}

/** Whole milliseconds of a 64-bit count of nanoseconds given as two words: exact, without BigInt. */
export function millisecondsOf(low: number, high: number): number {
  // 2^32 = 4294 × 10^6 + 967296, and high × 967296 + low stays below 2^53.
  return high * 4294 + Math.floor((high * 967_296 + low) / 1_000_000);
}

/** Records that 64-bit counters take in 32-bit fields; 0 where there is no way that leaves no record without a packet. */
export function splitCount(packets: bigint, octets: bigint): bigint {
  const max = BigInt(COUNTER_MAX);
  const larger = packets > octets ? packets : octets;
  const count = larger === 0n ? 1n : (larger + max - 1n) / max;
  return count > packets && count > 1n ? 0n : count;
}
/** The share of piece `index` of `count`: shares differ by at most one and their sum is `total`. */
export const splitShare = (total: bigint, index: bigint, count: bigint): number =>
  Number((total * (index + 1n)) / count - (total * index) / count);

export class Netflow5Encoder {
  #settings: Netflow5Settings;
  #octets = new Uint8Array(DATAGRAM_SIZE);
  #view = new DataView(this.#octets.buffer);
  #records = 0;
  #flows = 0;
  /** Packed records taken in, written or lost. */
  taken = 0;
  /** Boot, in ms since 1970; −1 before the first record. */
  #bootMs = -1;
  /** Header clock of the datagram in hand. */
  #clockMs = 0;
  #clockNs = 0;

  /** `emit` takes a finished datagram, which is its own from then on. */
  constructor(
    settings: Netflow5Settings,
    readonly emit: (datagram: Netflow5Datagram) => void,
    readonly lose: (reason: Netflow5Loss, flows: number) => void,
  ) {
    this.#settings = settings;
  }

  get pending(): number {
    return this.#records;
  }

  /** Records in hand leave with the settings that they were written with. */
  configure(settings: Netflow5Settings): void {
    this.flush();
    this.#settings = settings;
  }

  /** `words`: whole packed records, in order of export. `nowNs`: the engine's clock. */
  push(words: Uint32Array, nowNs: bigint): void {
    const nowMs = Number(nowNs / 1_000_000n);
    const nowRestNs = Number(nowNs % 1_000_000n);
    let v6 = 0;
    for (let at = 0; at + RECORD_WORDS <= words.length; at += RECORD_WORDS) {
      if ((words[at + R.verdict]! & 0xff) !== 4) {
        v6++;
        this.taken++;
        continue;
      }
      const octetsAt = at + (this.#settings.octets === 'frame' ? R.frameOctets : R.octets);
      const startMs = millisecondsOf(words[at + R.start]!, words[at + R.start + 1]!);
      const endMs = millisecondsOf(words[at + R.end]!, words[at + R.end + 1]!);
      // A clock that leapt past 32 bits of uptime cannot stand in this record's header: the time it was due can.
      let clockMs = Math.max(nowMs, endMs);
      if (clockMs - startMs > UPTIME_MAX_MS) {
        const dueMs = millisecondsOf(words[at + R.export]!, words[at + R.export + 1]!);
        clockMs = Math.max(endMs, Math.min(dueMs, clockMs));
      }
      const clockNs = clockMs === nowMs ? nowRestNs : 0;
      if (words[at + R.packets + 1] === 0 && words[octetsAt + 1] === 0) {
        this.#begin(startMs, endMs, clockMs, clockNs);
        this.#write(words, at, words[at + R.packets]!, words[octetsAt]!, startMs, endMs);
        this.#flows++;
        this.taken++;
        if (this.#records === NETFLOW5_RECORDS_MAX) this.flush();
        continue;
      }
      const packets = (BigInt(words[at + R.packets + 1]!) << 32n) | BigInt(words[at + R.packets]!);
      const octets = (BigInt(words[octetsAt + 1]!) << 32n) | BigInt(words[octetsAt]!);
      const count = splitCount(packets, octets);
      if (count === 0n) {
        this.lose('unsplittable', 1);
        this.taken++;
      }
      for (let index = 0n; index < count; index++) {
        this.#begin(startMs, endMs, clockMs, clockNs);
        this.#write(words, at, splitShare(packets, index, count), splitShare(octets, index, count), startMs, endMs);
        if (index === count - 1n) {
          this.#flows++;
          this.taken++;
        }
        if (this.#records === NETFLOW5_RECORDS_MAX) this.flush();
      }
    }
    if (v6 > 0) this.lose('ipv6', v6);
  }

  /** Makes the datagram in hand fit for a record with these times: a boot before it, a clock after it. */
  #begin(startMs: number, endMs: number, clockMs: number, clockNs: number): void {
    if (this.#records > 0) {
      const later = clockMs > this.#clockMs || (clockMs === this.#clockMs && clockNs > this.#clockNs);
      const clock = later ? clockMs : this.#clockMs;
      if (startMs >= this.#bootMs && clock - this.#bootMs <= UPTIME_MAX_MS) {
        if (later) {
          this.#clockMs = clockMs;
          this.#clockNs = clockNs;
        }
        return;
      }
      this.flush();
    }
    this.#clockMs = clockMs;
    this.#clockNs = clockNs;
    if (this.#bootMs < 0 || startMs < this.#bootMs || clockMs - this.#bootMs > UPTIME_MAX_MS) {
      // A record longer than 49.7 days begins, for a v5 collector, at the boot.
      const first = Math.max(0, Math.min(startMs, endMs) - BOOT_MARGIN_MS);
      this.#bootMs = Math.max(first, clockMs - UPTIME_MAX_MS);
    }
  }

  #write(words: Uint32Array, at: number, packets: number, octets: number, startMs: number, endMs: number): void {
    const view = this.#view;
    const o = NETFLOW5_HEADER_SIZE + this.#records * NETFLOW5_RECORD_SIZE;
    const { addToInterface, engineId, icmpPort } = this.#settings;
    const protocol = words[at + R.protocol]!;
    const ports = words[at + R.ports]!;
    const interfaces = words[at + R.interfaces]!;
    let srcPort = ports & 0xffff;
    let dstPort = ports >>> 16;
    if ((protocol & 0xff) === ICMP && icmpPort === 'source') {
      srcPort = dstPort;
      dstPort = 0;
    }
    let input = interfaces & 0xffff;
    let output = interfaces >>> 16;
    if (addToInterface) {
      const base = (engineId & 0x7f) << 9;
      input = base | (input & 0x1ff);
      output = base | (output & 0x1ff);
    }
    view.setUint32(o, words[at + R.src]!);
    view.setUint32(o + 4, words[at + R.dst]!);
    view.setUint32(o + 8, 0); // NextHop
    view.setUint16(o + 12, input);
    view.setUint16(o + 14, output);
    view.setUint32(o + 16, packets);
    view.setUint32(o + 20, octets);
    view.setUint32(o + 24, Math.max(0, startMs - this.#bootMs));
    view.setUint32(o + 28, Math.max(0, endMs - this.#bootMs));
    view.setUint16(o + 32, srcPort);
    view.setUint16(o + 34, dstPort);
    view.setUint8(o + 36, 0); // pad1
    view.setUint8(o + 37, protocol >>> 16); // tcp_flags
    view.setUint8(o + 38, protocol);
    view.setUint8(o + 39, (protocol >>> 8) & 0xfc); // tos: DSCP bits
    view.setUint32(o + 40, 0); // src_as, dst_as
    view.setUint32(o + 44, 0); // src_mask, dst_mask, pad2
    this.#records++;
  }

  /** Emits the records in hand, if any. */
  flush(): void {
    const records = this.#records;
    if (records === 0) return;
    const view = this.#view;
    view.setUint16(0, 5);
    view.setUint16(2, records);
    view.setUint32(4, this.#clockMs - this.#bootMs); // SysUptime
    view.setUint32(8, Math.floor(this.#clockMs / 1000)); // unix_secs
    view.setUint32(12, (this.#clockMs % 1000) * 1_000_000 + this.#clockNs); // unix_nsecs
    view.setUint32(FLOW_SEQUENCE, 0);
    view.setUint8(20, this.#settings.engineType);
    view.setUint8(21, this.#settings.engineId);
    view.setUint16(22, 0); // sampling: none
    const size = NETFLOW5_HEADER_SIZE + records * NETFLOW5_RECORD_SIZE;
    const datagram = { octets: this.#octets.subarray(0, size), records, flows: this.#flows, upTo: this.taken };
    this.#octets = new Uint8Array(DATAGRAM_SIZE);
    this.#view = new DataView(this.#octets.buffer);
    this.#records = 0;
    this.#flows = 0;
    this.emit(datagram);
  }
}
