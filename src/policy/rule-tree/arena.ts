/**
 * The memory of a rule tree and its blocks. Published blocks are never written again: a change copies the way from root to
 * leaf and swaps one word, the version. A block that the new version no longer reaches is kept until every reader that may
 * still walk it has ended its batch (epochs, as in RCU), then used again. One writer; its bookkeeping is its own.
 */
import { SeineError } from '../../errors.js';
import { adviseHugePages, cacheLineOffset } from '../../native/kernels.js';
import { CHAIN, H, HEADER_WORDS, KIND_MASK, type Layout, MAGIC, READERS_MAX, UNIT_WORDS } from './layout.js';

const FULL_SHARE = 0.75;
const WAIT_MS = 50;
const PAUSE = new Int32Array(new SharedArrayBuffer(4));

export class Arena {
  readonly words: Uint32Array;
  /** Of each unit that begins a block: how many references the working version holds to it. */
  private readonly references: Int32Array;
  /** Of each unit that begins a block: the transaction that made it; blocks of the present one may be written. */
  private readonly madeIn: Uint32Array;
  private readonly sizes: Uint32Array;
  private readonly free = new Map<number, number[]>();
  private next: number;
  private transaction = 1;
  private retired: number[] = [];
  /** Blocks and slots given up, by the epoch whose readers may still see them. */
  private readonly waiting: { epoch: number; blocks: number[]; slots: number[] }[] = [];
  private retiredSlots: number[] = [];
  /** Units in use, or waiting for readers. */
  unitsInUse: number;

  /** ruleCapacity: slots of the table of rules. units: the most that blocks may take; memory is real only once touched. */
  constructor(
    private readonly layout: Layout,
    ruleCapacity: number,
    units: number,
    private readonly freeSlot: (slot: number) => void,
  ) {
    const tableUnits = Math.ceil((ruleCapacity * 2) / UNIT_WORDS);
    const first = HEADER_WORDS / UNIT_WORDS + tableUnits;
    const all = first + units;
    // One unit more, so that blocks can begin at cache lines.
    const memory = new Uint32Array(new SharedArrayBuffer((all + 1) * UNIT_WORDS * 4));
    this.words = memory.subarray(cacheLineOffset(memory) / 4).subarray(0, all * UNIT_WORDS);
    adviseHugePages(this.words);
    this.references = new Int32Array(all);
    this.madeIn = new Uint32Array(all);
    this.sizes = new Uint32Array(all);
    this.next = first;
    this.unitsInUse = first;
    this.words[H.MAGIC_AT] = MAGIC;
    this.words[H.WORDS] = this.words.length;
    this.words[H.EPOCH] = 1;
    this.words[H.RULES_AT] = HEADER_WORDS;
    this.words[H.RULE_CAPACITY] = ruleCapacity;
    this.words[H.FAMILY] = layout.family;
  }

  /** A block of at least `words` words, with one reference; its content is whatever lay there. Returns its first word. */
  allocate(words: number): number {
    const units = Math.ceil(words / UNIT_WORDS);
    let unit = this.free.get(units)?.pop();
    if (unit === undefined && this.next + units > this.references.length) {
      this.waitFor(() => {
        unit = this.free.get(units)?.pop() ?? this.split(units);
        return unit !== undefined;
      });
      if (unit === undefined)
        throw new SeineError(
          'SEINE_ERR_BUSY',
          `the rule tree's memory of ${this.words.byteLength} octets is full; build it anew with more memory`,
        );
    }
    if (unit === undefined) {
      unit = this.next;
      this.next += units;
    }
    this.unitsInUse += units;
    this.sizes[unit] = units;
    this.references[unit] = 1;
    this.madeIn[unit] = this.transaction;
    return unit * UNIT_WORDS;
  }
  /** The smallest larger free block, cut. */
  private split(units: number): number | undefined {
    let best = 0;
    for (const [size, list] of this.free)
      if (size > units && list.length > 0 && (best === 0 || size < best)) best = size;
    if (best === 0) return undefined;
    const unit = this.free.get(best)!.pop()!;
    this.release(unit + units, best - units);
    return unit;
  }
  private release(unit: number, units: number): void {
    const list = this.free.get(units);
    if (list === undefined) this.free.set(units, [unit]);
    else list.push(unit);
  }

