/** Messages of the Unix socket: every encoding that MessagePack's specification allows for a value is read alike. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { unpack } from 'msgpackr';
import { PacketBatch } from '../../../src/batch/packet-batch.js';
import { SeineError } from '../../../src/errors.js';
import { HEAD_WORDS } from '../../../src/batch/head.js';
import { idOf } from '../../../src/batch/msgpack.js';
import { kernels } from '../../../src/native/kernels.js';
import { answerBound, errorMessage, refusal, RequestReader, writeAnswer } from '../../../src/server/message.js';
import { udp4 } from '../frames.js';

const frame = Buffer.from(udp4({ src: '10.0.0.1', dst: '10.0.0.2', sport: 1, dport: 2 }));
const u32 = (value: number): Buffer => {
  const octets = Buffer.alloc(4);
  octets.writeUInt32BE(value);
  return octets;
};
const u16 = (value: number): Buffer => u32(value).subarray(2);
const words = (...values: number[]): Buffer => Buffer.from(Uint32Array.from(values).buffer);

/** Spellings of one value, by the widths of the specification. */
const strings = (text: string): Buffer[] => {
  const octets = Buffer.from(text);
  return [
    Buffer.concat([Buffer.of(0xa0 | octets.length), octets]),
    Buffer.concat([Buffer.of(0xd9, octets.length), octets]),
    Buffer.concat([Buffer.of(0xda), u16(octets.length), octets]),
    Buffer.concat([Buffer.of(0xdb), u32(octets.length), octets]),
  ];
};
const bins = (octets: Buffer): Buffer[] => [
  Buffer.concat([Buffer.of(0xc4, octets.length), octets]),
  Buffer.concat([Buffer.of(0xc5), u16(octets.length), octets]),
  Buffer.concat([Buffer.of(0xc6), u32(octets.length), octets]),
];
const integers = (value: number): Buffer[] => [
  Buffer.of(value),
  Buffer.of(0xcc, value),
  Buffer.concat([Buffer.of(0xcd), u16(value)]),
  Buffer.concat([Buffer.of(0xce), u32(value)]),
  Buffer.concat([Buffer.of(0xcf), u32(0), u32(value)]),
  Buffer.of(0xd0, value),
  Buffer.concat([Buffer.of(0xd1), u16(value)]),
  Buffer.concat([Buffer.of(0xd2), u32(value)]),
  Buffer.concat([Buffer.of(0xd3), u32(0), u32(value)]),
];
const maps = (count: number): Buffer[] => [
  Buffer.of(0x80 | count),
  Buffer.concat([Buffer.of(0xde), u16(count)]),
  Buffer.concat([Buffer.of(0xdf), u32(count)]),
];
const batch = new PacketBatch();
const head = new Uint32Array(HEAD_WORDS);
const read = (octets: Buffer) => {
  const request = { ...new RequestReader(octets).read(0, octets.length) };
  batch.count = kernels.readMsgpack(batch, octets, 0, octets.length, head);
  assert.notEqual(batch.count, 0);
  assert.equal(idOf(head), BigInt(request.batchId));
  return request;
};

test('message: any widths of map, str, bin and int, keys in any order, columns at any alignment', () => {
  for (let spelling = 0; spelling < 36; spelling++) {
    const key = (name: string) => strings(name)[spelling % 4]!;
    const bin = (octets: Buffer) => bins(octets)[spelling % 3]!;
    const int = (value: number) => integers(value)[spelling % 9]!;
    const fields = [
      [key('type'), strings('batch')[spelling % 4]!],
      [key('batchId'), int(77)],
      [key('data'), bin(frame)],
      [key('length'), bin(words(frame.length))],
      [key('inPort'), spelling % 2 === 0 ? int(5) : bin(words(5))],
      [key('time'), bin(words(7, 8))],
      [key('returnPackets'), Buffer.of(0xc3)],
    ].map((pair) => Buffer.concat(pair));
    const turned = [...fields.slice(spelling % 7), ...fields.slice(0, spelling % 7)];
    const request = read(Buffer.concat([maps(7)[spelling % 3]!, ...turned]));
    assert.equal(request.batchId, 77, `spelling ${spelling}`);
    assert.equal(request.returnPackets, true);
    assert.deepEqual(
      [batch.count, batch.length[0], batch.inPort[0], batch.timeNs[0], batch.timeNs[1]],
      [1, frame.length, 5, 7, 8],
    );
    assert.deepEqual(Buffer.from(batch.data.subarray(0, frame.length)), frame);
  }
});

