/** The ring of ended flow records: order, bounds, what is left for the next process, and how records are freed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RecordsInbox } from '../../../src/engine/records-inbox.js';
import { R, RECORD_WORDS } from '../../../src/flow/flow-record.js';
import { RecordsRing } from '../../../src/flow/records-ring.js';

const write = (ring: RecordsRing, mark: number) => {
  const o = ring.next();
  ring.out.fill(mark, o, o + RECORD_WORDS);
  for (const [field, value] of [
    [R.protocol, 6],
    [R.verdict, 4 | (1 << 8)],
  ] as const)
    ring.out[o + field] = value;
  ring.out.set([1, 0, 40, 0, 54, 0], o + R.packets);
  ring.publish();
};
const marks = (words: Uint32Array): number[] =>
  Array.from({ length: words.length / RECORD_WORDS }, (_, i) => words[i * RECORD_WORDS]!);
/** A consumer that is driven by the test. */
class Consumer {
  got: number[] = [];
  sending!: (records: number) => void;
  done!: (records: number) => void;
  push(words: Uint32Array): void {
    this.got.push(...marks(words));
  }
  progress(sending: ((records: number) => void) | null, done: (records: number) => void): void {
    if (sending !== null) this.sending = sending;
    this.done = done;
  }
}

test('records-ring: records come out whole, in order, round after round', () => {
  const memory = RecordsRing.allocate(8);
  const ring = new RecordsRing(memory);
  const inbox = new RecordsInbox([memory], false);
  const got: number[] = [];
  inbox.listen((words) => got.push(...marks(words)));
  for (let i = 0; i < 50; i++) {
    write(ring, i);
    if (i % 7 === 3) inbox.drain();
  }
  inbox.drain();
  assert.equal(ring.takeSpill(), null);
  assert.deepEqual(got, [...Array(50).keys()]);
});

test('records-ring: a full ring spills, in order behind it, and counts what a crash would cost', () => {
  const memory = RecordsRing.allocate(4);
  const ring = new RecordsRing(memory);
  const inbox = new RecordsInbox([memory], false);
  const consumer = new Consumer();
  inbox.consume(consumer);
  for (let i = 0; i < 7; i++) write(ring, i);
  inbox.drain();
  assert.deepEqual(consumer.got, [0, 1, 2, 3]);
  ring.setStable(100, 0);
  const spill = ring.takeSpill()!;
  assert.deepEqual(marks(spill), [4, 5, 6]);
  inbox.drain();
  assert.equal(inbox.stableNs(0), 0n, 'the time waits for the spill message');
  inbox.spilled(0, spill);
  assert.equal(inbox.stableNs(0), 100n);
  assert.deepEqual(consumer.got, [0, 1, 2, 3, 4, 5, 6]);
  consumer.done(5);
  write(ring, 7);
  assert.equal(ring.takeSpill(), null, 'there is room again');
  assert.deepEqual(new RecordsRing(memory).takeUp(5, 60), { waiting: 1, inDoubt: 0, lost: 2 });
});

test('records-ring: what a lost worker had spilled and not posted is counted', () => {
  const memory = RecordsRing.allocate(2);
  const ring = new RecordsRing(memory);
  const inbox = new RecordsInbox([memory], false);
  inbox.consume(new Consumer());
  for (let i = 0; i < 5; i++) write(ring, i);
  assert.equal(inbox.shardLost(0), 3);
  assert.equal(inbox.shardLost(0), 0);
});

test('records-ring: the next process gets what was not given to the network, and is told what may have been', () => {
  const memory = [RecordsRing.allocate(8), RecordsRing.allocate(8)];
  const rings = memory.map((each) => new RecordsRing(each));
  const inbox = new RecordsInbox(memory, false, true);
  const consumer = new Consumer();
  inbox.consume(consumer);
  for (let i = 0; i < 4; i++) write(rings[0]!, i);
  for (let i = 10; i < 13; i++) write(rings[1]!, i);
  inbox.drain();
  assert.deepEqual(consumer.got, [0, 1, 2, 3, 10, 11, 12]);
  consumer.sending(3);
  consumer.done(3);
  consumer.sending(5); // 3 and 10 are on their way when the process ends
  const left = memory.map((each) => new RecordsRing(each));
  assert.deepEqual(
    left.map((ring) => ring.takeUp(5, 60)),
    [
      { waiting: 0, inDoubt: 1, lost: 0 },
      { waiting: 2, inDoubt: 1, lost: 0 },
    ],
  );
  const next = new RecordsInbox(memory, true);
  const got: number[] = [];
  next.drain();
  next.listen((words) => got.push(...marks(words)));
  assert.deepEqual(got, []);
  next.open();
  assert.deepEqual(got, [11, 12]);
});

test('records-ring: positions wrap at 2^32; where they are impossible, nothing is believed', () => {
  const memory = RecordsRing.allocate(4);
  const header = new Uint32Array(memory);
  header[0] = 0xfffffffe;
  header[16] = 0xfffffffe;
  header[17] = 0xfffffffe;
  const ring = new RecordsRing(memory);
  for (let i = 0; i < 3; i++) write(ring, i);
  assert.deepEqual(ring.takeUp(5, 60), { waiting: 3, inDoubt: 0, lost: 0 });
  assert.deepEqual(marks(ring.piece(ring.tail)), [0, 1]);
  assert.equal(ring.head, 1);
  header[0] = 77;
  assert.deepEqual(ring.takeUp(5, 60), { waiting: 0, inDoubt: 0, lost: 1 });
  assert.equal(ring.head, ring.tail);
});

test('records-ring: a record that no shard can have made is taken out, those behind it stay', () => {
  const memory = RecordsRing.allocate(8);
  const ring = new RecordsRing(memory);
  for (let i = 0; i < 8; i++) write(ring, i);
  ring.words[ring.at(2) + R.verdict] = 5;
  ring.words[ring.at(3) + R.verdict] = 4 | (9 << 8);
  ring.words[ring.at(5) + R.octets + 1] = 1;
  assert.deepEqual(ring.takeUp(5, 60), { waiting: 5, inDoubt: 0, lost: 3 });
  assert.deepEqual(marks(ring.piece(ring.tail)), [0, 1, 4, 6, 7]);
});
