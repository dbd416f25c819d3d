/**
 * Requests and verdicts in both encodings: native = reference, whatever the octets; and other encoders' messages (msgpackr,
 * protobufjs) are read, and ours read by them.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pack, unpack } from 'msgpackr';
import { HEAD_WORDS, HeadFlag, verdictsBound } from '../../src/batch/head.js';
import { idOf } from '../../src/batch/msgpack.js';
import { BATCH_ROWS, PacketBatch } from '../../src/batch/packet-batch.js';
import { fillFromProtobuf } from '../../src/batch/protobuf.js';
import { loadSeine } from '../../src/client/control.js';
import { encodeBatch } from '../../src/client/index.js';
import { SeineError } from '../../src/errors.js';
import { nativeKernels, references } from '../../src/native/kernels.js';
import { fuzzSeed, mutateOctets, Random } from '../fuzz/mutate.js';

const native = nativeKernels();
const seed = fuzzSeed();
const rng = new Random(seed);
const ROUNDS = process.env.SEINE_SLOW === '1' ? 40_000 : 4000;
const one = new PacketBatch();
const two = new PacketBatch();
const headOne = new Uint32Array(HEAD_WORDS);
const headTwo = new Uint32Array(HEAD_WORDS);
const COLUMNS = ['offset', 'length', 'wireLength', 'frameOctets', 'inPort'] as const;

type Read = 'readMsgpack' | 'readProtobuf';
/** Reads with both; returns the frames. What was read must be the same. */
function readBoth(kernel: Read, octets: Uint8Array, note: string): number {
  const start = rng.below(8);
  const placed = new Uint8Array(start + octets.length + rng.below(8));
  placed.set(octets, start);
  one.count = 0;
  two.count = 0;
  const expected = references[kernel](one, placed, start, start + octets.length, headOne);
  const found = native[kernel](two, placed, start, start + octets.length, headTwo);
  assert.equal(found, expected, `${note} seed ${seed}: ${Buffer.from(octets).toString('hex').slice(0, 2000)}`);
  if (found === 0) return 0;
  assert.deepEqual([two.count, ...headTwo], [one.count, ...headOne], note);
  for (const name of COLUMNS)
    assert.deepEqual(two[name].subarray(0, found), one[name].subarray(0, found), `${note} ${name}`);
  if ((headOne[2]! & HeadFlag.Timed) !== 0)
    assert.deepEqual(two.timeNs.subarray(0, found * 2), one.timeNs.subarray(0, found * 2), note);
  const size = one.offset[found - 1]! + one.length[found - 1]!;
  assert.equal(Buffer.compare(two.data.subarray(0, size), one.data.subarray(0, size)), 0, note);
  return found;
}

interface Given {
  data: Uint8Array;
  length: Uint32Array;
  inPort: Uint32Array;
  time: BigUint64Array | null;
  returnPackets: boolean;
  id: bigint;
}
function given(): Given {
  const frames = rng.oneIn(40) ? 4090 + rng.below(10) : 1 + rng.below(6);
  const length = Uint32Array.from({ length: frames }, () => (rng.oneIn(60) ? rng.below(14) : 14 + rng.below(60)));
  const size = length.reduce((sum, each) => sum + each, 0) + (rng.oneIn(30) ? 1 : 0);
  return {
    data: rng.octets(size),
    length,
    inPort: Uint32Array.from({ length: rng.oneIn(2) ? 1 : frames }, () => rng.below(2 ** 32)),
    time: rng.oneIn(2)
      ? null
      : BigUint64Array.from({ length: frames }, () => BigInt(rng.below(2 ** 32)) * 0x1_0000_0001n),
    returnPackets: rng.oneIn(2),
    id: BigInt(rng.below(2 ** 32)) >> BigInt(rng.below(32)),
  };
}

test(`native: MessagePack requests are read as by the reference, sound and mutated (seed ${seed})`, () => {
  let sound = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const { data, length, inPort, time, returnPackets, id } = given();
    const message =
      rng.below(3) > 0
        ? encodeBatch(Number(id), {
            data,
            length,
            inPort: inPort.length === 1 && rng.oneIn(2) ? inPort[0]! : inPort,
            ...(time === null ? {} : { time }),
            ...(returnPackets ? { returnPackets } : {}),
          }).subarray(4)
        : pack({ inPort: 3, type: 'batch', length: Buffer.from(length.buffer), data, batchId: -id, returnPackets });
    if (readBoth('readMsgpack', message, `round ${round}`) > 0) sound++;
    for (let i = 0; i < 3; i++) readBoth('readMsgpack', mutateOctets(rng, message), `round ${round} mutated`);
    readBoth('readMsgpack', message.subarray(0, rng.below(message.length)), `round ${round} cut`);
  }
  assert.ok(sound > ROUNDS / 3, `${sound} of ${ROUNDS} are sound`);
});

