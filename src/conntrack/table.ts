/**
 * The connection table of one shard, in shared memory so that native loops work on it and it outlives its worker.
 * Idea: an index of u32 slots (entry + 1, and eight bits of its hash) with linear probing (load ≤ 1/2, backward-shift
 * deletion) finds both directions of a connection with one probe, as the hash is symmetric. A timing wheel visits an entry
 * when its next deadline is due (open records, then the connection's timeout); entries are not moved when packets come, only
 * when visited. Eviction lists (unreplied and denied by age; closing) give the victims when the table is full.
 * One thread owns a table; others may read it (listings), and see an entry half-written at worst.
 */
import { C, COLD_WORDS, D, DIRECTION_WORDS, E, ENTRY_WORDS, LOOSE_KEY, Status, TCP_WORDS } from './entry.js';
import { P, PlanTable, planWords } from './plan-table.js';

/** Wheel: 2^27 ns a tick (134 ms), 4096 slots (9 minutes); later deadlines wait at the horizon and are put in again. */
export const TICK_SHIFT = 27;
export const TICK_NS = 2 ** TICK_SHIFT;
export const WHEEL_SLOTS = 4096;

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
  tickLow: 9, // last tick swept, u64
  tickHigh: 10,
  started: 11,
  // Word offsets of the parts.
  wheelAt: 12,
  slotsAt: 13,
  coldAt: 14,
  entriesAt: 15,
  addressesAt: 16,
  plansAt: 17, // the plan table's header
} as const;
export const HEADER_WORDS = 64;

export interface TableMemory {
  readonly buffer: SharedArrayBuffer;
  readonly capacity: number;
}

/** Entries that a table can hold: its index has 24 bits for them. */
export const CAPACITY_MAX = 2 ** 24 - 2;
const SLOT_ENTRY = 0xffffff;
const slotsFor = (capacity: number): number => 2 ** Math.ceil(Math.log2(Math.max(2 * capacity, 64)));
const LINE_WORDS = 16;
const align = (word: number): number => Math.ceil(word / (2 * LINE_WORDS)) * 2 * LINE_WORDS;

/** Where the parts lie when the buffer begins `skew` words past a multiple of two cache lines. */
function layout(capacity: number, skew: number) {
  const wheelAt = HEADER_WORDS;
  const slotsAt = align(wheelAt + WHEEL_SLOTS + skew) - skew;
  const coldAt = slotsAt + slotsFor(capacity);
  const entriesAt = align(coldAt + capacity * COLD_WORDS + skew) - skew;
  const addressesAt = entriesAt + capacity * ENTRY_WORDS;
  const plansAt = align(addressesAt + capacity * 8 + skew) - skew;
  return { wheelAt, slotsAt, coldAt, entriesAt, addressesAt, plansAt, words: plansAt + planWords(capacity) };
}

export const tick = (low: number, high: number): number => high * 32 + (low >>> TICK_SHIFT);
/** Its low word. */
export const tick32 = (low: number, high: number): number => ((high << 5) | (low >>> TICK_SHIFT)) >>> 0;

export class ConnectionTable {
  readonly capacity: number;
  readonly words: Uint32Array;
  readonly slotMask: number;
  /** Word offsets of the parts. */
  readonly wheelAt: number;
  readonly slotsAt: number;
  readonly coldAt: number;
  readonly entriesAt: number;
  readonly addressesAt: number;
  readonly plans: PlanTable;

  /** Octets of a table's memory, whatever its skew: each of the parts may begin later by less than two lines. */
  static size(capacity: number): number {
    return (layout(capacity, 0).words + 3 * 2 * LINE_WORDS) * 4;
  }

  /** `prepare` is told of the memory before it is written: asks for huge pages, says its skew (see format). */
  static allocate(capacity: number, prepare: (words: Uint32Array) => number = () => 0): TableMemory {
    const buffer = new SharedArrayBuffer(ConnectionTable.size(capacity));
    const words = new Uint32Array(buffer);
    ConnectionTable.format(words, capacity, prepare(words));
    return { buffer, capacity };
  }

