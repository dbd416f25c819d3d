/** Random 5-tuple rules that overlap a lot, headers that meet them, and the linear search that a rule tree is held against. */
import { LAYOUT } from '../../src/policy/rule-tree/layout.js';
import type { FiveTupleRule, RuleAddress } from '../../src/policy/rule-tree/rule-tree.js';
import type { Random } from '../fuzz/mutate.js';

const word = (rng: Random): number => rng.below(65_536) * 65_536 + rng.below(65_536);
const PORTS = [0, 1, 22, 53, 80, 443, 1023, 1024, 8080, 49_151, 65_534, 65_535];
const PROTOCOLS = [6, 17, 132, 1, 0, 255];

export class RuleSource {
  /** Few address blocks, so that prefixes nest. */
  private readonly blocks: number[][];
  private readonly bits: number;
  constructor(
    private readonly rng: Random,
    blocks = 12,
    private readonly family: 4 | 6 = 4,
  ) {
    const words = LAYOUT[family].addressWords;
    this.bits = 32 * words;
    this.blocks = Array.from({ length: blocks }, () => Array.from({ length: words }, () => word(rng)));
  }
  /** `start` as far as `length`, random from there. */
  private within(start: readonly number[], length: number): number[] {
    return start.map((old, w) => {
      const kept = Math.min(32, Math.max(0, length - 32 * w));
      return kept === 32 ? old : ((old & ~(0xffffffff >>> kept)) | (word(this.rng) >>> kept)) >>> 0;
    });
  }
  private address(): RuleAddress {
    const words = this.within(this.blocks[this.rng.below(this.blocks.length)]!, 8 + this.rng.below(this.bits - 8));
    return this.family === 4 ? words[0]! : words;
  }
  private length(): number {
    const { bits } = this;
    return [0, this.rng.below(bits + 1), bits / 4, bits / 4 + 1, bits / 2, (bits * 3) / 4, bits, bits][
      this.rng.below(8)
    ]!;
  }
  private range(): [number, number] {
    const port = (): number => (this.rng.oneIn(3) ? this.rng.below(65_536) : PORTS[this.rng.below(PORTS.length)]!);
    const [one, two] = [port(), port()];
    return (
      [
        [0, 65_535],
        [one, one],
        [Math.min(one, two), Math.max(one, two)],
      ] as [number, number][]
    )[this.rng.below(3)]!;
  }
  rule(id: number): FiveTupleRule {
    const { rng } = this;
    return {
      id,
      // Few priorities: many rules of the same.
      priority: rng.oneIn(20) ? 0xfffffffe : rng.below(50),
      src: this.address(),
      srcLength: this.length(),
      dst: this.address(),
      dstLength: this.length(),
      srcPorts: this.range(),
      dstPorts: this.range(),
      protocol: PROTOCOLS[rng.below(PROTOCOLS.length)]!,
      protocolMask: [0, 0xff, 0xff, 0x0f][rng.below(4)]!,
    };
  }
  /** Most of them inside a rule, at its ends or beside it. */
  tuples(rules: readonly FiveTupleRule[], count: number): Uint32Array {
    const { rng } = this;
    const { tupleWords, tuple, addressWords } = LAYOUT[this.family];
    const tuples = new Uint32Array(count * tupleWords);
    for (let i = 0; i < count; i++) {
      const rule = rules.length === 0 || rng.oneIn(5) ? this.rule(0) : rules[rng.below(rules.length)]!;
      const port = ([low, high]: readonly [number, number]): number =>
        [low, high, low + rng.below(high - low + 1), (high + 1) & 0xffff, (low - 1) & 0xffff][rng.below(5)]!;
      const at = i * tupleWords;
      tuples.set(this.within(wordsOf(rule.src), rule.srcLength), at + tuple.src);
      tuples.set(this.within(wordsOf(rule.dst), rule.dstLength), at + tuple.dst);
      // A bit beside it, at times.
      if (rng.oneIn(5)) tuples[at + rng.below(2 * addressWords)]! ^= 1 << rng.below(32);
      tuples[at + tuple.protocol] = rng.oneIn(9) ? rng.below(256) : rule.protocol;
      tuples[at + tuple.ports] = (port(rule.srcPorts) << 16) | port(rule.dstPorts);
    }
    return tuples;
  }
}

const wordsOf = (address: RuleAddress): readonly number[] => (typeof address === 'number' ? [address] : address);
const whole = (words: Iterable<number>): bigint => [...words].reduce((sum, each) => (sum << 32n) + BigInt(each), 0n);

/** Written apart from the tree, from the rules as given. */
export function linearSearch(
  rules: Iterable<FiveTupleRule>,
  tuples: Uint32Array,
  count: number,
  family: 4 | 6 = 4,
): Int32Array {
  const { tupleWords, tuple, addressWords } = LAYOUT[family];
  const ordered = [...rules]
    .sort((a, b) => a.priority - b.priority || a.id - b.id)
    .map((rule) => {
      const [srcOpen, dstOpen] = [rule.srcLength, rule.dstLength].map((length) => BigInt(32 * addressWords - length));
      return {
        ...rule,
        srcOpen: srcOpen!,
        dstOpen: dstOpen!,
        srcPrefix: whole(wordsOf(rule.src)) >> srcOpen!,
        dstPrefix: whole(wordsOf(rule.dst)) >> dstOpen!,
      };
    });
  return Int32Array.from({ length: count }, (_, i) => {
    const at = i * tupleWords;
    const address = (offset: number): bigint => whole(tuples.subarray(at + offset, at + offset + addressWords));
    const [src, dst] = [address(tuple.src), address(tuple.dst)];
    const protocol = tuples[at + tuple.protocol]!;
    const [srcPort, dstPort] = [tuples[at + tuple.ports]! >>> 16, tuples[at + tuple.ports]! & 0xffff];
    const found = ordered.find(
      (rule) =>
        rule.srcPorts[0] <= srcPort &&
        srcPort <= rule.srcPorts[1] &&
        rule.dstPorts[0] <= dstPort &&
        dstPort <= rule.dstPorts[1] &&
        (rule.protocol & rule.protocolMask) === (protocol & rule.protocolMask) &&
        src >> rule.srcOpen === rule.srcPrefix &&
        dst >> rule.dstOpen === rule.dstPrefix,
    );
    return found?.id ?? -1;
  });
}
