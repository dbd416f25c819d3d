/**
 * The connection table of one shard, in shared memory so that native loops work on it and it outlives its worker.
 * Idea: an index of (hash, entry) slots with linear probing (load ≤ 1/2, backward-shift deletion) finds both directions
 * of a connection with one probe, as the hash is symmetric. A timing wheel visits an entry when its next deadline is due
 * (open records, then the connection's timeout); entries are not moved when packets come, only when visited.
 * Eviction lists (unreplied and denied by age; closing) give the victims when the table is full.
 * One thread owns a table; others may read it (listings), and see an entry half-written at worst.
 */
import { D, DIRECTION_WORDS, E, ENTRY_WORDS, Status, TCP_WORDS } from './entry.js';

/** Wheel: 2^27 ns a tick (134 ms), 4096 slots (9 minutes); later deadlines wait at the horizon and are put in again. */
export const TICK_SHIFT = 27;
export const TICK_NS = 2 ** TICK_SHIFT;
const WHEEL_SLOTS = 4096;

export const H = {
  capacity: 0,
  slotMask: 1,
  fresh: 2, // entries never used begin here
  free: 3, // list of freed entries, through wheelNext
  used: 4,
  unrepliedHead: 5,
  unrepliedTail: 6,
  closingHead: 7,
  closingTail: 8,
  tickLow: 9, // last tick swept (double in two words)
  tickHigh: 10,
  started: 11,
} as const;
const HEADER_WORDS = 64;

export interface TableMemory {
  readonly buffer: SharedArrayBuffer;
  readonly capacity: number;
}

const slotsFor = (capacity: number): number => 2 ** Math.ceil(Math.log2(Math.max(2 * capacity, 64)));
const wordsFor = (capacity: number): number =>
  HEADER_WORDS + WHEEL_SLOTS + slotsFor(capacity) * 2 + capacity * (ENTRY_WORDS + 8);

export const tick = (low: number, high: number): number => high * 32 + (low >>> TICK_SHIFT);

export class ConnectionTable {
  readonly capacity: number;
  readonly words: Uint32Array;
  readonly slotMask: number;
  /** Word offsets of the parts. */
  readonly wheelAt = HEADER_WORDS;
  readonly slotsAt = HEADER_WORDS + WHEEL_SLOTS;
  readonly entriesAt: number;
  readonly addressesAt: number;

  static allocate(capacity: number): TableMemory {
    const buffer = new SharedArrayBuffer(wordsFor(capacity) * 4);
    const header = new Uint32Array(buffer, 0, HEADER_WORDS);
    header[H.capacity] = capacity;
    header[H.slotMask] = slotsFor(capacity) - 1;
    return { buffer, capacity };
  }

  constructor(readonly memory: TableMemory) {
    this.words = new Uint32Array(memory.buffer);
    this.capacity = memory.capacity;
    this.slotMask = slotsFor(this.capacity) - 1;
    this.entriesAt = this.slotsAt + (this.slotMask + 1) * 2;
    this.addressesAt = this.entriesAt + this.capacity * ENTRY_WORDS;
  }

  get used(): number {
    return this.words[H.used]!;
  }
  /** Word offset of an entry. */
  at(entry: number): number {
    return this.entriesAt + entry * ENTRY_WORDS;
  }
  addressAt(entry: number): number {
    return this.addressesAt + entry * 8;
  }

  /**
   * The entry whose key is (address words at `addressAt` of `address`, ports, key, discriminator): × 2, plus 1 where it
   * matched in the reply direction; −1 = none. `ways`: 1 original only, 2 reply only, 3 both.
   */
  find(
    hash: number,
    address: Uint32Array,
    addressAt: number,
    ports: number,
    key: number,
    discriminator: number,
    ways: number,
  ): number {
    const { words, slotMask, slotsAt } = this;
    const six = (key & 0xf00) === 0x600;
    const last = six ? 3 : 0;
    const src = address[addressAt + last]!;
    const dst = address[addressAt + 4 + last]!;
    const reversePorts = ((ports >>> 16) | (ports << 16)) >>> 0;
    for (let slot = hash & slotMask; ; slot = (slot + 1) & slotMask) {
      const found = words[slotsAt + slot * 2 + 1]!;
      if (found === 0) return -1;
      if (words[slotsAt + slot * 2] !== hash) continue;
      const at = this.at(found - 1);
      if (words[at + E.key] !== key || words[at + E.discriminator] !== discriminator) continue;
      if ((ways & 1) !== 0 && words[at + E.src] === src && words[at + E.dst] === dst && words[at + E.ports] === ports) {
        if (!six || this.sameAddresses(found - 1, address, addressAt, 0)) return (found - 1) * 2;
      }
      if (
        (ways & 2) !== 0 &&
        words[at + E.src] === dst &&
        words[at + E.dst] === src &&
        words[at + E.ports] === reversePorts
      ) {
        if (!six || this.sameAddresses(found - 1, address, addressAt, 4)) return (found - 1) * 2 + 1;
      }
    }
  }

