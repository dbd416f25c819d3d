/**
 * Rows that chose the classifier's structure: pairs of address classes against tuple space search, on ClassBench sets and
 * their traces (SEINE_DATA/rules, skipped loudly where absent). Both find the first rule of a 5-tuple set; a linear search
 * is the oracle. Distinct headers, no cache by header; pairs of classes are memoised as the classifier's programs are.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { interleaved, type Row, type RowGroup, rounded } from './harness.js';

const DATA = join(process.env.SEINE_DATA ?? '../shared/data', 'rules');

interface Rule {
  src: number;
  srcLength: number;
  dst: number;
  dstLength: number;
  /** sport from, to, dport from, to, protocol, protocol mask. */
  rest: [number, number, number, number, number, number];
}
const mask = (length: number): number => (length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0);
const address = (text: string): number => text.split('.').reduce((word, part) => word * 256 + Number(part), 0);

function readRules(name: string): Rule[] {
  const text = gunzipSync(readFileSync(join(DATA, `${name}.rules.gz`))).toString();
  return text
    .split('\n')
    .filter((line) => line.startsWith('@'))
    .map((line) => {
      const m = /^@([\d.]+)\/(\d+)\s+([\d.]+)\/(\d+)\s+(\d+) : (\d+)\s+(\d+) : (\d+)\s+0x(\w+)\/0x(\w+)/.exec(line)!;
      const n = (i: number) => Number(m[i]);
      return {
        src: (address(m[1]!) & mask(n(2))) >>> 0,
        srcLength: n(2),
        dst: (address(m[3]!) & mask(n(4))) >>> 0,
        dstLength: n(4),
        rest: [n(5), n(6), n(7), n(8), Number.parseInt(m[9]!, 16), Number.parseInt(m[10]!, 16)],
      };
    });
}
function readTrace(name: string): Uint32Array {
  const text = gunzipSync(readFileSync(join(DATA, `${name}.rules_trace.gz`))).toString();
  return Uint32Array.from(
    text
      .trim()
      .split('\n')
      .flatMap((line) => line.split(/\s+/).slice(0, 5).map(Number)),
  );
}
function restMatches(rule: Rule, sport: number, dport: number, protocol: number): boolean {
  const r = rule.rest;
  return sport >= r[0] && sport <= r[1] && dport >= r[2] && dport <= r[3] && (protocol & r[5]) === (r[4] & r[5]);
}

type Find = (trace: Uint32Array, at: number) => number;

function linear(rules: readonly Rule[]): Find {
  return (t, at) =>
    rules.findIndex(
      (rule) =>
        (t[at]! & mask(rule.srcLength)) >>> 0 === rule.src &&
        (t[at + 1]! & mask(rule.dstLength)) >>> 0 === rule.dst &&
        restMatches(rule, t[at + 2]!, t[at + 3]!, t[at + 4]!),
    );
}

/** The longest prefix of one dimension that holds an address, and of each prefix the rules that hold it. */
function dimension(
  rules: readonly Rule[],
  prefix: 'src' | 'dst',
): { classOf: (word: number) => number; held: number[][] } {
  const byLength = new Map<number, Map<number, number>>();
  const list: { word: number; length: number }[] = [];
  for (const rule of rules) {
    const length = rule[`${prefix}Length`];
    let words = byLength.get(length);
    if (words === undefined) {
      words = new Map();
      byLength.set(length, words);
    }
    if (words.has(rule[prefix])) continue;
    words.set(rule[prefix], list.length + 1);
    list.push({ word: rule[prefix], length });
  }
  const exact = new Map<string, number[]>();
  rules.forEach((rule, index) => {
    const key = `${rule[prefix]}/${rule[`${prefix}Length`]}`;
    const at = exact.get(key);
    if (at === undefined) exact.set(key, [index]);
    else at.push(index);
  });
  const lengths = [...byLength.keys()].sort((a, b) => b - a);
  const tables = lengths.map((length) => ({ mask: mask(length), words: byLength.get(length)! }));
  const held = [
    [] as number[],
    ...list.map(({ word, length }) =>
      lengths
        .filter((each) => each <= length)
        .flatMap((each) => exact.get(`${(word & mask(each)) >>> 0}/${each}`) ?? [])
        .sort((a, b) => a - b),
    ),
  ];
  const classOf = (word: number): number => {
    for (let i = 0; i < tables.length; i++) {
      const found = tables[i]!.words.get((word & tables[i]!.mask) >>> 0);
      if (found !== undefined) return found;
    }
    return 0;
  };
  return { classOf, held };
}

