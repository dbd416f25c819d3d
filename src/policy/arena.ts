/**
 * Records of any length in one block of shared words, known by where they begin. A record is written once, before any reader
 * is told of it, and its room is given away again only when every reader has moved on: so readers need no second copy.
 */
import { sharedWords } from '../flow/twin-words.js';

/** Offsets below are no record: 0 may say "none". */
const FIRST = 16;

/** Room that records of a length get: so that room given back fits others. */
const roomFor = (length: number): number => {
  if (length <= 64) return Math.max(4, (length + 3) & ~3);
  const step = 2 ** (29 - Math.clz32(length - 1)); // an eighth to a quarter of it
  return Math.ceil(length / step) * step;
};

export class Arena {
  words = sharedWords(1 << 12);
  private end = FIRST;
  private readonly free = new Map<number, number[]>();
  private readonly limbo: { room: number; at: number }[] = [];

  put(record: ArrayLike<number>): number {
    const room = roomFor(record.length);
    let at = this.free.get(room)?.pop();
    if (at === undefined) {
      at = this.end;
      this.end += room;
      if (this.end > this.words.length) {
        const larger = sharedWords(Math.max(this.words.length * 2, this.end));
        larger.set(this.words);
        this.words = larger;
      }
    }
    this.words.set(record, at);
    return at;
  }
  /** Gives a record's room back; readers may go on reading it until the next `settle`. */
  release(at: number, length: number): void {
    this.limbo.push({ room: roomFor(length), at });
  }
  /** Every reader holds what was published last: room released before may be given away. */
  settle(): void {
    for (const { room, at } of this.limbo) {
      const list = this.free.get(room);
      if (list === undefined) this.free.set(room, [at]);
      else list.push(at);
    }
    this.limbo.length = 0;
  }
}
