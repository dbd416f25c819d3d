/**
 * Seeded 5-tuple rule sets in the manner of ClassBench (Taylor and Turner, 2005): how often which prefix lengths, ports and
 * protocols go together is taken from its seeds for access lists (acl1), firewalls (fw1) and IP chains (ipc1); addresses nest.
 */
import { LAYOUT } from '../src/policy/rule-tree/layout.js';
import type { FiveTupleRule } from '../src/policy/rule-tree/rule-tree.js';

/** IPv4. */
export type Rule = FiveTupleRule & { src: number; dst: number };
export const { tupleWords: TUPLE_WORDS, tuple: TUPLE } = LAYOUT[4];

/** splitmix32. */
export class Seeded {
  constructor(private state: number) {}
  next(): number {
    this.state = (this.state + 0x9e3779b9) >>> 0;
    let z = this.state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  }
  below(bound: number): number {
    return Math.floor((this.next() / 0x100000000) * bound);
  }
  /** One of the alternatives, each as often as its weight says. */
  pick<Value>(alternatives: readonly (readonly [number, Value])[]): Value {
    let left = (this.next() / 0x100000000) * alternatives.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, value] of alternatives) {
      left -= weight;
      if (left < 0) return value;
    }
    return alternatives.at(-1)![1];
  }
}

type Lengths = readonly [number, number];
const ANY: Lengths = [0, 0];
const WIDE: Lengths = [1, 8];
const B: Lengths = [9, 16];
const C: Lengths = [17, 24];
const SUB: Lengths = [25, 31];
const HOST: Lengths = [32, 32];
type Ports = 'any' | 'one' | 'high' | 'range';
type Protocol = readonly [number, number];
const [TCP, UDP, ICMP, GRE, EVERY]: Protocol[] = [
  [6, 0xff],
  [17, 0xff],
  [1, 0xff],
  [47, 0xff],
  [0, 0],
];

interface Family {
  /** Per mille: source and destination prefix lengths. */
  lengths: readonly (readonly [number, readonly [Lengths, Lengths]])[];
  srcPorts: readonly (readonly [number, Ports])[];
  dstPorts: readonly (readonly [number, Ports])[];
  protocols: readonly (readonly [number, Protocol])[];
}
export const FAMILIES: Readonly<Record<'acl1' | 'fw1' | 'ipc1', Family>> = {
  acl1: {
    lengths: [
      [293, [HOST, HOST]],
      [179, [HOST, SUB]],
      [168, [SUB, HOST]],
      [80, [SUB, C]],
      [67, [HOST, C]],
      [62, [SUB, SUB]],
      [48, [C, HOST]],
      [41, [C, SUB]],
      [21, [C, B]],
      [20, [C, WIDE]],
      [11, [C, C]],
      [2, [C, ANY]],
      [2, [WIDE, ANY]],
      [2, [ANY, B]],
      [1, [WIDE, WIDE]],
      [1, [ANY, WIDE]],
    ],
    srcPorts: [[1, 'any']],
    dstPorts: [
      [604, 'one'],
      [281, 'any'],
      [115, 'range'],
    ],
    protocols: [
      [873, TCP!],
      [83, EVERY!],
      [30, ICMP!],
      [13, UDP!],
    ],
  },
  fw1: {
    lengths: [
      [249, [ANY, SUB]],
      [146, [ANY, HOST]],
      [138, [WIDE, HOST]],
      [94, [SUB, ANY]],
      [72, [WIDE, SUB]],
      [38, [HOST, ANY]],
      [38, [SUB, WIDE]],
      [37, [HOST, WIDE]],
      [25, [C, ANY]],
      [23, [SUB, HOST]],
      [22, [SUB, SUB]],
      [21, [HOST, SUB]],
      [19, [HOST, HOST]],
      [13, [C, WIDE]],
      [12, [WIDE, ANY]],
      [12, [HOST, C]],
      [9, [ANY, WIDE]],
      [9, [SUB, C]],
      [9, [ANY, ANY]],
      [7, [B, ANY]],
      [5, [WIDE, WIDE]],
      [4, [B, WIDE]],
    ],
    srcPorts: [
      [765, 'any'],
      [153, 'one'],
      [81, 'high'],
      [1, 'range'],
    ],
    dstPorts: [
      [629, 'one'],
      [288, 'any'],
      [82, 'high'],
      [1, 'range'],
    ],
    protocols: [
      [570, TCP!],
      [334, UDP!],
      [48, GRE!],
      [36, ICMP!],
      [12, EVERY!],
    ],
  },
  ipc1: {
    lengths: [
      [117, [C, SUB]],
      [112, [C, C]],
      [97, [SUB, SUB]],
      [73, [SUB, HOST]],
      [70, [HOST, HOST]],
      [66, [C, HOST]],
      [61, [SUB, C]],
      [56, [HOST, SUB]],
      [39, [ANY, SUB]],
      [37, [C, B]],
      [34, [C, ANY]],
      [24, [HOST, C]],
      [20, [B, SUB]],
      [19, [SUB, B]],
      [18, [WIDE, HOST]],
      [17, [WIDE, SUB]],
      [16, [WIDE, C]],
      [16, [ANY, C]],
      [16, [ANY, HOST]],
      [15, [C, WIDE]],
      [12, [SUB, ANY]],
      [12, [B, C]],
      [8, [HOST, ANY]],
      [7, [B, HOST]],
      [7, [HOST, WIDE]],
      [6, [B, B]],
      [6, [SUB, WIDE]],
      [4, [ANY, B]],
      [2, [ANY, ANY]],
      [2, [WIDE, WIDE]],
    ],
    srcPorts: [
      [810, 'any'],
      [169, 'one'],
      [18, 'range'],
      [3, 'high'],
    ],
    dstPorts: [
      [555, 'any'],
      [360, 'one'],
      [60, 'high'],
      [25, 'range'],
    ],
    protocols: [
      [381, UDP!],
      [328, EVERY!],
      [275, TCP!],
      [11, ICMP!],
      [5, GRE!],
    ],
  },
};

