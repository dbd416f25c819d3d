/** The native scan of captures says what its reference says: rows, frames, clock and where it stops, whatever lies in the window. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BATCH_OCTETS_LIMIT, BATCH_ROWS, PacketBatch } from '../../src/batch/packet-batch.js';
import { LinkKind } from '../../src/capture/link.js';
import { Format, S, Scan, scanRecords, STATE_WORDS } from '../../src/capture/scan.js';
import { nativeKernels } from '../../src/native/kernels.js';
import { fuzzSeed, Random, randomFrame } from '../fuzz/mutate.js';

const native = nativeKernels();
const seed = fuzzSeed();
const rng = new Random(seed);
const ROUNDS = process.env.SEINE_SLOW === '1' ? 4000 : 400;
const WINDOW_START = 16;
const KINDS = Object.values(LinkKind);
/** ns per unit of both formats; 0 is odd units. */
const UNITS = [1, 1000, 1_000_000, 0];

/** Writes records of both soundness; returns where they end. */
function fillWindow(data: Uint8Array, pcapng: boolean, little: boolean, interfaces: number): number {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  let at = WINDOW_START;
  const word = (value: number) => {
    view.setUint32(at, value >>> 0, little);
    at += 4;
  };
  const odd = (value: number): number => (rng.oneIn(60) ? rng.below(0x100000000) : value);
  const records = rng.below(60);
  for (let record = 0; record < records; record++) {
    const frame = rng.oneIn(50) ? new Uint8Array(65_500 + rng.below(200)) : randomFrame(rng);
    if (rng.oneIn(2)) frame[0] = [2, 10, 0x45, 0x60][rng.below(4)]!;
    const captured = rng.oneIn(10) ? rng.below(frame.length + 1) : frame.length;
    const original = rng.oneIn(5) ? rng.below(70_000) : captured;
    const seconds = rng.oneIn(40) ? rng.below(0x100000000) : 1_700_000_000 + rng.below(100);
    if (at + captured + 64 > data.length) break;
    const start = at;
    if (pcapng) {
      const padded = (captured + 3) & ~3;
      const options = rng.oneIn(6) ? 4 * rng.below(5) : 0;
      const size = odd(32 + padded + options);
      word(rng.oneIn(30) ? rng.below(8) : 6);
      word(size);
      word(odd(rng.below(interfaces)));
      word(rng.oneIn(8) ? rng.below(0x100000000) : 396_000_000);
      word(seconds);
      word(odd(captured));
      word(original);
      data.set(frame.subarray(0, captured), at);
      at += padded + options;
      word(odd(size));
    } else {
      word(seconds);
      word(odd(rng.below(1_000_000)));
      word(odd(captured));
      word(original);
      data.set(frame.subarray(0, captured), at);
      at += captured;
    }
    if (rng.oneIn(80)) data[start + rng.below(at - start)] = rng.below(256);
  }
  return rng.oneIn(3) ? Math.max(WINDOW_START, at - rng.below(60)) : at;
}

test(`native: a scan takes the same rows as its reference and stops at the same record (seed ${seed})`, () => {
  const one = new PacketBatch();
  const two = new PacketBatch();
  const beside = () => [new Uint32Array(BATCH_ROWS * 2), new Uint32Array(BATCH_ROWS)] as const;
  const [ownOne, idOne] = beside();
  const [ownTwo, idTwo] = beside();
  const reasons = new Map<number, number>();
  let rows = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const pcapng = rng.oneIn(2);
    const little = rng.oneIn(2);
    const count = pcapng ? 1 + rng.below(4) : 1;
    const interfaces = new Uint32Array(count * 2);
    for (let i = 0; i < count; i++) {
      interfaces[i * 2] = rng.oneIn(2) ? LinkKind.Ethernet : KINDS[rng.below(KINDS.length)]!;
      interfaces[i * 2 + 1] = UNITS[rng.below(pcapng ? 4 : 2)]!;
    }
    const end = fillWindow(one.data, pcapng, little, count);
    two.data.set(one.data.subarray(0, end));
    const state = new Uint32Array(STATE_WORDS);
    state[S.format] = pcapng ? Format.Pcapng : Format.Pcap;
    state[S.little] = little ? 1 : 0;
    state[S.position] = WINDOW_START;
    state[S.end] = end;
    state[S.count] = rng.oneIn(4) ? BATCH_ROWS - rng.below(30) : rng.below(100);
    state[S.rowsLimit] = rng.oneIn(4) ? state[S.count]! + rng.below(20) : BATCH_ROWS;
    if (state[S.rowsLimit]! > BATCH_ROWS) state[S.rowsLimit] = BATCH_ROWS;
    state[S.octets] = rng.oneIn(4) ? BATCH_OCTETS_LIMIT - rng.below(5000) : 0;
    state[S.clockHigh] = rng.oneIn(4) ? 396_000_000 : 0;
    state[S.inPort] = rng.below(3);
    state[S.inPortStep] = rng.below(2);
    const before = state[S.count]!;
    const other = state.slice();
    const stopped = native.scanRecords(one, state, interfaces, ownOne, idOne);
    assert.equal(scanRecords(two, other, interfaces, ownTwo, idTwo), stopped);
    assert.deepEqual(state, other);
    assert.ok(Buffer.from(one.block.buffer).equals(Buffer.from(two.block.buffer)), 'columns');
    assert.ok(Buffer.from(one.data.buffer, 0, end).equals(Buffer.from(two.data.buffer, 0, end)), 'frames');
    assert.deepEqual(ownOne, ownTwo);
    assert.deepEqual(idOne, idTwo);
    reasons.set(stopped, (reasons.get(stopped) ?? 0) + 1);
    rows += state[S.count]! - before;
  }
  // The generator must reach them all.
  for (const reason of Object.values(Scan)) assert.ok((reasons.get(reason) ?? 0) > 0, `never stopped for ${reason}`);
  assert.ok(rows > ROUNDS);
});

test('native: a scan refuses a window outside the data, more rows than a batch has, and kinds of link that there are not', () => {
  const batch = new PacketBatch();
  const own = new Uint32Array(BATCH_ROWS * 2);
  const id = new Uint32Array(BATCH_ROWS);
  const scan = (change: (state: Uint32Array) => void, interfaces = new Uint32Array([0, 1])) => {
    const state = new Uint32Array(STATE_WORDS);
    state[S.position] = WINDOW_START;
    state[S.end] = WINDOW_START;
    state[S.rowsLimit] = BATCH_ROWS;
    change(state);
    return native.scanRecords(batch, state, interfaces, own, id);
  };
  assert.equal(
    scan(() => {}),
    Scan.NeedMore,
  );
  const wrong: [string, (state: Uint32Array) => void][] = [
    ['end past the data', (state) => (state[S.end] = batch.data.length + 1)],
    ['position past the end', (state) => (state[S.position] = WINDOW_START + 1)],
    ['no room for a link header', (state) => (state[S.position] = 15)],
    ['more rows than there are', (state) => (state[S.rowsLimit] = BATCH_ROWS + 1)],
  ];
  for (const [what, change] of wrong) assert.throws(() => scan(change), RangeError, what);
  assert.throws(() => scan(() => {}, new Uint32Array([7, 1])), RangeError);
  assert.throws(() => scan(() => {}, new Uint32Array(0)), RangeError);
});