const withId = (id: Buffer): Buffer =>
  Buffer.concat([
    Buffer.of(0x85),
    strings('type')[0]!,
    strings('batch')[0]!,
    strings('batchId')[0]!,
    id,
    strings('data')[0]!,
    bins(frame)[0]!,
    strings('length')[0]!,
    bins(words(frame.length))[0]!,
    strings('inPort')[0]!,
    Buffer.of(3),
  ]);

test('message: a batchId comes back as the number that it was: beyond 32 and 53 bits, negative, a whole double', () => {
  const double = Buffer.alloc(9);
  double[0] = 0xcb;
  double.writeDoubleBE(2 ** 40, 1);
  const cases: [Buffer, bigint][] = [
    [Buffer.concat([Buffer.of(0xcf), u32(0xffffffff), u32(0xffffffff)]), 2n ** 64n - 1n],
    [Buffer.concat([Buffer.of(0xcf), u32(1), u32(0)]), 2n ** 32n],
    [Buffer.of(0xff), -1n],
    [Buffer.concat([Buffer.of(0xd3), u32(0x80000000), u32(0)]), -(2n ** 63n)],
    [double, 2n ** 40n],
  ];
  for (const [id, value] of cases) {
    const request = read(withId(id));
    const out = Buffer.alloc(answerBound(1, {}));
    const answer = out.subarray(4, writeAnswer(batch, head, {}, out, 0));
    const refusal = errorMessage(request.batchId, new SeineError('SEINE_ERR_BATCH_INVALID', 'wrong')).subarray(4);
    assert.equal(BigInt((unpack(answer) as { batchId: number | bigint }).batchId), value);
    assert.equal(BigInt((unpack(refusal) as { batchId: number | bigint }).batchId), value);
    assert.ok(!refusal.subarray(0, 32).includes(0xcb), 'an id is never written as a double');
  }
});

test('message: what is no batch is refused by what is wrong with it, and a batch with a known id keeps it', () => {
  const refused = (octets: Buffer): [string, number | bigint | null] => {
    if (kernels.readMsgpack(batch, octets, 0, octets.length, head) > 0) return ['taken', null];
    const { error, batchId } = refusal(batch, octets, 0, octets.length);
    return [`${error.code}: ${error.message}`, batchId];
  };
  assert.match(refused(Buffer.alloc(0))[0], /^SEINE_ERR_MESSAGE_INVALID: not MessagePack/);
  assert.match(refused(Buffer.of(0xc1))[0], /^SEINE_ERR_MESSAGE_INVALID/);
  assert.match(refused(Buffer.alloc(100_000, 0x91))[0], /^SEINE_ERR_MESSAGE_INVALID/, 'nested beyond any stack');
  assert.match(refused(Buffer.concat([Buffer.of(0xdd), u32(0xffffffff)]))[0], /^SEINE_ERR_MESSAGE_INVALID/);
  assert.match(refused(Buffer.of(0x80))[0], /^SEINE_ERR_MESSAGE_INVALID: type missing/);
  const whole = withId(Buffer.of(9));
  assert.deepEqual(refused(whole), ['taken', null]);
  for (let size = 0; size < whole.length; size++) assert.match(refused(whole.subarray(0, size))[0], /^SEINE_ERR_/);
  const extra = Buffer.concat([Buffer.of(0x86), whole.subarray(1), strings('colour')[0]!, Buffer.of(1)]);
  assert.deepEqual(refused(extra), ['SEINE_ERR_BATCH_INVALID: unknown field "colour"', 9]);
});