const SERVICES = [
  20, 21, 22, 25, 53, 80, 110, 111, 123, 135, 137, 139, 143, 161, 389, 443, 445, 514, 1433, 1521, 1723, 3306, 3389,
  5631, 8080,
];

/** Distinct rules, the more specific mostly first, as people write them; the place is id and priority. */
export function generateRules(family: keyof typeof FAMILIES, count: number, seed: number): Rule[] {
  const { lengths, srcPorts, dstPorts, protocols } = FAMILIES[family];
  const rng = new Seeded(seed);
  /** Addresses met so far, by dimension: a new one mostly shares the first bits of an old one. */
  const met: number[][] = [[], []];
  const address = (dimension: number): number => {
    const old = met[dimension]!;
    let found = rng.next();
    if (old.length > 0 && rng.below(16) > 0) {
      const shared = rng.pick([
        [1, 8 + rng.below(8)],
        [3, 16 + rng.below(8)],
        [4, 24 + rng.below(8)],
        [1, 32],
      ]);
      const base = old[rng.below(old.length)]!;
      found = shared === 32 ? base : ((base & ~(0xffffffff >>> shared)) | (found >>> shared)) >>> 0;
    }
    old.push(found);
    return found;
  };
  const masked = (word: number, length: number): number => (length === 0 ? 0 : (word & (-1 << (32 - length))) >>> 0);
  const between = ([low, high]: Lengths): number => low + rng.below(high - low + 1);
  const ports = (kind: Ports): [number, number] => {
    if (kind === 'any') return [0, 65_535];
    if (kind === 'high') return [1024, 65_535];
    const one = rng.below(3) > 0 ? SERVICES[rng.below(SERVICES.length)]! : rng.below(49_152);
    return kind === 'one' ? [one, one] : [one, one + 1 + rng.below(2000)];
  };
  const distinct = new Map<string, Omit<Rule, 'id' | 'priority'>>();
  while (distinct.size < count) {
    const [src, dst] = rng.pick(lengths);
    const [srcLength, dstLength] = [between(src), between(dst)];
    const [protocol, protocolMask] = rng.pick(protocols);
    const hasPorts = protocol === 6 || protocol === 17;
    const rule = {
      src: masked(address(0), srcLength),
      srcLength,
      dst: masked(address(1), dstLength),
      dstLength,
      srcPorts: ports(hasPorts ? rng.pick(srcPorts) : 'any'),
      dstPorts: ports(hasPorts ? rng.pick(dstPorts) : 'any'),
      protocol,
      protocolMask,
    };
    distinct.set(JSON.stringify(rule), rule);
  }
  const specific = (rule: { srcLength: number; dstLength: number }) => rule.srcLength + rule.dstLength + rng.below(24);
  return [...distinct.values()]
    .map((rule) => ({ rule, place: specific(rule) }))
    .sort((a, b) => b.place - a.place)
    .map(({ rule }, index) => ({ id: index, priority: index, ...rule }));
}

/** Distinct headers in random order, each inside some rule, all rules alike often. */
export function generateHeaders(rules: readonly Rule[], count: number, seed: number): Uint32Array {
  const rng = new Seeded(seed);
  const headers = new Uint32Array(count * TUPLE_WORDS);
  const within = (prefix: number, length: number): number =>
    length === 32 ? prefix : ((prefix & ~(0xffffffff >>> length)) | (rng.next() >>> length)) >>> 0;
  const port = ([low, high]: readonly [number, number]): number => low + rng.below(high - low + 1);
  const met = new Set<string>();
  for (let i = 0; i < count; ) {
    const rule = rules[rng.below(rules.length)]!;
    const at = i * TUPLE_WORDS;
    headers[at + TUPLE.src] = within(rule.src, rule.srcLength);
    headers[at + TUPLE.dst] = within(rule.dst, rule.dstLength);
    headers[at + TUPLE.protocol] = rule.protocolMask === 0 ? [1, 6, 17][rng.below(3)]! : rule.protocol;
    headers[at + TUPLE.ports] = (port(rule.srcPorts) << 16) | port(rule.dstPorts);
    const key = headers.subarray(at, at + TUPLE_WORDS).join();
    if (met.has(key)) continue;
    met.add(key);
    i++;
  }
  return headers;
}
