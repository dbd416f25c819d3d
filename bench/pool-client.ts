/**
 * A worker's client in the engine rows: fills batches from a pool as a front end would from a socket, has them judged in the
 * worker's thread, and throws the answers away, or composes the frames as they leave, or digests all that was answered.
 */
import { createHash } from 'node:crypto';
import { getEnvironmentData } from 'node:worker_threads';
import type { PacketBatch } from '../src/batch/packet-batch.js';
import { BATCH_ROWS } from '../src/batch/packet-batch.js';
import { composedBound, forwardedRows } from '../src/engine/engine.js';
import { kernels, threadCpuNs } from '../src/native/kernels.js';
import type { Adopted, WorkerContext } from '../src/worker/worker.js';
import {
  type BenchEnvironment,
  DIGEST_AT,
  ENVIRONMENT_KEY,
  Figure,
  FIGURES_AT,
  OrderFlag,
  type PoolMemory,
  Word,
} from './pool.js';

/** Batches between two turns of the event loop, where timers and messages have theirs. */
const TURN_BATCHES = 64;

interface Pool {
  octets: Uint8Array;
  length: Uint32Array;
  inPort: Uint32Array;
  offset: Uint32Array;
  start: Float64Array;
  rows: number;
  batchRows: number;
}
const open = (memory: PoolMemory): Pool => ({
  octets: new Uint8Array(memory.octets),
  length: new Uint32Array(memory.length),
  inPort: new Uint32Array(memory.inPort),
  offset: new Uint32Array(memory.offset),
  start: new Float64Array(memory.start),
  rows: memory.rows,
  batchRows: memory.batchRows,
});

export class PoolClient implements Adopted {
  private readonly words: Int32Array;
  private readonly figures: Float64Array;
  private readonly digest: Uint8Array;
  private readonly pools: Pool[];
  private readonly rows = new Int32Array(BATCH_ROWS);
  private readonly sizes = new Uint32Array(BATCH_ROWS);
  private out = new Uint8Array(1 << 20);
  private stopped = false;

  constructor(
    private readonly context: WorkerContext,
    shard: number,
    private readonly closed: () => void,
  ) {
    const { mailboxes, pools } = getEnvironmentData(ENVIRONMENT_KEY) as unknown as BenchEnvironment;
    const mailbox = mailboxes[shard]!;
    this.words = new Int32Array(mailbox, 0, 16);
    this.figures = new Float64Array(mailbox, FIGURES_AT, 16);
    this.digest = new Uint8Array(mailbox, DIGEST_AT, 32);
    this.pools = pools[shard]!.map(open);
    void this.serve();
  }

  private async serve(): Promise<void> {
    for (let seen = Atomics.load(this.words, Word.Done); !this.stopped; ) {
      const waiting = Atomics.waitAsync(this.words, Word.Order, seen);
      if (waiting.async) await waiting.value;
      const order = Atomics.load(this.words, Word.Order);
      if (this.stopped || order === seen) continue;
      await this.run();
      seen = order;
      Atomics.store(this.words, Word.Done, order);
      Atomics.notify(this.words, Word.Done);
    }
  }

  /** One order: `passes` times the batches [first, end) of a pool. */
  private run(): Promise<void> {
    const { words, context } = this;
    const figures = this.figures;
    const { dispatcher } = context;
    const pool = this.pools[words[Word.Pool]!]!;
    const first = words[Word.FirstBatch]!;
    const end = words[Word.EndBatch]!;
    const total = (end - first) * words[Word.Passes]!;
    const flags = words[Word.Flags]!;
    const step = BigInt(figures[Figure.StepNs]!);
    let clock = BigInt(figures[Figure.ClockNs]!);
    const stampTime = step === 0n;
    const hash = (flags & OrderFlag.Digest) === 0 ? null : createHash('sha256');
    const compose = (flags & OrderFlag.ReturnPackets) !== 0;
    const gaps = (flags & OrderFlag.Gaps) !== 0;
    let [sent, done, forwarded, octets, failed] = [0, 0, 0, 0, 0];
    let [lastMs, longestMs] = [performance.now(), 0];
    return new Promise((resolve) => {
      const started = process.hrtime.bigint();
      const spentBefore = threadCpuNs();
      const judged = (batch: PacketBatch, error: Error | null) => {
        if (error !== null) failed++;
        else {
          if (hash !== null) for (const column of answered(batch)) hash.update(column);
          if (compose || hash !== null) {
            const count = forwardedRows(batch, this.rows);
            const size = this.compose(batch, count);
            forwarded += count;
            octets += size;
            hash?.update(this.out.subarray(0, size));
          }
        }
        if (gaps) {
          const now = performance.now();
          longestMs = Math.max(longestMs, now - lastMs);
          lastMs = now;
        }
        dispatcher.release(batch);
        if (++done < total) return;
        figures[Figure.CpuNs] = threadCpuNs() - spentBefore;
        figures[Figure.ElapsedNs] = Number(process.hrtime.bigint() - started);
        figures[Figure.Forwarded] = forwarded;
        figures[Figure.OutOctets] = octets;
        figures[Figure.LongestGapNs] = longestMs * 1e6;
        words[Word.Failed] = failed;
        if (hash !== null) this.digest.set(hash.digest());
        resolve();
      };
      const pump = () => {
        for (let turn = 0; turn < TURN_BATCHES && sent < total; turn++) {
          const batch = dispatcher.acquire();
          if (batch === null) {
            dispatcher.whenFree(pump);
            return;
          }
          fill(batch, pool, first + (sent % (end - first)));
          if (!stampTime) {
            new BigUint64Array(batch.timeNs.buffer, batch.timeNs.byteOffset, batch.count).fill(clock);
            clock += step;
          }
          sent++;
          dispatcher.submit(batch, 'library', { stampTime }, (error) => judged(batch, error));
        }
        if (sent < total) setImmediate(pump);
      };
      pump();
    });
  }

  /** The batch's forwarded frames as they leave. */
  private compose(batch: PacketBatch, count: number): number {
    const bound = composedBound(batch);
    if (bound > this.out.length) this.out = new Uint8Array(bound);
    const size = kernels.composeRows(batch, this.context.rewrite.octets, this.rows, count, this.out, 0, this.sizes);
    if (size < 0) throw new Error('the bound of composed frames is too small');
    return size;
  }

  drain(): Promise<void> {
    this.stopped = true;
    Atomics.notify(this.words, Word.Order);
    this.closed();
    return Promise.resolve();
  }
  abandon(): void {}
}

const answered = (batch: PacketBatch): Uint8Array[] => {
  const { count } = batch;
  const octets = (column: Uint32Array) => new Uint8Array(column.slice(0, count).buffer);
  return [
    batch.verdict.slice(0, count),
    octets(batch.outPort),
    batch.dropReason.slice(0, count),
    batch.stage.slice(0, count),
    batch.ct.slice(0, count),
    octets(batch.rule),
  ];
};

function fill(batch: PacketBatch, pool: Pool, index: number): void {
  const from = index * pool.batchRows;
  const to = Math.min(from + pool.batchRows, pool.rows);
  const length = pool.length.subarray(from, to);
  batch.count = to - from;
  batch.data.set(pool.octets.subarray(pool.start[index], pool.start[index + 1]));
  batch.offset.set(pool.offset.subarray(from, to));
  batch.length.set(length);
  batch.wireLength.set(length);
  batch.frameOctets.set(length);
  batch.inPort.set(pool.inPort.subarray(from, to));
}
