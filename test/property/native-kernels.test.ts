/** Native kernels say what their references say: whole column blocks, table memories and frames are compared after both. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Verdict } from '../../src/batch/drop-reason.js';
import { composeRows } from '../../src/batch/compose.js';
import { BATCH_ROWS, PacketBatch, Rewrite, RowFlag } from '../../src/batch/packet-batch.js';
import { RewriteTable } from '../../src/batch/rewrite-table.js';
import { tupleHash } from '../../src/flow/tuple-hash.js';
import { nativeKernels, references } from '../../src/native/kernels.js';
import { internetChecksum, updateChecksum16 } from '../../src/wire/checksum.js';
import { fuzzSeed, mutateFrame, Random, randomFrame } from '../fuzz/mutate.js';

const native = nativeKernels();
const byTable = nativeKernels('table');
const seed = fuzzSeed();
const rng = new Random(seed);
const ROUNDS = process.env.SEINE_SLOW === '1' ? 400 : 40;

/** Octets of any kind, the EtherType of an IP packet in front of most of them. */
function garbage(): Uint8Array {
  const octets = rng.octets(rng.below(120));
  if (octets.length > 14 && rng.below(4) > 0) {
    octets.set(rng.oneIn(2) ? [0x08, 0x00] : [0x86, 0xdd], 12);
    octets[14] = octets[12] === 0x08 ? 0x40 | rng.below(16) : 0x60;
  }
  return octets;
}

function fill(batch: PacketBatch, count: number): void {
  let at = 0;
  batch.count = 0;
  for (let row = 0; row < count; row++) {
    let frame = randomFrame(rng);
    if (rng.below(3) > 0) frame = mutateFrame(rng, frame);
    if (rng.oneIn(6)) frame = garbage();
    if (at + frame.length > 1 << 20) break;
    // What a snap length cut off was on the wire all the same.
    const onWire = rng.below(8) === 0 ? frame.length + rng.below(2000) : frame.length;
    if (rng.oneIn(4)) frame = frame.subarray(0, rng.below(Math.min(frame.length, rng.oneIn(2) ? 120 : 65_536) + 1));
    batch.data.set(frame, at);
    batch.offset[row] = at;
    batch.length[row] = frame.length;
    batch.wireLength[row] = onWire;
    batch.frameOctets[row] = frame.length;
    batch.inPort[row] = rng.below(6);
    at += frame.length;
    batch.count = row + 1;
  }
}

test(`native: parse fills the same columns as its reference, sound, mutated and random octets alike (seed ${seed})`, () => {
  const one = new PacketBatch();
  const two = new PacketBatch();
  for (let round = 0; round < ROUNDS; round++) {
    // What lies in the columns before must not matter, and rows outside first … first + count − 1 must stay as they are.
    one.block.set(rng.octets(4096), rng.below(one.block.length - 4096));
    fill(one, 1 + rng.below(400));
    two.block.set(one.block);
    two.data.set(one.data.subarray(0, 1 << 20));
    const first = rng.oneIn(2) ? 0 : rng.below(one.count);
    const count = rng.oneIn(2) ? one.count - first : rng.below(one.count - first + 1);
    references.parseRows(one, first, count);
    (round % 2 === 0 ? native : byTable).parseRows(two, first, count);
    if (Buffer.compare(one.block, two.block) === 0) continue;
    for (let row = 0; row < one.count; row++) {
      for (const name of [
        'kind',
        'flags',
        'fault',
        'protocol',
        'hash',
        'srcPort',
        'dstPort',
        'ipLength',
        'l4Offset',
        'payloadLength',
      ] as const) {
        assert.equal(
          two[name][row],
          one[name][row],
          `${name} of ${Buffer.from(one.data.subarray(one.offset[row]!, one.offset[row]! + one.length[row]!)).toString('hex')}`,
        );
      }
    }
    assert.fail('the column blocks differ');
  }
});

