/**
 * IngressSecurity: the first matching ingress rule of the destination pod decides a connection, on its output port.
 * Ingress from the pod's own node is always allowed (kubelet's probes). Flooded packets are judged per copy, in Output.
 */
import { DropReason, Port } from '../../batch/drop-reason.js';
import type { PacketBatch } from '../../batch/packet-batch.js';
import { decidingPort, ruleOf } from '../policy-question.js';
import { type Shard, Work } from '../shard.js';

export const name = 'IngressSecurity';
export function process(batch: PacketBatch, shard: Shard): void {
  if (shard.metering) return;
  const { live, liveCount, dropReason, ingressRule, outPort } = batch;
  for (let i = 0; i < liveCount; i++) {
    const row = live[i]!;
    if ((shard.work[row]! & Work.Evaluate) === 0 || outPort[row] === Port.Flood) continue;
    const port = decidingPort(batch, shard, row, 0);
    if (port === 0) continue;
    const decision = ruleOf(batch, shard, row, 0, port);
    ingressRule[row] = Math.abs(decision);
    if (decision < 0) dropReason[row] = DropReason.IngressDefaultDeny;
  }
}
