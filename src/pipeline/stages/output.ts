/**
 * Output: the row is forwarded. A group destination leaves as one copy for each other local pod whose ingress policy
 * admits it. Rewriting and encapsulation are done when the frames are wanted (batch/compose.ts, native/compose.cc).
 */
import { Port, Verdict } from '../../batch/drop-reason.js';
import { type PacketBatch, RowFlag } from '../../batch/packet-batch.js';
import { ruleOf } from '../policy-question.js';
import { type Shard, Work } from '../shard.js';

export const name = 'Output';
export function process(batch: PacketBatch, shard: Shard): void {
  const { live, liveCount, outPort, verdict } = batch;
  for (let i = 0; i < liveCount; i++) {
    const row = live[i]!;
    verdict[row] = Verdict.Forward;
    if (outPort[row] === Port.Flood && !shard.metering) flood(batch, shard, row);
  }
}

export function flood(batch: PacketBatch, shard: Shard, row: number): void {
  const from = batch.inPort[row]!;
  const judged = (batch.flags[row]! & RowFlag.Sound) !== 0 && (shard.work[row]! & Work.Untracked) === 0;
  for (const port of shard.forwarding.podPorts) {
    if (port === from) continue;
    if (judged && ruleOf(batch, shard, row, 0, port) < 0) continue;
    shard.emitter.copy(batch, row, port, 'flood-copy');
  }
}