  private sameAddresses(entry: number, address: Uint32Array, addressAt: number, turn: number): boolean {
    const base = this.addressAt(entry);
    for (let i = 0; i < 8; i++) {
      if (this.words[base + i] !== address[addressAt + (i ^ turn)]) return false;
    }
    return true;
  }

  /** Puts a new entry in; −1 when the table has no room. Every word of it is set; times are the caller's to set. */
  insert(
    hash: number,
    address: Uint32Array,
    addressAt: number,
    ports: number,
    key: number,
    discriminator: number,
    status: number,
  ): number {
    const { words } = this;
    let entry: number;
    if (words[H.free] !== 0) {
      entry = words[H.free]! - 1;
      words[H.free] = words[this.at(entry) + E.wheelNext]!;
    } else if (words[H.fresh]! < this.capacity) {
      entry = words[H.fresh]!;
      words[H.fresh] = entry + 1;
    } else return -1;
    const at = this.at(entry);
    words.fill(0, at, at + ENTRY_WORDS);
    const six = (key & 0xf00) === 0x600;
    const last = six ? 3 : 0;
    words[at + E.src] = address[addressAt + last]!;
    words[at + E.dst] = address[addressAt + 4 + last]!;
    words[at + E.ports] = ports;
    words[at + E.key] = key;
    words[at + E.discriminator] = discriminator;
    words[at + E.hash] = hash;
    words[at + E.status] = status | Status.Used;
    if (six) {
      const base = this.addressAt(entry);
      for (let i = 0; i < 8; i++) words[base + i] = address[addressAt + i]!;
    }
    let slot = hash & this.slotMask;
    while (words[this.slotsAt + slot * 2 + 1] !== 0) slot = (slot + 1) & this.slotMask;
    words[this.slotsAt + slot * 2] = hash;
    words[this.slotsAt + slot * 2 + 1] = entry + 1;
    words[H.used] = words[H.used]! + 1;
    return entry;
  }

  /** Takes an entry out of index, wheel and lists, and frees it. Its records are the caller's to end before. */
  remove(entry: number): void {
    const { words, slotMask, slotsAt } = this;
    const at = this.at(entry);
    this.unlinkWheel(entry);
    this.unlist(entry);
    let slot = words[at + E.hash]! & slotMask;
    while (words[slotsAt + slot * 2 + 1] !== entry + 1) slot = (slot + 1) & slotMask;
    // Backward shift: later entries of the run move up unless that would put them before their home slot.
    for (let next = (slot + 1) & slotMask; words[slotsAt + next * 2 + 1] !== 0; next = (next + 1) & slotMask) {
      const home = words[slotsAt + next * 2]! & slotMask;
      if (((next - home) & slotMask) >= ((next - slot) & slotMask)) {
        words[slotsAt + slot * 2] = words[slotsAt + next * 2]!;
        words[slotsAt + slot * 2 + 1] = words[slotsAt + next * 2 + 1]!;
        slot = next;
      }
    }
    words[slotsAt + slot * 2] = 0;
    words[slotsAt + slot * 2 + 1] = 0;
    words[at + E.status] = 0;
    words[at + E.wheelNext] = words[H.free]!;
    words[H.free] = entry + 1;
    words[H.used] = words[H.used]! - 1;
  }

  /** Turns an entry round: its reply direction becomes the original one. */
  reverse(entry: number): void {
    const { words } = this;
    const at = this.at(entry);
    const swap = (a: number, b: number) => {
      const kept = words[a]!;
      words[a] = words[b]!;
      words[b] = kept;
    };
    swap(at + E.src, at + E.dst);
    const ports = words[at + E.ports]!;
    words[at + E.ports] = ((ports >>> 16) | (ports << 16)) >>> 0;
    for (let i = 0; i < 4; i++) swap(this.addressAt(entry) + i, this.addressAt(entry) + 4 + i);
    for (let i = 0; i < DIRECTION_WORDS; i++) swap(at + E.direction + i, at + E.direction + DIRECTION_WORDS + i);
    for (let i = 0; i < TCP_WORDS; i++) swap(at + E.tcp + i, at + E.tcp + TCP_WORDS + i);
    const status = words[at + E.status]!;
    const pair = Status.Record0 | Status.Record1 | Status.Plan0 | Status.Plan1;
    words[at + E.status] =
      (status & ~pair) |
      ((status & (Status.Record0 | Status.Plan0)) << 1) |
      ((status & (Status.Record1 | Status.Plan1)) >>> 1);
  }

  // --- eviction lists: 0 unreplied, 1 closing; oldest first ---

  list(entry: number, which: 0 | 1): void {
    this.unlist(entry);
    const { words } = this;
    const at = this.at(entry);
    const head = which === 0 ? H.unrepliedHead : H.closingHead;
    const tail = head + 1;
    const last = words[tail]!;
    words[at + E.listPrev] = last;
    words[at + E.listNext] = 0;
    if (last === 0) words[head] = entry + 1;
    else words[this.at(last - 1) + E.listNext] = entry + 1;
    words[tail] = entry + 1;
    words[at + E.status] = words[at + E.status]! | (which === 0 ? Status.ListUnreplied : Status.ListClosing);
  }

