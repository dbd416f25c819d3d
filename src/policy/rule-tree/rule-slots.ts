/** The writer's own copy of the rules, by slot: the five words that a pack holds, and the bits that each rule fixes. */
import { NODE_MASKS } from './layout.js';

/** A rule over IPv4 5-tuples, host order. Of the rules that match, the lowest priority wins, then the lowest id. */
export interface FiveTupleRule {
  /** Below 2^31, unique in its tree; what a classification answers with. */
  id: number;
  /** Below 2^32 − 1. */
  priority: number;
  src: number;
  srcLength: number;
  dst: number;
  dstLength: number;
  /** Inclusive. */
  srcPorts: readonly [number, number];
  dstPorts: readonly [number, number];
  protocol: number;
  /** 0xff: this protocol; 0: any. */
  protocolMask: number;
}

/** Words of a rule as in a pack (layout.ts P): src, dst, meta, sport, dport. */
export const FIELDS = 5;
export const BITS = 32 * NODE_MASKS;

/** Prefixes no longer than this are held by few rules' first bits, and part nothing. */
const WIDE_LENGTH = 8;

const prefixMask = (length: number): number => (length === 0 ? 0 : (-1 << (32 - length)) >>> 0);
/** Bits in which all ports of a range agree. */
function commonBits(low: number, high: number): number {
  const differ = low ^ high;
  return differ === 0 ? 0xffff : (0xffff << (32 - Math.clz32(differ))) & 0xffff;
}

export class RuleSlots {
  readonly fields: Uint32Array;
  /** Per slot, in the order of a node's masks: the bits that every header of the rule has alike, and their values. */
  readonly care: Uint32Array;
  readonly value: Uint32Array;
  readonly rules: (FiveTupleRule | undefined)[];
  private readonly byId = new Map<number, number>();
  private readonly free: number[] = [];
  private next = 0;

  constructor(readonly capacity: number) {
    this.fields = new Uint32Array(capacity * FIELDS);
    this.care = new Uint32Array(capacity * NODE_MASKS);
    this.value = new Uint32Array(capacity * NODE_MASKS);
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
    const [srcMask, dstMask] = [prefixMask(rule.srcLength), prefixMask(rule.dstLength)];
    const { fields, care, value } = this;
    let at = slot * FIELDS;
    fields[at++] = rule.src & srcMask;
    fields[at++] = rule.dst & dstMask;
    fields[at++] =
      (32 - rule.srcLength) | ((32 - rule.dstLength) << 8) | (rule.protocol << 16) | (rule.protocolMask << 24);
    fields[at++] = rule.srcPorts[0] | ((rule.srcPorts[1] ^ 0xffff) << 16);
    fields[at] = rule.dstPorts[0] | ((rule.dstPorts[1] ^ 0xffff) << 16);
    at = slot * NODE_MASKS;
    care[at] = dstMask;
    care[at + 1] = srcMask;
    care[at + 2] = rule.protocolMask;
    care[at + 3] = (commonBits(...rule.srcPorts) << 16) | commonBits(...rule.dstPorts);
    value[at] = rule.dst & dstMask;
    value[at + 1] = rule.src & srcMask;
    value[at + 2] = rule.protocol & rule.protocolMask;
    value[at + 3] = ((rule.srcPorts[0] << 16) | rule.dstPorts[0]) & care[at + 3]!;
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
    return (dimension === 0 ? dstLength : srcLength) <= WIDE_LENGTH;
  };
  /** Order of precedence. */
  readonly compare = (a: number, b: number): number => {
    const [one, two] = [this.rules[a]!, this.rules[b]!];
    return one.priority - two.priority || one.id - two.id;
  };
}
