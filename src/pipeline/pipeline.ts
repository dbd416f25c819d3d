/**
 * A packet's way through seine, in order. Read this file first.
 *
 * A batch comes here parsed (batch/parse.ts or native/parse.cc) and split by shard. `runShard` first lets the fast path
 * replay the plans of established connections (conntrack/replay.ts, native/replay.cc), one call for all rows. Rows that
 * it can't finish go through the twelve stages below, which decide and write the decision into the connection as its plan.
 * Rows of one connection keep their order: of those that may share one, the first goes through the stages and the others
 * wait for the next turn, where the fast path mostly finishes them. So a batch of n gives what n batches of 1 give.
 *
 * A stage is `name` and `process(batch, shard)`. It works on `batch.live[0 … liveCount)`, and drops a row by writing
 * `dropReason` (or finishes it by writing `verdict`): the runner retires and counts. There is no other way to drop.
 */
import { DropReason, type STAGES, Verdict } from '../batch/drop-reason.js';
import { BATCH_ROWS, type PacketBatch, RowFlag } from '../batch/packet-batch.js';
import { kernels } from '../native/kernels.js';
import { countRows } from './counting.js';
import { settle } from './settle.js';
import type { Shard } from './shard.js';
import * as classifier from './stages/classifier.js';
import * as conntrackCommit from './stages/conntrack-commit.js';
import * as conntrackState from './stages/conntrack-state.js';
import * as egressSecurity from './stages/egress-security.js';
import * as ingressSecurity from './stages/ingress-security.js';
import * as output from './stages/output.js';
import * as parse from './stages/parse.js';
import * as postRouting from './stages/post-routing.js';
import * as preRouting from './stages/pre-routing.js';
import * as routing from './stages/routing.js';
import * as spoofGuard from './stages/spoof-guard.js';
import * as switching from './stages/switching.js';

export interface Stage {
  readonly name: (typeof STAGES)[number];
  process(batch: PacketBatch, shard: Shard): void;
}

export const PIPELINE: readonly Stage[] = [
  parse,
  classifier,
  spoofGuard,
  conntrackState,
  preRouting,
  egressSecurity,
  routing,
  postRouting,
  switching,
  ingressSecurity,
  conntrackCommit,
  output,
];

/** Rows whose hashes agree in these bits may be of one connection; they don't share a turn. */
export const TURN_CLASSES = 8192;

/** Working lists of one thread's runs. */
const slow = new Int32Array(BATCH_ROWS);
const waiting = new Int32Array(BATCH_ROWS);
const taken = new Uint8Array(TURN_CLASSES);

/**
 * Judges a batch whose rows are all as its front end filled it, as far as that goes natively (native-shard.ts), and returns how
 * many rows are left in `batch.rest`: parsed, for `runShard` with `tried` once what the stages need is there.
 * −1: nothing was done, all rows are to be parsed and go by `runShard`.
 */
export function runWhole(
  shard: Shard,
  batch: PacketBatch,
  flags: number,
  clock: Uint32Array,
  stableLow: number,
  stableHigh: number,
): number {
  const { native, settings } = shard;
  if (native === null) return -1;
  shard.sweep(stableLow, stableHigh);
  if (shard.mustGoSingly(batch.count)) return -1;
  const left = native.judgeBatch(batch, flags, settings.shard, settings.shards, clock);
  shard.counters.count('rowsByFastPath', batch.count - left);
  shard.counters.count('rowsHandled', batch.count - left);
  return left;
}

/**
 * Judges `rows[0 … count)` of a batch, whose columns are filled. `stableLow/High`: every packet before this time has been
 * judged; records due by then end. Afterwards each row has its verdict; packets in = forwarded + dropped + rejected + consumed,
 * asserted. `tried`: the fast path has left them already.
 */
