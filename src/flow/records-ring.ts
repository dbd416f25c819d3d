/**
 * Ended flow records on their way from a shard's thread to the exporter: a ring of packed records in shared memory, one
 * for each shard. The shard writes `head`, the exporter's thread `tail` once a record is on the network, so that what lies
 * between outlives either (and, in a state file, the process). Positions count records modulo 2^32.
 * A full ring holds no packet up: further records are *spilled*, kept by the shard's thread until it posts them. How many
 * were spilled, and how many of those the exporter finished with, stands in the ring's header: the difference is what a
 * crash costs.
 */
import { END_REASONS, R, RECORD_WORDS } from './flow-record.js';

/** Records in a ring: a power of two. Some 6.8 MB; at 30 a datagram, 2,184 datagrams. */
export const RING_RECORDS = 65_536;

/** IPv6 header and the largest payload. */
const OCTETS_MOST = 65_575;

/** Words of the header; each writer has a cache line of its own. */
const HEAD = 0; // shard: next to write
const SPILLED = 1; // shard: records ever spilled
const SPILLS = 2; // shard: messages that carried them
const COUNTED = 3; // shard: records that it has counted as made
const STABLE = 4; // shard: u64 ns; every record that was due before has been written
const TAIL = 16; // exporter: next that is not on the network yet
const SENDING = 17; // exporter: being handed to the network up to here
const SPILL_DONE = 18; // exporter: spilled records that it is done with
const SPILL_SEEN = 19; // exporter: spilled records that reached it
const HEADER_WORDS = 64;

/** What a process that ended left in a ring. */
export interface RingRemains {
  /** Records that were not given to the network. */
  waiting: number;
  /** Those that were being given to it at that moment: sent, in all likelihood. */
  inDoubt: number;
  /** Spilled and not sent, or damaged. */
  lost: number;
}

export class RecordsRing {
  /** Where the record at the offset that `next` gave is to be written: the ring, or the spill. */
  out: Uint32Array;
  readonly words: Uint32Array;
  readonly header: Int32Array;
  private readonly stable: BigUint64Array;
  private readonly mask: number;
  private spill = new Uint32Array(0);
  private spillCount = 0;
  private toSpill = false;

  static size(records = RING_RECORDS): number {
    return (HEADER_WORDS + records * RECORD_WORDS) * 4;
  }
  static allocate(records = RING_RECORDS): SharedArrayBuffer {
    return new SharedArrayBuffer(RecordsRing.size(records));
  }

  constructor(memory: SharedArrayBuffer = RecordsRing.allocate()) {
    this.words = new Uint32Array(memory, HEADER_WORDS * 4);
    this.header = new Int32Array(memory, 0, HEADER_WORDS);
    this.stable = new BigUint64Array(memory, STABLE * 4, 1);
    const records = Math.floor(this.words.length / RECORD_WORDS);
    if (records === 0 || (records & (records - 1)) !== 0) throw new Error('a ring holds a power of two of records');
    this.mask = records - 1;
    this.out = this.words;
  }

  get capacity(): number {
    return this.mask + 1;
  }
  /** Position of the next record. */
  get head(): number {
    return Atomics.load(this.header, HEAD) >>> 0;
  }
  get tail(): number {
    return Atomics.load(this.header, TAIL) >>> 0;
  }
  /** Word offset in `words` of the record at a position. */
  at(position: number): number {
    return (position & this.mask) * RECORD_WORDS;
  }

  // --- the shard's side ---

  /** Offset in `out` for one more record; it counts once `publish` is called. */
  next(): number {
    const head = this.header[HEAD]!;
    this.toSpill = (head - Atomics.load(this.header, TAIL)) >>> 0 > this.mask;
    if (!this.toSpill) {
      this.out = this.words;
      return (head & this.mask) * RECORD_WORDS;
    }
    const at = this.spillCount * RECORD_WORDS;
    if (at === this.spill.length) {
      const larger = new Uint32Array(Math.max(this.spill.length * 2, 256 * RECORD_WORDS));
      larger.set(this.spill);
      this.spill = larger;
    }
    this.out = this.spill;
    return at;
  }
  /** The record that `next` gave room for is whole. */
  publish(): void {
    if (this.toSpill) {
      this.spillCount++;
      Atomics.add(this.header, SPILLED, 1);
    } else Atomics.store(this.header, HEAD, (this.header[HEAD]! + 1) | 0);
  }
  /** Takes what found no room in the ring; the taker posts it. */
  takeSpill(): Uint32Array | null {
    if (this.spillCount === 0) return null;
    const taken = this.spill.slice(0, this.spillCount * RECORD_WORDS);
    this.spill = new Uint32Array(0);
    this.spillCount = 0;
    Atomics.add(this.header, SPILLS, 1);
    return taken;
  }
  /** Records made since this was last asked, by this thread or the one before it. */
  takeMade(): number {
    const made = this.header[HEAD]! + this.header[SPILLED]!;
    const news = (made - this.header[COUNTED]!) >>> 0;
    this.header[COUNTED] = made | 0;
    return news;
  }
  /** Every record due before this time is written (and what was spilled is posted). */
  setStable(low: number, high: number): void {
    Atomics.store(this.stable, 0, (BigInt(high) << 32n) | BigInt(low));
  }

