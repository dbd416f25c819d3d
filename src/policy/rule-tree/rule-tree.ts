/**
 * A classifier of 5-tuples over ordered rules, for lists of any size: a few decision trees in shared memory, read by every
 * worker in place (layout.ts, classify.ts, native/rule_tree.cc), written by one thread. Each node indexes its children by a
 * handful of freely chosen bits of the 5-tuple; a leaf compares eight rules at once. Rules that would have to be copied
 * into too many leaves of a tree go to the next one.
 *
 * A change copies what it touches and swaps one word: each batch of headers sees the rules before the change or after it,
 * whole. Readers never wait; the writer waits for them only where all room is taken by what they may still see. A tree is of
 * one family of addresses.
 */
import { SeineError } from '../../errors.js';
import { Arena } from './arena.js';
import { chooseBits } from './choose-bits.js';
import {
  CHAIN,
  H,
  KIND_MASK,
  LANES,
  LAYOUT,
  type Layout,
  NO_PORT,
  NODE_BITS_MAX,
  PACKS_MAX,
  TREES_MAX,
  UNIT_WORDS,
} from './layout.js';
import { type FiveTupleRule, type RuleAddress, RuleSlots } from './rule-slots.js';

export type { FiveTupleRule, RuleAddress } from './rule-slots.js';

export interface RuleTreeOptions {
  /** Of its addresses; default 4. */
  family?: 4 | 6;
  /** The most rules it will ever hold; default: twice what it is built from, at least 1,024. */
  ruleCapacity?: number;
}
export interface RuleChange {
  remove?: readonly number[];
  insert?: readonly FiveTupleRule[];
}

/** Copies of rules that a tree may hold for each of its rules when it is built. */
const SPREAD = 4;
/** Trees by shape (shapeOf); a build makes one more where rules are left over, changes a few more. */
const SHAPES = 3;
/** Of a tree without rules. */
const NO_PRIORITY = 0xffffffff;
/** A rule that would lie in more leaves goes to another tree. */
const LEAVES_MAX = 64;
/** A leaf that all rules of a class share takes a rule of some members in only where the class is no larger. */
const SHARED_CLASS_MAX = 16;
/** Memory that may be mapped for each rule, in units; what is never touched costs nothing. */
const UNITS_PER_RULE = 48;
const PERHAPS_MASK = 0xfff;
const SLOTS_WAITING_LEAST = 1024;
const LEAF_RULES = PACKS_MAX * LANES;
/** Changes after which the trees fit the rules badly: this share of the rules, and at least so many. */
const STALE_SHARE = 0.5;
const STALE_LEAST = 256;

/** Roots with the best priority in each. */
interface Forest {
  /** Which address the rules of the first tree fix: 0 dst, 1 src. */
  first: number;
  roots: number[];
  best: number[];
  /** Slot → tree. */
  treeOf: Uint8Array;
}
interface Rebuild {
  work: Generator<void, Forest>;
  inserted: Set<number>;
  removed: number[];
  /** Slots of rules removed meanwhile, not to be used for others before the new trees have forgotten them. */
  held: number[];
}

export class RuleTree {
  private readonly arena: Arena;
  private readonly slots: RuleSlots;
  private forest: Forest;
  private rebuilding: Rebuild | null = null;
  private changes = 0;
  private readonly perhaps = new Uint8Array(PERHAPS_MASK + 1);
  private failure: unknown = null;

  private constructor(
    private readonly layout: Layout,
    readonly ruleCapacity: number,
  ) {
    // Rules removed keep their slots until readers have left.
    const slots = ruleCapacity + Math.max(SLOTS_WAITING_LEAST, ruleCapacity >>> 2);
    this.slots = new RuleSlots(layout, slots);
    this.arena = new Arena(layout, slots, slots * UNITS_PER_RULE + 4096, (slot) => this.slots.freeSlot(slot));
    this.forest = this.emptyForest();
  }