// --- protobuf, by hand: every spelling that the encoding allows ---

const varint = (value: bigint | number): Buffer => {
  const octets: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    octets.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  } while (rest > 0n);
  // Longer than need be, now and then: at most ten octets.
  while (octets.length < 10 && rng.oneIn(20)) octets.push(0x80);
  octets[octets.length - 1]! &= 0x7f;
  return Buffer.from(octets);
};
const tag = (field: number, type: number): Buffer => varint((field << 3) | type);
const delimited = (field: number, octets: Uint8Array): Buffer =>
  Buffer.concat([tag(field, 2), varint(octets.length), octets]);
const unknown = (depth = 0): Buffer => {
  const field = 7 + rng.below(2000);
  const type = rng.below(depth > 3 ? 3 : 5);
  if (type === 0) return Buffer.concat([tag(field, 0), varint(rng.below(2 ** 32))]);
  if (type === 1) return Buffer.concat([tag(field, 1), rng.octets(8)]);
  if (type === 2) return delimited(field, rng.octets(rng.below(20)));
  if (type === 3) return Buffer.concat([tag(field, 5), rng.octets(4)]);
  return Buffer.concat([tag(field, 3), unknown(depth + 1), tag(field, 4)]);
};
/** A repeated number, in parts, packed or not. */
const repeated = (field: number, values: readonly Buffer[], type: 0 | 1): Buffer[] => {
  const parts: Buffer[] = [];
  for (let at = 0; at < values.length; ) {
    const next = rng.oneIn(3) ? at + 1 : at + 1 + rng.below(values.length - at);
    if (next === at + 1 && rng.oneIn(2)) parts.push(Buffer.concat([tag(field, type), values[at]!]));
    else parts.push(delimited(field, Buffer.concat(values.slice(at, next))));
    at = next;
  }
  return parts;
};
/** The parts of several lists in some order that keeps each list's. */
function merge(lists: Buffer[][]): Buffer {
  const merged: Buffer[] = [];
  const rest = lists.map((list) => [...list]).filter(({ length }) => length > 0);
  while (rest.length > 0) {
    const at = rng.below(rest.length);
    merged.push(rest[at]!.shift()!);
    if (rest[at]!.length === 0) rest.splice(at, 1);
  }
  return Buffer.concat(merged);
}
const spelled = ({ data, length, inPort, time, returnPackets, id }: Given): Buffer =>
  merge([
    [...(rng.oneIn(5) ? [Buffer.concat([tag(1, 0), varint(77)])] : []), Buffer.concat([tag(1, 0), varint(id)])],
    [...(rng.oneIn(5) ? [delimited(2, rng.octets(9))] : []), delimited(2, data)],
    repeated(3, [...length].map(varint), 0),
    // Of a uint32 the lower half of the number counts.
    repeated(
      4,
      [...inPort].map((port) => varint(rng.oneIn(9) ? BigInt(port) + 2n ** 40n : port)),
      0,
    ),
    repeated(
      5,
      [...(time ?? [])].map((value) => Buffer.from(BigUint64Array.of(value).buffer)),
      1,
    ),
    returnPackets ? [Buffer.concat([tag(6, 0), varint(rng.oneIn(2) ? 1 : 2n ** 40n)])] : [],
    Array.from({ length: rng.below(4) }, () => unknown()),
    // A known field in a form that it never has is passed over like one that is not known.
    rng.oneIn(5) ? [Buffer.concat([tag(2, 0), varint(5)]), Buffer.concat([tag(3, 5), rng.octets(4)])] : [],
  ]);

test(`native: protobuf requests are read as by the reference, in any spelling and mutated (seed ${seed})`, () => {
  let sound = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const batch = given();
    const message = spelled(batch);
    if (readBoth('readProtobuf', message, `round ${round}`) > 0) {
      sound++;
      const frames = batch.length.length;
      assert.deepEqual(one.length.subarray(0, frames), batch.length);
      assert.equal(one.inPort[frames - 1], batch.inPort.at(-1));
      assert.equal(idOf(headOne), batch.id);
      assert.equal((headOne[2]! & HeadFlag.ReturnPackets) !== 0, batch.returnPackets);
      if (batch.time !== null)
        assert.deepEqual(
          Buffer.from(one.timeNs.slice(0, frames * 2).buffer),
          Buffer.from(batch.time.slice().buffer as ArrayBuffer),
        );
      assert.equal(Buffer.compare(one.data.subarray(0, batch.data.length), batch.data), 0);
    }
    for (let i = 0; i < 3; i++) readBoth('readProtobuf', mutateOctets(rng, message), `round ${round} mutated`);
    readBoth('readProtobuf', message.subarray(0, rng.below(message.length)), `round ${round} cut`);
  }
  assert.ok(sound > ROUNDS / 3, `${sound} of ${ROUNDS} are sound`);
});