  // --- the exporter's side ---

  stableNs(): bigint {
    return Atomics.load(this.stable, 0);
  }
  /** Spill messages sent so far. */
  get spills(): number {
    return Atomics.load(this.header, SPILLS);
  }
  get spilled(): number {
    return Atomics.load(this.header, SPILLED) >>> 0;
  }
  /** Records from `position` that lie in one piece, at most `most`. */
  piece(position: number, most = 0xffffffff): Uint32Array {
    const at = position & this.mask;
    const count = Math.min((this.head - position) >>> 0, this.capacity - at, most);
    return this.words.subarray(at * RECORD_WORDS, (at + count) * RECORD_WORDS);
  }
  /** Records before this position are about to be given to the network. */
  sending(position: number): void {
    Atomics.store(this.header, SENDING, position | 0);
  }
  /** Records before this position are done with: their room is free. */
  free(position: number): void {
    Atomics.store(this.header, TAIL, position | 0);
  }
  spillSeen(count: number): void {
    Atomics.add(this.header, SPILL_SEEN, count);
  }
  spillDone(count: number): void {
    Atomics.add(this.header, SPILL_DONE, count);
  }
  /** The shard's thread is gone with what it had not posted: counts it as done with, and says how much it was. */
  forgetSpill(): number {
    const lost = (this.header[SPILLED]! - this.header[SPILL_SEEN]!) >>> 0;
    this.spillSeen(lost);
    this.spillDone(lost);
    return lost;
  }

  /**
   * After a crash: takes the ring up again, whatever it holds. What was being given to the network counts as sent. Records
   * that no shard can have made are taken out; where positions can't be a ring's, all are. `verdicts`, `reasons`: how many
   * codes there are.
   */
  takeUp(verdicts: number, reasons: number): RingRemains {
    const { words, header } = this;
    const end = this.head;
    let waiting = (end - this.tail) >>> 0;
    let lost = (header[SPILLED]! - header[SPILL_DONE]!) >>> 0;
    if (waiting > this.capacity) {
      lost++;
      waiting = 0;
    }
    const inDoubt = ((header[SENDING]! >>> 0) - this.tail) >>> 0;
    const sent = inDoubt > waiting ? 0 : inDoubt; // else it stands before the tail
    const first = (end - waiting + sent) >>> 0;
    let kept = first;
    for (let position = first; position !== end; position = (position + 1) >>> 0) {
      if (!isSound(words, this.at(position), verdicts, reasons)) {
        lost++;
        continue;
      }
      if (kept !== position) words.copyWithin(this.at(kept), this.at(position), this.at(position) + RECORD_WORDS);
      kept = (kept + 1) >>> 0;
    }
    this.free(first);
    this.sending(first);
    Atomics.store(header, HEAD, kept | 0);
    for (const word of [SPILLED, SPILLS, SPILL_DONE, SPILL_SEEN]) header[word] = 0;
    header[COUNTED] = header[HEAD]!;
    this.setStable(0, 0);
    return { waiting: (kept - first) >>> 0, inDoubt: sent, lost };
  }
}

/** Can a shard have made the record at word `o`? */
function isSound(words: Uint32Array, o: number, verdicts: number, reasons: number): boolean {
  const number64 = (at: number) => words[at + 1]! * 0x100000000 + words[at]!;
  const about = words[o + R.verdict]!;
  const family = about & 0xff;
  const packets = number64(o + R.packets);
  if (family !== 4 && family !== 6) return false;
  if (((about >>> 8) & 0xff) >= verdicts || about >>> 16 >= reasons) return false;
  if (words[o + R.protocol]! >>> 24 >= END_REASONS.length) return false;
  if (packets === 0 || packets > 0xffffffff || number64(o + R.octets) > packets * OCTETS_MOST) return false;
  // A frame has the packet, two tags at most and a link header; capture files may say more.
  if (number64(o + R.frameOctets) > packets * 2 * OCTETS_MOST) return false;
  return number64(o + R.start) <= number64(o + R.end);
}