  /** Throws SEINE_ERR_POLICY_INVALID for a rule out of bounds or an id given twice. */
  static build(rules: Iterable<FiveTupleRule>, { family = 4, ruleCapacity }: RuleTreeOptions = {}): RuleTree {
    const list = [...rules];
    const tree = new RuleTree(LAYOUT[family], Math.max(ruleCapacity ?? Math.max(1024, 2 * list.length), list.length));
    tree.checkChange([], list);
    for (const rule of list) tree.addSlot(rule);
    tree.forest = finish(tree.buildForest(tree.slots.live()));
    tree.publish();
    return tree;
  }

  /** What workers read; hand it to RuleTreeReader. */
  get memory(): Uint32Array {
    return this.arena.words;
  }
  get size(): number {
    return this.slots.count;
  }
  /** Octets in use: header, table of rules, blocks, and what waits for readers. */
  get octets(): number {
    return this.arena.unitsInUse * UNIT_WORDS * 4;
  }
  get trees(): number {
    return this.forest.roots.length;
  }
  /** So much has changed since the trees were built that `maintain` or `rebuild` would make them better. */
  get stale(): boolean {
    return this.changes > Math.max(STALE_LEAST, this.size * STALE_SHARE);
  }
  has(id: number): boolean {
    return this.slots.slotOf(id) !== undefined;
  }
  rules(): FiveTupleRule[] {
    return this.slots.live().map((slot) => this.slots.rules[slot]!);
  }

  insert(rule: FiveTupleRule): void {
    this.update({ insert: [rule] });
  }
  /** False if there is no rule of that id. */
  remove(id: number): boolean {
    if (!this.has(id)) return false;
    this.update({ remove: [id] });
    return true;
  }

  /**
   * All of a change at once: a batch sees the rules before it or after it. Throws before anything is changed:
   * SEINE_ERR_POLICY_INVALID for a rule out of bounds or an id that is there already, SEINE_ERR_NOT_FOUND for one to be
   * removed that isn't there, SEINE_ERR_BUSY for more rules than its capacity, or while a reader that doesn't come on keeps too much of
   * earlier states (try again). Blocks run out only where rules overlap beyond measure:
   * SEINE_ERR_BUSY too, but then readers keep the rules as they were and the tree takes no more changes.
   */
  update({ remove = [], insert = [] }: RuleChange): void {
    if (this.failure !== null) throw this.failure;
    this.checkChange(remove, insert);
    try {
      for (const id of remove) this.removeSlot(this.slots.slotOf(id)!);
      for (const rule of insert) {
        const slot = this.addSlot(rule);
        this.insertSlot(this.forest, slot);
        this.rebuilding?.inserted.add(slot);
      }
      this.publish();
    } catch (error) {
      this.failure = error;
      throw error;
    }
    this.changes += remove.length + insert.length;
  }

  /** Builds all trees anew at once, and swaps them in. */
  rebuild(): void {
    if (this.failure !== null) throw this.failure;
    this.rebuilding ??= this.startRebuild();
    while (!this.step(this.rebuilding));
  }
  /**
   * Where the trees are stale, builds them anew in steps, changes going on between them: mostly far below a millisecond, some
   * up to 15 ms with 10,000 rules, 50 with 100,000. To be called now and then. True while there is more to do.
   */
  maintain(steps = 1): boolean {
    if (this.failure !== null) throw this.failure;
    if (this.rebuilding === null && !this.stale) return false;
    this.rebuilding ??= this.startRebuild();
    for (let i = 0; i < steps; i++) if (this.step(this.rebuilding)) return false;
    return true;
  }
  /** A reader ended without ending its batch (its thread died): what it saw may be used again. */
  releaseReader(reader: number): void {
    Atomics.store(this.memory, H.READERS + reader * UNIT_WORDS, 0);
  }

  private checkChange(remove: readonly number[], insert: readonly FiveTupleRule[]): void {
    const gone = new Set<number>();
    for (const id of remove) {
      if (!this.has(id) || gone.has(id)) throw new SeineError('SEINE_ERR_NOT_FOUND', `there is no rule ${id}`);
      gone.add(id);
    }
    const added = new Set<number>();
    for (const rule of insert) {
      checkRule(rule, this.layout);
      if (added.has(rule.id) || (this.has(rule.id) && !gone.has(rule.id)))
        throw new SeineError('SEINE_ERR_POLICY_INVALID', `rule ${rule.id} is there already`);
      added.add(rule.id);
    }
    if (this.size - remove.length + insert.length > this.ruleCapacity)
      throw new SeineError('SEINE_ERR_BUSY', `the rule tree has room for ${this.ruleCapacity} rules`);
    // A rebuild keeps the slots of what is removed meanwhile.
    if (insert.length > this.slots.room && this.rebuilding !== null) while (!this.step(this.rebuilding));
    if (!this.arena.waitFor(() => insert.length <= this.slots.room && this.arena.isRoomy))
      throw new SeineError('SEINE_ERR_BUSY', 'readers of the rule tree still hold what changed last; try again');
  }