test(`native: tuple hashes of the addon and its reference agree, for both directions (seed ${seed})`, () => {
  for (let i = 0; i < 20_000; i++) {
    const address = Uint32Array.from({ length: 8 }, () => (rng.below(4) === 0 ? rng.below(3) : rng.below(0x100000000)));
    const family = rng.below(2) === 0 ? 4 : 6;
    const [protocol, sport, dport] = [rng.below(256), rng.below(65536), rng.below(65536)];
    const expected = tupleHash(address, 0, family, protocol, sport, dport);
    assert.equal(native.tupleHash(address, 0, family, protocol, sport, dport), expected);
    assert.equal(byTable.tupleHash(address, 0, family, protocol, sport, dport), expected);
    const turned = Uint32Array.from([...address.slice(4), ...address.slice(0, 4)]);
    assert.equal(tupleHash(turned, 0, family, protocol, dport, sport), expected);
  }
});

test(`native: checksums of any length and place agree (seed ${seed})`, () => {
  const octets = Uint8Array.from({ length: 4096 }, () => rng.below(256));
  for (let i = 0; i < 5000; i++) {
    const offset = rng.below(2000);
    const length = rng.below(2000);
    const initial = rng.below(0x40000);
    assert.equal(
      native.internetChecksum(octets, offset, length, initial),
      internetChecksum(octets, offset, length, initial),
    );
    const [c, before, after] = [rng.below(65536), rng.below(65536), rng.below(65536)];
    assert.equal(native.updateChecksum16(c, before, after), updateChecksum16(c, before, after));
  }
});

test(`native: frames leave with the same octets, rewritten and encapsulated (seed ${seed})`, () => {
  const table = new RewriteTable();
  for (let port = 0; port < 6; port++) table.setPort(port, port % 2 === 0 ? [2, 0, 0, 0, 0, port] : null);
  const tunnel = {
    sourceMac: [2, 0, 0, 0, 1, 1],
    destinationMac: null,
    port: 4789,
    vni: 77,
    ttl: 64,
    dontFragment: true,
  };
  table.setNode(1, { ...tunnel, family: 4, local: [0x0a000001], remote: [0x0a000002], udpChecksum: false });
  table.setNode(2, { ...tunnel, family: 4, local: [0x0a000001], remote: [0x0a000003], udpChecksum: true });
  table.setNode(3, {
    ...tunnel,
    family: 6,
    local: [0xfd000000, 0, 0, 1],
    remote: [0xfd000000, 0, 0, 2],
    udpChecksum: true,
  });
  table.setNode(4095, { ...tunnel, family: 6, local: [1, 2, 3, 4], remote: [5, 6, 7, 8], udpChecksum: false });
  const batch = new PacketBatch();
  const rows = new Int32Array(BATCH_ROWS);
  const [sizes1, sizes2] = [new Uint32Array(BATCH_ROWS), new Uint32Array(BATCH_ROWS)];
  const [out1, out2] = [new Uint8Array(2 << 20), new Uint8Array(2 << 20)];
  for (let round = 0; round < ROUNDS; round++) {
    fill(batch, 128);
    references.parseRows(batch, 0, batch.count);
    let count = 0;
    for (let row = 0; row < batch.count; row++) {
      if (rng.oneIn(4)) continue;
      batch.verdict[row] = Verdict.Forward;
      batch.outPort[row] = rng.below(6);
      batch.tunnel[row] = rng.oneIn(5) ? 4095 : rng.below(5);
      // Only what has the header that a bit changes is ever rewritten.
      const sound = (batch.flags[row]! & RowFlag.Sound) !== 0;
      const may = sound ? 15 : Rewrite.Encapsulate | (batch.length[row]! < 14 ? 0 : Rewrite.DestinationMac);
      batch.rewrite[row] = rng.below(16) & may;
      rows[count++] = row;
    }
    if (rng.oneIn(2)) rows.subarray(0, count).reverse();
    const outAt = rng.below(100);
    const size = composeRows(batch, table.octets, rows, count, out1, outAt, sizes1);
    assert.equal(native.composeRows(batch, table.octets, rows, count, out2, outAt, sizes2), size);
    assert.deepEqual(sizes2.subarray(0, count), sizes1.subarray(0, count));
    assert.equal(Buffer.compare(out1.subarray(0, outAt + size), out2.subarray(0, outAt + size)), 0);
    if (size === 0) continue;
    const short = out2.subarray(0, outAt + size - 1);
    assert.equal(composeRows(batch, table.octets, rows, count, short, outAt, sizes1), -1);
    assert.equal(native.composeRows(batch, table.octets, rows, count, short, outAt, sizes2), -1);
  }
});

