/** Limits of a batch (contract §3): each refusal names limit and frame. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkBatch } from '../../../src/batch/limits.js';
import type { SeineError } from '../../../src/errors.js';

const refusal = (sizes: number[], octets: number, inPorts = 1, times: number | null = null): string => {
  try {
    checkBatch(new Uint8Array(octets), Uint32Array.from(sizes), inPorts, times);
    return 'taken';
  } catch (error) {
    return `${(error as SeineError).code}: ${(error as Error).message}`;
  }
};
const rows = (count: number, size: number): number[] => new Array<number>(count).fill(size);

test('limits: 1 to 4096 frames of 14 to 65,557 octets and 3 MiB in all are taken, at the bounds too', () => {
  assert.equal(refusal([14], 14), 'taken');
  assert.equal(refusal([65_557], 65_557), 'taken');
  assert.equal(refusal(rows(4096, 768), 3 * 1024 * 1024), 'taken');
  assert.equal(refusal(rows(3, 60), 180, 3, 3), 'taken');
});
test('limits: one past a bound is refused, with limit and frame', () => {
  assert.match(refusal([], 0), /^SEINE_ERR_BATCH_LIMIT: .*0 frames.*1 to 4096/);
  assert.match(refusal(rows(4097, 14), 4097 * 14), /^SEINE_ERR_BATCH_LIMIT: .*4097 frames.*4096/);
  assert.match(refusal([60, 13], 73), /^SEINE_ERR_BATCH_LIMIT: frame 1: 13 octets.*14 to 65557/);
  assert.match(refusal([65_558], 65_558), /^SEINE_ERR_BATCH_LIMIT: frame 0: 65558 octets/);
  assert.match(refusal([...rows(4095, 768), 769], 3 * 1024 * 1024 + 1), /^SEINE_ERR_BATCH_LIMIT: .*3145729.*3145728/);
});
test('limits: lengths and data that do not fit together are invalid, by frame', () => {
  assert.match(refusal([60, 60], 119), /^SEINE_ERR_BATCH_INVALID: frame 1: ends at octet 120, but data has 119/);
  assert.match(refusal([60, 60], 121), /^SEINE_ERR_BATCH_INVALID: data has 121 octets, but the 2 frames take 120/);
  assert.match(refusal([0xffffffff, 60], 60), /^SEINE_ERR_BATCH_LIMIT: frame 0: 4294967295 octets/);
});
test('limits: in-ports are one or one each, times one each', () => {
  assert.match(refusal(rows(3, 60), 180, 2), /^SEINE_ERR_BATCH_INVALID: inPort: 2 values for 3 frames/);
  assert.match(refusal(rows(3, 60), 180, 0), /^SEINE_ERR_BATCH_INVALID: inPort: 0 values/);
  assert.match(refusal(rows(3, 60), 180, 1, 2), /^SEINE_ERR_BATCH_INVALID: time: 2 values for 3 frames/);
});