  private addSlot(rule: FiveTupleRule): number {
    const slot = this.slots.add(rule);
    // Little-endian, a 64-bit word whose order is that of precedence.
    this.memory[this.memory[H.RULES_AT]! + slot * 2] = rule.id;
    this.memory[this.memory[H.RULES_AT]! + slot * 2 + 1] = rule.priority;
    return slot;
  }
  private removeSlot(slot: number): void {
    const tree = this.forest.treeOf[slot]!;
    this.forest.roots[tree] = this.change(this.forest.roots[tree]!, slot, false);
    this.slots.forget(slot);
    if (this.rebuilding === null) this.arena.retireSlot(slot);
    else {
      if (!this.rebuilding.inserted.delete(slot)) this.rebuilding.removed.push(slot);
      this.rebuilding.held.push(slot);
    }
  }
  private insertSlot(forest: Forest, slot: number): void {
    let tree = this.shapeOf(forest, slot);
    let fewest = this.countLeaves(forest.roots[tree]!, slot, LEAVES_MAX);
    for (let i = 0; i < forest.roots.length && fewest > LEAVES_MAX; i++) {
      const leaves = this.countLeaves(forest.roots[i]!, slot, fewest);
      if (leaves >= fewest) continue;
      fewest = leaves;
      tree = i;
    }
    if (fewest > LEAVES_MAX && forest.roots.length < TREES_MAX) {
      tree = forest.roots.length;
      forest.roots.push(0);
      forest.best.push(NO_PRIORITY);
    }
    forest.roots[tree] = this.change(forest.roots[tree]!, slot, true);
    forest.best[tree] = Math.min(forest.best[tree]!, this.slots.rules[slot]!.priority);
    forest.treeOf[slot] = tree;
  }

  private publish(): void {
    const { roots, best } = this.forest;
    const version = this.arena.allocate(1 + 2 * TREES_MAX);
    this.memory[version] = roots.length;
    roots.forEach((root, i) => {
      this.memory[version + 1 + 2 * i] = root;
      this.memory[version + 2 + 2 * i] = best[i]!;
    });
    this.arena.publish(version);
  }

  private emptyForest(): Forest {
    return { first: 0, roots: [], best: [], treeOf: new Uint8Array(this.slots.capacity) };
  }
  private startRebuild(): Rebuild {
    return { work: this.buildForest(this.slots.live()), inserted: new Set(), removed: [], held: [] };
  }
  /** True when the new trees are in place. */
  private step(rebuilding: Rebuild): boolean {
    try {
      const { done, value: forest } = rebuilding.work.next();
      if (done !== true) return false;
      for (const slot of rebuilding.removed) {
        const tree = forest.treeOf[slot]!;
        forest.roots[tree] = this.change(forest.roots[tree]!, slot, false);
      }
      for (const slot of rebuilding.inserted) this.insertSlot(forest, slot);
      for (const root of this.forest.roots) this.arena.drop(root);
      for (const slot of rebuilding.held) this.arena.retireSlot(slot);
      this.forest = forest;
      this.rebuilding = null;
      this.changes = 0;
      this.publish();
      return true;
    } catch (error) {
      this.failure = error;
      throw error;
    }
  }