  unitOf(reference: number): number {
    return Math.floor(reference / UNIT_WORDS);
  }
  isFresh(reference: number): boolean {
    return this.madeIn[this.unitOf(reference)] === this.transaction;
  }
  isShared(reference: number): boolean {
    return this.references[this.unitOf(reference)]! > 1;
  }
  hold(reference: number): number {
    if (reference !== 0) this.references[this.unitOf(reference)]!++;
    return reference;
  }
  /** Gives one reference up, and with the last one the block and what it refers to. */
  drop(reference: number): void {
    const pending = [reference];
    while (pending.length > 0) {
      const each = pending.pop()!;
      if (each === 0 || --this.references[this.unitOf(each)]! > 0) continue;
      this.forEachChild(each, (child) => pending.push(child));
      this.retire(each);
    }
  }
  /** The block only: its children went over to a copy. */
  retire(reference: number): void {
    const unit = this.unitOf(reference);
    if (this.madeIn[unit] === this.transaction) {
      // Never published: no reader can know it.
      this.unitsInUse -= this.sizes[unit]!;
      this.madeIn[unit] = 0;
      this.release(unit, this.sizes[unit]!);
    } else this.retired.push(unit);
  }
  retireSlot(slot: number): void {
    this.retiredSlots.push(slot);
  }

  forEachChild(reference: number, visit: (child: number) => void): void {
    const kind = reference & KIND_MASK;
    const at = reference - kind;
    if (kind === CHAIN) {
      visit(this.words[at]!);
      visit(this.words[at + 1]!);
    } else if (kind === 0 && at !== 0) {
      const first = at + this.layout.tupleWords;
      const end = first + (1 << this.nodeBits(at));
      for (let i = first; i < end; i++) if (this.words[i] !== 0) visit(this.words[i]!);
    }
  }

  /**
   * A block that may be written in place of `reference`, whose one reference goes over to it. Children are shared by both
   * where the old one lives on.
   */
  own(reference: number): number {
    if (this.isFresh(reference) && !this.isShared(reference)) return reference;
    const kind = reference & KIND_MASK;
    const at = reference - kind;
    const size = this.sizes[this.unitOf(reference)]! * UNIT_WORDS;
    const copy = this.allocate(size);
    this.words.copyWithin(copy, at, at + size);
    if (this.isShared(reference)) {
      this.references[this.unitOf(reference)]!--;
      this.forEachChild(reference, (child) => this.hold(child));
    } else this.retire(reference);
    return copy + kind;
  }

  /** Makes a version block the one that batches begin with from now on; ends the transaction. */
  publish(version: number): void {
    const { words } = this;
    const before = words[H.VERSION]!;
    if (before !== 0) this.retired.push(this.unitOf(before));
    Atomics.store(words, H.VERSION, version);
    const epoch = words[H.EPOCH]!;
    Atomics.store(words, H.EPOCH, (epoch + 1) >>> 0 || 1);
    this.waiting.push({ epoch, blocks: this.retired, slots: this.retiredSlots });
    this.retired = [];
    this.retiredSlots = [];
    this.transaction++;
    this.collect();
  }

  /** Frees what no reader can see any more. */
  collect(): void {
    let oldest = this.words[H.EPOCH]!;
    for (let reader = 0; reader < READERS_MAX; reader++) {
      const epoch = Atomics.load(this.words, H.READERS + reader * UNIT_WORDS);
      if (epoch !== 0 && ((epoch - oldest) | 0) < 0) oldest = epoch;
    }
    while (this.waiting.length > 0 && ((this.waiting[0]!.epoch - oldest) | 0) < 0) {
      const { blocks, slots } = this.waiting.shift()!;
      for (const unit of blocks) {
        this.unitsInUse -= this.sizes[unit]!;
        this.release(unit, this.sizes[unit]!);
      }
      for (const slot of slots) this.freeSlot(slot);
    }
  }

  /** So much is free that a change finds room, or nothing is kept for readers' sake. */
  get isRoomy(): boolean {
    return this.waiting.length === 0 || this.unitsInUse < this.references.length * FULL_SHARE;
  }
  /** Gives readers time to leave, until `enough` or WAIT_MS. A batch takes them microseconds, unless its thread lost the processor. */
  waitFor(enough: () => boolean): boolean {
    if (enough()) return true;
    for (let ms = 0; ms < WAIT_MS && this.waiting.length > 0; ms++) {
      this.collect();
      if (enough()) return true;
      Atomics.wait(PAUSE, 0, 0, 1);
    }
    return false;
  }

  nodeBits(at: number): number {
    let bits = 0;
    for (let i = 0; i < this.layout.tupleWords; i++) bits += popcount(this.words[at + i]!);
    return bits;
  }
  leafAt(packs: number): number {
    return this.allocate(packs * this.layout.packWords) + packs;
  }
}

function popcount(word: number): number {
  let n = word - ((word >>> 1) & 0x55555555);
  n = (n & 0x33333333) + ((n >>> 2) & 0x33333333);
  return Math.imul((n + (n >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
