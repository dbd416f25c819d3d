/**
 * Virtual reassembly: the ports of a first fragment are remembered by (VLAN, source, destination, protocol, id), and later
 * fragments take them; one that comes before its first stays without. A piece that overlaps others is refused (RFC 5722, RFC
 * 8200 section 4.5; RFC 1858 for IPv4), an exact duplicate is not; a datagram is forgotten when complete, or after 30 s.
 * Shared by all threads under a spin lock: fragments are rare.
 */
import { DropReason } from '../batch/drop-reason.js';
import { Kind, type PacketBatch, RowFlag } from '../batch/packet-batch.js';
import { tupleHash } from '../flow/tuple-hash.js';

const ENTRIES = 4096; // datagrams in hand at once; the oldest gives way
const WAYS = 8; // entries of a bucket; look-up is linear within it
/** RFC 791's and Linux's default: what is not complete by then is forgotten. */
const LIFETIME_NS = 30e9;

// Words of an entry: key, state, then two bitmaps with a bit for each unit of 8 octets that a datagram may have.
const KEY = 0; // 8 address words, vlan | protocol << 16 | family << 24, id
const TIME = 10; // u64 ns of its first piece
const PORTS = 12;
const MARKS = 13; // Mark bits, and the first fragment's protocol << 8
const ICMP_ID = 14;
const TOTAL = 15; // octets of the whole datagram, known from its last fragment
const HIGHEST = 16; // octets up to which pieces came
const ARRIVED = 17; // units of 8 octets that came
const COVERED = 20;
const BITMAP = 256; // words: 8192 units
const BEGINS = COVERED + BITMAP;
const WORDS = BEGINS + BITMAP;
const Mark = { Used: 1, Ports: 2, Last: 4 } as const;
const PORTLESS = new Set([1, 58]);

const LOCK = 0;
const HEADER = 16;
const SPINS = 10_000;
const WAIT_MS = 1;
/** A worker that was killed with the lock in hand never gives it back: what it knew of one datagram may be lost, no more. */
const LOCK_PATIENCE_WAITS = 1000;

export class FragmentTable {
  private readonly words: Uint32Array;
  private readonly lock: Int32Array;
  private readonly buckets: number;
  private readonly key = new Uint32Array(10);

  static allocate(entries = ENTRIES): SharedArrayBuffer {
    return new SharedArrayBuffer((HEADER + Math.ceil(entries / WAYS) * WAYS * WORDS) * 4);
  }
  constructor(memory: SharedArrayBuffer) {
    this.words = new Uint32Array(memory);
    this.lock = new Int32Array(memory, 0, HEADER);
    this.buckets = (this.words.length - HEADER) / WORDS / WAYS;
  }

  /** Resolves a row that is a fragment: sets ports, hash and Transport of a later one, or a fault. */
  resolve(batch: PacketBatch, row: number): void {
    if (batch.fault[row] !== 0) return;
    this.acquire();
    try {
      this.resolveLocked(batch, row);
    } finally {
      Atomics.store(this.lock, LOCK, 0);
    }
  }

  private acquire(): void {
    for (let spins = 0; spins < SPINS; spins++) if (Atomics.compareExchange(this.lock, LOCK, 0, 1) === 0) return;
    for (let waits = 0; waits < LOCK_PATIENCE_WAITS; waits++) {
      if (Atomics.compareExchange(this.lock, LOCK, 0, 1) === 0) return;
      Atomics.wait(this.lock, LOCK, 1, WAIT_MS);
    }
  }

  private resolveLocked(batch: PacketBatch, row: number): void {
    const { words } = this;
    const six = batch.kind[row] === Kind.Ip6;
    const header = batch.offset[row]! + batch.l3Offset[row]!;
    const size = six ? this.headerSize6(batch.data, header) : (batch.data[header]! & 0xf) * 4;
    const start = batch.fragmentOffset[row]! * 8;
    const end = start + batch.ipLength[row]! - size;
    const last = six
      ? (batch.data[header + size - 5]! & 1) === 0 // the fragment header is the last of `size`
      : (batch.data[header + 6]! & 0x20) === 0;
    const at = this.entryOf(batch, row);
    const fault = this.place(at, start, end, last);
    if (fault !== 0) {
      batch.fault[row] = fault;
      return;
    }
    const protocol = batch.protocol[row]!;
    if ((batch.flags[row]! & RowFlag.FragmentFirst) !== 0) {
      if ((batch.flags[row]! & RowFlag.Transport) !== 0) {
        words[at + PORTS] = (batch.srcPort[row]! | (batch.dstPort[row]! << 16)) >>> 0;
        words[at + ICMP_ID] = batch.icmpId[row]!;
        words[at + MARKS] = words[at + MARKS]! | Mark.Ports | (protocol << 8);
      }
    } else if ((words[at + MARKS]! & Mark.Ports) !== 0 && words[at + MARKS]! >>> 8 === protocol) {
      // An IPv6 piece that names another next header than its first has no ports of that protocol.
      const src = words[at + PORTS]! & 0xffff;
      const dst = words[at + PORTS]! >>> 16;
      batch.srcPort[row] = src;
      batch.dstPort[row] = dst;
      batch.icmpId[row] = words[at + ICMP_ID]!;
      batch.flags[row] = batch.flags[row]! | RowFlag.Transport;
      const portless = PORTLESS.has(protocol);
      batch.hash[row] = tupleHash(
        batch.address,
        row * 8,
        six ? 6 : 4,
        protocol,
        portless ? 0 : src,
        portless ? 0 : dst,
      );
    }
    // Complete: identifications come round, at a gigabit a second within one (RFC 4963).
    if ((words[at + MARKS]! & Mark.Last) !== 0 && words[at + ARRIVED] === Math.ceil(words[at + TOTAL]! / 8))
      words[at + MARKS] = 0;
  }