  private *buildForest(live: readonly number[]): Generator<void, Forest> {
    const forest = this.emptyForest();
    let left = Int32Array.from(live).sort(this.slots.compare);
    yield;
    const { wide } = this.slots;
    const fixing = [0, 1].map((dimension) => left.filter((slot) => !wide(slot, dimension)).length);
    forest.first = fixing[0]! >= fixing[1]! ? 0 : 1;
    for (let tree = 0; tree < SHAPES || left.length > 0; tree++) {
      const gone = new Set<number>();
      const mine = tree < SHAPES ? left.filter((slot) => this.shapeOf(forest, slot) <= tree) : left;
      forest.best.push(mine.length === 0 ? NO_PRIORITY : this.slots.rules[mine[0]!]!.priority);
      const evicted: number[] = [];
      forest.roots.push(yield* this.buildTree(mine, tree < SHAPES ? evicted : null));
      for (const slot of mine) gone.add(slot);
      for (const slot of evicted) gone.delete(slot);
      for (const slot of gone) forest.treeOf[slot] = tree;
      left = left.filter((slot) => !gone.has(slot));
    }
    return forest;
  }
  /** Rules that fix enough of one address, then those that fix the other's, then the rest: each a tree of its own. */
  private shapeOf(forest: Forest, slot: number): number {
    if (!this.slots.wide(slot, forest.first)) return 0;
    return this.slots.wide(slot, 1 - forest.first) ? 2 : 1;
  }

  /** Slots in order of precedence → a reference. `evicted`: where rules that cost too many copies may go. */
  private *buildTree(slots: Int32Array, evicted: number[] | null): Generator<void, number> {
    if (slots.length <= LANES) return this.writeList(slots);
    const { tupleWords } = this.layout;
    const bitsMax = Math.min(NODE_BITS_MAX, 1 + Math.ceil(Math.log2(slots.length)));
    const most = SPREAD * slots.length + 64;
    const chosen = yield* chooseBits(this.slots, slots, bitsMax, most, evicted !== null);
    if (chosen.bits.length === 0) return this.writeList(slots);
    evicted?.push(...chosen.evicted);
    const node = this.arena.allocate(tupleWords + (1 << chosen.bits.length));
    const { words } = this.arena;
    words.fill(0, node, node + tupleWords + (1 << chosen.bits.length));
    for (const bit of chosen.bits) words[node + (bit >>> 5)]! |= 1 << (bit & 31);
    // Where each chosen bit lies in the index: by its place in the masks, not by the order of choice.
    const ranks = chosen.bits.map((bit) => chosen.bits.filter((other) => other < bit).length);
    const same = new Map<string, number>();
    for (const { slots: part, pattern, depth } of chosen.parts) {
      if (part.length === 0) continue;
      const key = part.length <= LEAF_RULES ? part.join() : '';
      let child = key === '' ? undefined : same.get(key);
      const isNew = child === undefined;
      child ??= yield* this.buildTree(part, null);
      if (key !== '') same.set(key, child);
      let fixed = 0;
      let free = 0;
      for (let i = 0; i < ranks.length; i++)
        if (i >= depth) free |= 1 << ranks[i]!;
        else if ((pattern & (1 << i)) !== 0) fixed |= 1 << ranks[i]!;
      let held = isNew;
      forEachIndex(fixed, free, (index) => {
        words[node + tupleWords + index] = child;
        if (!held) this.arena.hold(child);
        held = false;
      });
      yield;
    }
    return node;
  }

  /** A leaf, or a chain of them. */
  private writeList(slots: ArrayLike<number>, from = 0): number {
    const count = slots.length - from;
    if (count === 0) return 0;
    const here = Math.min(count, LEAF_RULES);
    const leaf = this.arena.leafAt(Math.ceil(here / LANES));
    this.writeLeaf(leaf, slots, from, here);
    if (here === count) return leaf;
    const rest = this.writeList(slots, from + here);
    const chain = this.arena.allocate(2);
    this.arena.words[chain] = leaf;
    this.arena.words[chain + 1] = rest;
    return chain + CHAIN;
  }
  private writeLeaf(leaf: number, slots: ArrayLike<number>, from: number, count: number): void {
    const { words } = this.arena;
    const { fields, fieldWords } = this.slots;
    const { packWords, pack: fieldAt } = this.layout;
    const packs = leaf & KIND_MASK;
    for (let i = 0; i < packs * LANES; i++) {
      const lane = leaf - packs + (i >>> 3) * packWords + (i & 7);
      const used = i < count;
      const slot = used ? slots[from + i]! : 0;
      for (let field = 0; field < fieldWords; field++)
        words[lane + field * LANES] = used ? fields[slot * fieldWords + field]! : 0;
      if (!used) words[lane + fieldAt.srcPorts] = words[lane + fieldAt.dstPorts] = NO_PORT;
      words[lane + fieldAt.slot] = slot;
    }
  }
  /** The slots of a leaf or chain, in order of precedence. */
  private readList(reference: number, into: number[] = []): number[] {
    const { words } = this.arena;
    const { packWords, pack } = this.layout;
    const kind = reference & KIND_MASK;
    const at = reference - kind;
    if (kind === CHAIN) return this.readList(words[at + 1]!, this.readList(words[at]!, into));
    for (let i = 0; i < kind * LANES; i++) {
      const lane = at + (i >>> 3) * packWords + (i & 7);
      if (words[lane + pack.srcPorts] === NO_PORT) break;
      into.push(words[lane + pack.slot]!);
    }
    return into;
  }

