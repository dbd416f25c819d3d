/** Classifier: in-port → source kind. Unknown ports and tagged frames from pods end here. */
import { DropReason } from '../../batch/drop-reason.js';
import { NO_VLAN, type PacketBatch } from '../../batch/packet-batch.js';
import { PortKind } from '../forwarding.js';
import { isTunnelFault } from './parse.js';
import type { Shard } from '../shard.js';

export const name = 'Classifier';
export function process(batch: PacketBatch, shard: Shard): void {
  if (shard.metering) return;
  const { live, liveCount, inPort, vlan, dropReason, fault } = batch;
  const { portKind } = shard.forwarding;
  for (let i = 0; i < liveCount; i++) {
    const row = live[i]!;
    const port = inPort[row]!;
    const kind = port > 0xffff ? PortKind.Unknown : portKind[port]!;
    if (isTunnelFault(fault[row]!)) dropReason[row] = fault[row]!;
    else if (kind === PortKind.Unknown) dropReason[row] = DropReason.UnknownPort;
    else if (kind === PortKind.Pod && vlan[row] !== NO_VLAN) dropReason[row] = DropReason.VlanTagged;
  }
}
