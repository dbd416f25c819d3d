/**
 * The classifier of 5-tuples alone, on ClassBench sets: made here, seeded, or those of SEINE_DATA/rules where they lie.
 * Distinct headers in random order, more than the second-level cache holds; no cache by header. Baseline: DPDK's rte_acl on
 * the same rules and headers, or, where it is absent, tuple space search. Every result is held against the baseline's, and
 * every fiftieth against a linear search's.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { gunzipSync } from 'node:zlib';
import { RuleTree } from '../src/policy/rule-tree/rule-tree.js';
import { RuleTreeReader } from '../src/policy/rule-tree/rule-tree-reader.js';
import { type FAMILIES, generateHeaders, generateRules, type Rule, TUPLE, TUPLE_WORDS } from './generate-rules.js';
import { interleaved, median, type Row, type RowGroup, rounded } from './harness.js';
import { RteAcl } from './rte-acl.js';

const DATA = join(process.env.SEINE_DATA ?? '../shared/data', 'rules');
/** Headers a call: a batch of the engine. */
const BATCH = 256;

interface RuleSet {
  family: keyof typeof FAMILIES;
  size: '1k' | '10k' | '100k';
  rules: number;
  /** ns a header. */
  target: number;
}
const SETS: readonly RuleSet[] = [
  { family: 'acl1', size: '1k', rules: 1000, target: 30 },
  { family: 'fw1', size: '1k', rules: 1000, target: 50 },
  { family: 'ipc1', size: '1k', rules: 1000, target: 30 },
  { family: 'acl1', size: '10k', rules: 10_000, target: 45 },
  { family: 'fw1', size: '10k', rules: 10_000, target: 110 },
  { family: 'ipc1', size: '10k', rules: 10_000, target: 45 },
  { family: 'acl1', size: '100k', rules: 100_000, target: 200 },
];
const title = ({ family, size }: RuleSet) => `classifier alone, ClassBench ${family}, ${size.replace('k', ' k')} rules`;
const UPDATES = 'classifier alone, acl1 10 k: one rule replaced by another, look-ups going on';
const DURING = 'classifier alone, acl1 10 k: look-ups while rules are replaced';
const MEMORY = 'classifier alone, memory of a rule, largest of all sets';

/** ClassBench's filter format: @src/length dst/length low : high low : high protocol/mask. */
function readRules(file: string): Rule[] {
  const address = (text: string): number => text.split('.').reduce((word, part) => word * 256 + Number(part), 0);
  return gunzipSync(readFileSync(file))
    .toString()
    .split('\n')
    .filter((line) => line.startsWith('@'))
    .map((line, index) => {
      const m = /^@([\d.]+)\/(\d+)\s+([\d.]+)\/(\d+)\s+(\d+) : (\d+)\s+(\d+) : (\d+)\s+0x(\w+)\/0x(\w+)/.exec(line)!;
      const n = (i: number) => Number(m[i]);
      return {
        id: index,
        priority: index,
        src: (address(m[1]!) & mask(n(2))) >>> 0,
        srcLength: n(2),
        dst: (address(m[3]!) & mask(n(4))) >>> 0,
        dstLength: n(4),
        srcPorts: [n(5), n(6)] as const,
        dstPorts: [n(7), n(8)] as const,
        protocol: Number.parseInt(m[9]!, 16),
        protocolMask: Number.parseInt(m[10]!, 16),
      };
    });
}
function load({ family, size, rules }: RuleSet, quick: boolean): { rules: Rule[]; from: string } {
  const file = join(DATA, `${family}_${size}.rules.gz`);
  if (existsSync(file)) return { rules: readRules(file), from: 'data' };
  return { rules: generateRules(family, quick ? Math.min(rules, 1000) : rules, 0x5e1e), from: 'seeded' };
}

const mask = (length: number): number => (length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0);
function restMatches(rule: Rule, headers: Uint32Array, at: number): boolean {
  const srcPort = headers[at + TUPLE.ports]! >>> 16;
  const dstPort = headers[at + TUPLE.ports]! & 0xffff;
  return (
    ((headers[at + TUPLE.protocol]! ^ rule.protocol) & rule.protocolMask) === 0 &&
    srcPort >= rule.srcPorts[0] &&
    srcPort <= rule.srcPorts[1] &&
    dstPort >= rule.dstPorts[0] &&
    dstPort <= rule.dstPorts[1]
  );
}
function linear(rules: readonly Rule[], headers: Uint32Array, at: number): number {
  const found = rules.find(
    (rule) =>
      ((headers[at + TUPLE.src]! ^ rule.src) & mask(rule.srcLength)) === 0 &&
      ((headers[at + TUPLE.dst]! ^ rule.dst) & mask(rule.dstLength)) === 0 &&
      restMatches(rule, headers, at),
  );
  return found?.id ?? -1;
}