test('native: a frame whose outer length would pass 65,535 octets has size 0 and the next one follows', () => {
  const table = new RewriteTable();
  const node = {
    sourceMac: null,
    destinationMac: null,
    port: 4789,
    vni: 1,
    ttl: 64,
    dontFragment: false,
    udpChecksum: true,
  };
  table.setNode(1, { ...node, family: 4, local: [1], remote: [2] });
  table.setNode(2, { ...node, family: 6, local: [1, 0, 0, 1], remote: [1, 0, 0, 2] });
  const batch = new PacketBatch();
  const rows = Int32Array.of(0, 1);
  const out = [new Uint8Array(140_000), new Uint8Array(140_000)] as const;
  for (const [tunnel, overhead] of [
    [1, 36],
    [2, 56],
  ] as const) {
    for (const length of [65_535 - overhead, 65_535 - overhead + 1, 65_557]) {
      batch.data.set(rng.octets(66_000));
      batch.offset.set([0, 65_600]);
      batch.length.set([length, 100]);
      batch.tunnel.set([tunnel, tunnel]);
      batch.rewrite.set([Rewrite.Encapsulate, Rewrite.Encapsulate]);
      const fits = length + overhead <= 65_535;
      const expected = [fits ? length + overhead + 14 : 0, 100 + overhead + 14];
      [references, native].forEach(({ composeRows: compose }, i) => {
        const sizes = new Uint32Array(2);
        const written = compose(batch, table.octets, rows, 2, out[i]!, 0, sizes);
        assert.deepEqual([...sizes], expected);
        assert.equal(written, expected[0]! + expected[1]!);
      });
      assert.equal(Buffer.compare(out[0], out[1]), 0);
    }
  }
});

test('native: the addon refuses arguments of the wrong type, size or range', () => {
  const batch = new PacketBatch();
  batch.count = 1;
  batch.offset[0] = batch.data.length - 10;
  batch.length[0] = 20;
  assert.throws(() => native.parseRows(batch, 0, 1), /outside the batch's data/);
  assert.throws(() => native.parseRows(batch, 4000, 200), /outside the batch/);
  assert.throws(() => native.internetChecksum(new Uint8Array(4), 2, 4), /outside the array/);
  assert.throws(() => native.tupleHash(new Uint32Array(4), 0, 4, 6, 1, 2), /outside the array/);
  assert.throws(() => native.tupleHash(new Uint32Array(8), 0, 4, 6, 65_536, 2), /srcPort is 16 bits/);
  assert.throws(() => native.tupleHash(new Uint32Array(8), 0, 5 as 4, 6, 1, 2), /family is 4 or 6/);
  assert.throws(() => native.updateChecksum16(1, 70_000, 2), RangeError);
  assert.throws(() => native.parseRows({ block: 5, data: batch.data } as never, 0, 1), TypeError);
  assert.throws(
    () => native.parseRows({ block: batch.block.subarray(4), data: batch.data } as never, 0, 1),
    RangeError,
  );
  assert.throws(() => native.parseRows(batch, Number.NaN, 1), RangeError);
  assert.throws(() => native.parseRows(batch, -1, 1), RangeError);
  assert.throws(
    () => native.composeRows(batch, new Uint8Array(3), new Int32Array(1), 1, new Uint8Array(10), 0, new Uint32Array(1)),
    /too short/,
  );
  batch.length[0] = 10;
  const compose = (rows: Int32Array, count: number, outAt = 0) =>
    native.composeRows(batch, new RewriteTable().octets, rows, count, new Uint8Array(99), outAt, new Uint32Array(9));
  assert.throws(() => compose(Int32Array.of(-1), 1), /a row lies outside the batch/);
  assert.throws(() => compose(Int32Array.of(BATCH_ROWS), 1), /a row lies outside the batch/);
  assert.throws(() => compose(Int32Array.of(0), 2), /larger than the list/);
  assert.throws(() => compose(Int32Array.of(0), 1, 100), /too short/);
  batch.rewrite[0] = Rewrite.DecrementTtl;
  assert.throws(() => compose(Int32Array.of(0), 1), /no IP header/);
  batch.rewrite[0] = Rewrite.DestinationMac;
  assert.throws(() => compose(Int32Array.of(0), 1), /no Ethernet header/);
});
