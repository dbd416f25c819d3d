/**
 * Which bits of the 5-tuple a node looks at: chosen one by one, each time the bit that parts the rules best. A rule that
 * doesn't fix the bit goes both ways; so bits that most rules leave open lose by themselves. Parts that fit into one pack
 * are not parted further: they cost a look-up no more than smaller ones would.
 */
import { LANES } from './layout.js';
import type { RuleSlots } from './rule-slots.js';

export interface ChosenBits {
  /** In the order of choice. */
  bits: number[];
  /** The rules by part; `pattern` has a bit for each chosen one that led to the part, `depth` is how many those were. */
  parts: { slots: Int32Array; pattern: number; depth: number }[];
  /** Rules that would have been copied too often, to be put into another tree. */
  evicted: number[];
}

/** A part's weight: what it costs to hold and to search on. */
const weight = (size: number): number => (size <= LANES ? 0 : size * Math.sqrt(size));
/** A bit must take this share of the weight off, or the node ends. */
const GAIN = 0.02;
/** Eviction goes on until this share of the allowance is left in use, and spares rules with fewer copies. */
const KEPT_SHARE = 0.75;
const COPIES_KEPT = 4;
/** Steps of work between two yields. */
const WORK = 1 << 18;

/**
 * Yields now and then, so that a large build can go on in the background. `mostEntries`: rules in all parts together, past
 * which those with most copies are evicted, or, where that is not allowed, no further bit is chosen.
 */
export function* chooseBits(
  rules: RuleSlots,
  slots: Int32Array,
  bitsMax: number,
  mostEntries: number,
  mayEvict: boolean,
): Generator<void, ChosenBits> {
  const { care, value } = rules;
  const words = rules.layout.tupleWords;
  const bitCount = 32 * words;
  let parts: ChosenBits['parts'] = [{ slots, pattern: 0, depth: 0 }];
  const done: ChosenBits['parts'] = [];
  const bits: number[] = [];
  const evicted: number[] = [];
  const used = new Uint8Array(bitCount);
  const [ones, zeros] = [new Uint32Array(bitCount), new Uint32Array(bitCount)];
  const cost = new Float64Array(bitCount);
  let work = 0;
  while (bits.length < bitsMax && parts.length > 0) {
    cost.fill(0);
    let now = 0;
    for (const part of parts) {
      const size = part.slots.length;
      ones.fill(0);
      zeros.fill(0);
      for (const slot of part.slots) {
        for (let w = 0, at = slot * words; w < words; w++, at++) {
          const values = value[at]!;
          for (let left = care[at]!; left !== 0; ) {
            const low = left & -left;
            left ^= low;
            const bit = (w << 5) + 31 - Math.clz32(low);
            if ((values & low) !== 0) ones[bit]!++;
            else zeros[bit]!++;
          }
        }
        if ((work += bitCount) > WORK) {
          work = 0;
          yield;
        }
      }
      now += weight(size);
      for (let bit = 0; bit < bitCount; bit++) cost[bit]! += weight(size - ones[bit]!) + weight(size - zeros[bit]!);
    }
    let best = -1;
    for (let bit = 0; bit < bitCount; bit++) if (used[bit] === 0 && (best < 0 || cost[bit]! < cost[best]!)) best = bit;
    if (cost[best]! > now * (1 - GAIN)) break;
    used[best] = 1;
    const word = best >>> 5;
    const mask = 1 << (best & 31);
    const open: ChosenBits['parts'] = [];
    for (const { slots: all, pattern, depth } of parts) {
      for (let side = 0; side < 2; side++) {
        const wanted = side === 1 ? mask : 0;
        const kept = all.filter((slot) => {
          const at = slot * words + word;
          return (care[at]! & mask) === 0 || (value[at]! & mask) === wanted;
        });
        const part = { slots: kept, pattern: pattern | (side << bits.length), depth: depth + 1 };
        (kept.length <= LANES ? done : open).push(part);
      }
      yield;
    }
    bits.push(best);
    parts = open;
    let entries = 0;
    for (const list of [open, done]) for (const part of list) entries += part.slots.length;
    if (entries <= mostEntries) continue;
    if (!mayEvict) break;
    evict(entries, [open, done], mostEntries, evicted);
  }
  return { bits, parts: [...done, ...parts], evicted };
}

/** Takes the rules with most copies out, until what is left is well within `most`. */
function evict(entries: number, lists: ChosenBits['parts'][], most: number, evicted: number[]): void {
  const copies = new Map<number, number>();
  for (const list of lists)
    for (const { slots } of list) for (const slot of slots) copies.set(slot, (copies.get(slot) ?? 0) + 1);
  const out = new Set<number>();
  let left = entries;
  for (const [slot, count] of [...copies].sort((a, b) => b[1] - a[1])) {
    if (left <= most * KEPT_SHARE || count < COPIES_KEPT) break;
    left -= count;
    out.add(slot);
    evicted.push(slot);
  }
  for (const list of lists) for (const part of list) part.slots = part.slots.filter((slot) => !out.has(slot));
}
