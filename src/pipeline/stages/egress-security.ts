/**
 * EgressSecurity: the first matching egress rule of the source pod decides a connection; the decision is kept in its plan.
 * It is asked for the connection's original direction, also when a reply made it due (a change since).
 */
import { DropReason } from '../../batch/drop-reason.js';
import type { PacketBatch } from '../../batch/packet-batch.js';
import { decidingPort, ruleOf } from '../policy-question.js';
import { type Shard, Work } from '../shard.js';

export const name = 'EgressSecurity';
export function process(batch: PacketBatch, shard: Shard): void {
  if (shard.metering) return;
  const { live, liveCount, dropReason, egressRule } = batch;
  for (let i = 0; i < liveCount; i++) {
    const row = live[i]!;
    if ((shard.work[row]! & Work.Evaluate) === 0) continue;
    const port = decidingPort(batch, shard, row, 1);
    if (port === 0) continue;
    const decision = ruleOf(batch, shard, row, 1, port);
    egressRule[row] = Math.abs(decision);
    if (decision < 0) dropReason[row] = DropReason.EgressDefaultDeny;
  }
}
