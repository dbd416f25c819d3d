/** The order of export: comparison of packed records, and the sorting of those that are due (reference of native/export.cc). */
import { R, RECORD_WORDS } from '../flow/flow-record.js';

/**
 * Takes the records with a time of export below (beforeLow, beforeHigh), or `all`, out of the first `count` of `words`, and
 * puts them in order into `out`, which has room for them; the others move to the front of `words`. Returns how many were due.
 */
export function takeRecords(
  words: Uint32Array,
  count: number,
  all: boolean,
  beforeLow: number,
  beforeHigh: number,
  out: Uint32Array,
): number {
  const due = new Uint32Array(count);
  const isDue = (at: number): boolean => {
    const high = words[at + R.export + 1]!;
    return all || high < beforeHigh || (high === beforeHigh && words[at + R.export]! < beforeLow);
  };
  let dueCount = 0;
  for (let record = 0; record < count; record++)
    if (isDue(record * RECORD_WORDS)) due[dueCount++] = record * RECORD_WORDS;
  const order = due.subarray(0, dueCount).sort((a, b) => compareRecords(words, a, b));
  for (let i = 0; i < dueCount; i++) out.set(words.subarray(order[i]!, order[i]! + RECORD_WORDS), i * RECORD_WORDS);
  let kept = 0;
  for (let record = 0; record < count; record++) {
    const at = record * RECORD_WORDS;
    if (isDue(at)) continue;
    if (kept !== at) words.copyWithin(kept, at, at + RECORD_WORDS);
    kept += RECORD_WORDS;
  }
  return dueCount;
}

/** Negative when the record at word `a` goes out before the one at `b`. Equal keys: by their words, so that order is total. */
export function compareRecords(words: Uint32Array, a: number, b: number): number {
  const differs =
    words[a + R.export + 1]! - words[b + R.export + 1]! ||
    words[a + R.export]! - words[b + R.export]! ||
    (words[a + R.verdict]! & 0xff) - (words[b + R.verdict]! & 0xff) ||
    compareWords(words, a + R.src, b + R.src, 8) ||
    (words[a + R.protocol]! & 0xff) - (words[b + R.protocol]! & 0xff) ||
    (words[a + R.ports]! & 0xffff) - (words[b + R.ports]! & 0xffff) ||
    (words[a + R.ports]! >>> 16) - (words[b + R.ports]! >>> 16) ||
    (words[a + R.interfaces]! & 0xffff) - (words[b + R.interfaces]! & 0xffff) ||
    words[a + R.start + 1]! - words[b + R.start + 1]! ||
    words[a + R.start]! - words[b + R.start]!;
  return differs || compareWords(words, a, b, RECORD_WORDS);
}
function compareWords(words: Uint32Array, a: number, b: number, count: number): number {
  for (let i = 0; i < count; i++) if (words[a + i] !== words[b + i]) return words[a + i]! - words[b + i]!;
  return 0;
}
