/** The native sweep says what its reference says, also where the ring of records has no room and the reference must go on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BATCH_ROWS, PacketBatch } from '../../src/batch/packet-batch.js';
import { C, E, Status } from '../../src/conntrack/entry.js';
import { RECORD_WORDS } from '../../src/flow/flow-record.js';
import type { RecordsRing } from '../../src/flow/records-ring.js';
import { kernels } from '../../src/native/kernels.js';
import { runShard } from '../../src/pipeline/pipeline.js';
import type { Shard } from '../../src/pipeline/shard.js';
import { fuzzSeed, Random } from '../fuzz/mutate.js';
import { Conversation, exampleShard } from './example-traffic.js';

const ROUNDS = process.env.SEINE_SLOW === '1' ? 300 : 30;
const ROWS = 200;

/** Takes what lies in the ring and in the spill, sorted; afterwards the ring has room for `room` records. */
function taken(ring: RecordsRing, before: number, room: number): string[] {
  const found: string[] = [];
  for (let at = before; at !== ring.head; at = (at + 1) >>> 0)
    found.push(ring.words.slice(ring.at(at), ring.at(at) + RECORD_WORDS).join(' '));
  const spill = ring.takeSpill() ?? new Uint32Array(0);
  for (let at = 0; at < spill.length; at += RECORD_WORDS) found.push(spill.slice(at, at + RECORD_WORDS).join(' '));
  ring.free((ring.head - ring.capacity + room) >>> 0);
  return found.sort();
}
const state = ({ table, replayContext: { totals, endpoints } }: Shard): unknown => ({
  used: table.used,
  totals: totals.join(' '),
  endpoints: [...endpoints.entries()].filter(([, count]) => count !== 0),
  entries: [...table.entries()]
    .map((entry) => {
      const at = table.at(entry);
      const cold = table.cold(entry);
      const words = [...table.words.slice(at, at + E.direction)];
      // Of TCP nothing asks for it, and replay does not set it.
      if ((words[E.key]! & 0xff) === 6) words[E.status] = words[E.status]! & ~Status.Multiple;
      return [...words, ...table.words.slice(cold, cold + C.wheelNext)].join(' ');
    })
    .sort(),
});

for (const room of [65_536, 3, 1]) {
  test(`native: a sweep ends and frees what the reference does, with room for ${room} records`, (t) => {
    const seed = fuzzSeed();
    t.diagnostic(`seed ${seed}`);
    const rng = new Random(seed);
    const native = exampleShard(false);
    const staged = exampleShard(false, undefined, false);
    assert.ok(native.shard.native !== null);
    const shards = [native.shard, staged.shard];
    const { pods } = native;
    const batch = new PacketBatch();
    const rows = Int32Array.from({ length: BATCH_ROWS }, (_, row) => row);
    let conversations: Conversation[] = [];
    let now = 1_700_000_000_000_000_000n;
    let records = 0;
    let stopped = 0;
    for (let round = 0; round < ROUNDS; round++) {
      if (round % 3 === 0)
        conversations = Array.from({ length: 60 }, () => new Conversation(rng, [rng.pick(pods), rng.pick(pods)]));
      let at = 0;
      batch.count = ROWS;
      for (let row = 0; row < ROWS; row++) {
        const { frame, inPort } = rng.pick(conversations).next();
        batch.data.set(frame, at);
        batch.offset[row] = at;
        batch.length[row] = frame.length;
        batch.wireLength[row] = frame.length;
        batch.frameOctets[row] = frame.length;
        batch.inPort[row] = inPort;
        const time = now + BigInt(row) * 1000n;
        batch.timeNs[row * 2] = Number(time & 0xffffffffn);
        batch.timeNs[row * 2 + 1] = Number(time >> 32n);
        at += frame.length;
      }
      const heads = shards.map(({ records: ring }) => ring.head);
      for (const shard of shards) {
        kernels.parseRows(batch, 0, ROWS);
        // By stages on both sides: this is about the sweep.
        runShard(shard, batch, rows, ROWS, 0, 0, true);
      }
      now += BigInt(rng.below(60)) * 1_000_000_000n + BigInt(rng.below(1_000_000_000));
      const [low, high] = [Number(now & 0xffffffffn), Number(now >> 32n)];
      if (native.shard.native.sweep(low, high) === false) {
        stopped++;
        native.shard.accounting.sweep(low, high, native.shard.removed);
      }
      staged.shard.accounting.sweep(low, high, staged.shard.removed);
      const [one, two] = shards.map(({ records: ring }, i) => taken(ring, heads[i]!, room));
      assert.deepEqual(one, two, `records after round ${round}`);
      assert.deepEqual(state(native.shard), state(staged.shard), `after round ${round}`);
      records += one!.length;
    }
    assert.ok(records > ROUNDS);
    assert.equal(stopped > 0, room < 100);
  });
}
