/** Native plan replay says what its reference says: after each call the whole table and all columns are compared. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BATCH_ROWS, RowFlag } from '../../src/batch/packet-batch.js';
import { kernels, nativeKernels, references } from '../../src/native/kernels.js';
import { runShard } from '../../src/pipeline/pipeline.js';
import { fuzzSeed, Random } from '../fuzz/mutate.js';
import { exampleShard, Traffic } from './example-traffic.js';

const BATCHES = process.env.SEINE_SLOW === '1' ? 1500 : 150;
const ROWS = 160;
/** Rule ids of the example cluster lie well below. */
const RULE_WORDS = 100 * 6;

for (const policies of [true, false]) {
  test(`native: replay leaves the same table, columns and slow rows as its reference, ${policies ? 'policies' : 'all allowed'}`, (t) => {
    const seed = fuzzSeed();
    t.diagnostic(`seed ${seed}`);
    const rng = new Random(seed);
    const native = nativeKernels();
    const { shard, pods } = exampleShard(policies);
    // Replay alone: not the judging that is built on it.
    Object.assign(shard, { native: null });
    const finished = { tcp: 0, udp: 0, denied: 0 };
    const before = kernels.replayRows;
    t.after(() => {
      kernels.replayRows = before;
    });
    kernels.replayRows = (context, batch, rows, count, slow) => {
      const { words } = context.table;
      const { counters } = context;
      const [wordsBefore, blockBefore] = [words.slice(), batch.block.slice()];
      const [countersBefore, rulesBefore] = [counters.words.slice(), counters.rules.slice(0, RULE_WORDS)];
      const left = references.replayRows(context, batch, rows, count, slow);
      const [wordsAfter, blockAfter, slowAfter] = [words.slice(), batch.block.slice(), slow.slice(0, left)];
      const [countersAfter, rulesAfter] = [counters.words.slice(), counters.rules.slice(0, RULE_WORDS)];
      words.set(wordsBefore);
      batch.block.set(blockBefore);
      counters.words.set(countersBefore);
      counters.rules.set(rulesBefore);
      assert.equal(native.replayRows(context, batch, rows, count, slow), left);
      assert.deepEqual(slow.subarray(0, left), slowAfter);
      const octets = (array: Uint32Array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
      if (Buffer.compare(octets(words), octets(wordsAfter)) !== 0)
        assert.fail(`the table differs at word ${words.findIndex((word, at) => word !== wordsAfter[at])}`);
      if (Buffer.compare(batch.block, blockAfter) !== 0)
        assert.fail(`the columns differ at octet ${batch.block.findIndex((octet, at) => octet !== blockAfter[at])}`);
      assert.deepEqual(counters.words, countersAfter, 'counters');
      assert.deepEqual(counters.rules.subarray(0, RULE_WORDS), rulesAfter, 'counters of rules');
      const waiting = new Set(slowAfter);
      for (const row of rows.subarray(0, count)) {
        if (waiting.has(row)) continue;
        finished[batch.protocol[row] === 6 ? 'tcp' : 'udp']++;
        if (batch.dropReason[row] !== 0) finished.denied++;
      }
      return left;
    };

    const traffic = new Traffic(rng, pods);
    const { batch } = traffic;
    const rows = Int32Array.from({ length: BATCH_ROWS }, (_, row) => row);
    for (let n = 0; n < BATCHES; n++) {
      const [low, high] = traffic.next(ROWS);
      // A change of objects at one endpoint: its connections' plans are stale.
      if (rng.oneIn(10)) {
        const { port } = rng.pick(pods);
        shard.epochs[port] = shard.epochs[port]! + 1;
      }
      runShard(shard, batch, rows, ROWS, low, high);
      shard.records.free(shard.records.head);
      for (let row = 0; row < ROWS; row++)
        assert.notEqual(batch.verdict[row], 0, `row ${row} with flags ${batch.flags[row]! & RowFlag.Sound} is judged`);
    }
    t.diagnostic(`replayed: ${JSON.stringify(finished)}`);
    // Else the comparison would be of nothing.
    assert.ok(finished.tcp > 10 * BATCHES && finished.udp > 2 * BATCHES, JSON.stringify(finished));
    assert.equal(finished.denied > 0, policies);
  });
}