  /** Writes the header of an empty table. `skew`: words between a multiple of two cache lines and the memory's begin. */
  static format(words: Uint32Array, capacity: number, skew: number): void {
    if (capacity > CAPACITY_MAX) throw new RangeError(`a connection table holds at most ${CAPACITY_MAX} entries`);
    const { wheelAt, slotsAt, coldAt, entriesAt, addressesAt, plansAt } = layout(capacity, skew);
    words[H.capacity] = capacity;
    words[H.slotMask] = slotsFor(capacity) - 1;
    words.set([wheelAt, slotsAt, coldAt, entriesAt, addressesAt, plansAt], H.wheelAt);
  }

  constructor(readonly memory: TableMemory) {
    const words = new Uint32Array(memory.buffer);
    this.words = words;
    this.capacity = memory.capacity;
    this.slotMask = words[H.slotMask]!;
    this.wheelAt = words[H.wheelAt]!;
    this.slotsAt = words[H.slotsAt]!;
    this.coldAt = words[H.coldAt]!;
    this.entriesAt = words[H.entriesAt]!;
    this.addressesAt = words[H.addressesAt]!;
    this.plans = new PlanTable(words, words[H.plansAt]!, this.capacity);
  }

  get used(): number {
    return this.words[H.used]!;
  }
  /** Word offset of an entry. */
  at(entry: number): number {
    return this.entriesAt + entry * ENTRY_WORDS;
  }
  /** Word offset of its cold words. */
  cold(entry: number): number {
    return this.coldAt + entry * COLD_WORDS;
  }
  addressAt(entry: number): number {
    return this.addressesAt + entry * 8;
  }
  directionAt(entry: number, direction: number): number {
    return this.at(entry) + E.direction + direction * DIRECTION_WORDS;
  }
  /** Word offset of the plan of an entry's direction. */
  planAt(entry: number, direction: number): number {
    return this.plans.at(this.words[this.directionAt(entry, direction) + D.plan]!);
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
    const discriminated = isDiscriminated(key);
    for (let slot = hash & slotMask; ; slot = (slot + 1) & slotMask) {
      const held = words[slotsAt + slot]!;
      if (held === 0) return -1;
      if (held >>> 24 !== hash >>> 24) continue;
      const found = held & SLOT_ENTRY;
      const at = this.at(found - 1);
      if (words[at + E.key] !== key) continue;
      if (discriminated && words[at + E.discriminator] !== discriminator) continue;
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
      words[H.free] = words[this.cold(entry) + C.wheelNext]!;
    } else if (words[H.fresh]! < this.capacity) {
      entry = words[H.fresh]!;
      words[H.fresh] = entry + 1;
    } else return -1;
    const at = this.at(entry);
    const cold = this.cold(entry);
    words.fill(0, at, at + ENTRY_WORDS);
    words.fill(0, cold, cold + COLD_WORDS);
    const six = (key & 0xf00) === 0x600;
    const last = six ? 3 : 0;
    words[at + E.src] = address[addressAt + last]!;
    words[at + E.dst] = address[addressAt + 4 + last]!;
    words[at + E.ports] = ports;
    words[at + E.key] = key;
    if (isDiscriminated(key)) words[at + E.discriminator] = discriminator;
    words[cold + C.hash] = hash;
    words[at + E.status] = status | Status.Used;
    if (six) {
      const base = this.addressAt(entry);
      for (let i = 0; i < 8; i++) words[base + i] = address[addressAt + i]!;
    }
    let slot = hash & this.slotMask;
    while (words[this.slotsAt + slot] !== 0) slot = (slot + 1) & this.slotMask;
    words[this.slotsAt + slot] = ((entry + 1) | ((hash >>> 24) << 24)) >>> 0;
    words[H.used] = words[H.used]! + 1;
    return entry;
  }

