/**
 * One rule put into a tree or taken out: blocks that readers may see are copied, on the way from the root to each leaf that the
 * rule belongs in (arena.ts).
 */
import type { Arena } from './arena.js';
import { type ForestBuilder, finish, forEachIndex } from './forest-builder.js';
import { KIND_MASK, LANES } from './layout.js';
import type { LeafLists } from './leaf-lists.js';
import type { RuleSlots } from './rule-slots.js';

/** A leaf that all indices of a class share takes in a rule of some of them only where the class is no larger. */
const SHARED_CLASS_MAX = 16;
const PERHAPS_MASK = 0xfff;

export class TreeChanges {
  private readonly perhaps = new Uint8Array(PERHAPS_MASK + 1);

  constructor(
    private readonly arena: Arena,
    private readonly slots: RuleSlots,
    private readonly lists: LeafLists,
    private readonly builder: ForestBuilder,
  ) {}

  /** Inserts or removes a rule under a reference, of which it takes one and gives one to what it returns. */
  change(reference: number, slot: number, insert: boolean): number {
    if (reference === 0) return insert ? this.lists.write([slot]) : 0;
    if ((reference & KIND_MASK) === 0) return this.changeNode(this.arena.own(reference), slot, insert);
    const list = this.lists.read(reference);
    if (insert) list.splice(this.lists.placeOf(list, slot), 0, slot);
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
    if (grown && before > 0 && before % step === 0) return finish(this.builder.buildTree(Int32Array.from(list), null));
    return this.lists.write(list);
  }
  /**
   * Indices with one child form a class, which holds a rule if any index of it is compatible with it; classes are changed
   * whole, or parted, so that this stays so and every rule is found again when it is removed.
   */
  private changeNode(node: number, slot: number, insert: boolean): number {
    const { words } = this.arena;
    const first = node + this.slots.layout.tupleWords;
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
    if (insert && empty.length > 0) this.assign(first, empty, this.lists.write([slot]));
    for (const [child, indices] of touched) {
      const inside = indices.filter((index) => (index & ~free) === fixed);
      const list =
        insert && inside.length < indices.length && (child & KIND_MASK) !== 0 ? this.lists.read(child) : null;
      if (list !== null && (indices.length > SHARED_CLASS_MAX || list.length % LANES === 0)) {
        const outside = indices.filter((index) => (index & ~free) !== fixed);
        const within = this.compatible(node, list, inside);
        within.splice(this.lists.placeOf(within, slot), 0, slot);
        const rest = this.compatible(node, list, outside);
        if (rest.length === list.length) for (let i = 0; i < inside.length; i++) this.arena.drop(child);
        else {
          for (let i = 0; i < indices.length; i++) this.arena.drop(child);
          this.assign(first, outside, this.lists.write(rest));
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
    const { tupleWords } = this.slots.layout;
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
  countLeaves(reference: number, slot: number, enough: number): number {
    if (reference === 0) return 1;
    if ((reference & KIND_MASK) !== 0) return 1;
    const { fixed, free } = this.indicesOf(reference, slot);
    const seen = new Set<number>();
    let count = 0;
    forEachIndex(fixed, free, (index) => {
      const child = this.arena.words[reference + this.slots.layout.tupleWords + index]!;
      if (count > enough || (child !== 0 && seen.has(child))) return;
      if (child === 0 && seen.has(0)) return;
      seen.add(child);
      count += this.countLeaves(child, slot, enough - count);
    });
    return count;
  }
}
