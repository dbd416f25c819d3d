/**
 * Words in shared memory that one thread changes while others read: two copies in turn ("left-right"). Readers hold the
 * front; the writer works on the back, publishes it, and takes the old front up again when every reader has moved on. So
 * nobody sees half a change, and a change costs what it writes.
 */
export const sharedWords = (length: number): Uint32Array => new Uint32Array(new SharedArrayBuffer(length * 4));

export class TwinWords {
  /** What the writer reads and writes. Written by `set` only. */
  words: Uint32Array;
  private front: Uint32Array | null = null;
  /** The copy that readers have left, behind the front by `journal`; null: there is none, or it can't be caught up. */
  private spare: Uint32Array | null = null;
  private journal: number[] = [];

  constructor(length: number) {
    this.words = sharedWords(length);
  }

  set(index: number, value: number): void {
    this.words[index] = value;
    // Before the first publishing there is no other copy; past a quarter of it, copying all is less work.
    if (this.front !== null && this.journal.length <= this.words.length >> 1) this.journal.push(index, value);
  }
  /** New memory in place of the old, as when it grows; nothing of the old is kept. */
  replace(words: Uint32Array): void {
    this.words = words;
    this.spare = null;
  }

  /** More room; what is there stays. */
  grow(length: number): void {
    const larger = sharedWords(length);
    larger.set(this.words);
    this.replace(larger);
  }

  /** Call before the first `set` of a change, when all readers hold what was published last. */
  begin(): void {
    const { front, journal } = this;
    const spare = this.spare;
    if (front === null || this.words !== front) return;
    if (spare !== null && spare.length === front.length && journal.length <= front.length >> 1) {
      for (let i = 0; i < journal.length; i += 2) spare[journal[i]!] = journal[i + 1]!;
      this.words = spare;
    } else {
      this.words = sharedWords(front.length);
      this.words.set(front);
    }
    this.spare = front;
    this.journal = [];
  }
  /** What readers are to hold from now on. */
  publish(): Uint32Array {
    this.front = this.words;
    return this.words;
  }
}