/** Srinivasan, Suri and Varghese, 1999: a table for each pair of prefix lengths. Ids are places here. */
function tupleSpace(rules: readonly Rule[]): (headers: Uint32Array, at: number) => number {
  interface Tuple {
    src: number;
    dst: number;
    best: number;
    table: Map<number, Map<number, number[]>>;
  }
  const tuples = new Map<number, Tuple>();
  for (const rule of rules) {
    const key = rule.srcLength * 64 + rule.dstLength;
    let tuple = tuples.get(key);
    if (tuple === undefined) {
      tuple = { src: mask(rule.srcLength), dst: mask(rule.dstLength), best: rule.id, table: new Map() };
      tuples.set(key, tuple);
    }
    let row = tuple.table.get(rule.src);
    if (row === undefined) {
      row = new Map();
      tuple.table.set(rule.src, row);
    }
    const list = row.get(rule.dst);
    if (list === undefined) row.set(rule.dst, [rule.id]);
    else list.push(rule.id);
  }
  const ordered = [...tuples.values()].sort((a, b) => a.best - b.best);
  return (headers, at) => {
    let best = rules.length;
    for (const tuple of ordered) {
      if (tuple.best >= best) break;
      const row = tuple.table.get((headers[at + TUPLE.src]! & tuple.src) >>> 0);
      for (const index of row?.get((headers[at + TUPLE.dst]! & tuple.dst) >>> 0) ?? []) {
        if (index >= best) break;
        if (!restMatches(rules[index]!, headers, at)) continue;
        best = index;
        break;
      }
    }
    return best === rules.length ? -1 : best;
  };
}

/** ns of this process's CPU time: what others on a shared machine take doesn't count, on either side. */
function cpuTime(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) * 1000;
}

/** ns a header, over all headers once. */
function classifyAll(tree: RuleTree, headers: Uint32Array, results: Int32Array): number {
  const reader = new RuleTreeReader(tree.memory, 0);
  const count = results.length;
  const views: [Uint32Array, Int32Array][] = [];
  for (let at = 0; at < count; at += BATCH) {
    const end = Math.min(count, at + BATCH);
    views.push([headers.subarray(at * TUPLE_WORDS, end * TUPLE_WORDS), results.subarray(at, end)]);
  }
  return (
    cpuTime(() => {
      for (const [tuples, into] of views) reader.classify(tuples, into.length, into);
    }) / count
  );
}

function check(name: string, rules: readonly Rule[], headers: Uint32Array, results: Int32Array): void {
  for (let i = 0; i < results.length; i += Math.max(50, rules.length >> 6))
    if (linear(rules, headers, i * TUPLE_WORDS) !== results[i])
      throw new Error(`${name}: header ${i}: not the rule that a linear search finds`);
}

async function measure(set: RuleSet, quick: boolean): Promise<{ row: Row; octets: number }> {
  const { rules, from } = load(set, quick);
  const headers = generateHeaders(rules, quick ? 4096 : 131_072, 7);
  const count = headers.length / TUPLE_WORDS;
  const tree = RuleTree.build(rules);
  const results = new Int32Array(count);
  classifyAll(tree, headers, results);
  check(title(set), rules, headers, results);
  const acl = quick ? null : await RteAcl.start(rules, headers);
  const expected = new Int32Array(count);
  const search = acl === null ? tupleSpace(rules) : null;
  const baseline = async (): Promise<number> => {
    if (acl !== null) return acl.round();
    return (
      cpuTime(() => {
        for (let i = 0; i < count; i++) expected[i] = search!(headers, i * TUPLE_WORDS);
      }) / count
    );
  };
  const { a, b, ratio } = await interleaved(quick ? 1 : 9, () => classifyAll(tree, headers, results), baseline);
  if (acl !== null) expected.set(acl.results());
  acl?.close();
  for (let i = 0; i < count; i++)
    if (results[i] !== expected[i]) throw new Error(`${title(set)}: header ${i}: not the baseline’s rule`);
  return {
    row: {
      row: title(set),
      value: rounded(a),
      unit: 'ns',
      baseline: acl === null ? 'tuple space search' : 'rte_acl, AVX2',
      baselineValue: rounded(b),
      ratio: rounded(ratio),
      target: `≤ ${set.target} ns`,
      met: quick || a <= set.target,
      digest: `${createHash('sha256').update(results).digest('hex').slice(0, 16)} ${from}`,
    },
    octets: tree.octets / tree.size,
  };
}

