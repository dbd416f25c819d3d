/** A table is taken up again: all that is sound is kept as it was, and no damage whatever does harm. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BATCH_ROWS } from '../../src/batch/packet-batch.js';
import { C, D, E, Status, T } from '../../src/conntrack/entry.js';
import { P } from '../../src/conntrack/plan-table.js';
import { ConnectionTable, H } from '../../src/conntrack/table.js';
import { RECORD_WORDS } from '../../src/flow/flow-record.js';
import { runShard } from '../../src/pipeline/pipeline.js';
import type { Shard } from '../../src/pipeline/shard.js';
import { fuzzSeed, Random } from '../fuzz/mutate.js';
import { exampleShard, Traffic } from './example-traffic.js';

const ROUNDS = process.env.SEINE_SLOW === '1' ? 400 : 60;
const ROWS = 160;
const rows = Int32Array.from({ length: BATCH_ROWS }, (_, row) => row);

const run = (shard: Shard, traffic: Traffic, batches: number) => {
  for (let n = 0; n < batches; n++) {
    const [low, high] = traffic.next(ROWS);
    runShard(shard, traffic.batch, rows, ROWS, low, high);
    shard.records.free(shard.records.head);
  }
};
const takenRecords = (shard: Shard): string[] => {
  const { records } = shard;
  const taken: string[] = [];
  while (records.head !== records.tail) {
    const piece = records.piece(records.tail);
    for (let at = 0; at < piece.length; at += RECORD_WORDS) taken.push(piece.slice(at, at + RECORD_WORDS).join());
    records.free((records.tail + piece.length / RECORD_WORDS) >>> 0);
  }
  return taken.sort();
};
/** Everything that an entry means, without links and places that may differ. */
function meaning(table: ConnectionTable, entry: number): string {
  const { words } = table;
  const at = table.at(entry);
  const hot = [...words.slice(at, at + 32)];
  const plans = [0, 1].map((direction) => {
    const id = hot[E.direction + direction * 8 + D.plan]!;
    hot[E.direction + direction * 8 + D.plan] = 0;
    const plan = [...words.slice(table.plans.at(id), table.plans.at(id) + 8)];
    plan[P.references] = 0;
    return plan;
  });
  hot[E.activeDue] = 0;
  const cold = table.cold(entry);
  return JSON.stringify([
    hot,
    plans,
    [...words.slice(cold, cold + C.wheelNext)],
    words[cold + C.origin]! & 0xffff,
    words[cold + C.hash],
    [...words.slice(table.addressAt(entry), table.addressAt(entry) + 8)],
  ]);
}
const everything = (table: ConnectionTable): string[] => [...table.entries()].map((entry) => meaning(table, entry));
function listOrder(table: ConnectionTable, which: 0 | 1): number[] {
  const order: number[] = [];
  for (let entry = table.oldest(which); entry >= 0; ) {
    order.push(entry);
    entry = table.words[table.cold(entry) + C.listNext]! - 1;
  }
  return order;
}
/** Index, lists and plans agree with the entries. */
function checkWhole(shard: Shard): void {
  const { table } = shard;
  const { words } = table;
  const references = new Map<number, number>();
  let used = 0;
  for (const entry of table.entries()) {
    used++;
    for (const direction of [0, 1]) {
      const plan = words[table.directionAt(entry, direction) + D.plan]!;
      if (plan !== 0) references.set(plan, (references.get(plan) ?? 0) + 1);
    }
  }
  assert.equal(table.used, used);
  assert.equal(table.plans.used, references.size);
  for (const [plan, count] of references) assert.equal(words[table.plans.at(plan) + P.references], count);
  for (const which of [0, 1] as const) {
    const bit = which === 0 ? Status.ListUnreplied : Status.ListClosing;
    const members = [...table.entries()].filter((entry) => (words[table.at(entry) + E.status]! & bit) !== 0);
    assert.deepEqual(
      listOrder(table, which).sort((a, b) => a - b),
      members,
    );
  }
}

test('recover: a sound table is kept as it is, and goes on as if nothing had happened', (t) => {
  const seed = fuzzSeed();
  t.diagnostic(`seed ${seed}`);
  for (const policies of [true, false]) {
    const memory = ConnectionTable.allocate(2048);
    const { shard, pods } = exampleShard(policies, memory);
    const traffic = new Traffic(new Random(seed), pods);
    run(shard, traffic, 120);
    assert.ok(shard.table.used > 30, 'there is something to keep');

    const copied = ConnectionTable.allocate(2048);
    new Uint8Array(copied.buffer).set(new Uint8Array(memory.buffer));
    const { shard: other } = exampleShard(policies, copied);
    other.epochs.set(shard.epochs);
    const report = other.recover(Number(traffic.nowNs));
    assert.deepEqual(
      { ...report, connections: 0 },
      { entries: shard.table.used, connections: 0, mended: 0, dropped: 0, recordsDropped: 0 },
    );
    // Where a plan was made anew under an open record, the next packet links the two; recovery links what fits at once.
    for (const { table, accounting } of [shard, other])
      for (const entry of table.entries()) for (const direction of [0, 1]) accounting.linkPlan(entry, direction);
    assert.deepEqual(everything(other.table), everything(shard.table));
    for (const which of [0, 1] as const) assert.deepEqual(listOrder(other.table, which), listOrder(shard.table, which));
    checkWhole(other);

    // Both go on with the same packets: same verdicts, same records.
    const [one, two] = [new Random(seed + 1), new Random(seed + 1)].map((rng) => new Traffic(rng, pods)) as [
      Traffic,
      Traffic,
    ];
    for (const each of [one, two]) each.nowNs = traffic.nowNs;
    for (let n = 0; n < 60; n++) {
      for (const [who, its] of [
        [shard, one],
        [other, two],
      ] as const) {
        const [low, high] = its.next(ROWS);
        runShard(who, its.batch, rows, ROWS, low, high);
      }
      for (const column of ['verdict', 'outPort', 'dropReason', 'ct', 'rule', 'stage'] as const)
        assert.deepEqual(two.batch[column].slice(0, ROWS), one.batch[column].slice(0, ROWS), column);
    }
    shard.accounting.finish(0, 2 ** 31);
    other.accounting.finish(0, 2 ** 31);
    assert.deepEqual(takenRecords(other), takenRecords(shard));
  }
});

