/** A reader in a thread of its own, for rule-tree.test.ts: classifies until told to stop, and reports what can't have been. */
import { parentPort, workerData } from 'node:worker_threads';
import { RuleTreeReader } from '../../src/policy/rule-tree/rule-tree-reader.js';

const { memory, reader, tuples, stop, batches } = workerData as {
  memory: Uint32Array;
  reader: number;
  tuples: Uint32Array;
  stop: Int32Array;
  batches: Int32Array;
};
const count = tuples.length / 4;
const tree = new RuleTreeReader(memory, reader);
const results = new Int32Array(count);
let wrong = '';
let latest = -1;
while (Atomics.load(stop, 0) === 0 && wrong === '') {
  tree.classify(tuples, count, results);
  // Ids of one state of the rules: its number times the count of headers, plus the header's place.
  const state = Math.floor(results[0]! / count);
  for (let i = 0; i < count; i++)
    if (results[i] !== state * count + i) wrong ||= `header ${i}: rule ${results[i]} beside state ${state}`;
  if (state < latest) wrong ||= `state ${state} after ${latest}`;
  latest = state;
  Atomics.add(batches, reader, 1);
}
Atomics.notify(batches, reader);
parentPort!.postMessage(wrong);