  /** Takes an entry out of index, wheel and lists, and frees it and its plans. Its records are the caller's to end before. */
  remove(entry: number): void {
    const { words, slotMask, slotsAt } = this;
    const at = this.at(entry);
    const cold = this.cold(entry);
    this.unlinkWheel(entry);
    this.unlist(entry);
    this.dropPlans(entry);
    let slot = words[cold + C.hash]! & slotMask;
    while ((words[slotsAt + slot]! & SLOT_ENTRY) !== entry + 1) slot = (slot + 1) & slotMask;
    // Backward shift: later entries of the run move up unless that would put them before their home slot.
    for (let next = (slot + 1) & slotMask; words[slotsAt + next] !== 0; next = (next + 1) & slotMask) {
      const home = words[this.cold((words[slotsAt + next]! & SLOT_ENTRY) - 1) + C.hash]! & slotMask;
      if (((next - home) & slotMask) >= ((next - slot) & slotMask)) {
        words[slotsAt + slot] = words[slotsAt + next]!;
        slot = next;
      }
    }
    words[slotsAt + slot] = 0;
    words[at + E.status] = 0;
    words[cold + C.wheelNext] = words[H.free]!;
    words[H.free] = entry + 1;
    words[H.used] = words[H.used]! - 1;
  }

  /**
   * Gives the direction of an entry a plan; whether it holds is E.status's to say. `inPort`: of its packets. The ports whose
   * epochs it rests on are the original direction's: in-port, and out-port of its plan.
   */
  setPlan(
    entry: number,
    direction: number,
    port: number,
    decision: number,
    ingressRule: number,
    egressRule: number,
    inPort: number,
  ): void {
    const { words, plans } = this;
    const d = this.directionAt(entry, direction);
    const original = direction === 0 ? port : words[this.planAt(entry, 0) + P.port]!;
    const { key } = plans;
    key[P.port] = port;
    key[P.decision] = decision;
    key[P.ingressRule] = ingressRule;
    key[P.egressRule] = egressRule;
    key[P.interfaces] = (inPort & 0xffff) | ((decision & 0xff) === FORWARD ? (port & 0xffff) << 16 : DROPPED << 16);
    key[P.basis] = (words[this.cold(entry) + C.origin]! & 0xffff) | ((original & 0xffff) << 16);
    const plan = plans.intern();
    plans.release(words[d + D.plan]!);
    words[d + D.plan] = plan;
    const at = this.at(entry);
    words[at + E.status] = words[at + E.status]! & ~(direction === 0 ? Status.Replay0 : Status.Replay1);
  }

  /** Neither direction has a plan any more. */
  dropPlans(entry: number): void {
    const { words, plans } = this;
    for (let direction = 0; direction < 2; direction++) {
      const d = this.directionAt(entry, direction);
      plans.release(words[d + D.plan]!);
      words[d + D.plan] = 0;
    }
    const at = this.at(entry);
    words[at + E.status] = words[at + E.status]! & ~(Status.Plan0 | Status.Plan1 | Status.Replay0 | Status.Replay1);
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
    const cold = this.cold(entry);
    swap(cold + C.first, cold + C.first + 2);
    swap(cold + C.first + 1, cold + C.first + 3);
    swap(cold + C.interfaces, cold + C.interfaces + 1);
    if (!isDiscriminated(words[at + E.key]!)) {
      for (let i = 0; i < TCP_WORDS; i++) swap(at + E.tcp + i, at + E.tcp + TCP_WORDS + i);
      const scales = words[at + E.scales]!;
      words[at + E.scales] = ((scales >>> 16) | (scales << 16)) >>> 0;
    }
    const status = words[at + E.status]!;
    const first = Status.Record0 | Status.Plan0 | Status.Replay0;
    const second = Status.Record1 | Status.Plan1 | Status.Replay1;
    words[at + E.status] = (status & ~(first | second)) | ((status & first) << 1) | ((status & second) >>> 1);
  }

  // --- eviction lists: 0 unreplied, 1 closing; oldest first ---

