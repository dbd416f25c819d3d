/**
 * The shared memory that threads meet in: batches, rings, doorbells, tables, counters. Participant 0 is the main thread,
 * participant 1 + s the worker of shard s. Made by the engine, handed to every worker as it is.
 */
import { allocateBatch, type BatchMemory } from '../batch/packet-batch.js';
import { FragmentTable } from '../conntrack/fragments.js';
import { ConnectionTable, type TableMemory } from '../conntrack/table.js';
import { RecordsRing } from '../flow/records-ring.js';
import { addressOf, adviseHugePages } from '../native/kernels.js';
import { allocateCounters, type CounterMemory } from '../metrics/shared-counters.js';
import { allocateSharedState, EPOCHS_SIZE, type SharedState } from '../pipeline/shard.js';
import { RewriteTable } from '../batch/rewrite-table.js';
import { participantsSize } from '../worker/in-hand.js';
import { RING_SIZE } from './ring.js';
import type { StateFile } from './state-file.js';

/** Batches that one participant may have in flight. */
export const BATCHES_PER_PARTICIPANT = 12;

export interface Fabric {
  shards: number;
  /** [participant][n] */
  batches: BatchMemory[][];
  /** Rings to shards and back: see ringOffset. */
  rings: SharedArrayBuffer;
  /** One word a participant (doorbell), then one a shard (its incarnation: how often its worker was lost). */
  bells: SharedArrayBuffer;
  tables: TableMemory[];
  /** A ring of ended flow records for each shard. */
  records: SharedArrayBuffer[];
  /** What each participant has in hand (worker/in-hand.ts). */
  participants: SharedArrayBuffer;
  counters: CounterMemory[];
  shared: SharedState;
  fragments: SharedArrayBuffer;
  rewrite: SharedArrayBuffer;
  /** Epoch ns − monotonic ns at the start: every thread's clock. */
  clockOffsetNs: bigint;
}

/** With a state file, what is to outlive the process lies in it. */
export function makeFabric(shards: number, connectionsMax: number, state: StateFile | null = null): Fabric {
  const participants = shards + 1;
  const memory = (name: string, octets: number) => state?.region(name) ?? new SharedArrayBuffer(octets);
  const table = (shard: number): TableMemory => {
    if (state === null) return ConnectionTable.allocate(connectionsMax, prepareTable);
    const buffer = state.region(`table ${shard}`);
    adviseHugePages(new Uint32Array(buffer));
    // Also of a table that was there: where its parts lie is not its to say. Regions begin on pages.
    ConnectionTable.format(new Uint32Array(buffer), connectionsMax, 0);
    return { buffer, capacity: connectionsMax };
  };
  return {
    shards,
    batches: Array.from({ length: participants }, () => Array.from({ length: BATCHES_PER_PARTICIPANT }, allocateBatch)),
    rings: new SharedArrayBuffer(participants * shards * 2 * RING_SIZE),
    bells: new SharedArrayBuffer((participants + shards) * 4),
    tables: Array.from({ length: shards }, (_, shard) => table(shard)),
    records: Array.from({ length: shards }, (_, shard) => memory(`records ${shard}`, RecordsRing.size())),
    participants: memory('participants', participantsSize(shards)),
    counters: Array.from({ length: participants }, allocateCounters),
    shared: allocateSharedState(shards, memory('epochs', EPOCHS_SIZE)),
    fragments: FragmentTable.allocate(),
    rewrite: new RewriteTable().memory,
    clockOffsetNs: BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint(),
  };
}

/** Huge pages, and entries that begin where cache lines do. */
function prepareTable(words: Uint32Array): number {
  adviseHugePages(words);
  return (addressOf(words) % 128) / 4;
}

/** Octet offset of the ring from `participant` to `shard` (back = false), or from the shard back to it. */
export const ringOffset = (fabric: Fabric, participant: number, shard: number, back: boolean): number =>
  ((participant * fabric.shards + shard) * 2 + (back ? 1 : 0)) * RING_SIZE;

/**
 * How often each shard's worker was lost. A message names the incarnation that it is for: what a lost worker left in its
 * rings is not judged by the next one, as its batches were answered with an error.
 */
export const incarnationsOf = (fabric: Fabric): Int32Array =>
  new Int32Array(fabric.bells, (fabric.shards + 1) * 4, fabric.shards);
