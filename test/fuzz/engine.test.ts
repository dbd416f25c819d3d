/** The whole engine over mutated frames: no crash, packets conserved, the same records as packets; seed printed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Verdict } from '../../src/batch/drop-reason.js';
import { RowFlag } from '../../src/batch/packet-batch.js';
import { EXAMPLE_CLUSTER, EXAMPLE_NODE } from '../../src/config/example-cluster.js';
import { parseConfig } from '../../src/config/read.js';
import { copyOutput, Engine, fillBatch } from '../../src/engine/engine.js';
import { R, RECORD_WORDS } from '../../src/flow/flow-record.js';
import { counterIndex } from '../../src/metrics/shared-counters.js';
import { readManifest } from '../../src/objects/read.js';
import { applyObjects, emptyObjects } from '../../src/objects/store.js';
import { fuzzSeed, mutateFrame, Random, randomFrame } from './mutate.js';

const FRAMES = process.env.SEINE_SLOW === '1' ? 1_000_000 : 60_000;
const PER_BATCH = 512;

for (const mode of ['pods', 'metering'] as const) {
  test(`engine: ${FRAMES} mutated frames, ${mode}: nothing crashes, packets and octets are conserved`, async (t) => {
    const seed = fuzzSeed();
    t.diagnostic(`seed ${seed}`);
    const rng = new Random(seed);
    const { config } = parseConfig(
      { workers: 2, node: mode === 'pods' ? EXAMPLE_NODE : null, conntrack: { max: 5000 } },
      'test',
    );
    const { objects } = applyObjects(
      emptyObjects(),
      mode === 'pods' ? readManifest(EXAMPLE_CLUSTER, 'example').inputs : [],
    );
    // Replay mode takes in-ports from source addresses in half of the batches, and has no clock of its own.
    const engine = await Engine.start({ config, objects, mode: 'replay' });
    let recordPackets = 0n;
    let recordOctets = 0n;
    const u64 = (words: Uint32Array, at: number) => (BigInt(words[at + 1]!) << 32n) | BigInt(words[at]!);
    engine.onPackedRecords((words) => {
      for (let at = 0; at < words.length; at += RECORD_WORDS) {
        recordPackets += u64(words, at + R.packets);
        recordOctets += u64(words, at + R.octets);
      }
    });
    const losses: string[] = [];
    engine.onWarning = (line) => losses.push(line);
    let sound = 0n;
    let octets = 0n;
    let sent = 0;
    const verdicts = [0, 0, 0, 0, 0];
    let nowNs = 1_700_000_000_000_000_000n;
    while (sent < FRAMES) {
      const frames: Uint8Array[] = [];
      let total = 0;
      while (frames.length < PER_BATCH) {
        const base = randomFrame(rng);
        const frame = rng.below(5) === 0 ? base : mutateFrame(rng, base);
        if (frame.length < 14 || frame.length > 65_557 || total + frame.length > 3 << 20) continue;
        frames.push(frame);
        total += frame.length;
      }
      const times = BigUint64Array.from(frames, () => (nowNs += BigInt(rng.below(20_000_000))));
      await new Promise<void>((resolve, reject) => {
        const batch = engine.dispatcher.acquire()!;
        fillBatch(batch, {
          data: Buffer.concat(frames),
          length: Uint32Array.from(frames, ({ length }) => length),
          inPort: Uint32Array.from(frames, () => rng.below(18)),
          time: times,
        });
        engine.dispatcher.submit(
          batch,
          'replay',
          { stampTime: false, assignInPorts: mode === 'pods' && rng.below(2) === 0 },
          (error) => {
            try {
              if (error !== null) throw error;
              for (let row = 0; row < batch.count; row++) {
                const verdict = batch.verdict[row]!;
                verdicts[verdict] = verdicts[verdict]! + 1;
                assert.equal(batch.dropReason[row] !== 0, verdict === Verdict.Drop || verdict === Verdict.Reject);
                if ((batch.flags[row]! & RowFlag.Sound) === 0) continue;
                sound++;
                octets += BigInt(batch.ipLength[row]!);
              }
              if (rng.below(10) === 0) copyOutput(batch, true, engine.rewrite);
              resolve();
            } catch (failure) {
              reject(failure);
            }
            engine.dispatcher.release(batch);
          },
        );
      });
      sent += frames.length;
    }
    await engine.finish();
    assert.deepEqual(losses, []);
    assert.equal(verdicts[Verdict.Unspecified], 0);
    assert.equal(
      verdicts.reduce((sum, count) => sum + count),
      sent,
    );
    if (mode === 'metering') assert.equal(verdicts[Verdict.Reject], 0);
    assert.equal(recordPackets, sound, 'packets of all records are those of all sound IP packets');
    assert.equal(recordOctets, octets, 'octets of all records are those of all sound IP packets');
    const counted = engine.counters().reduce((sum, block) => sum + block.read(counterIndex.single('rowsHandled')), 0n);
    assert.equal(counted, BigInt(sent));
    await engine.close();
  });
}
