/**
 * Single-producer, single-consumer ring of small messages in shared memory, and the doorbell that wakes its reader. One
 * ring for each (owner of batches, shard) pair and one back. A full ring can't happen: it holds more than its owner's batches.
 */
export const RING_ENTRIES = 64;
const WORDS = 4;
const HEAD = 0; // next to read, written by the consumer
const TAIL = 16; // next to write, written by the producer; a cache line of its own
const DATA = 32;
export const RING_SIZE = (DATA + RING_ENTRIES * WORDS) * 4;

export class Ring {
  private readonly words: Int32Array;
  constructor(memory: SharedArrayBuffer, offset: number) {
    this.words = new Int32Array(memory, offset, DATA + RING_ENTRIES * WORDS);
  }
  push(a: number, b: number, c: number, d: number): void {
    const { words } = this;
    const tail = words[TAIL]!;
    if (tail - Atomics.load(words, HEAD) >= RING_ENTRIES)
      throw new Error('a ring holds more messages than its owner has batches');
    const at = DATA + (tail % RING_ENTRIES) * WORDS;
    words[at] = a;
    words[at + 1] = b;
    words[at + 2] = c;
    words[at + 3] = d;
    Atomics.store(words, TAIL, tail + 1);
  }
  /** Copies the next message to `into`; false when there is none. */
  pop(into: Int32Array): boolean {
    const { words } = this;
    const head = words[HEAD]!;
    if (head === Atomics.load(words, TAIL)) return false;
    const at = DATA + (head % RING_ENTRIES) * WORDS;
    for (let i = 0; i < WORDS; i++) into[i] = words[at + i]!;
    Atomics.store(words, HEAD, head + 1);
    return true;
  }
}

const ASLEEP = 1;
const RING = 2;

/**
 * Wakes a thread's event loop: one word of shared memory, raised by 2 with every ring; bit 0 says that its thread sleeps. Only
 * then is there somebody to wake, which costs the ringing thread microseconds.
 */
export class Doorbell {
  private stopped = false;
  constructor(
    private readonly words: Int32Array,
    private readonly index: number,
  ) {}
  ring(): void {
    // The sleeper clears the bit itself: should this thread end before it notifies, the next one that rings wakes it.
    if ((Atomics.add(this.words, this.index, RING) & ASLEEP) !== 0) Atomics.notify(this.words, this.index);
  }
  /** Calls `pump` now and after every ring until `stop`. */
  async listen(pump: () => void): Promise<void> {
    const { words, index } = this;
    while (!this.stopped) {
      const seen = Atomics.load(words, index) & ~ASLEEP;
      pump();
      if (this.stopped) return;
      Atomics.or(words, index, ASLEEP);
      // A ring since `seen` changed the word: then there is no waiting.
      const waiting = Atomics.waitAsync(words, index, seen | ASLEEP);
      if (waiting.async) await waiting.value;
      // Sockets and timers get their turn between two rounds.
      else await new Promise<void>((resolve) => setImmediate(resolve));
      Atomics.and(words, index, ~ASLEEP);
    }
  }
  stop(): void {
    this.stopped = true;
    this.ring();
  }
}
