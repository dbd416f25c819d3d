/** The reference of native/rule_tree.cc: the first rule of each header, one header after the other. */
import { CHAIN, H, KIND_MASK, LANES, LAYOUT, type Layout, UNIT_WORDS } from './layout.js';

/**
 * `tree`: a RuleTree's memory. `reader`: whose epoch is set while the batch lasts; one thread each. `tuples`: layout.ts. Writes the id of the first rule that matches, or −1, to `results`.
 */
export function classifyRules(
  tree: Uint32Array,
  reader: number,
  tuples: Uint32Array,
  count: number,
  results: Int32Array,
): void {
  const layout = LAYOUT[tree[H.FAMILY] === 6 ? 6 : 4];
  const own = H.READERS + reader * UNIT_WORDS;
  Atomics.store(tree, own, Atomics.load(tree, H.EPOCH));
  const version = Atomics.load(tree, H.VERSION);
  for (let i = 0; i < count; i++) {
    let id = -1;
    let priority = 0xffffffff;
    for (let t = 0; t < tree[version]!; t++) {
      if (tree[version + 2 + 2 * t]! > priority) continue;
      const slot = find(tree, tree[version + 1 + 2 * t]!, tuples, i * layout.tupleWords, layout);
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

function find(tree: Uint32Array, root: number, tuples: Uint32Array, at: number, layout: Layout): number {
  let reference = root;
  for (;;) {
    const kind = reference & KIND_MASK;
    const block = reference - kind;
    if (kind === 0) {
      if (block === 0) return -1;
      reference = tree[block + layout.tupleWords + indexOf(tree, block, tuples, at, layout)]!;
    } else if (kind === CHAIN) {
      const slot = search(tree, tree[block]!, tuples, at, layout);
      if (slot >= 0) return slot;
      reference = tree[block + 1]!;
    } else return search(tree, reference, tuples, at, layout);
  }
}

function indexOf(tree: Uint32Array, node: number, tuples: Uint32Array, at: number, layout: Layout): number {
  let index = 0;
  for (let w = 0, rank = 0; w < layout.tupleWords; w++) {
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
function search(tree: Uint32Array, leaf: number, tuples: Uint32Array, at: number, layout: Layout): number {
  const { addressWords, tuple, packWords } = layout;
  const { src, dst, meta: metas, srcPorts, dstPorts, slot } = layout.pack;
  const packs = leaf & KIND_MASK;
  const protocol = tuples[at + tuple.protocol]!;
  const srcPort = tuples[at + tuple.ports]! >>> 16;
  const dstPort = tuples[at + tuple.ports]! & 0xffff;
  const holds = (prefix: number, open: number, address: number): boolean => {
    for (let w = 0; w < addressWords; w++) {
      const openHere = open - 32 * (addressWords - 1 - w);
      if (openHere >= 32) return true;
      if ((tree[prefix + w * LANES]! ^ tuples[address + w]!) >>> Math.max(0, openHere) !== 0) return false;
    }
    return true;
  };
  for (let pack = leaf - packs, i = 0; i < packs; i++, pack += packWords)
    for (let lane = pack; lane < pack + LANES; lane++) {
      const meta = tree[lane + metas]!;
      if (
        holds(lane + src, meta & 0xff, at + tuple.src) &&
        holds(lane + dst, (meta >>> 8) & 0xff, at + tuple.dst) &&
        ((protocol ^ (meta >>> 16)) & (meta >>> 24)) === 0 &&
        rangeHolds(tree[lane + srcPorts]!, srcPort) &&
        rangeHolds(tree[lane + dstPorts]!, dstPort)
      )
        return tree[lane + slot]!;
    }
  return -1;
}
const rangeHolds = (range: number, port: number): boolean =>
  (range & 0xffff) <= port && port <= ((range >>> 16) ^ 0xffff);
