/** Rule trees against a linear search: as built, after thousands of changes, under readers in other threads. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { nativeKernels, references } from '../../src/native/kernels.js';
import { H, LANES, LAYOUT, PACKS_MAX, UNIT_WORDS } from '../../src/policy/rule-tree/layout.js';
import { type FiveTupleRule, RuleTree } from '../../src/index.js';
import { fuzzSeed, Random } from '../fuzz/mutate.js';
import { linearSearch, RuleSource } from './rule-sets.js';

const FORMS = { native: nativeKernels(), 'native without AVX2': nativeKernels('table'), reference: references };
const seed = fuzzSeed();
const rng = new Random(seed);
const SLOW = process.env.SEINE_SLOW === '1';

function compare(tree: RuleTree, rules: Iterable<FiveTupleRule>, tuples: Uint32Array, what: string): void {
  const family = tree.memory[H.FAMILY] === 6 ? 6 : 4;
  const count = tuples.length / LAYOUT[family].tupleWords;
  const expected = linearSearch(rules, tuples, count, family);
  for (const [form, kernels] of Object.entries(FORMS)) {
    const found = new Int32Array(count).fill(-7);
    kernels.classifyRules(tree.memory, 3, tuples, count, found);
    assert.deepEqual(found, expected, `${what}, ${form}`);
  }
  assert.equal(tree.memory[H.READERS + 3 * UNIT_WORDS], 0, 'the reader has left');
}

test(`rule-tree: as built, it finds what a linear search finds (seed ${seed})`, () => {
  for (let round = 0; round < (SLOW ? 84 : 14); round++) {
    const family = round % 2 === 0 ? 4 : 6;
    const source = new RuleSource(rng, 1 + rng.below(20), family);
    const size = [0, 1, LANES, LANES + 1, rng.below(100), PACKS_MAX * LANES + 1, rng.below(1500)][(round >> 1) % 7]!;
    const rules = Array.from({ length: size }, (_, id) => source.rule(id));
    const tree = RuleTree.build(rules, { family });
    compare(tree, rules, source.tuples(rules, 1 + rng.below(700)), `IPv${family}, ${size} rules`);
  }
});

test('rule-tree: rules that no bit tells apart lie in chains, in order', () => {
  const source = new RuleSource(rng);
  const rules = Array.from({ length: 3 * PACKS_MAX * LANES }, (_, id) => ({
    ...source.rule(id),
    priority: rng.below(1000),
    srcLength: 0,
    dstLength: 0,
    protocolMask: 0,
    srcPorts: [rng.below(32_768), 32_768 + rng.below(32_768)] as const,
    dstPorts: [rng.below(32_768), 32_768 + rng.below(32_768)] as const,
  }));
  const tree = RuleTree.build(rules.slice(0, 200), { ruleCapacity: 1000 });
  compare(tree, rules.slice(0, 200), source.tuples(rules, 300), 'as built');
  for (const rule of rules.slice(200)) tree.insert(rule);
  compare(tree, rules, source.tuples(rules, 300), 'grown');
  for (const { id } of rules.slice(0, 290)) tree.remove(id);
  compare(tree, rules.slice(290), source.tuples(rules, 300), 'shrunk');
});

test(`rule-tree: so it does after thousands of changes, rebuilt between or not (seed ${seed})`, () => {
  for (const [maintained, family] of [
    [false, 4],
    [true, 4],
    [true, 6],
  ] as const) {
    const source = new RuleSource(rng, 6, family);
    const rules = new Map<number, FiveTupleRule>();
    let nextId = 0;
    const fresh = (): FiveTupleRule => source.rule(nextId++);
    const first = Array.from({ length: 300 }, fresh);
    const tree = RuleTree.build(first, { family, ruleCapacity: 2000 });
    for (const rule of first) rules.set(rule.id, rule);
    let rebuilt = 0;
    for (let step = 0; step < (SLOW ? 20_000 : 3000); step++) {
      // Grows, shrinks to nothing at times, and grows again.
      const growing = Math.floor(step / 700) % 2 === 0;
      const insert = Array.from({ length: rng.below(growing ? 3 : 2) }, fresh).slice(0, 1900 - rules.size);
      const ids = [...rules.keys()];
      const remove = [
        ...new Set(Array.from({ length: rng.below(growing ? 2 : 4) }, () => ids[rng.below(ids.length)]!)),
      ];
      if (ids.length === 0) remove.length = 0;
      // Now and then a rule is replaced under its own id.
      if (remove.length > 0 && rng.oneIn(4)) insert.push(source.rule(remove[0]!));
      tree.update({ remove, insert });
      for (const id of remove) rules.delete(id);
      for (const rule of insert) rules.set(rule.id, rule);
      if (maintained) {
        const stale = tree.stale;
        tree.maintain(1 + rng.below(3));
        if (stale && !tree.stale) rebuilt++;
      }
      assert.equal(tree.size, rules.size);
      if (step % 100 === 99) {
        const all = [...rules.values()];
        compare(tree, all, source.tuples(all, 120), `step ${step}`);
      }
    }
    if (maintained) assert.ok(rebuilt > 0, 'the trees were built anew meanwhile');
    tree.rebuild();
    compare(tree, rules.values(), source.tuples([...rules.values()], 400), 'rebuilt');
    for (const id of rules.keys()) assert.ok(tree.remove(id));
    assert.equal(tree.remove(1), false);
    compare(tree, [], source.tuples([], 50), 'emptied');
    tree.rebuild();
    assert.equal(tree.octets, RuleTree.build([], { family, ruleCapacity: 2000 }).octets, 'every block came back');
  }
});

test('rule-tree: what a reader may still walk is not used again before it has left', () => {
  const source = new RuleSource(rng, 4);
  const rules = Array.from({ length: 400 }, (_, id) => source.rule(id));
  const tree = RuleTree.build(rules, { ruleCapacity: 4000 });
  const { memory } = tree;
  const tuples = source.tuples(rules, 500);
  const before = linearSearch(rules, tuples, 500);
  const version = memory[H.VERSION]!;
  const blocks = [memory[H.RULES_AT]! + 2 * memory[H.RULE_CAPACITY]!, tree.octets / 4] as const;
  const written = memory.slice(...blocks);
  // A reader in the middle of a batch, as classifyRules has it.
  memory[H.READERS + 9 * UNIT_WORDS] = memory[H.EPOCH]!;
  for (let id = 0; id < 400; id++) tree.update({ remove: [id], insert: [source.rule(1000 + id)] });
  tree.rebuild();
  const held = tree.octets;
  assert.ok(written.length > 400 * 4);
  const changed = memory.subarray(...blocks).findIndex((word, i) => word !== written[i]);
  assert.equal(changed, -1, 'no published block is written again');
  const then = memory.slice();
  then[H.VERSION] = version;
  const found = new Int32Array(500);
  references.classifyRules(then, 3, tuples, 500, found);
  assert.deepEqual(found, before, 'its version is whole');
  // The writer waits a while for a reader that doesn't come on, then refuses, unharmed.
  let id = 10_000;
  tree.insert(source.rule(id));
  assert.throws(
    () => {
      for (;;) tree.update({ remove: [id], insert: [source.rule(++id)] });
    },
    { code: 'SEINE_ERR_BUSY' },
  );
  tree.releaseReader(9);
  tree.insert(source.rule(5000));
  assert.ok(tree.octets < held, 'memory comes back once it has left');
  compare(tree, tree.rules(), tuples, 'after');
});

test('rule-tree: a batch sees one state of the rules, while another thread changes them', async (t) => {
  const HEADERS = 100;
  const rule = (id: number, i: number): FiveTupleRule => ({
    id,
    priority: id,
    src: i,
    srcLength: 32,
    dst: 0,
    dstLength: i % 3 === 0 ? 0 : 32,
    srcPorts: [0, 65_535],
    dstPorts: [0, 65_535],
    protocol: 6,
    protocolMask: i % 2 === 0 ? 0xff : 0,
  });
  const state = (n: number): FiveTupleRule[] => Array.from({ length: HEADERS }, (_, i) => rule(n * HEADERS + i, i));
  const tree = RuleTree.build(state(0));
  const tuples = new Uint32Array(new SharedArrayBuffer(HEADERS * 16));
  for (let i = 0; i < HEADERS; i++) tuples.set([0, i, 6, 0], i * 4);
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const batches = new Int32Array(new SharedArrayBuffer(8));
  const workers = [0, 1].map(
    (reader) =>
      new Worker(new URL('./rule-tree-worker.js', import.meta.url), {
        workerData: { memory: tree.memory, reader, tuples, stop, batches },
      }),
  );
  t.after(() => Promise.all(workers.map((worker) => worker.terminate())));
  const ended = workers.map((worker) => once(worker, 'message'));
  for (const reader of [0, 1]) while (Atomics.load(batches, reader) === 0) await new Promise((r) => setTimeout(r, 5));
  let n = 0;
  const end = Date.now() + (SLOW ? 10_000 : 700);
  while (Date.now() < end || n < 50) {
    n++;
    for (let done = false; !done; ) {
      try {
        tree.update({ remove: state(n - 1).map(({ id }) => id), insert: state(n) });
        done = true;
      } catch (error) {
        // A reader's thread lost the processor in the middle of a batch, for longer than the writer waits.
        if ((error as { code?: string }).code !== 'SEINE_ERR_BUSY') throw error;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
    if (n % 40 === 0) tree.rebuild();
  }
  Atomics.store(stop, 0, 1);
  for (const [wrong] of await Promise.all(ended)) assert.equal(wrong, '');
  assert.ok(Atomics.load(batches, 0) > 100 && Atomics.load(batches, 1) > 100, `${batches} batches`);
  assert.ok(tree.octets < 4 * RuleTree.build(state(0)).octets, 'memory was used again');
});

test('rule-tree: a change that does not fit is refused whole', () => {
  const source = new RuleSource(rng);
  const rules = [0, 1, 2].map((id) => source.rule(id));
  const tree = RuleTree.build(rules, { ruleCapacity: 4 });
  const refused = (change: Parameters<RuleTree['update']>[0], code: string) =>
    assert.throws(() => tree.update(change), { code });
  refused({ insert: [source.rule(3), source.rule(1)] }, 'SEINE_ERR_POLICY_INVALID');
  refused({ insert: [source.rule(3), source.rule(3)] }, 'SEINE_ERR_POLICY_INVALID');
  refused({ insert: [{ ...source.rule(3), srcPorts: [5, 4] }] }, 'SEINE_ERR_POLICY_INVALID');
  refused({ insert: [{ ...source.rule(3), dstLength: 33 }] }, 'SEINE_ERR_POLICY_INVALID');
  refused({ insert: [{ ...source.rule(3), src: [0, 0, 0, 1] }] }, 'SEINE_ERR_POLICY_INVALID');
  refused({ insert: [{ ...source.rule(3), priority: 0xffffffff }] }, 'SEINE_ERR_POLICY_INVALID');
  refused({ remove: [0, 7] }, 'SEINE_ERR_NOT_FOUND');
  refused({ remove: [0, 0] }, 'SEINE_ERR_NOT_FOUND');
  refused({ insert: [3, 4].map((id) => source.rule(id)) }, 'SEINE_ERR_BUSY');
  compare(tree, rules, source.tuples(rules, 100), 'unchanged');
  assert.throws(() => RuleTree.build([...rules, source.rule(1)]), { code: 'SEINE_ERR_POLICY_INVALID' });
});

test('rule-tree: the addon refuses arguments of the wrong type, size or range', () => {
  const tree = RuleTree.build([], { family: 6 });
  const other = new Uint32Array(tree.memory);
  other[H.FAMILY] = 5;
  const [tuples, results] = [new Uint32Array(100), new Int32Array(10)];
  const refuses = (...args: unknown[]) =>
    assert.throws(
      () => (FORMS.native.classifyRules as (...args: unknown[]) => void)(...args),
      (error) => error instanceof TypeError || error instanceof RangeError,
    );
  FORMS.native.classifyRules(tree.memory, 63, tuples, 10, results);
  refuses(tree.memory, 64, tuples, 10, results);
  refuses(tree.memory, 0, tuples, 11, new Int32Array(11));
  refuses(tree.memory, 0, tuples.subarray(1), 10, results);
  refuses(tree.memory, 0, tuples, 10, results.subarray(1));
  refuses(tree.memory, 0, tuples, 10, new Uint32Array(10));
  refuses(tree.memory.subarray(0, 2000), 0, tuples, 10, results);
  refuses(new Uint32Array(4000), 0, tuples, 10, results);
  refuses(other, 0, tuples, 10, results);
  refuses(undefined, 0, tuples, 10, results);
});