test('recover: what fell due meanwhile ends at the time at which it was due', () => {
  const { shard, pods } = exampleShard(false);
  const traffic = new Traffic(new Random(5), pods);
  run(shard, traffic, 50);
  const open = [...shard.table.entries()].reduce((sum, entry) => {
    const status = shard.table.words[shard.table.at(entry) + E.status]!;
    return sum + ((status & Status.Record0) !== 0 ? 1 : 0) + ((status & Status.Record1) !== 0 ? 1 : 0);
  }, 0);
  const later = traffic.nowNs + 86_400n * 30n * 1_000_000_000n;
  shard.recover(Number(later));
  shard.accounting.sweep(Number(later & 0xffffffffn), Number(later >> 32n), shard.removed);
  assert.equal(shard.table.used, 0, 'every connection has expired');
  const records = takenRecords(shard);
  assert.equal(records.length, open);
  for (const record of records) {
    const words = record.split(',').map(Number);
    const end = BigInt(words[21]!) * 2n ** 32n + BigInt(words[20]!);
    const exported = BigInt(words[23]!) * 2n ** 32n + BigInt(words[22]!);
    assert.ok(exported > end && exported <= end + 10_000_000_000n, 'idle, or active before that');
  }
});

test('recover: a record that was handed over before its entry forgot it is not handed over again', () => {
  const { shard, pods } = exampleShard(false);
  const traffic = new Traffic(new Random(7), pods);
  run(shard, traffic, 30);
  const { table, accounting } = shard;
  for (const entry of [...table.entries()].slice(0, 20)) {
    for (const direction of [0, 1]) {
      const at = table.at(entry);
      const status = table.words[at + E.status]!;
      const bit = direction === 0 ? Status.Record0 : Status.Record1;
      if ((status & bit) === 0) continue;
      accounting.end(entry, direction, 3, Number(traffic.nowNs & 0xffffffffn), Number(traffic.nowNs >> 32n));
      table.words[at + E.status] = status; // the crash
      shard.recover(Number(traffic.nowNs));
      assert.equal(table.words[at + E.status]! & bit, 0);
    }
  }
});

test('recover: an entry cut short in an update keeps its connection, with wide windows', () => {
  const { shard, pods } = exampleShard(false);
  const traffic = new Traffic(new Random(11), pods);
  run(shard, traffic, 40);
  const { table } = shard;
  const tcp = [...table.entries()].find((entry) => {
    const status = table.words[table.at(entry) + E.status]!;
    return (table.words[table.at(entry) + E.key]! & 0xffff) === 0x406 && (status & 0xff) === 0x22;
  })!;
  const at = table.at(tcp);
  table.words[at + E.status] = (table.words[at + E.status]! | Status.Busy) >>> 0;
  const report = shard.recover(Number(traffic.nowNs));
  assert.equal(report.mended, 1);
  assert.equal(report.dropped, 0);
  assert.equal(table.words[at + E.status]! & Status.Busy, 0);
  for (const side of [0, 1]) assert.ok(table.words[at + E.tcp + side * 3 + T.maxWindow]! >= 2 ** 30 - 1);
  checkWhole(shard);
});

test('recover: any octets are taken up without a crash, an endless loop or an index out of bounds', (t) => {
  const seed = fuzzSeed();
  t.diagnostic(`seed ${seed}`);
  const rng = new Random(seed);
  const memory = ConnectionTable.allocate(2048);
  const { shard, pods } = exampleShard(true, memory);
  const traffic = new Traffic(rng, pods);
  run(shard, traffic, 100);
  const before = shard.table.words.slice();
  let dropped = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const { words } = shard.table;
    words.set(before);
    const parts = [
      [0, 12],
      [shard.table.coldAt, 2048 * 12],
      [shard.table.entriesAt, 2048 * 32],
      [shard.table.addressesAt, 2048 * 8],
      [before[H.plansAt]!, before.length - before[H.plansAt]!],
    ] as const;
    if (round % 10 === 0) for (const [from, size] of parts) for (let i = 0; i < size; i++) words[from + i] = rng.next();
    else
      for (let n = rng.below(4000); n > 0; n--) {
        const [from, size] = rng.pick(parts);
        const at = from + rng.below(Math.min(size, 20_000));
        words[at] = rng.oneIn(2)
          ? words[at]! ^ (1 << rng.below(32))
          : rng.pick([0, 1, 0xffffffff, 2048, 2049, rng.next()]);
      }
    // What the service's own start writes again.
    for (const word of [H.capacity, H.slotMask, H.wheelAt, H.slotsAt, H.coldAt, H.entriesAt, H.addressesAt, H.plansAt])
      words[word] = before[word]!;
    const report = shard.recover(Number(traffic.nowNs));
    dropped += report.dropped;
    checkWhole(shard);
    run(shard, traffic, 3);
    const later = traffic.nowNs + 10_000_000_000n;
    shard.accounting.sweep(Number(later & 0xffffffffn), Number(later >> 32n), shard.removed);
  }
  assert.ok(dropped > 0);
});