function classPairs(rules: readonly Rule[]): Find {
  const src = dimension(rules, 'src');
  const dst = dimension(rules, 'dst');
  const pairs = new Map<number, Uint32Array>();
  return (t, at) => {
    const s = src.classOf(t[at]!);
    const d = dst.classOf(t[at + 1]!);
    const key = s * 0x100000 + d;
    let candidates = pairs.get(key);
    if (candidates === undefined) {
      const other = new Set(dst.held[d]);
      candidates = Uint32Array.from(src.held[s]!.filter((index) => other.has(index)));
      pairs.set(key, candidates);
    }
    for (let i = 0; i < candidates.length; i++)
      if (restMatches(rules[candidates[i]!]!, t[at + 2]!, t[at + 3]!, t[at + 4]!)) return candidates[i]!;
    return -1;
  };
}

function tupleSpace(rules: readonly Rule[]): Find {
  const tuples = new Map<
    string,
    { src: number; dst: number; best: number; table: Map<number, Map<number, number[]>> }
  >();
  rules.forEach((rule, index) => {
    const key = `${rule.srcLength}/${rule.dstLength}`;
    let tuple = tuples.get(key);
    if (tuple === undefined) {
      tuple = { src: mask(rule.srcLength), dst: mask(rule.dstLength), best: index, table: new Map() };
      tuples.set(key, tuple);
    }
    let row = tuple.table.get(rule.src);
    if (row === undefined) {
      row = new Map();
      tuple.table.set(rule.src, row);
    }
    const list = row.get(rule.dst);
    if (list === undefined) row.set(rule.dst, [index]);
    else list.push(index);
  });
  const ordered = [...tuples.values()].sort((a, b) => a.best - b.best);
  return (t, at) => {
    let best = rules.length;
    for (const tuple of ordered) {
      if (tuple.best >= best) break;
      const list = tuple.table.get((t[at]! & tuple.src) >>> 0)?.get((t[at + 1]! & tuple.dst) >>> 0);
      if (list === undefined) continue;
      for (const index of list) {
        if (index >= best) break;
        if (restMatches(rules[index]!, t[at + 2]!, t[at + 3]!, t[at + 4]!)) {
          best = index;
          break;
        }
      }
    }
    return best === rules.length ? -1 : best;
  };
}

const SETS = ['acl1_1k', 'fw1_1k', 'ipc1_1k', 'acl1_10k', 'fw1_10k', 'ipc1_10k'];

export const ruleSets: RowGroup = {
  rows: SETS.map((name) => `ClassBench ${name}, first match`),
  run(quick): Promise<Row[]> {
    return (async () => {
      if (!existsSync(DATA)) {
        process.stderr.write(`bench: NOT MEASURED: no rule sets at ${DATA}; set SEINE_DATA\n`);
        return [];
      }
      const rows: Row[] = [];
      for (const name of quick ? SETS.slice(0, 1) : SETS) {
        const rules = readRules(name);
        const trace = readTrace(name);
        const count = trace.length / 5;
        const [pairs, tuples, oracle] = [classPairs(rules), tupleSpace(rules), linear(rules)];
        const digest = createHash('sha256');
        for (let i = 0; i < count; i++) {
          const found = pairs(trace, i * 5);
          digest.update(String(found));
          if (tuples(trace, i * 5) !== found || (i % 50 === 0 && oracle(trace, i * 5) !== found))
            throw new Error(`${name}: header ${i}: searches differ`);
        }
        const time = (find: Find) => {
          const started = process.hrtime.bigint();
          let sum = 0;
          for (let i = 0; i < count; i++) sum += find(trace, ((i * 7919) % count) * 5);
          if (Number.isNaN(sum)) throw new Error('nothing found');
          return Number(process.hrtime.bigint() - started) / count;
        };
        const { a, b, ratio } = await interleaved(
          quick ? 1 : 7,
          () => time(pairs),
          () => time(tuples),
        );
        rows.push({
          row: `ClassBench ${name}, first match`,
          value: rounded(a),
          unit: 'ns',
          baseline: 'tuple space search',
          baselineValue: rounded(b),
          ratio: rounded(ratio),
          target: 'ratio ≤ 1',
          met: ratio <= 1,
          digest: digest.digest('hex').slice(0, 16),
        });
      }
      return rows;
    })();
  },
};
