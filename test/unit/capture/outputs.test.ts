import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { generateCapture } from '../../../bench/generate-capture.js';
import { parseRows } from '../../../src/batch/parse.js';
import { PacketBatch, RowFlag } from '../../../src/batch/packet-batch.js';
import { FlowLines } from '../../../src/capture/flow-lines.js';
import { Output } from '../../../src/capture/output.js';
import { PcapngWriter } from '../../../src/capture/pcapng-writer.js';
import { fromSeconds, fromUnits, rest, secondsOf, time } from '../../../src/capture/time-words.js';
import { RecordOrder } from '../../../src/export/record-order.js';
import { compareRecords } from '../../../src/export/record-sort.js';
import { EndReason, R, RECORD_WORDS } from '../../../src/flow/flow-record.js';
import { internetChecksum, transportChecksum } from '../../../src/wire/checksum.js';
import { concat, ethernet, file, readAll, udp4 } from './captures.js';

const MAX_NS = (1n << 63n) - 1n;
const ofTime = (): bigint => (BigInt(time.high) << 32n) | BigInt(time.low);
const u32 = () => fc.integer({ min: 0, max: 0xffffffff });

test('time-words: seconds and nanoseconds add up exactly', () => {
  fc.assert(
    fc.property(u32(), fc.oneof(fc.integer({ min: 0, max: 999_999_999 }), u32()), (seconds, ns) => {
      fromSeconds(seconds, ns);
      const exact = BigInt(seconds) * 1_000_000_000n + BigInt(ns);
      assert.equal(ofTime(), exact);
    }),
  );
});
test('time-words: units × factor is exact, and stops at 2^63 − 1', () => {
  fc.assert(
    fc.property(u32(), u32(), fc.constantFrom(1, 10, 1000, 1_000_000), (high, low, factor) => {
      fromUnits(high, low, factor);
      const exact = ((BigInt(high) << 32n) | BigInt(low)) * BigInt(factor);
      assert.equal(ofTime(), exact > MAX_NS ? MAX_NS : exact);
    }),
  );
});
test('time-words: a time divides into seconds and nanoseconds exactly', () => {
  fc.assert(
    fc.property(u32(), u32(), (high, low) => {
      const ns = (BigInt(high) << 32n) | BigInt(low);
      assert.equal(BigInt(secondsOf(low, high)), ns / 1_000_000_000n);
      assert.equal(BigInt(rest.ns), ns % 1_000_000_000n);
    }),
  );
});

async function written(write: (output: Output) => void): Promise<string> {
  const path = file(new Uint8Array(0), 'out');
  const output = await Output.open(path);
  write(output);
  await output.close();
  return path;
}

test('output: numbers are written in decimal, exact up to 2^53 − 1', async () => {
  const numbers = [
    0,
    9,
    10,
    99,
    100,
    101,
    65_535,
    1_000_000,
    4_294_967_295,
    4_294_967_296,
    1e15,
    Number.MAX_SAFE_INTEGER,
  ];
  fc.assert(fc.property(fc.maxSafeNat(), (value) => void numbers.push(value)));
  const path = await written((output) => {
    for (const value of numbers) {
      output.reserve(32);
      output.putNumber(value);
      output.putAscii('\n');
    }
  });
  assert.deepEqual(readFileSync(path, 'latin1').trimEnd().split('\n'), numbers.map(String));
});

test('output: more than one piece arrives whole and in order', async () => {
  const path = await written((output) => {
    for (let line = 0; line < 400_000; line++) {
      output.reserve(32);
      output.putPadded(line, 9);
      output.putAscii('\n');
    }
  });
  const text = readFileSync(path, 'latin1');
  assert.equal(text.length, 4_000_000);
  assert.equal(text.slice(-10), '000399999\n');
});

test('pcapng-writer: what it writes is read back; an interface per out-port in order of first use, ns exact', async () => {
  const a = ethernet(udp4());
  const b = ethernet(udp4({ payload: new Uint8Array(5) }));
  const path = await written((output) => {
    const writer = new PcapngWriter(output, (port) => (port === 3 ? 'default/web' : null));
    writer.packet(3, 789, 400_000_000, a, 0, a.length, a.length);
    writer.packet(65_534, 790, 400_000_000, concat(Uint8Array.of(1), b), 1, b.length, 1500);
    writer.packet(3, 791, 400_000_000, b, 0, b.length, b.length);
  });
  const read = await readAll([path]);
  assert.equal(read.error, null);
  assert.deepEqual(
    read.packets.map(({ interfaceId }) => interfaceId),
    [0, 1, 0],
  );
  assert.deepEqual(
    read.packets.map(({ frame }) => frame),
    [a, b, b],
  );
  assert.deepEqual(
    read.packets.map(({ wireLength }) => wireLength),
    [a.length, 1500, b.length],
  );
  assert.deepEqual(
    read.packets.map(({ ownNs }) => ownNs & 0xffffffffn),
    [789n, 790n, 791n],
  );
  const octets = readFileSync(path, 'latin1');
  assert.ok(octets.includes('default/web') && octets.includes('65534'));
});

/** A packed record with the given words, by field. */
function record(fields: Partial<Record<keyof typeof R, number | number[]>>): Uint32Array {
  const words = new Uint32Array(RECORD_WORDS);
  words[R.verdict] = 4 | (1 << 8);
  for (const [name, value] of Object.entries(fields)) words.set([value].flat(), R[name as keyof typeof R]);
  return words;
}