  list(entry: number, which: 0 | 1): void {
    this.unlist(entry);
    const { words } = this;
    const at = this.at(entry);
    const cold = this.cold(entry);
    const head = which === 0 ? H.unrepliedHead : H.closingHead;
    const tail = head + 1;
    const last = words[tail]!;
    words[cold + C.listPrev] = last;
    words[cold + C.listNext] = 0;
    if (last === 0) words[head] = entry + 1;
    else words[this.cold(last - 1) + C.listNext] = entry + 1;
    words[tail] = entry + 1;
    words[at + E.status] = words[at + E.status]! | (which === 0 ? Status.ListUnreplied : Status.ListClosing);
  }

  unlist(entry: number): void {
    const { words } = this;
    const at = this.at(entry);
    const status = words[at + E.status]!;
    if ((status & (Status.ListUnreplied | Status.ListClosing)) === 0) return;
    const cold = this.cold(entry);
    const head = (status & Status.ListUnreplied) !== 0 ? H.unrepliedHead : H.closingHead;
    const next = words[cold + C.listNext]!;
    const prev = words[cold + C.listPrev]!;
    if (prev === 0) words[head] = next;
    else words[this.cold(prev - 1) + C.listNext] = next;
    if (next === 0) words[head + 1] = prev;
    else words[this.cold(next - 1) + C.listPrev] = prev;
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
    const cold = this.cold(entry);
    if (words[H.started] === 0) {
      words[H.started] = 1;
      this.setLastTick(deadlineTick - 1);
    }
    const last = this.lastTick();
    const due = Math.min(Math.max(deadlineTick, last + 1), last + WHEEL_SLOTS - 1);
    const linked = (words[cold + C.origin]! >>> 16) - 1;
    if (linked >= 0) {
      // Slots are told apart by their distance from the last tick swept.
      const base = last % WHEEL_SLOTS;
      const waits = (linked - base + WHEEL_SLOTS) % WHEEL_SLOTS;
      if (waits !== 0 && waits <= due - last) return;
      this.unlinkWheel(entry);
    }
    const slot = due % WHEEL_SLOTS;
    const head = words[this.wheelAt + slot]!;
    words[cold + C.wheelPrev] = 0;
    words[cold + C.wheelNext] = head;
    if (head !== 0) words[this.cold(head - 1) + C.wheelPrev] = entry + 1;
    words[this.wheelAt + slot] = entry + 1;
    words[cold + C.origin] = ((words[cold + C.origin]! & 0xffff) | ((slot + 1) << 16)) >>> 0;
  }

  private unlinkWheel(entry: number): void {
    const { words } = this;
    const cold = this.cold(entry);
    const slot = (words[cold + C.origin]! >>> 16) - 1;
    if (slot < 0) return;
    const next = words[cold + C.wheelNext]!;
    const prev = words[cold + C.wheelPrev]!;
    if (prev === 0) words[this.wheelAt + slot] = next;
    else words[this.cold(prev - 1) + C.wheelNext] = next;
    if (next !== 0) words[this.cold(next - 1) + C.wheelPrev] = prev;
    words[cold + C.origin] = words[cold + C.origin]! & 0xffff;
    words[cold + C.wheelNext] = 0;
    words[cold + C.wheelPrev] = 0;
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
        const cold = this.cold(entry);
        const next = words[cold + C.wheelNext]! - 1;
        words[cold + C.origin] = words[cold + C.origin]! & 0xffff;
        words[cold + C.wheelNext] = 0;
        words[cold + C.wheelPrev] = 0;
        if (next >= 0) words[this.cold(next) + C.wheelPrev] = 0;
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
}

/** Do keys of this kind have a discriminator: ICMP's identifier, a loose record's in-port? */
function isDiscriminated(key: number): boolean {
  const protocol = key & 0xff;
  return (key & LOOSE_KEY) !== 0 || protocol === 1 || protocol === 58;
}
const FORWARD = 1;
const DROPPED = 0xfffd; // Port.Dropped

export { C, D, E };
