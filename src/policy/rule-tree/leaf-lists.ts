/** Lists of rules in order of precedence, as leaves and chains of them. */
import type { Arena } from './arena.js';
import { CHAIN, KIND_MASK, LANES, NO_PORT, PACKS_MAX } from './layout.js';
import type { RuleSlots } from './rule-slots.js';

export const LEAF_RULES = PACKS_MAX * LANES;

export class LeafLists {
  constructor(
    private readonly arena: Arena,
    private readonly slots: RuleSlots,
  ) {}

  /** A leaf, or a chain of them. */
  write(slots: ArrayLike<number>, from = 0): number {
    const count = slots.length - from;
    if (count === 0) return 0;
    const here = Math.min(count, LEAF_RULES);
    const leaf = this.arena.leafAt(Math.ceil(here / LANES));
    this.writeLeaf(leaf, slots, from, here);
    if (here === count) return leaf;
    const rest = this.write(slots, from + here);
    const chain = this.arena.allocate(2);
    this.arena.words[chain] = leaf;
    this.arena.words[chain + 1] = rest;
    return chain + CHAIN;
  }
  private writeLeaf(leaf: number, slots: ArrayLike<number>, from: number, count: number): void {
    const { words } = this.arena;
    const { fields, fieldWords } = this.slots;
    const { packWords, pack: fieldAt } = this.slots.layout;
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
  read(reference: number, into: number[] = []): number[] {
    const { words } = this.arena;
    const { packWords, pack } = this.slots.layout;
    const kind = reference & KIND_MASK;
    const at = reference - kind;
    if (kind === CHAIN) return this.read(words[at + 1]!, this.read(words[at]!, into));
    for (let i = 0; i < kind * LANES; i++) {
      const lane = at + (i >>> 3) * packWords + (i & 7);
      if (words[lane + pack.srcPorts] === NO_PORT) break;
      into.push(words[lane + pack.slot]!);
    }
    return into;
  }

  placeOf(list: readonly number[], slot: number): number {
    let low = 0;
    let high = list.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.slots.compare(list[middle]!, slot) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