test('record-order: time of export, then IPv4 before IPv6, addresses, protocol, ports, in-port', () => {
  const sorted = [
    record({ export: [5, 0] }),
    record({ export: [0, 1] }),
    record({ export: [7, 1], src: 1 }),
    record({ export: [7, 1], src: 0x80000000 }),
    record({ export: [7, 1], src: 0x80000000, dst: 9 }),
    record({ export: [7, 1], src: 0x80000000, dst: 9, protocol: 6 | (0xff << 8) }),
    record({ export: [7, 1], src: 0x80000000, dst: 9, protocol: 17 }),
    record({ export: [7, 1], src: 0x80000000, dst: 9, protocol: 17, ports: 1 | (9 << 16) }),
    record({ export: [7, 1], src: 0x80000000, dst: 9, protocol: 17, ports: 2 | (3 << 16) }),
    record({ export: [7, 1], src: 0x80000000, dst: 9, protocol: 17, ports: 2 | (4 << 16) }),
    record({ export: [7, 1], src: 0x80000000, dst: 9, protocol: 17, ports: 2 | (4 << 16), interfaces: 2 }),
    record({ export: [7, 1], verdict: 6 | (1 << 8) }),
  ];
  fc.assert(
    fc.property(
      fc.shuffledSubarray(
        sorted.map((_, index) => index),
        { minLength: sorted.length },
      ),
      fc.integer({ min: 0, max: sorted.length }),
      (order, cut) => {
        const records = new RecordOrder();
        for (const index of order.slice(0, cut)) records.add(sorted[index]!);
        for (const index of order.slice(cut)) records.add(sorted[index]!);
        const first = records.flush(1n << 32n);
        assert.deepEqual(first, sorted[0]);
        assert.equal(records.count, sorted.length - 1);
        const others = records.flush(null);
        assert.deepEqual(
          Array.from(others),
          sorted.slice(1).flatMap((words) => Array.from(words)),
        );
        assert.equal(records.count, 0);
      },
    ),
  );
});
test('record-order: only equal records compare equal', () => {
  const a = record({ export: 1, packets: 3 });
  const b = record({ export: 1, packets: 4 });
  const both = new Uint32Array([...a, ...b]);
  assert.ok(compareRecords(both, 0, RECORD_WORDS) < 0);
  assert.equal(compareRecords(both, 0, 0), 0);
});

test('flow-lines: counters beyond 2^53 and times keep every digit; keys stand in their order', async () => {
  const words = record({
    src: 0x0a000001,
    dst: 0x0a000002,
    ports: 0 | (2048 << 16),
    protocol: 1 | (0x20 << 8) | (EndReason.Active << 24),
    interfaces: 3 | (65_533 << 16),
    packets: [0xffffffff, 0xffffffff],
    octets: [1, 0x200000],
    start: [0x499602d2, 0],
    end: [0x499602d3, 0],
    ingressRule: 7,
    verdict: 4 | (2 << 8),
  });
  const rule = {
    id: 7,
    kind: 'NetworkPolicy',
    namespace: 'default',
    policy: 'deny',
    rule: null,
    direction: 'ingress',
    action: 'drop',
  } as const;
  const path = await written((output) =>
    new FlowLines(output, { portName: () => null, rule: () => rule }).records(words),
  );
  assert.equal(
    readFileSync(path, 'latin1'),
    '{"src":"10.0.0.1","dst":"10.0.0.2","protocol":1,"srcPort":0,"dstPort":2048,"tos":32,"inPort":3,"outPort":65533,"packets":18446744073709551615,' +
      '"octets":9007199254740993,"tcpFlags":0,"start":"1.234567890","end":"1.234567891","endReason":"active","icmpType":8,"icmpCode":0,' +
      '"ingressPolicy":"default/deny","egressPolicy":null,"action":"drop"}\n',
  );
});

test('generate-capture: the same seed gives the same capture, with right checksums and all packets and flows', async () => {
  const make = (seed: number): Buffer => {
    const pieces: Buffer[] = [];
    generateCapture({ packets: 5000, flows: 300, seed, seconds: 10 }, (piece) => pieces.push(Buffer.from(piece)));
    return Buffer.concat(pieces);
  };
  const capture = make(1);
  assert.equal(Buffer.compare(capture, make(1)), 0);
  assert.notEqual(Buffer.compare(capture, make(2)), 0);
  const read = await readAll([file(capture)]);
  assert.equal(read.error, null);
  assert.equal(read.packets.length, 5000);
  const batch = new PacketBatch();
  const flows = new Set<string>();
  let before = 0n;
  for (const { frame, ownNs } of read.packets) {
    assert.ok(ownNs >= before);
    before = ownNs;
    batch.data.set(frame);
    batch.offset[0] = 0;
    batch.length[0] = frame.length;
    batch.wireLength[0] = frame.length;
    parseRows(batch, 0, 1);
    assert.equal(batch.fault[0], 0);
    assert.ok((batch.flags[0]! & RowFlag.Sound) !== 0);
    assert.equal(internetChecksum(frame, 14, 20), 0);
    assert.equal(transportChecksum(frame, 26, 4, batch.protocol[0]!, 34, batch.ipLength[0]! - 20), 0);
    const ends = [`${batch.address[0]} ${batch.srcPort[0]}`, `${batch.address[4]} ${batch.dstPort[0]}`].sort();
    flows.add(`${batch.protocol[0]} ${ends.join(' ')}`);
  }
  assert.equal(flows.size, 300);
});
