/** Records that many share, by key: kept in the arena while someone holds them. */
import type { Arena } from './arena.js';

export interface InternedRecord {
  readonly key: string;
  /** Where it lies; 0: an empty list's, which needs no record. */
  readonly at: number;
  readonly length: number;
  holders: number;
}

export class InternedRecords<T> {
  private readonly byKey = new Map<string, InternedRecord>();

  constructor(
    private readonly arena: Arena,
    private readonly encode: (value: T) => number[],
  ) {}

  hold(key: string, value: T, empty: boolean): InternedRecord {
    let found = this.byKey.get(key);
    if (found === undefined) {
      const record = empty ? [] : this.encode(value);
      found = { key, at: empty ? 0 : this.arena.put(record), length: record.length, holders: 0 };
      this.byKey.set(key, found);
    }
    found.holders++;
    return found;
  }
  release(record: InternedRecord): void {
    if (--record.holders > 0) return;
    this.byKey.delete(record.key);
    if (record.at !== 0) this.arena.release(record.at, record.length);
  }
}
