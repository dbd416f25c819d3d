/**
 * A shard's native judging (native/judge.h): established connections, and handshakes, closings, first packets of admitted
 * connections and records that are due, where nothing unusual is about them. The stages are its reference: what it finishes,
 * they would have finished in the same way; what it leaves, it has not touched.
 */
import type { PacketBatch } from '../batch/packet-batch.js';
import type { ReplayContext } from '../conntrack/replay.js';
import { JudgeFlag, type JudgeKernels, judgeKernels } from '../native/kernels.js';
import type { Classifier } from '../policy/classifier.js';
import type { Forwarding } from './forwarding.js';

export class NativeShard {
  private readonly kernels: JudgeKernels = judgeKernels();
  private readonly handle: unknown;

  constructor(private readonly context: ReplayContext) {
    this.handle = this.kernels.shard(context);
  }

  swap(forwarding: Forwarding, policy: Classifier): void {
    this.kernels.setGeneration(this.handle, forwarding, policy.context);
  }

  /**
   * Judges the rows 0 … count − 1 of a batch as its front end filled it; what it leaves is in `batch.rest`, with its columns
   * filled, and how much that is it returns. Rows of other shards are left. Times are clamped to `clock` (ns, two words:
   * the latest so far, and then that of the last row), or set to it. `flags`: JudgeFlag.*.
   */
  judgeBatch(batch: PacketBatch, flags: number, shard: number, shards: number, clock: Uint32Array): number {
    const { control } = this.context;
    control[2] = clock[0]!;
    control[3] = clock[1]!;
    const left = this.kernels.judgeBatch(this.handle, batch, flags, shard, shards);
    clock[0] = control[2]!;
    clock[1] = control[3]!;
    return left;
  }

  /** Sweeps the timing wheel up to a time; false where the ring of records is full, and accounting.sweep goes on. */
  sweep(low: number, high: number): boolean {
    return this.kernels.sweep(this.handle, low, high);
  }

  /** Judges rows whose columns are filled; returns how many it left in `rest`. */
  judgeRows(batch: PacketBatch, rows: Int32Array, count: number, rest: Int32Array): number {
    return this.kernels.judgeRows(this.handle, batch, rows, count, rest);
  }
}
export { JudgeFlag };
