/** Builds trees from lists of rules, in steps, so that it can go on in the background. */
import type { Arena } from './arena.js';
import { chooseBits } from './choose-bits.js';
import { LANES, NODE_BITS_MAX } from './layout.js';
import { LEAF_RULES, type LeafLists } from './leaf-lists.js';
import type { RuleSlots } from './rule-slots.js';

/** Copies of rules that a tree may hold for each of its rules when it is built. */
const SPREAD = 4;
/** Trees by shape (shapeOf); a build makes one more where rules are left over, changes a few more. */
const SHAPES = 3;
/** Of a tree without rules. */
export const NO_PRIORITY = 0xffffffff;

/** Roots with the best priority in each. */
export interface Forest {
  /** Which address the rules of the first tree fix: 0 dst, 1 src. */
  first: number;
  roots: number[];
  best: number[];
  /** Slot → tree. */
  treeOf: Uint8Array;
}
export const emptyForest = (slots: number): Forest => ({
  first: 0,
  roots: [],
  best: [],
  treeOf: new Uint8Array(slots),
});

export class ForestBuilder {
  constructor(
    private readonly arena: Arena,
    private readonly slots: RuleSlots,
    private readonly lists: LeafLists,
  ) {}

  *buildForest(live: readonly number[]): Generator<void, Forest> {
    const forest = emptyForest(this.slots.capacity);
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
  shapeOf(forest: Forest, slot: number): number {
    if (!this.slots.wide(slot, forest.first)) return 0;
    return this.slots.wide(slot, 1 - forest.first) ? 2 : 1;
  }

  /** Slots in order of precedence → a reference. `evicted`: where rules that cost too many copies may go. */
  *buildTree(slots: Int32Array, evicted: number[] | null): Generator<void, number> {
    if (slots.length <= LANES) return this.lists.write(slots);
    const { tupleWords } = this.slots.layout;
    const bitsMax = Math.min(NODE_BITS_MAX, 1 + Math.ceil(Math.log2(slots.length)));
    const most = SPREAD * slots.length + 64;
    const chosen = yield* chooseBits(this.slots, slots, bitsMax, most, evicted !== null);
    if (chosen.bits.length === 0) return this.lists.write(slots);
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
}

/** Calls `visit` with `fixed` and every choice of the bits of `free`. */
export function forEachIndex(fixed: number, free: number, visit: (index: number) => void): void {
  let part = 0;
  do {
    visit(fixed | part);
    part = (part - free) & free;
  } while (part !== 0);
}
/** All steps at once. */
export function finish<Result>(work: Generator<void, Result>): Result {
  for (;;) {
    const { done, value } = work.next();
    if (done === true) return value;
  }
}