  unlist(entry: number): void {
    const { words } = this;
    const at = this.at(entry);
    const status = words[at + E.status]!;
    if ((status & (Status.ListUnreplied | Status.ListClosing)) === 0) return;
    const head = (status & Status.ListUnreplied) !== 0 ? H.unrepliedHead : H.closingHead;
    const next = words[at + E.listNext]!;
    const prev = words[at + E.listPrev]!;
    if (prev === 0) words[head] = next;
    else words[this.at(prev - 1) + E.listNext] = next;
    if (next === 0) words[head + 1] = prev;
    else words[this.at(next - 1) + E.listPrev] = prev;
    words[at + E.status] = status & ~(Status.ListUnreplied | Status.ListClosing);
  }

  /** The oldest entry of a list, −1 = none. */
  oldest(which: 0 | 1): number {
    return this.words[which === 0 ? H.unrepliedHead : H.closingHead]! - 1;
  }

  // --- timing wheel ---

  private lastTick(): number {
    return this.words[H.tickHigh]! * 0x100000000 + this.words[H.tickLow]!;
  }
  private setLastTick(value: number): void {
    this.words[H.tickLow] = value >>> 0;
    this.words[H.tickHigh] = Math.floor(value / 0x100000000);
  }

  /** Links an entry to the slot of its deadline (a tick), or brings it forward to it; later deadlines change nothing. */
  arm(entry: number, deadlineTick: number): void {
    const { words } = this;
    const at = this.at(entry);
    if (words[H.started] === 0) {
      words[H.started] = 1;
      this.setLastTick(deadlineTick - 1);
    }
    const last = this.lastTick();
    const due = Math.min(Math.max(deadlineTick, last + 1), last + WHEEL_SLOTS - 1);
    const linked = (words[at + E.origin]! >>> 16) - 1;
    if (linked >= 0) {
      // Slots are told apart by their distance from the last tick swept.
      const base = last % WHEEL_SLOTS;
      const waits = (linked - base + WHEEL_SLOTS) % WHEEL_SLOTS;
      if (waits !== 0 && waits <= due - last) return;
      this.unlinkWheel(entry);
    }
    const slot = due % WHEEL_SLOTS;
    const head = words[this.wheelAt + slot]!;
    words[at + E.wheelPrev] = 0;
    words[at + E.wheelNext] = head;
    if (head !== 0) words[this.at(head - 1) + E.wheelPrev] = entry + 1;
    words[this.wheelAt + slot] = entry + 1;
    words[at + E.origin] = ((words[at + E.origin]! & 0xffff) | ((slot + 1) << 16)) >>> 0;
  }

  private unlinkWheel(entry: number): void {
    const { words } = this;
    const at = this.at(entry);
    const slot = (words[at + E.origin]! >>> 16) - 1;
    if (slot < 0) return;
    const next = words[at + E.wheelNext]!;
    const prev = words[at + E.wheelPrev]!;
    if (prev === 0) words[this.wheelAt + slot] = next;
    else words[this.at(prev - 1) + E.wheelNext] = next;
    if (next !== 0) words[this.at(next - 1) + E.wheelPrev] = prev;
    words[at + E.origin] = words[at + E.origin]! & 0xffff;
    words[at + E.wheelNext] = 0;
    words[at + E.wheelPrev] = 0;
  }

  /**
   * Visits every entry whose slot lies wholly before `nowTick`. `visit` gets an entry that is in no slot any more: it
   * arms it again or removes it.
   */
  sweep(nowTick: number, visit: (entry: number) => void): void {
    const { words } = this;
    if (words[H.started] === 0) return;
    const last = this.lastTick();
    if (nowTick - 1 <= last) return;
    const slots = Math.min(nowTick - 1 - last, WHEEL_SLOTS);
    this.setLastTick(nowTick - 1);
    for (let i = 1; i <= slots; i++) {
      const slot = (last + i) % WHEEL_SLOTS;
      // The slot's chain is taken off first: what `visit` arms again may land in the same slot, a turn later.
      let entry = words[this.wheelAt + slot]! - 1;
      words[this.wheelAt + slot] = 0;
      while (entry >= 0) {
        const at = this.at(entry);
        const next = words[at + E.wheelNext]! - 1;
        words[at + E.origin] = words[at + E.origin]! & 0xffff;
        words[at + E.wheelNext] = 0;
        words[at + E.wheelPrev] = 0;
        if (next >= 0) words[this.at(next) + E.wheelPrev] = 0;
        visit(entry);
        entry = next;
      }
    }
  }

  /** Every entry in use. Another thread may call this on a table that changes meanwhile. */
  *entries(): Iterable<number> {
    const end = this.words[H.fresh]!;
    for (let entry = 0; entry < end; entry++) {
      if ((this.words[this.at(entry) + E.status]! & Status.Used) !== 0) yield entry;
    }
  }

  directionAt(entry: number, direction: number): number {
    return this.at(entry) + E.direction + direction * DIRECTION_WORDS;
  }
}

export { D, E };
