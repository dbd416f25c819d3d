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
import { kernels } from '../native/kernels.js';
import {
  millisecondsOf,
  N,
  NETFLOW5_HEADER_SIZE,
  NETFLOW5_RECORD_SIZE,
  NETFLOW5_RECORDS_MAX,
  STATE_NUMBERS,
  UPTIME_MAX_MS,
  writeRecord,
} from './netflow5-records.js';

export { millisecondsOf, NETFLOW5_HEADER_SIZE, NETFLOW5_RECORD_SIZE, NETFLOW5_RECORDS_MAX };
const DATAGRAM_SIZE = NETFLOW5_HEADER_SIZE + NETFLOW5_RECORDS_MAX * NETFLOW5_RECORD_SIZE;
const FLOW_SEQUENCE = 16;

const COUNTER_MAX = 0xffffffff;
/** How far before the first record's start a boot is put, so that flows that began earlier rarely move it: one day. */
const BOOT_MARGIN_MS = 86_400_000;
/** Datagrams of one allocation: they are views of it. */
const SLAB_DATAGRAMS = 64;

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
  #slab = new Uint8Array(SLAB_DATAGRAMS * DATAGRAM_SIZE);
  #slabAt = 0;
  /** The datagram in hand: room for a whole one. */
  #octets = this.#slab.subarray(0, DATAGRAM_SIZE);
  /** N.* */
  #state = new Float64Array(STATE_NUMBERS);

  /** `emit` takes a finished datagram, which is its own from then on. */
  constructor(
    settings: Netflow5Settings,
    readonly emit: (datagram: Netflow5Datagram) => void,
    readonly lose: (reason: Netflow5Loss, flows: number) => void,
  ) {
    this.#settings = settings;
    this.#state[N.bootMs] = -1;
    this.#apply();
  }

  get pending(): number {
    return this.#state[N.records]!;
  }
  /** Packed records taken in, written or lost. */
  get taken(): number {
    return this.#state[N.taken]!;
  }
  set taken(records: number) {
    this.#state[N.taken] = records;
  }

  /** Records in hand leave with the settings that they were written with. */
  configure(settings: Netflow5Settings): void {
    this.flush();
    this.#settings = settings;
    this.#apply();
  }
  #apply(): void {
    const { addToInterface, engineId, icmpPort, octets } = this.#settings;
    this.#state[N.octetsWord] = octets === 'frame' ? R.frameOctets : R.octets;
    this.#state[N.addBase] = addToInterface ? (engineId & 0x7f) << 9 : -1;
    this.#state[N.icmpSource] = icmpPort === 'source' ? 1 : 0;
  }

  /** `words`: whole packed records, in order of export. `nowNs`: the engine's clock. */
  push(words: Uint32Array, nowNs: bigint): void {
    const state = this.#state;
    state[N.nowMs] = Number(nowNs / 1_000_000n);
    state[N.nowNs] = Number(nowNs % 1_000_000n);
    state[N.v6] = 0;
    for (let at = 0; ; ) {
      at = kernels.encodeRecords(state, words, at, this.#octets);
      if (state[N.records] === NETFLOW5_RECORDS_MAX) this.flush();
      else if (at + RECORD_WORDS > words.length) break;
      else {
        this.#other(words, at);
        at += RECORD_WORDS;
      }
    }
    if (state[N.v6]! > 0) this.lose('ipv6', state[N.v6]!);
  }

  /** A record that the datagram in hand must be made fit for, or whose counters are split. */
  #other(words: Uint32Array, at: number): void {
    const state = this.#state;
    const nowMs = state[N.nowMs]!;
    const octetsAt = at + state[N.octetsWord]!;
    const startMs = millisecondsOf(words[at + R.start]!, words[at + R.start + 1]!);
    const endMs = millisecondsOf(words[at + R.end]!, words[at + R.end + 1]!);
    // A clock that leapt past 32 bits of uptime cannot stand in this record's header: the time it was due can.
    let clockMs = Math.max(nowMs, endMs);
    if (clockMs - startMs > UPTIME_MAX_MS) {
      const dueMs = millisecondsOf(words[at + R.export]!, words[at + R.export + 1]!);
      clockMs = Math.max(endMs, Math.min(dueMs, clockMs));
    }
    const clockNs = clockMs === nowMs ? state[N.nowNs]! : 0;
    const packets = (BigInt(words[at + R.packets + 1]!) << 32n) | BigInt(words[at + R.packets]!);
    const octets = (BigInt(words[octetsAt + 1]!) << 32n) | BigInt(words[octetsAt]!);
    const count = splitCount(packets, octets);
    if (count === 0n) {
      this.lose('unsplittable', 1);
      state[N.taken]!++;
    }
    for (let index = 0n; index < count; index++) {
      this.#begin(startMs, endMs, clockMs, clockNs);
      const share = splitShare(octets, index, count);
      writeRecord(state, words, at, splitShare(packets, index, count), share, startMs, endMs, this.#octets);
      if (index === count - 1n) {
        state[N.flows]!++;
        state[N.taken]!++;
      }
      if (state[N.records] === NETFLOW5_RECORDS_MAX) this.flush();
    }
  }

  /** Makes the datagram in hand fit for a record with these times: a boot before it, a clock after it. */
  #begin(startMs: number, endMs: number, clockMs: number, clockNs: number): void {
    const state = this.#state;
    if (state[N.records]! > 0) {
      const later = clockMs > state[N.clockMs]! || (clockMs === state[N.clockMs]! && clockNs > state[N.clockNs]!);
      const clock = later ? clockMs : state[N.clockMs]!;
      if (startMs >= state[N.bootMs]! && clock - state[N.bootMs]! <= UPTIME_MAX_MS) {
        if (later) {
          state[N.clockMs] = clockMs;
          state[N.clockNs] = clockNs;
        }
        return;
      }
      this.flush();
    }
    state[N.clockMs] = clockMs;
    state[N.clockNs] = clockNs;
    if (state[N.bootMs]! < 0 || startMs < state[N.bootMs]! || clockMs - state[N.bootMs]! > UPTIME_MAX_MS) {
      // A record longer than 49.7 days begins, for a v5 collector, at the boot.
      const first = Math.max(0, Math.min(startMs, endMs) - BOOT_MARGIN_MS);
      state[N.bootMs] = Math.max(first, clockMs - UPTIME_MAX_MS);
    }
  }

  /** Emits the records in hand, if any. */
  flush(): void {
    const state = this.#state;
    const records = state[N.records]!;
    if (records === 0) return;
    const octets = this.#octets.subarray(0, NETFLOW5_HEADER_SIZE + records * NETFLOW5_RECORD_SIZE);
    const view = new DataView(octets.buffer, octets.byteOffset, octets.length);
    const clockMs = state[N.clockMs]!;
    view.setUint16(0, 5);
    view.setUint16(2, records);
    view.setUint32(4, clockMs - state[N.bootMs]!); // SysUptime
    view.setUint32(8, Math.floor(clockMs / 1000)); // unix_secs
    view.setUint32(12, (clockMs % 1000) * 1_000_000 + state[N.clockNs]!); // unix_nsecs
    view.setUint32(FLOW_SEQUENCE, 0);
    view.setUint8(20, this.#settings.engineType);
    view.setUint8(21, this.#settings.engineId);
    view.setUint16(22, 0); // sampling: none
    const datagram = { octets, records, flows: state[N.flows]!, upTo: state[N.taken]! };
    this.#slabAt += DATAGRAM_SIZE;
    if (this.#slabAt === this.#slab.length) {
      this.#slab = new Uint8Array(this.#slab.length);
      this.#slabAt = 0;
    }
    this.#octets = this.#slab.subarray(this.#slabAt, this.#slabAt + DATAGRAM_SIZE);
    state[N.records] = 0;
    state[N.flows] = 0;
    this.emit(datagram);
  }
}
