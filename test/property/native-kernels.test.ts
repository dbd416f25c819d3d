/** Native kernels say what their references say: whole column blocks, table memories and frames are compared after both. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Verdict } from '../../src/batch/drop-reason.js';
import { composeRows } from '../../src/batch/compose.js';
import { BATCH_ROWS, PacketBatch, Rewrite } from '../../src/batch/packet-batch.js';
import { RewriteTable } from '../../src/batch/rewrite-table.js';
import { tupleHash } from '../../src/flow/tuple-hash.js';
import { nativeKernels, references } from '../../src/native/kernels.js';
import { internetChecksum, updateChecksum16 } from '../../src/wire/checksum.js';
import { fuzzSeed, mutateFrame, Random, randomFrame } from '../fuzz/mutate.js';

const native = nativeKernels();
const seed = fuzzSeed();
const rng = new Random(seed);
const ROUNDS = process.env.SEINE_SLOW === '1' ? 400 : 40;

function fill(batch: PacketBatch, count: number): void {
  let at = 0;
  batch.count = 0;
  for (let row = 0; row < count; row++) {
    let frame = randomFrame(rng);
    if (rng.below(3) > 0) frame = mutateFrame(rng, frame);
    if (at + frame.length > 1 << 20) break;
    batch.data.set(frame, at);
    batch.offset[row] = at;
    batch.length[row] = frame.length;
    batch.wireLength[row] = rng.below(8) === 0 ? frame.length + rng.below(2000) : frame.length;
    batch.frameOctets[row] = frame.length;
    batch.inPort[row] = rng.below(6);
    at += frame.length;
    batch.count = row + 1;
  }
}

test(`native: parse fills the same columns as its reference, sound and mutated frames alike (seed ${seed})`, () => {
  const one = new PacketBatch();
  const two = new PacketBatch();
  for (let round = 0; round < ROUNDS; round++) {
    fill(one, 256);
    two.block.set(one.block);
    two.data.set(one.data.subarray(0, 1 << 20));
    references.parseRows(one, 0, one.count);
    native.parseRows(two, 0, one.count);
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

test(`native: tuple hashes of instruction, table and reference agree, for both directions (seed ${seed})`, () => {
  for (let i = 0; i < 20_000; i++) {
    const address = Uint32Array.from({ length: 8 }, () => (rng.below(4) === 0 ? rng.below(3) : rng.below(0x100000000)));
    const family = rng.below(2) === 0 ? 4 : 6;
    const [protocol, sport, dport] = [rng.below(256), rng.below(65536), rng.below(65536)];
    const expected = tupleHash(address, 0, family, protocol, sport, dport);
    assert.equal(native.tupleHash(address, 0, family, protocol, sport, dport), expected);
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
  const batch = new PacketBatch();
  const rows = new Int32Array(BATCH_ROWS);
  const [sizes1, sizes2] = [new Uint32Array(BATCH_ROWS), new Uint32Array(BATCH_ROWS)];
  const [out1, out2] = [new Uint8Array(2 << 20), new Uint8Array(2 << 20)];
  for (let round = 0; round < ROUNDS; round++) {
    fill(batch, 128);
    references.parseRows(batch, 0, batch.count);
    let count = 0;
    for (let row = 0; row < batch.count; row++) {
      if ((batch.flags[row]! & 1) === 0 || batch.length[row]! < 60) continue;
      batch.verdict[row] = Verdict.Forward;
      batch.outPort[row] = rng.below(6);
      batch.tunnel[row] = rng.below(5);
      batch.rewrite[row] = rng.below(16) & (Rewrite.DestinationMac | Rewrite.DecrementTtl | Rewrite.Encapsulate);
      rows[count++] = row;
    }
    const size = composeRows(batch, table.octets, rows, count, out1, 0, sizes1);
    assert.equal(native.composeRows(batch, table.octets, rows, count, out2, 0, sizes2), size);
    assert.deepEqual(sizes2.subarray(0, count), sizes1.subarray(0, count));
    assert.equal(Buffer.compare(out1.subarray(0, size), out2.subarray(0, size)), 0);
    if (size > 10)
      assert.equal(native.composeRows(batch, table.octets, rows, count, out2.subarray(0, size - 1), 0, sizes2), -1);
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
  assert.throws(
    () => native.composeRows(batch, new Uint8Array(3), new Int32Array(1), 1, new Uint8Array(10), 0, new Uint32Array(1)),
    /too short/,
  );
});