  /** Octets from the IPv6 header up to behind the fragment header. */
  private headerSize6(data: Uint8Array, start: number): number {
    let next = data[start + 6]!;
    let at = 40;
    while (next !== 44) {
      next = data[start + at]!;
      at += (data[start + at + 1]! + 1) * 8;
    }
    return at + 8;
  }

  private entryOf(batch: PacketBatch, row: number): number {
    const { words } = this;
    const key = this.key;
    for (let i = 0; i < 8; i++) key[i] = batch.address[row * 8 + i]!;
    // IPv6 identifies a datagram by addresses and id alone (RFC 8200 4.5): later fragments may name another next header.
    const six = batch.kind[row] === Kind.Ip6;
    key[8] = (batch.vlan[row]! | ((six ? 0 : batch.protocol[row]!) << 16) | ((six ? 6 : 4) << 24)) >>> 0;
    key[9] = batch.fragmentId[row]!;
    let hash = 0;
    for (let i = 0; i < 10; i++) hash = Math.imul(hash ^ key[i]!, 0x9e3779b1) ^ (hash >>> 15);
    const bucket = ((hash >>> 0) % this.buckets) * WAYS;
    const low = batch.timeNs[row * 2]!;
    const high = batch.timeNs[row * 2 + 1]!;
    let victim = -1;
    // Ages may be below 0: another thread's batch can be the later one.
    let victimAge = Number.NEGATIVE_INFINITY;
    for (let way = 0; way < WAYS; way++) {
      const at = HEADER + (bucket + way) * WORDS;
      const used = (words[at + MARKS]! & Mark.Used) !== 0;
      const age = used
        ? (high - words[at + TIME + 1]!) * 0x100000000 + (low - words[at + TIME]!)
        : Number.POSITIVE_INFINITY;
      if (used && age < LIFETIME_NS && key.every((word, i) => words[at + KEY + i] === word)) return at;
      if (age > victimAge) {
        victim = at;
        victimAge = age;
      }
    }
    words.fill(0, victim, victim + WORDS);
    words.set(key, victim + KEY);
    words[victim + TIME] = low;
    words[victim + TIME + 1] = high;
    words[victim + MARKS] = Mark.Used;
    return victim;
  }

  /** Notes the octets [start, end) of the datagram at `at`; returns the fault of a piece that cannot be part of it. */
  private place(at: number, start: number, end: number, last: boolean): number {
    const { words } = this;
    const known = (words[at + MARKS]! & Mark.Last) !== 0;
    if (known ? end > words[at + TOTAL]! || (last && end !== words[at + TOTAL]!) : last && end < words[at + HIGHEST]!)
      return this.covered(at, start >>> 3, (end + 7) >>> 3) ? DropReason.FragmentOverlap : DropReason.FragmentBad;
    const from = start >>> 3;
    const to = (end + 7) >>> 3;
    if (this.covered(at, from, to)) {
      // An exact duplicate: it begins where a piece began, has no other within, and ends where one ends.
      if (!this.bit(at + BEGINS, from)) return DropReason.FragmentOverlap;
      for (let unit = from; unit < to; unit++)
        if (!this.bit(at + COVERED, unit) || (unit > from && this.bit(at + BEGINS, unit)))
          return DropReason.FragmentOverlap;
      const endsThere = end === words[at + TOTAL]! || !this.bit(at + COVERED, to) || this.bit(at + BEGINS, to);
      return endsThere ? 0 : DropReason.FragmentOverlap;
    }
    for (let unit = from; unit < to; unit++) this.set(at + COVERED, unit);
    if (to > from) this.set(at + BEGINS, from);
    words[at + ARRIVED] = words[at + ARRIVED]! + to - from;
    words[at + HIGHEST] = Math.max(words[at + HIGHEST]!, end);
    if (last) {
      words[at + TOTAL] = end;
      words[at + MARKS] = words[at + MARKS]! | Mark.Last;
    }
    return 0;
  }

  private covered(at: number, from: number, to: number): boolean {
    for (let unit = from; unit < to; unit++) if (this.bit(at + COVERED, unit)) return true;
    return false;
  }
  private bit(map: number, unit: number): boolean {
    return unit < BITMAP * 32 && (this.words[map + (unit >>> 5)]! & (1 << (unit & 31))) !== 0;
  }
  private set(map: number, unit: number): void {
    this.words[map + (unit >>> 5)] = this.words[map + (unit >>> 5)]! | (1 << (unit & 31));
  }
}
