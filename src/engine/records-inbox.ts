/**
 * Where flow records of all shards arrive: reads the shards' rings (flow/records-ring.ts) and what they spilled, hands both
 * to listeners, and frees a ring's room when the exporter is done with the records, in the order in which it got them.
 */
import { RECORD_WORDS } from '../flow/flow-record.js';
import { RecordsRing } from '../flow/records-ring.js';

/** Who exports: it is handed every record, and says afterwards how far it has come. */
export interface RecordsConsumer {
  /** Packed records, read before it returns. */
  push(words: Uint32Array): void;
  /** Calls back with how many of the records pushed so far are being given to the network, and how many it is done with. */
  progress(sending: ((records: number) => void) | null, done: (records: number) => void): void;
}

interface Piece {
  shard: number;
  count: number;
  /** Of the ring, or of a spill message. */
  spilled: boolean;
}

export class RecordsInbox {
  readonly rings: RecordsRing[];
  private readonly read: number[];
  private readonly spillsSeen: number[];
  private readonly stable: bigint[];
  private readonly listeners = new Set<(words: Uint32Array) => void>();
  private consumer: RecordsConsumer | null = null;
  /** Handed to the consumer and not done with, oldest first, from `first` on. */
  private pieces: Piece[] = [];
  private first = 0;
  private done = 0;
  private held: boolean;
  private draining = false;

  /** `held`: nothing is delivered before `open`, so that what an earlier process left finds its listeners. */
  constructor(
    memory: readonly SharedArrayBuffer[],
    held: boolean,
    /** The rings outlive the process: what is just being sent is marked. */
    private readonly durable = false,
  ) {
    this.rings = memory.map((each) => new RecordsRing(each));
    this.read = this.rings.map(({ tail }) => tail);
    this.spillsSeen = this.rings.map(() => 0);
    this.stable = this.rings.map(() => 0n);
    this.held = held;
  }

  listen(listener: (words: Uint32Array) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
  /** Without a consumer records are done with once listeners have seen them. */
  consume(consumer: RecordsConsumer): void {
    this.consumer = consumer;
    consumer.progress(this.durable ? (records) => this.mark(records) : null, (records) => this.finish(records));
  }
  open(): void {
    this.held = false;
    this.drain();
  }

  /** Delivers what lies in the rings. */
  drain(): void {
    if (this.held || this.draining) return;
    this.draining = true;
    try {
      this.rings.forEach((ring, shard) => {
        // First the time, then the records: what was due by then lies in the ring.
        const stable = ring.stableNs();
        const spills = ring.spills;
        for (;;) {
          const words = ring.piece(this.read[shard]!);
          if (words.length === 0) break;
          this.read[shard] = (this.read[shard]! + words.length / RECORD_WORDS) >>> 0;
          this.deliver({ shard, count: words.length / RECORD_WORDS, spilled: false }, words);
        }
        if (spills === this.spillsSeen[shard] && stable > this.stable[shard]!) this.stable[shard] = stable;
      });
    } finally {
      this.draining = false;
    }
  }

  /** A spill message came. */
  spilled(shard: number, words: Uint32Array): void {
    this.spillsSeen[shard] = this.spillsSeen[shard]! + 1;
    this.deliver({ shard, count: words.length / RECORD_WORDS, spilled: true }, words);
    this.drain();
  }

  /** The shard's worker is lost: spill messages that did not come will not. Returns how many records were in them. */
  shardLost(shard: number): number {
    const ring = this.rings[shard]!;
    this.spillsSeen[shard] = ring.spills;
    return ring.forgetSpill();
  }

  /** Every record that was due a tick before this time has been delivered. */
  stableNs(shard: number): bigint {
    return this.stable[shard]!;
  }

  private deliver(piece: Piece, words: Uint32Array): void {
    if (piece.spilled) this.rings[piece.shard]!.spillSeen(piece.count);
    for (const listener of this.listeners) listener(words);
    if (this.consumer === null) {
      this.release(piece, piece.count);
      return;
    }
    this.pieces.push({ ...piece });
    this.consumer.push(words);
  }

  /** Records up to the `records`-th are being given to the network. */
  private mark(records: number): void {
    let left = records - this.done;
    const reached = new Map<number, number>();
    for (let i = this.first; i < this.pieces.length && left > 0; i++) {
      const { shard, count, spilled } = this.pieces[i]!;
      if (!spilled) reached.set(shard, (reached.get(shard) ?? 0) + Math.min(count, left));
      left -= Math.min(count, left);
    }
    for (const [shard, count] of reached) this.rings[shard]!.sending((this.rings[shard]!.tail + count) >>> 0);
  }

  /** The first `records` records are done with. */
  private finish(records: number): void {
    while (this.done < records && this.first < this.pieces.length) {
      const piece = this.pieces[this.first]!;
      const count = Math.min(piece.count, records - this.done);
      this.release(piece, count);
      this.done += count;
      piece.count -= count;
      if (piece.count === 0) this.first++;
    }
    if (this.first > 1024 && this.first * 2 > this.pieces.length) {
      this.pieces = this.pieces.slice(this.first);
      this.first = 0;
    }
  }
  private release({ shard, spilled }: Piece, count: number): void {
    const ring = this.rings[shard]!;
    if (spilled) ring.spillDone(count);
    else ring.free((ring.tail + count) >>> 0);
  }
}
