/**
 * How a rule tree lies in shared memory, 32-bit words, for native/rule_tree.cc alike. Blocks are whole units of 16 words
 * (64 octets, a cache line). A *reference* is a block's first word index with a kind in its low 4 bits: 0 node (the whole
 * word 0: nothing), 1–14 leaf of that many packs, 15 chain.
 */
export const UNIT_WORDS = 16;

/** Header, in words; readers follow, one cache line each, so that they don't disturb one another. */
export const H = {
  MAGIC_AT: 0,
  WORDS: 1,
  EPOCH: 2,
  VERSION: 3,
  RULES_AT: 4,
  RULE_CAPACITY: 5,
  FAMILY: 6,
  READERS: 16,
} as const;
export const MAGIC = 0x52544c31;
export const READERS_MAX = 64;
export const HEADER_WORDS = H.READERS + READERS_MAX * UNIT_WORDS;

/** A version block, one unit: the number of trees, then of each its root and the best (lowest) priority in it. */
export const TREES_MAX = 7;

/** Rules in a pack, side by side. */
export const LANES = 8;
export const PACKS_MAX = 14;
/** Low end 65535, high end 0: the source ports of a lane without a rule. */
export const NO_PORT = 0xffffffff;
export const NODE_BITS_MAX = 14;

/**
 * What the family of addresses decides. A *tuple*, a header to be classified, in words: destination, source, protocol,
 * source port << 16 | destination port; most significant word of an address first. A *node*: a mask over each of these words,
 * which choose the bits of its index, from the lowest of the first word to the highest of the last; then 2^bits references.
 *
 * A *pack*: eight rules in order of precedence, a field beside the other, eight words each: source and destination (their
 * words one after the other), then, from the low octet up, the bits that the source's and the destination's prefix leave open,
 * protocol, its mask; then ports, source's and destination's: the low end, and above it the complement of the high end, so
 * that one saturating subtraction tells both bounds; then the slot in the table of rules.
 */
export interface Layout {
  family: 4 | 6;
  addressWords: number;
  tupleWords: number;
  /** Offsets in a tuple. */
  tuple: { dst: number; src: number; protocol: number; ports: number };
  packWords: number;
  /** Offsets in a pack. */
  pack: { src: number; dst: number; meta: number; srcPorts: number; dstPorts: number; slot: number };
}
function layout(family: 4 | 6): Layout {
  const words = family === 4 ? 1 : 4;
  const meta = 2 * words * LANES;
  return {
    family,
    addressWords: words,
    tupleWords: 2 * words + 2,
    tuple: { dst: 0, src: words, protocol: 2 * words, ports: 2 * words + 1 },
    packWords: meta + 4 * LANES,
    pack: {
      src: 0,
      dst: words * LANES,
      meta,
      srcPorts: meta + LANES,
      dstPorts: meta + 2 * LANES,
      slot: meta + 3 * LANES,
    },
  };
}
export const LAYOUT: Readonly<Record<4 | 6, Layout>> = { 4: layout(4), 6: layout(6) };

/** A chain: a leaf, then what is looked at when nothing in it matches. One unit. */
export const CHAIN = 15;
export const KIND_MASK = 15;
