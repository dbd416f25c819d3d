/**
 * How a rule tree lies in shared memory, 32-bit words, for native/rule_tree.cc alike. Blocks are whole units of 16 words
 * (64 octets, a cache line). A *reference* is a block's first word index with a kind in its low 4 bits: 0 node (the whole
 * word 0: nothing), 1–14 leaf of that many packs, 15 chain.
 */
export const UNIT_WORDS = 16;

/** Header, in words; readers follow, one cache line each, so that they don't disturb one another. */
export const H = { MAGIC_AT: 0, WORDS: 1, EPOCH: 2, VERSION: 3, RULES_AT: 4, RULE_CAPACITY: 5, READERS: 16 } as const;
export const MAGIC = 0x52544c31;
export const READERS_MAX = 64;
export const HEADER_WORDS = H.READERS + READERS_MAX * UNIT_WORDS;

/** A version block, one unit: the number of trees, then of each its root and the best (lowest) priority in it. */
export const TREES_MAX = 7;

/**
 * A node: masks over dst, src, protocol, ports (source's in the high half) that choose the bits of its index, from the
 * lowest of the first word to the highest of the last; then 2^bits references.
 */
export const NODE_MASKS = 4;
export const NODE_BITS_MAX = 14;

/**
 * A pack: eight rules in order of precedence, a field beside the other. P.META: 32 − source prefix length, 32 − destination
 * prefix length, protocol, its mask, from the low octet up. Ports: low end, and the complement of the high end above it, so that one
 * saturating subtraction tells both bounds. P.SLOT: index into the rules' table. An empty lane matches no port.
 */
export const LANES = 8;
export const P = { SRC: 0, DST: 8, META: 16, SPORT: 24, DPORT: 32, SLOT: 40 } as const;
export const PACK_WORDS = 48;
export const PACKS_MAX = 14;
/** Low end 65535, high end 0. */
export const NO_PORT = 0xffffffff;

/** A chain: a leaf, then what is looked at when nothing in it matches. One unit. */
export const CHAIN = 15;
export const KIND_MASK = 15;

/** Words of a header to be classified: dst, src, protocol, source port << 16 | destination port. */
export const TUPLE_WORDS = 4;
export const T = { DST: 0, SRC: 1, PROTOCOL: 2, PORTS: 3 } as const;