  /** Inserts or removes a rule under a reference, of which it takes one and gives one to what it returns. */
  private change(reference: number, slot: number, insert: boolean): number {
    if (reference === 0) return insert ? this.writeList([slot]) : 0;
    if ((reference & KIND_MASK) === 0) return this.changeNode(this.arena.own(reference), slot, insert);
    const list = this.readList(reference);
    if (insert) list.splice(this.placeOf(list, slot), 0, slot);
    else {
      const at = list.indexOf(slot);
      if (at < 0) return reference;
      list.splice(at, 1);
    }
    this.arena.drop(reference);
    return this.writeOrPart(list, insert);
  }
  /** Tries to part a list by bits each time that it needs another pack; long ones, that resisted before, ever more rarely. */
  private writeOrPart(list: number[], grown: boolean): number {
    const before = list.length - 1;
    const step = Math.max(LANES, 1 << Math.floor(Math.log2(Math.max(1, before / 2))));
    if (grown && before > 0 && before % step === 0) return finish(this.buildTree(Int32Array.from(list), null));
    return this.writeList(list);
  }
  private placeOf(list: readonly number[], slot: number): number {
    let low = 0;
    let high = list.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.slots.compare(list[middle]!, slot) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /**
   * Indices with one child form a class, which holds a rule if any index of it is compatible with it; classes are changed
   * whole, or parted, so that this stays so and every rule is found again when it is removed.
   */
  private changeNode(node: number, slot: number, insert: boolean): number {
    const { words } = this.arena;
    const first = node + this.layout.tupleWords;
    const size = 1 << this.arena.nodeBits(node);
    const { fixed, free } = this.indicesOf(node, slot);
    const touched = new Map<number, number[]>();
    const empty: number[] = [];
    forEachIndex(fixed, free, (index) => {
      const child = words[first + index]!;
      if (child === 0) empty.push(index);
      else if (!touched.has(child)) touched.set(child, []);
    });
    // Most indices hold other children: told by a bit of the address, before the map is asked.
    const perhaps = this.perhaps;
    for (const child of touched.keys()) perhaps[(child >>> 4) & PERHAPS_MASK] = 1;
    for (let index = 0; index < size; index++) {
      const child = words[first + index]!;
      if (perhaps[(child >>> 4) & PERHAPS_MASK] === 1) touched.get(child)?.push(index);
    }
    for (const child of touched.keys()) perhaps[(child >>> 4) & PERHAPS_MASK] = 0;
    if (insert && empty.length > 0) this.assign(first, empty, this.writeList([slot]));
    for (const [child, indices] of touched) {
      const inside = indices.filter((index) => (index & ~free) === fixed);
      const list = insert && inside.length < indices.length && (child & KIND_MASK) !== 0 ? this.readList(child) : null;
      if (list !== null && (indices.length > SHARED_CLASS_MAX || list.length % LANES === 0)) {
        const outside = indices.filter((index) => (index & ~free) !== fixed);
        const within = this.compatible(node, list, inside);
        within.splice(this.placeOf(within, slot), 0, slot);
        const rest = this.compatible(node, list, outside);
        if (rest.length === list.length) for (let i = 0; i < inside.length; i++) this.arena.drop(child);
        else {
          for (let i = 0; i < indices.length; i++) this.arena.drop(child);
          this.assign(first, outside, this.writeList(rest));
        }
        this.assign(first, inside, this.writeOrPart(within, within.length > list.length));
      } else {
        for (let i = 1; i < indices.length; i++) this.arena.drop(child);
        this.assign(first, indices, this.change(child, slot, insert));
      }
    }
    return node;
  }
  /** Takes the one reference that `child` comes with, and makes one for each index. */
  private assign(first: number, indices: readonly number[], child: number): void {
    indices.forEach((index, i) => {
      this.arena.words[first + index] = i === 0 ? child : this.arena.hold(child);
    });
  }
  private compatible(node: number, list: readonly number[], indices: readonly number[]): number[] {
    return list.filter((slot) => {
      const { fixed, free } = this.indicesOf(node, slot);
      return indices.some((index) => (index & ~free) === fixed);
    });
  }
  /** Which of a node's indices a rule may be found at: the bits that it fixes, and those that it leaves open. */
  private indicesOf(node: number, slot: number): { fixed: number; free: number } {
    const { tupleWords } = this.layout;
    let fixed = 0;
    let free = 0;
    for (let w = 0, rank = 0; w < tupleWords; w++) {
      const care = this.slots.care[slot * tupleWords + w]!;
      const value = this.slots.value[slot * tupleWords + w]!;
      for (let left = this.arena.words[node + w]!; left !== 0; rank++) {
        const low = left & -left;
        left ^= low;
        if ((care & low) === 0) free |= 1 << rank;
        else if ((value & low) !== 0) fixed |= 1 << rank;
      }
    }
    return { fixed, free };
  }
  /** How many leaves a rule would be written to; counting ends past `enough`. */
  private countLeaves(reference: number, slot: number, enough: number): number {
    if (reference === 0) return 1;
    if ((reference & KIND_MASK) !== 0) return 1;
    const { fixed, free } = this.indicesOf(reference, slot);
    const seen = new Set<number>();
    let count = 0;
    forEachIndex(fixed, free, (index) => {
      const child = this.arena.words[reference + this.layout.tupleWords + index]!;
      if (count > enough || (child !== 0 && seen.has(child))) return;
      if (child === 0 && seen.has(0)) return;
      seen.add(child);
      count += this.countLeaves(child, slot, enough - count);
    });
    return count;
  }
}

function forEachIndex(fixed: number, free: number, visit: (index: number) => void): void {
  let part = 0;
  do {
    visit(fixed | part);
    part = (part - free) & free;
  } while (part !== 0);
}
function finish<Result>(work: Generator<void, Result>): Result {
  for (;;) {
    const { done, value } = work.next();
    if (done === true) return value;
  }
}

function checkRule(rule: FiveTupleRule, { family, addressWords }: Layout): void {
  const wrong = (what: string): never => {
    throw new SeineError('SEINE_ERR_POLICY_INVALID', `rule ${rule.id}: ${what}`);
  };
  const within = (value: number, most: number, what: string): void => {
    if (!(Number.isInteger(value) && value >= 0 && value <= most)) wrong(`${what} is ${value}, not of 0–${most}`);
  };
  within(rule.id, 0x7fffffff, 'id');
  within(rule.priority, 0xfffffffe, 'priority');
  const address = (given: RuleAddress, what: string): void => {
    const words = typeof given === 'number' ? [given] : given;
    if (words.length !== addressWords || (family === 4) !== (typeof given === 'number'))
      wrong(`${what} is not an IPv${family} address`);
    for (const word of words) within(word, 0xffffffff, what);
  };
  address(rule.src, 'src');
  address(rule.dst, 'dst');
  within(rule.srcLength, 32 * addressWords, 'srcLength');
  within(rule.dstLength, 32 * addressWords, 'dstLength');
  within(rule.protocol, 0xff, 'protocol');
  within(rule.protocolMask, 0xff, 'protocolMask');
  for (const [what, [low, high]] of [
    ['srcPorts', rule.srcPorts],
    ['dstPorts', rule.dstPorts],
  ] as const) {
    within(low, 0xffff, what);
    within(high, 0xffff, what);
    if (low > high) wrong(`${what} begins at ${low} and ends at ${high}`);
  }
}