/** Rules of one half of a set take the place of the other's, one by one, while a worker looks headers up. */
async function measureUpdates(quick: boolean): Promise<Row[]> {
  const { rules: all } = load(SETS[quick ? 0 : 3]!, quick);
  const spare = generateRules('acl1', 500, 99).map((rule, i) => ({ ...rule, id: all.length + i, priority: i * 20 }));
  const tree = RuleTree.build(all);
  const count = quick ? 4096 : 65_536;
  const headers = new Uint32Array(new SharedArrayBuffer(count * TUPLE_WORDS * 4));
  headers.set(generateHeaders(all, count, 8));
  // 0: stop, 1: passes over all headers, 2: ns of the last pass.
  const state = new Int32Array(new SharedArrayBuffer(12));
  const worker = new Worker(new URL('./rule-sets-worker.js', import.meta.url), {
    workerData: { memory: tree.memory, headers, state },
  });
  const pass = async (): Promise<number> => {
    // The next pass to begin from now on is the one after the next to end.
    const from = Atomics.load(state, 1);
    while (Atomics.load(state, 1) < from + 2) await new Promise((resolve) => setImmediate(resolve));
    return Atomics.load(state, 2) / count;
  };
  await pass();
  const took: number[] = [];
  let current = [...all];
  let step = 0;
  const replaceOne = (): void => {
    const at = (step * 7919) % current.length;
    const incoming = spare[step % spare.length]!;
    const outgoing = current[at]!;
    const started = process.hrtime.bigint();
    tree.update({ remove: [outgoing.id], insert: [incoming] });
    took.push(Number(process.hrtime.bigint() - started) / 1000);
    current[at] = incoming;
    spare[step % spare.length] = outgoing;
    tree.maintain();
    step++;
  };
  const changing = async (): Promise<number> => {
    const from = Atomics.load(state, 1);
    while (Atomics.load(state, 1) < from + 2) {
      for (let i = 0; i < 20; i++) replaceOne();
      await new Promise((resolve) => setImmediate(resolve));
    }
    return Atomics.load(state, 2) / count;
  };
  const { a, b, ratio } = await interleaved(quick ? 1 : 15, changing, pass);
  while (took.length < (quick ? 50 : 2000)) replaceOne();
  Atomics.store(state, 0, 1);
  await new Promise((resolve) => worker.once('exit', resolve));

  current = current.sort((x, y) => x.priority - y.priority || x.id - y.id);
  const results = new Int32Array(count);
  classifyAll(tree, headers, results);
  check(UPDATES, current, headers, results);
  const digest = createHash('sha256').update(results).digest('hex').slice(0, 16);
  const started = process.hrtime.bigint();
  tree.rebuild();
  const rebuild = Number(process.hrtime.bigint() - started) / 1000;
  const typical = median(took);
  return [
    {
      row: UPDATES,
      value: rounded(typical),
      unit: 'µs',
      baseline: 'building all trees anew',
      baselineValue: rounded(rebuild),
      ratio: rounded(typical / rebuild),
      target: '≤ 1,000 µs',
      met: quick || typical <= 1000,
      digest: `${took.length} replaced`,
    },
    {
      row: DURING,
      value: rounded(a),
      unit: 'ns',
      baseline: 'the same, rules at rest',
      baselineValue: rounded(b),
      ratio: rounded(ratio),
      target: 'ratio ≤ 2',
      met: quick || ratio <= 2,
      digest,
    },
  ];
}

export const ruleSets: RowGroup = {
  rows: [...SETS.map(title), MEMORY, UPDATES, DURING],
  async run(quick): Promise<Row[]> {
    const rows: Row[] = [];
    let octets = 0;
    for (const set of quick ? SETS.slice(0, 3) : SETS) {
      const measured = await measure(set, quick);
      rows.push(measured.row);
      octets = Math.max(octets, measured.octets);
    }
    rows.push({
      row: MEMORY,
      value: Math.round(octets),
      unit: 'octets',
      baseline: null,
      baselineValue: null,
      ratio: null,
      target: '≤ 1024 octets',
      met: octets <= 1024,
      digest: null,
    });
    return [...rows, ...(await measureUpdates(quick))];
  },
};
