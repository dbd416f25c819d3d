/** The reference of native/rule_tree.cc: the first rule of each header, one header after the other. */
import { CHAIN, H, KIND_MASK, LANES, NODE_MASKS, P, PACK_WORDS, T, TUPLE_WORDS, UNIT_WORDS } from './layout.js';

/**
 * `tree`: a RuleTree's memory. `reader`: whose epoch is set while the batch lasts; one thread each. `tuples`: TUPLE_WORDS of
 * each header. Writes the id of the first rule that matches, or −1, to `results`.
 */
export function classifyRules(
  tree: Uint32Array,
  reader: number,
  tuples: Uint32Array,
  count: number,
  results: Int32Array,
): void {
  const own = H.READERS + reader * UNIT_WORDS;
  Atomics.store(tree, own, Atomics.load(tree, H.EPOCH));
  const version = Atomics.load(tree, H.VERSION);
  for (let i = 0; i < count; i++) {
    let id = -1;
    let priority = 0xffffffff;
    for (let t = 0; t < tree[version]!; t++) {
      if (tree[version + 2 + 2 * t]! > priority) continue;
      const slot = find(tree, tree[version + 1 + 2 * t]!, tuples, i * TUPLE_WORDS);
      if (slot < 0) continue;
      const rule = tree[H.RULES_AT]! + slot * 2;
      if (tree[rule + 1]! > priority || (tree[rule + 1] === priority && tree[rule]! > id)) continue;
      id = tree[rule]!;
      priority = tree[rule + 1]!;
    }
    results[i] = id;
  }
  Atomics.store(tree, own, 0);
}

function find(tree: Uint32Array, root: number, tuples: Uint32Array, at: number): number {
  let reference = root;
  for (;;) {
    const kind = reference & KIND_MASK;
    const block = reference - kind;
    if (kind === 0) {
      if (block === 0) return -1;
      reference = tree[block + NODE_MASKS + indexOf(tree, block, tuples, at)]!;
    } else if (kind === CHAIN) {
      const slot = search(tree, tree[block]!, tuples, at);
      if (slot >= 0) return slot;
      reference = tree[block + 1]!;
    } else return search(tree, reference, tuples, at);
  }
}

function indexOf(tree: Uint32Array, node: number, tuples: Uint32Array, at: number): number {
  let index = 0;
  for (let w = 0, rank = 0; w < NODE_MASKS; w++) {
    const mask = tree[node + w]!;
    const word = tuples[at + w]!;
    for (let left = mask; left !== 0; rank++) {
      const low = left & -left;
      left ^= low;
      if ((word & low) !== 0) index |= 1 << rank;
    }
  }
  return index;
}

/** The slot of the first rule in a leaf that matches, or −1. */
function search(tree: Uint32Array, leaf: number, tuples: Uint32Array, at: number): number {
  const packs = leaf & KIND_MASK;
  const src = tuples[at + T.SRC]!;
  const dst = tuples[at + T.DST]!;
  const protocol = tuples[at + T.PROTOCOL]!;
  const srcPort = tuples[at + T.PORTS]! >>> 16;
  const dstPort = tuples[at + T.PORTS]! & 0xffff;
  for (let pack = leaf - packs, i = 0; i < packs; i++, pack += PACK_WORDS)
    for (let lane = pack; lane < pack + LANES; lane++) {
      const meta = tree[lane + P.META]!;
      if (
        prefixHolds(tree[lane + P.SRC]!, meta & 0xff, src) &&
        prefixHolds(tree[lane + P.DST]!, (meta >>> 8) & 0xff, dst) &&
        ((protocol ^ (meta >>> 16)) & (meta >>> 24)) === 0 &&
        rangeHolds(tree[lane + P.SPORT]!, srcPort) &&
        rangeHolds(tree[lane + P.DPORT]!, dstPort)
      )
        return tree[lane + P.SLOT]!;
    }
  return -1;
}
const prefixHolds = (prefix: number, open: number, address: number): boolean =>
  open === 32 || (prefix ^ address) >>> open === 0;
const rangeHolds = (range: number, port: number): boolean =>
  (range & 0xffff) <= port && port <= ((range >>> 16) ^ 0xffff);
