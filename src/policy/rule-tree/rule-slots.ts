/** The writer's own copy of the rules, by slot: the five words that a pack holds, and the bits that each rule fixes. */
import type { Layout } from './layout.js';

/** An IPv4 address as a number, an IPv6 address as four words, most significant first; host order. */
export type RuleAddress = number | readonly number[];

/** A rule over 5-tuples. Of the rules that match, the lowest priority wins, then the lowest id. */
export interface FiveTupleRule {
  /** Below 2^31, unique in its tree; what a classification answers with. */
  id: number;
  /** Below 2^32 − 1. */
  priority: number;
  src: RuleAddress;
  srcLength: number;
  dst: RuleAddress;
  dstLength: number;
  /** Inclusive. */
  srcPorts: readonly [number, number];
  dstPorts: readonly [number, number];
  protocol: number;
  /** 0xff: this protocol; 0: any. */
  protocolMask: number;
}

/** Prefixes no longer than this fix too little to part rules by. */
const WIDE_LENGTH = { 4: 8, 6: 20 } as const;

/** The mask of an address's word whose first bit is bit `from`. */
const prefixMask = (length: number, from: number): number =>
  length <= from ? 0 : length >= from + 32 ? 0xffffffff : (-1 << (32 + from - length)) >>> 0;
/** Bits in which all ports of a range agree. */
function commonBits(low: number, high: number): number {
  const differ = low ^ high;
  return differ === 0 ? 0xffff : (0xffff << (32 - Math.clz32(differ))) & 0xffff;
}

export class RuleSlots {
  /** Per slot, in a pack's order: addresses, meta, ports. */
  readonly fields: Uint32Array;
  readonly fieldWords: number;
  /** Per slot, in the order of a node's masks: the bits that every header of the rule has alike, and their values. */
  readonly care: Uint32Array;
  readonly value: Uint32Array;
  readonly rules: (FiveTupleRule | undefined)[];
  private readonly byId = new Map<number, number>();
  private readonly free: number[] = [];
  private next = 0;

  constructor(
    readonly layout: Layout,
    readonly capacity: number,
  ) {
    this.fieldWords = 2 * layout.addressWords + 3;
    this.fields = new Uint32Array(capacity * this.fieldWords);
    this.care = new Uint32Array(capacity * layout.tupleWords);
    this.value = new Uint32Array(capacity * layout.tupleWords);
    this.rules = [];
  }
  get count(): number {
    return this.byId.size;
  }
  get room(): number {
    return this.free.length + this.capacity - this.next;
  }
  slotOf(id: number): number | undefined {
    return this.byId.get(id);
  }
  /** In no order. */
  live(): number[] {
    return [...this.byId.values()];
  }

  /** The caller has checked that there is room and that the id is new. */
  add(rule: FiveTupleRule): number {
    const slot = this.free.pop() ?? this.next++;
    this.rules[slot] = rule;
    this.byId.set(rule.id, slot);
    const { fields, care, value } = this;
    const { addressWords, tupleWords, tuple } = this.layout;
    let field = slot * this.fieldWords;
    const at = slot * tupleWords;
    for (const [address, length, offset] of [
      [rule.src, rule.srcLength, tuple.src],
      [rule.dst, rule.dstLength, tuple.dst],
    ] as const)
      for (let w = 0; w < addressWords; w++) {
        const mask = prefixMask(length, 32 * w);
        care[at + offset + w] = mask;
        fields[field++] = value[at + offset + w] = (typeof address === 'number' ? address : address[w]!) & mask;
      }
    const bits = 32 * addressWords;
    fields[field++] =
      (bits - rule.srcLength) | ((bits - rule.dstLength) << 8) | (rule.protocol << 16) | (rule.protocolMask << 24);
    fields[field++] = rule.srcPorts[0] | ((rule.srcPorts[1] ^ 0xffff) << 16);
    fields[field] = rule.dstPorts[0] | ((rule.dstPorts[1] ^ 0xffff) << 16);
    care[at + tuple.protocol] = rule.protocolMask;
    value[at + tuple.protocol] = rule.protocol & rule.protocolMask;
    care[at + tuple.ports] = (commonBits(...rule.srcPorts) << 16) | commonBits(...rule.dstPorts);
    value[at + tuple.ports] = ((rule.srcPorts[0] << 16) | rule.dstPorts[0]) & care[at + tuple.ports]!;
    return slot;
  }
  /** The id is free at once; the slot only with `freeSlot`, when no reader can meet it any more. */
  forget(slot: number): void {
    this.byId.delete(this.rules[slot]!.id);
  }
  freeSlot(slot: number): void {
    this.rules[slot] = undefined;
    this.free.push(slot);
  }

  /** Does the rule leave so much of an address open (0 dst, 1 src) that bits of it would only make copies? */
  readonly wide = (slot: number, dimension: number): boolean => {
    const { dstLength, srcLength } = this.rules[slot]!;
    return (dimension === 0 ? dstLength : srcLength) <= WIDE_LENGTH[this.layout.family];
  };
  /** Order of precedence. */
  readonly compare = (a: number, b: number): number => {
    const [one, two] = [this.rules[a]!, this.rules[b]!];
    return one.priority - two.priority || one.id - two.id;
  };
}
