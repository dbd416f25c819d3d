/** The native order of records and the native NetFlow v5 encoder say what their references say, whatever the records hold. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeRecords, N, NETFLOW5_RECORDS_MAX, STATE_NUMBERS } from '../../src/export/netflow5-records.js';
import { takeRecords } from '../../src/export/record-sort.js';
import { R, RECORD_WORDS } from '../../src/flow/flow-record.js';
import { nativeKernels } from '../../src/native/kernels.js';
import { fuzzSeed, Random } from '../fuzz/mutate.js';

const native = nativeKernels();
const seed = fuzzSeed();
const rng = new Random(seed);
const ROUNDS = process.env.SEINE_SLOW === '1' ? 3000 : 300;
const DATAGRAM_SIZE = 24 + NETFLOW5_RECORDS_MAX * 48;
const NOW_HIGH = 396_000_000; // 2023

const word = (): number => rng.below(0x100000000);
/** Few values, so that ties and equal records come. */
const few = (): number => (rng.oneIn(20) ? word() : rng.below(3));

function records(count: number): Uint32Array {
  const words = new Uint32Array(count * RECORD_WORDS);
  for (let record = 0; record < count; record++) {
    const at = record * RECORD_WORDS;
    if (record > 0 && rng.oneIn(10)) {
      words.copyWithin(at, at - RECORD_WORDS, at);
      continue;
    }
    for (let i = 0; i < RECORD_WORDS; i++) words[at + i] = few();
    words[at + R.verdict] = ((rng.oneIn(8) ? 6 : 4) | (rng.below(3) << 8)) >>> 0;
    words[at + R.protocol] = (rng.oneIn(4) ? 1 : few()) | (rng.below(256) << 8) | (rng.below(256) << 16);
    if (rng.below(10) > 0) for (const counter of [R.packets, R.octets, R.frameOctets]) words[at + counter + 1] = 0;
    for (const time of [R.start, R.end, R.export]) {
      words[at + time] = word();
      words[at + time + 1] = rng.oneIn(30) ? word() : NOW_HIGH + rng.below(rng.oneIn(5) ? 2_000_000 : 4);
    }
    if (rng.oneIn(3)) words.set([0, NOW_HIGH], at + R.export);
  }
  return words;
}

test(`native: records that are due come out in the reference's order, the others stay (seed ${seed})`, () => {
  let due = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const count = rng.below(200);
    const one = records(count);
    const two = one.slice();
    const out = [new Uint32Array(one.length), new Uint32Array(one.length)] as const;
    const all = rng.oneIn(4);
    const high = NOW_HIGH + rng.below(3);
    const low = rng.oneIn(3) ? 0 : word();
    const taken = native.takeRecords(one, count, all, low, high, out[0]);
    assert.equal(taken, takeRecords(two, count, all, low, high, out[1]));
    assert.deepEqual(out[0], out[1]);
    const kept = (count - taken) * RECORD_WORDS;
    assert.deepEqual(one.subarray(0, kept), two.subarray(0, kept));
    if (!all) due += taken;
  }
  assert.ok(due > 0);
});

test(`native: a datagram gets the same records as from the reference, and the same record stops it (seed ${seed})`, () => {
  let written = 0;
  let stopped = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const words = records(rng.below(80));
    const state = new Float64Array(STATE_NUMBERS);
    state[N.records] = rng.below(NETFLOW5_RECORDS_MAX + 1);
    state[N.taken] = rng.below(1000);
    const nowMs = Math.floor((NOW_HIGH * 2 ** 32) / 1e6);
    state[N.bootMs] = rng.oneIn(5) ? -1 : nowMs - rng.below(100_000);
    state[N.clockMs] = nowMs + rng.below(20_000);
    state[N.clockNs] = rng.below(1_000_000);
    state[N.nowMs] = nowMs + rng.below(20_000);
    state[N.nowNs] = rng.below(1_000_000);
    state[N.octetsWord] = rng.oneIn(2) ? R.octets : R.frameOctets;
    state[N.addBase] = rng.oneIn(2) ? -1 : rng.below(128) << 9;
    state[N.icmpSource] = rng.below(2);
    const other = state.slice();
    const from = rng.below(3) * RECORD_WORDS;
    const one = rng.octets(DATAGRAM_SIZE);
    const two = one.slice();
    const at = native.encodeRecords(state, words, from, one);
    assert.equal(encodeRecords(other, words, from, two), at);
    assert.deepEqual(state, other);
    assert.deepEqual(one, two);
    written += state[N.flows]!;
    if (at < words.length && state[N.records]! < NETFLOW5_RECORDS_MAX) stopped++;
  }
  assert.ok(written > ROUNDS && stopped > 0);
});

test('native: records that pass their array, and a state that no encoder has, are refused', () => {
  const words = records(2);
  assert.throws(() => native.takeRecords(words, 3, true, 0, 0, new Uint32Array(100)), RangeError);
  assert.throws(() => native.takeRecords(words, 2, true, 0, 0, new Uint32Array(51)), RangeError);
  assert.throws(() => native.takeRecords(words, 2, true, 0, 0, words), RangeError);
  const octets = new Uint8Array(DATAGRAM_SIZE);
  const state = (change: (s: Float64Array) => void): Float64Array => {
    const numbers = new Float64Array(STATE_NUMBERS);
    numbers[N.octetsWord] = R.octets;
    change(numbers);
    return numbers;
  };
  for (const wrong of [
    state((s) => s.fill(31, N.records, N.records + 1)),
    state((s) => s.fill(Number.NaN, N.records, N.records + 1)),
    state((s) => s.fill(25, N.octetsWord, N.octetsWord + 1)),
    state((s) => s.fill(1e9, N.addBase, N.addBase + 1)),
  ])
    assert.throws(() => native.encodeRecords(wrong, words, 0, octets), RangeError);
  assert.throws(
    () =>
      native.encodeRecords(
        state(() => {}),
        words,
        0,
        octets.subarray(1),
      ),
    RangeError,
  );
});
