/** The thread that looks headers up for rule-sets.ts while the main thread changes rules: pass after pass over all of them. */
import { workerData } from 'node:worker_threads';
import { TUPLE_WORDS } from './generate-rules.js';
import { RuleTreeReader } from '../src/policy/rule-tree/rule-tree-reader.js';

const { memory, headers, state } = workerData as { memory: Uint32Array; headers: Uint32Array; state: Int32Array };
const BATCH = 256;
const reader = new RuleTreeReader(memory, 1);
const views: Uint32Array[] = [];
for (let at = 0; at < headers.length; at += BATCH * TUPLE_WORDS)
  views.push(headers.subarray(at, at + BATCH * TUPLE_WORDS));
const results = new Int32Array(BATCH);
while (Atomics.load(state, 0) === 0) {
  const started = process.hrtime.bigint();
  for (const view of views) reader.classify(view, view.length / TUPLE_WORDS, results);
  Atomics.store(state, 2, Number(process.hrtime.bigint() - started));
  Atomics.add(state, 1, 1);
}