export function runShard(
  shard: Shard,
  batch: PacketBatch,
  rows: Int32Array,
  count: number,
  stableLow: number,
  stableHigh: number,
  tried = false,
): void {
  shard.sweep(stableLow, stableHigh);
  if (shard.mustGoSingly(count)) {
    runSingly(shard, batch, rows, count);
    return;
  }
  waiting.set(rows.subarray(0, count));
  let left = count;
  let replayed = 0;
  while (left > 0) {
    let slowCount = left;
    if (shard.fastPath && !tried) {
      slowCount = fastPath(shard, batch, left);
      replayed += left - slowCount;
    } else slow.set(waiting.subarray(0, left));
    tried = false;
    // One row of each class takes this turn; the others wait for the next.
    taken.fill(0);
    let turn = 0;
    left = 0;
    for (let i = 0; i < slowCount; i++) {
      const row = slow[i]!;
      const cls = batch.hash[row]! & (TURN_CLASSES - 1);
      const independent = (batch.flags[row]! & RowFlag.Sound) === 0;
      if (!independent && taken[cls] !== 0) waiting[left++] = row;
      else {
        taken[cls] = independent ? taken[cls]! : 1;
        batch.live[turn++] = row;
      }
    }
    shard.counters.count('rowsByStages', turn);
    runStages(shard, batch, turn);
    countRows(shard, batch, turnRows, turn);
  }
  shard.counters.count('rowsByFastPath', replayed);
  shard.counters.count('rowsHandled', count);
}

/**
 * Judges rows one after another, replay or stages: where a row may evict another's connection, none may go before its turn.
 * A full table is a flood's, so that a row here costs what it costs alone, however many come with it.
 */
function runSingly(shard: Shard, batch: PacketBatch, rows: Int32Array, count: number): void {
  let replayed = 0;
  for (let i = 0; i < count; i++) {
    const row = rows[i]!;
    if (shard.fastPath) {
      waiting[0] = row;
      if (fastPath(shard, batch, 1) === 0) {
        replayed++;
        continue;
      }
    }
    batch.live[0] = row;
    runStages(shard, batch, 1);
    countRows(shard, batch, turnRows, 1);
  }
  shard.counters.count('rowsByStages', count - replayed);
  shard.counters.count('rowsByFastPath', replayed);
  shard.counters.count('rowsHandled', count);
}

/** Sends `waiting` through the fast path; what it leaves is in `slow`. */
function fastPath(shard: Shard, batch: PacketBatch, count: number): number {
  const { native } = shard;
  if (native === null) return kernels.replayRows(shard.replayContext, batch, waiting, count, slow);
  const left = native.judgeRows(batch, waiting, count, slow);
  return left;
}

const turnRows = new Int32Array(BATCH_ROWS);

function runStages(shard: Shard, batch: PacketBatch, turn: number): void {
  turnRows.set(batch.live.subarray(0, turn));
  for (let i = 0; i < turn; i++) {
    const row = turnRows[i]!;
    shard.work[row] = 0;
    shard.entry[row] = -1;
  }
  batch.liveCount = turn;
  for (let stage = 0; stage < PIPELINE.length && batch.liveCount > 0; stage++) {
    PIPELINE[stage]!.process(batch, shard);
    retire(batch, stage);
  }
  if (batch.liveCount > 0) throw new Error(`${batch.liveCount} rows left the last stage without a verdict`);
  for (let i = 0; i < turn; i++) settle(shard, batch, turnRows[i]!);
}

/** Takes the rows that a stage dropped or finished off the live list. */
function retire(batch: PacketBatch, stage: number): void {
  const { live, dropReason, verdict } = batch;
  let kept = 0;
  for (let i = 0; i < batch.liveCount; i++) {
    const row = live[i]!;
    if (verdict[row] === Verdict.Unspecified) {
      if (dropReason[row] === DropReason.None) {
        live[kept++] = row;
        continue;
      }
      verdict[row] = Verdict.Drop;
    }
    // A replayed plan names the stage that decided it.
    if (batch.stage[row] === 0) batch.stage[row] = verdict[row] === Verdict.Forward ? PIPELINE.length - 1 : stage;
  }
  batch.liveCount = kept;
}
