/**
 * Flow records in one order for any number of workers: by time of export, source, destination (IPv4 before IPv6), protocol,
 * source port, destination port, in-port. Records arrive in any order; those older than what may still come go out.
 */
import { R, RECORD_WORDS } from '../flow/flow-record.js';

/** Records kept before a flush is worth its sort. */
const FLUSH_RECORDS = 16_384;

export class RecordOrder {
  /** Records that wait. */
  count = 0;
  private words = new Uint32Array(1024 * RECORD_WORDS);

  /** Takes packed records; they are copied. */
  add(records: Uint32Array): void {
    const needed = this.count * RECORD_WORDS + records.length;
    if (needed > this.words.length) {
      const grown = new Uint32Array(Math.max(needed, this.words.length * 2));
      grown.set(this.words.subarray(0, this.count * RECORD_WORDS));
      this.words = grown;
    }
    this.words.set(records, this.count * RECORD_WORDS);
    this.count = needed / RECORD_WORDS;
  }

  get worthFlushing(): boolean {
    return this.count >= FLUSH_RECORDS;
  }

  /** Takes out the records with an export time below `beforeNs` (null: all), in order, packed. */
  flush(beforeNs: bigint | null): Uint32Array {
    const { words } = this;
    const high = beforeNs === null ? 0 : Number(beforeNs >> 32n);
    const low = beforeNs === null ? 0 : Number(beforeNs & 0xffffffffn);
    const due = new Uint32Array(this.count);
    let dueCount = 0;
    for (let record = 0; record < this.count; record++) {
      const at = record * RECORD_WORDS;
      const exportHigh = words[at + R.export + 1]!;
      if (beforeNs === null || exportHigh < high || (exportHigh === high && words[at + R.export]! < low))
        due[dueCount++] = at;
    }
    const order = due.subarray(0, dueCount).sort((a, b) => compareRecords(words, a, b));
    const out = new Uint32Array(dueCount * RECORD_WORDS);
    for (let i = 0; i < dueCount; i++) out.set(words.subarray(order[i]!, order[i]! + RECORD_WORDS), i * RECORD_WORDS);
    this.keep(beforeNs === null, high, low);
    return out;
  }

  private keep(none: boolean, high: number, low: number): void {
    let kept = 0;
    for (let record = 0; !none && record < this.count; record++) {
      const at = record * RECORD_WORDS;
      const exportHigh = this.words[at + R.export + 1]!;
      if (exportHigh < high || (exportHigh === high && this.words[at + R.export]! < low)) continue;
      if (kept !== record) this.words.copyWithin(kept * RECORD_WORDS, at, at + RECORD_WORDS);
      kept++;
    }
    this.count = kept;
  }
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
