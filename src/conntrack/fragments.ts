/**
 * Virtual reassembly: the ports of a first fragment are remembered by (VLAN, source, destination, protocol, id), and later
 * fragments take them; one that comes before its first stays without. Overlapping fragments are refused (RFC 5722, RFC 8200
 * section 4.5; RFC 1858 for IPv4), exact duplicates are not. Shared by all threads under a spin lock: fragments are rare.
 */
import { DropReason } from '../batch/drop-reason.js';
import { Kind, type PacketBatch, RowFlag } from '../batch/packet-batch.js';
import { tupleHash } from '../flow/tuple-hash.js';

const ENTRIES = 4096; // datagrams in hand at once; the oldest gives way
const RANGES = 48; // octet ranges kept of each
/** RFC 791's and Linux's default: what is not complete by then is forgotten. */
const LIFETIME_NS = 30e9;

// Words of an entry: key, state, then ranges as start and end.
const KEY = 0; // 8 address words, vlan | protocol << 16 | family << 24, id
const TIME = 10; // u64 ns of its first fragment
const PORTS = 12;
const MARKS = 13; // 1 used, 2 ports known, 4 last fragment seen
const ICMP_ID = 14;
const COUNT = 15;
const RANGE = 16;
const WORDS = RANGE + RANGES * 2;
const Mark = { Used: 1, Ports: 2, Overlap: 8 } as const;
const LOCK = 0;
const NEXT = 1;
const HEADER = 16;

export class FragmentTable {
  private readonly words: Uint32Array;
  private readonly lock: Int32Array;
  /** Look-up of this thread is linear within a bucket of WAYS entries, chosen by hash. */
  private static readonly WAYS = 8;
  private readonly key = new Uint32Array(10);

  static allocate(): SharedArrayBuffer {
    return new SharedArrayBuffer((HEADER + ENTRIES * WORDS) * 4);
  }
  constructor(memory: SharedArrayBuffer) {
    this.words = new Uint32Array(memory);
    this.lock = new Int32Array(memory, 0, HEADER);
  }

  /** Resolves a row that is a fragment: sets ports, hash and Transport of a later one, or a fault. */
  resolve(batch: PacketBatch, row: number): void {
    if (batch.fault[row] !== 0 && batch.fault[row] !== DropReason.FragmentBad) return;
    while (Atomics.compareExchange(this.lock, LOCK, 0, 1) !== 0);
    try {
      this.resolveLocked(batch, row);
    } finally {
      Atomics.store(this.lock, LOCK, 0);
    }
  }

  private resolveLocked(batch: PacketBatch, row: number): void {
    if (batch.fault[row] !== 0) return;
    const { words } = this;
    const first = (batch.flags[row]! & RowFlag.FragmentFirst) !== 0;
    const at = this.entryOf(batch, row);
    const header = batch.kind[row] === Kind.Ip6 ? this.headerSize6(batch, row) : (batch.data[batch.offset[row]! + batch.l3Offset[row]!]! & 0xf) * 4;
    const start = batch.fragmentOffset[row]! * 8;
    const end = start + batch.ipLength[row]! - header;
    if (this.overlaps(at, start, end)) {
      words[at + MARKS] = words[at + MARKS]! | Mark.Overlap;
      batch.fault[row] = DropReason.FragmentOverlap;
      return;
    }
    if (first) {
      if ((batch.flags[row]! & RowFlag.Transport) !== 0) {
        words[at + PORTS] = (batch.srcPort[row]! | (batch.dstPort[row]! << 16)) >>> 0;
        words[at + ICMP_ID] = batch.icmpId[row]!;
        words[at + MARKS] = words[at + MARKS]! | Mark.Ports;
      }
      return;
    }
    if ((words[at + MARKS]! & Mark.Ports) === 0) return;
    batch.srcPort[row] = words[at + PORTS]! & 0xffff;
    batch.dstPort[row] = words[at + PORTS]! >>> 16;
    batch.icmpId[row] = words[at + ICMP_ID]!;
    batch.flags[row] = batch.flags[row]! | RowFlag.Transport;
    const protocol = batch.protocol[row]!;
    const portless = protocol === 1 || protocol === 58;
    const family = batch.kind[row] === Kind.Ip6 ? 6 : 4;
    batch.hash[row] = tupleHash(
      batch.address, row * 8, family, protocol, portless ? 0 : batch.srcPort[row]!, portless ? 0 : batch.dstPort[row]!,
    );
  }

  /** Octets from the IPv6 header up to behind the fragment header. */
  private headerSize6(batch: PacketBatch, row: number): number {
    const { data } = batch;
    const start = batch.offset[row]! + batch.l3Offset[row]!;
    let next = data[start + 6]!;
    let at = 40;
    while (next !== 44) {
      next = data[start + at]!;
      at += (data[start + at + 1]! + 1) * 8;
    }
    return at + 8;
  }

  private entryOf(batch: PacketBatch, row: number): number {
    const { words, key } = this;
    for (let i = 0; i < 8; i++) key[i] = batch.address[row * 8 + i]!;
    // IPv6 identifies a datagram by addresses and id alone (RFC 8200 4.5): later fragments may name another next header.
    const six = batch.kind[row] === Kind.Ip6;
    key[8] = (batch.vlan[row]! | ((six ? 0 : batch.protocol[row]!) << 16) | ((six ? 6 : 4) << 24)) >>> 0;
    key[9] = batch.fragmentId[row]!;
    let hash = 0;
    for (let i = 0; i < 10; i++) hash = Math.imul(hash ^ key[i]!, 0x9e3779b1) ^ (hash >>> 15);
    const bucket = ((hash >>> 0) % (ENTRIES / FragmentTable.WAYS)) * FragmentTable.WAYS;
    const low = batch.timeNs[row * 2]!;
    const high = batch.timeNs[row * 2 + 1]!;
    let victim = -1;
    let victimAge = -1;
    for (let way = 0; way < FragmentTable.WAYS; way++) {
      const at = HEADER + (bucket + way) * WORDS;
      const used = (words[at + MARKS]! & Mark.Used) !== 0;
      const age = used ? (high - words[at + TIME + 1]!) * 0x100000000 + (low - words[at + TIME]!) : Number.POSITIVE_INFINITY;
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
    words[NEXT] = words[NEXT]! + 1;
    return victim;
  }

  /** Notes the octets [start, end) of the datagram at `at`; true if some of them, but not exactly these, came before. */
  private overlaps(at: number, start: number, end: number): boolean {
    const { words } = this;
    const count = words[at + COUNT]!;
    for (let i = 0; i < count; i++) {
      const from = words[at + RANGE + i * 2]!;
      const to = words[at + RANGE + i * 2 + 1]!;
      if (start === from && end === to) return false;
      if (start < to && from < end) return true;
    }
    if (count === RANGES) return false; // more pieces than are kept: their overlap is for the receiver to find
    words[at + RANGE + count * 2] = start;
    words[at + RANGE + count * 2 + 1] = end;
    words[at + COUNT] = count + 1;
    return false;
  }
}