test('protobuf: what is wrong is told', () => {
  const told = (octets: Uint8Array): string => {
    try {
      fillFromProtobuf(one, octets, 0, octets.length, headOne);
    } catch (error) {
      assert.ok(error instanceof SeineError);
      assert.equal(error.grpcStatus, 'INVALID_ARGUMENT');
      return error.message;
    }
    return 'taken';
  };
  const lengths = delimited(3, Buffer.of(14));
  const frame = delimited(2, new Uint8Array(14));
  const port = Buffer.of(0x20, 3);
  assert.equal(told(Buffer.concat([frame, lengths, port])), 'taken');
  assert.match(told(Buffer.of(0x80)), /ends within a number/);
  assert.match(told(Buffer.alloc(11, 0xff)), /more than ten octets/);
  assert.match(told(Buffer.of(0x00, 0x00)), /field number/);
  assert.match(told(Buffer.of(0x12, 0x05, 0)), /ends within a field/);
  assert.match(told(Buffer.of(0x3e)), /wire type 6 of field 7/);
  assert.match(told(Buffer.of(0x3c)), /wire type 4 of field 7/);
  assert.match(told(Buffer.alloc(200, 0x3b)), /nested too deep/);
  assert.match(told(delimited(5, Buffer.alloc(9))), /time_ns/);
  assert.match(told(Buffer.concat([frame, port])), /^length: 0 frames/);
  assert.match(told(Buffer.concat([frame, port, delimited(3, Buffer.alloc(5000, 1))])), /^length: 5000 frames/);
  assert.match(told(Buffer.concat([frame, lengths])), /^inPort: 0 values for 1 frames/);
  assert.match(told(Buffer.concat([delimited(2, new Uint8Array(15)), lengths, port])), /^data has 15 octets/);
});

test(`native: verdicts are written as by the reference, and read by others' decoders (seed ${seed})`, () => {
  const { Datapath } = loadSeine();
  const decode = Datapath.service.Process!.responseDeserialize as (octets: Buffer) => Record<string, unknown>;
  for (let round = 0; round < 200; round++) {
    const count = rng.oneIn(20) ? BATCH_ROWS : 1 + rng.below(300);
    const wide = rng.oneIn(2);
    for (let row = 0; row < count; row++) {
      one.verdict[row] = rng.below(5);
      one.dropReason[row] = rng.below(60);
      one.ct[row] = rng.below(256);
      one.outPort[row] = wide ? rng.below(2 ** 32) >>> rng.below(32) : rng.below(128);
      one.rule[row] = wide ? rng.below(2 ** 32) >>> rng.below(32) : 0;
    }
    two.block.set(one.block);
    headOne.set([rng.below(2 ** 32), rng.oneIn(2) ? 0 : rng.below(2 ** 32), rng.oneIn(3) ? HeadFlag.Negative : 0]);
    if (rng.oneIn(9)) headOne.fill(0);
    const extra = rng.below(3);
    for (const encoding of ['msgpack', 'protobuf'] as const) {
      const at = rng.below(9);
      const a = Buffer.alloc(at + verdictsBound(count));
      const b = Buffer.alloc(a.length);
      const write = (of: typeof native, batch: PacketBatch, out: Buffer): number =>
        encoding === 'msgpack'
          ? of.writeMsgpack(batch, count, headOne, extra, out, at)
          : of.writeProtobuf(batch, count, headOne, out, at);
      const size = write(references, one, a);
      assert.equal(write(native, two, b), size);
      assert.equal(Buffer.compare(a, b), 0, `${encoding}, round ${round}`);
      const octets = a.subarray(at, at + size);
      if (encoding === 'msgpack' && extra > 0) continue;
      const read = (encoding === 'msgpack' ? unpack(octets) : decode(octets)) as Record<string, never>;
      const words = (column: Uint8Array | number[]): Uint32Array =>
        column instanceof Uint8Array ? new Uint32Array(Uint8Array.from(column).buffer) : Uint32Array.from(column);
      assert.deepEqual(words(read.outPort!), one.outPort.slice(0, count));
      assert.deepEqual(words(read.rule!), one.rule.slice(0, count));
      for (const [name, column] of [
        ['verdict', one.verdict],
        ['reason', one.dropReason],
        ['ct', one.ct],
      ] as const)
        assert.equal(Buffer.compare(read[name]!, column.subarray(0, count)), 0, name);
      const id = encoding === 'msgpack' ? idOf(headOne) : BigInt.asUintN(64, idOf(headOne));
      assert.equal(BigInt(read.batchId!), id);
    }
  }
});
