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
import { checkRule } from './check-rule.js';
import { emptyForest, finish, type Forest, ForestBuilder, NO_PRIORITY } from './forest-builder.js';
import { H, LAYOUT, type Layout, TREES_MAX, UNIT_WORDS } from './layout.js';
import { LeafLists } from './leaf-lists.js';
import { type FiveTupleRule, RuleSlots } from './rule-slots.js';
import { TreeChanges } from './tree-changes.js';

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

/** A rule that would lie in more leaves goes to another tree. */
const LEAVES_MAX = 64;
/** Memory that may be mapped for each rule, in units; what is never touched costs nothing. */
const UNITS_PER_RULE = 48;
const SLOTS_WAITING_LEAST = 1024;
/** Changes after which the trees fit the rules badly: this share of the rules, and at least so many. */
const STALE_SHARE = 0.5;
const STALE_LEAST = 256;

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
  private readonly builder: ForestBuilder;
  private readonly edits: TreeChanges;
  private forest: Forest;
  private rebuilding: Rebuild | null = null;
  private changes = 0;
  private failure: unknown = null;

  private constructor(
    private readonly layout: Layout,
    readonly ruleCapacity: number,
  ) {
    // Rules removed keep their slots until readers have left.
    const slots = ruleCapacity + Math.max(SLOTS_WAITING_LEAST, ruleCapacity >>> 2);
    this.slots = new RuleSlots(layout, slots);
    this.arena = new Arena(layout, slots, slots * UNITS_PER_RULE + 4096, (slot) => this.slots.freeSlot(slot));
    const lists = new LeafLists(this.arena, this.slots);
    this.builder = new ForestBuilder(this.arena, this.slots, lists);
    this.edits = new TreeChanges(this.arena, this.slots, lists, this.builder);
    this.forest = emptyForest(slots);
  }

  /** Throws SEINE_ERR_POLICY_INVALID for a rule out of bounds or an id given twice. */
  static build(rules: Iterable<FiveTupleRule>, { family = 4, ruleCapacity }: RuleTreeOptions = {}): RuleTree {
    const list = [...rules];
    const tree = new RuleTree(LAYOUT[family], Math.max(ruleCapacity ?? Math.max(1024, 2 * list.length), list.length));
    tree.checkChange([], list);
    for (const rule of list) tree.addSlot(rule);
    tree.forest = finish(tree.builder.buildForest(tree.slots.live()));
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
    this.forest.roots[tree] = this.edits.change(this.forest.roots[tree]!, slot, false);
    this.slots.forget(slot);
    if (this.rebuilding === null) this.arena.retireSlot(slot);
    else {
      if (!this.rebuilding.inserted.delete(slot)) this.rebuilding.removed.push(slot);
      this.rebuilding.held.push(slot);
    }
  }
  private insertSlot(forest: Forest, slot: number): void {
    let tree = this.builder.shapeOf(forest, slot);
    let fewest = this.edits.countLeaves(forest.roots[tree]!, slot, LEAVES_MAX);
    for (let i = 0; i < forest.roots.length && fewest > LEAVES_MAX; i++) {
      const leaves = this.edits.countLeaves(forest.roots[i]!, slot, fewest);
      if (leaves >= fewest) continue;
      fewest = leaves;
      tree = i;
    }
    if (fewest > LEAVES_MAX && forest.roots.length < TREES_MAX) {
      tree = forest.roots.length;
      forest.roots.push(0);
      forest.best.push(NO_PRIORITY);
    }
    forest.roots[tree] = this.edits.change(forest.roots[tree]!, slot, true);
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

  private startRebuild(): Rebuild {
    return { work: this.builder.buildForest(this.slots.live()), inserted: new Set(), removed: [], held: [] };
  }
  /** True when the new trees are in place. */
  private step(rebuilding: Rebuild): boolean {
    try {
      const { done, value: forest } = rebuilding.work.next();
      if (done !== true) return false;
      for (const slot of rebuilding.removed) {
        const tree = forest.treeOf[slot]!;
        forest.roots[tree] = this.edits.change(forest.roots[tree]!, slot, false);
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
}
