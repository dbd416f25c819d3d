/** The native rule tree built with AddressSanitizer and UBSan, over random trees and headers: it reads what is a tree's, and no more. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { references } from '../../src/native/kernels.js';
import { LAYOUT, PACKS_MAX } from '../../src/policy/rule-tree/layout.js';
import { RuleTree } from '../../src/policy/rule-tree/rule-tree.js';
import { RuleSource } from '../property/rule-sets.js';
import { fuzzSeed, Random } from './mutate.js';

const NATIVE = fileURLToPath(new URL('../../../native', import.meta.url));
const TREES = process.env.SEINE_SLOW === '1' ? 120 : 12;

test('native: sanitizers are silent over rule trees', (t) => {
  if (spawnSync('g++', ['--version']).status !== 0) {
    if (process.env.CI === 'true') assert.fail('g++ is missing');
    t.skip('NOT TESTED: g++ not found');
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'seine-asan-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const seed = fuzzSeed();
  t.diagnostic(`seed ${seed}`);
  const rng = new Random(seed);
  const parts: Uint8Array[] = [];
  for (let i = 0; i < TREES; i++) {
    const family = i % 2 === 0 ? 4 : 6;
    const source = new RuleSource(rng, 1 + rng.below(30), family);
    const size = [rng.below(10), rng.below(200), rng.below(2000)][i % 3]!;
    // Now and then rules that no bit tells apart: long leaves and chains.
    const open = rng.oneIn(3);
    const rules = Array.from({ length: open ? PACKS_MAX * 8 + rng.below(300) : size }, (_, id) => ({
      ...source.rule(id),
      ...(open ? { srcLength: 0, dstLength: 0, protocolMask: 0 } : {}),
    }));
    const tree = RuleTree.build(rules, { family });
    const count = 1 + rng.below(1000);
    const tuples = source.tuples(rules, count);
    if (rng.oneIn(4)) for (let w = 0; w < tuples.length; w++) if (rng.oneIn(3)) tuples[w] = rng.next();
    assert.equal(tuples.length, count * LAYOUT[family].tupleWords);
    const results = new Int32Array(count);
    references.classifyRules(tree.memory, 0, tuples, count, results);
    // As built, what is in use lies in one piece.
    const used = tree.memory.slice(0, tree.octets / 4);
    for (const words of [Uint32Array.of(used.length, count), used, tuples, results])
      parts.push(new Uint8Array(words.buffer, words.byteOffset, words.byteLength));
  }
  const corpus = join(folder, 'corpus');
  writeFileSync(corpus, Buffer.concat(parts));
  const program = join(folder, 'fuzz');
  execFileSync(
    'g++',
    [
      '-std=gnu++20',
      '-O1',
      '-g',
      '-fsanitize=address,undefined',
      '-fno-sanitize-recover=all',
      '-fno-omit-frame-pointer',
      join(NATIVE, 'test', 'fuzz_rule_tree.cc'),
      join(NATIVE, 'rule_tree.cc'),
      '-o',
      program,
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const run = spawnSync(program, [corpus], { encoding: 'utf8' });
  assert.equal(run.status, 0, `seed ${seed}: status ${run.status} ${run.stderr.slice(0, 4000)}`);
  assert.match(run.stdout, new RegExp(`^${TREES} trees, `));
});
