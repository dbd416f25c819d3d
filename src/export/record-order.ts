/**
 * Flow records in one order for any number of workers: by time of export, source, destination (IPv4 before IPv6), protocol,
 * source port, destination port, in-port. Records arrive in any order; those older than what may still come go out.
 */
import { RECORD_WORDS } from '../flow/flow-record.js';
import { kernels } from '../native/kernels.js';

/** Records kept before a flush is worth its sort. */
const FLUSH_RECORDS = 16_384;

export class RecordOrder {
  /** Records that wait. */
  count = 0;
  private words = new Uint32Array(1024 * RECORD_WORDS);
  private out = new Uint32Array(0);
  private worth = FLUSH_RECORDS;

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
    return this.count >= this.worth;
  }

  /** Takes out the records with an export time below `beforeNs` (null: all), in order, packed; valid until the next flush. */
  flush(beforeNs: bigint | null): Uint32Array {
    if (this.out.length < this.count * RECORD_WORDS) this.out = new Uint32Array(this.words.length);
    const due = kernels.takeRecords(
      this.words,
      this.count,
      beforeNs === null,
      beforeNs === null ? 0 : Number(beforeNs & 0xffffffffn),
      beforeNs === null ? 0 : Number(beforeNs >> 32n),
      this.out,
    );
    this.count -= due;
    // Many that are not due yet: a flush after every batch would sort out the same ones again and again.
    this.worth = Math.max(FLUSH_RECORDS, this.count * 2);
    return this.out.subarray(0, due * RECORD_WORDS);
  }
}
