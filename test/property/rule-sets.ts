/** Random 5-tuple rules that overlap a lot, headers that meet them, and the linear search that a rule tree is held against. */
import { T, TUPLE_WORDS } from '../../src/policy/rule-tree/layout.js';
import type { FiveTupleRule } from '../../src/policy/rule-tree/rule-tree.js';
import type { Random } from '../fuzz/mutate.js';

const word = (rng: Random): number => rng.below(65_536) * 65_536 + rng.below(65_536);
const PORTS = [0, 1, 22, 53, 80, 443, 1023, 1024, 8080, 49_151, 65_534, 65_535];
const PROTOCOLS = [6, 17, 132, 1, 0, 255];

export class RuleSource {
  /** Few address blocks, so that prefixes nest. */
  private readonly blocks: number[];
  constructor(
    private readonly rng: Random,
    blocks = 12,
  ) {
    this.blocks = Array.from({ length: blocks }, () => word(rng));
  }
  private address(): number {
    const block = this.blocks[this.rng.below(this.blocks.length)]!;
    return (block ^ (word(this.rng) >>> (8 + this.rng.below(24)))) >>> 0;
  }
  private length(): number {
    return [0, this.rng.below(33), 8, 9, 16, 24, 32, 32][this.rng.below(8)]!;
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
    const tuples = new Uint32Array(count * TUPLE_WORDS);
    for (let i = 0; i < count; i++) {
      const rule = rules.length === 0 || rng.oneIn(5) ? this.rule(0) : rules[rng.below(rules.length)]!;
      const within = (prefix: number, length: number): number =>
        length === 32 ? prefix : ((prefix & ~(0xffffffff >>> length)) | (word(rng) >>> length)) >>> 0;
      const port = ([low, high]: readonly [number, number]): number =>
        [low, high, low + rng.below(high - low + 1), (high + 1) & 0xffff, (low - 1) & 0xffff][rng.below(5)]!;
      const at = i * TUPLE_WORDS;
      tuples[at + T.SRC] = within(rule.src, rule.srcLength) ^ (rng.oneIn(9) ? 1 << rng.below(32) : 0);
      tuples[at + T.DST] = within(rule.dst, rule.dstLength) ^ (rng.oneIn(9) ? 1 << rng.below(32) : 0);
      tuples[at + T.PROTOCOL] = rng.oneIn(9) ? rng.below(256) : rule.protocol;
      tuples[at + T.PORTS] = (port(rule.srcPorts) << 16) | port(rule.dstPorts);
    }
    return tuples;
  }
}

/** Written apart from the tree, from the rules as given. */
export function linearSearch(rules: Iterable<FiveTupleRule>, tuples: Uint32Array, count: number): Int32Array {
  const ordered = [...rules].sort((a, b) => a.priority - b.priority || a.id - b.id);
  const holds = (prefix: number, length: number, address: number): boolean =>
    Math.floor(prefix / 2 ** (32 - length)) === Math.floor(address / 2 ** (32 - length));
  return Int32Array.from({ length: count }, (_, i) => {
    const at = i * TUPLE_WORDS;
    const [src, dst, protocol] = [tuples[at + T.SRC]!, tuples[at + T.DST]!, tuples[at + T.PROTOCOL]!];
    const [srcPort, dstPort] = [tuples[at + T.PORTS]! >>> 16, tuples[at + T.PORTS]! & 0xffff];
    const found = ordered.find(
      (rule) =>
        holds(rule.src, rule.srcLength, src) &&
        holds(rule.dst, rule.dstLength, dst) &&
        rule.srcPorts[0] <= srcPort &&
        srcPort <= rule.srcPorts[1] &&
        rule.dstPorts[0] <= dstPort &&
        dstPort <= rule.dstPorts[1] &&
        (rule.protocol & rule.protocolMask) === (protocol & rule.protocolMask),
    );
    return found?.id ?? -1;
  });
}
