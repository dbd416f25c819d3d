/**
 * A shard at work in whatever thread owns it: judges slices of batches, and tells how far its flow records have come. A
 * worker has one; so has the main thread of a replay with one worker, which needs no other thread.
 */
import type { PacketBatch } from '../batch/packet-batch.js';
import type { LocalShard } from '../engine/dispatcher.js';
import type { Fabric } from '../engine/fabric.js';
import type { Recovery } from '../conntrack/recover.js';
import { LAG, PARTICIPANT_WORDS } from './in-hand.js';
import { RECORD_WORDS } from '../flow/flow-record.js';
import { RecordsRing } from '../flow/records-ring.js';
import { runShard, runWhole } from '../pipeline/pipeline.js';
import { countLoose } from '../pipeline/settle.js';
import { type Generation, Shard, type ShardSettings } from '../pipeline/shard.js';

export interface RecordsNews {
  /** What found no room in the ring of records, on its way to the exporter's thread. */
  spilled(words: Uint32Array): void;
  /** The ring has new records, or its shard has come further. */
  ring(): void;
}

export class ShardRunner implements LocalShard {
  readonly shard: number;
  readonly state: Shard;
  /** What was taken up at the start. */
  readonly recovery: Recovery | null = null;
  private readonly lag: Float64Array;
  private readonly offsetNs: bigint;
  private readonly records: RecordsRing;
  private readonly participant: number;
  /** The latest packet time, and when it was seen: an idle shard's clock goes on from there. */
  private clock = 0n;
  private clockSeenNs = 0n;
  private reportedTick = 0;

  constructor(
    fabric: Fabric,
    settings: ShardSettings,
    generation: Generation,
    private readonly news: RecordsNews,
    /** The shard's memory is another thread's or process's, and may have been left in mid-change. */
    takeUp = false,
  ) {
    this.shard = settings.shard;
    this.participant = settings.shard + 1;
    this.records = new RecordsRing(fabric.records[settings.shard]!);
    this.state = new Shard(
      settings,
      fabric.tables[settings.shard]!,
      fabric.counters[this.participant]!,
      fabric.shared,
      this.records,
    );
    this.state.swap(generation);
    this.lag = new Float64Array(fabric.participants, this.participant * PARTICIPANT_WORDS * 4, PARTICIPANT_WORDS / 2);
    this.offsetNs = fabric.clockOffsetNs;
    if (takeUp) this.recovery = this.takeUp();
  }

  /** An idle shard's clock goes on where the last packets left it, as far behind this machine's as it was. */
  private takeUp(): Recovery {
    const lag = this.lag[LAG]!;
    this.clockSeenNs = process.hrtime.bigint();
    const wall = this.clockSeenNs + this.offsetNs;
    const clock = wall - BigInt(Math.trunc(Number.isFinite(lag) && Math.abs(lag) < Number(wall) ? lag : 0));
    const recovery = this.state.recover(Number(clock));
    if (recovery.entries > 0) this.clock = clock;
    return recovery;
  }

  readonly judge = (
    batch: PacketBatch,
    rows: Int32Array,
    count: number,
    low: number,
    high: number,
    tried = false,
  ): void => {
    const started = process.hrtime.bigint();
    for (let i = 0; i < count; i++) {
      if (batch.owner[rows[i]!] !== this.participant)
        throw new Error(`row ${rows[i]} is judged by a thread that does not own it`);
    }
    runShard(this.state, batch, rows, count, low, high, tried);
    const last = rows[count - 1]!;
    this.judged(started, (BigInt(batch.timeNs[last * 2 + 1]!) << 32n) | BigInt(batch.timeNs[last * 2]!), low, high);
  };

  private judged(started: bigint, time: bigint, low: number, high: number): void {
    this.clockSeenNs = process.hrtime.bigint();
    if (time > this.clock) this.clock = time;
    this.lag[LAG] = Number(this.clockSeenNs + this.offsetNs - time);
    this.state.counters.count('busyNs', Number(this.clockSeenNs - started));
    // A report now and then also without records, so that the reader knows how far the shard has come.
    const tick = high * 4 + (low >>> 30);
    this.tellRecords(low, high, tick > this.reportedTick);
    this.reportedTick = tick;
  }

  /** Judges a batch of this thread's own natively; what is left is in `batch.rest`, −1: nothing was done (pipeline.ts). */
  readonly judgeWhole = (batch: PacketBatch, flags: number, clock: Uint32Array, low: number, high: number): number => {
    const started = process.hrtime.bigint();
    const left = runWhole(this.state, batch, flags, clock, low, high);
    if (left >= 0) this.judged(started, (BigInt(clock[1]!) << 32n) | BigInt(clock[0]!), low, high);
    return left;
  };

  /** Counts ICMP errors under their own keys, which lie here. */
  readonly account = (batch: PacketBatch, rows: Int32Array, count: number): void => {
    for (let i = 0; i < count; i++) countLoose(this.state, batch, rows[i]!);
  };

  /** Ends what became due while no packets came. */
  sweepIdle(): void {
    if (this.clock === 0n) return;
    const now = this.clock + (process.hrtime.bigint() - this.clockSeenNs);
    const low = Number(now & 0xffffffffn);
    const high = Number(now >> 32n);
    this.state.sweep(low, high);
    this.tellRecords(low, high, false);
  }

  /** Ends every open record. */
  finish(low: number, high: number): void {
    this.state.accounting.finish(low, high);
    this.tellRecords(low, high, false);
  }

  /** Tells how far the shard has come, and rings for its new records; `always`: also without any. */
  private tellRecords(low: number, high: number, always: boolean): void {
    const made = this.records.takeMade();
    if (made > 0) {
      this.state.counters.count('recordsMade', made);
      const spill = this.records.takeSpill();
      if (spill !== null) {
        this.state.counters.count('recordsSpilled', spill.length / RECORD_WORDS);
        this.news.spilled(spill);
      }
    }
    this.records.setStable(low, high);
    if (made > 0 || always) this.news.ring();
  }
}
