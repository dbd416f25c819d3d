/** Parse: the columns are there already; a row whose headers are faulty ends here. Metering drops only unsound IP headers. */
import { DropReason } from '../../batch/drop-reason.js';
import { Kind, type PacketBatch, RowFlag } from '../../batch/packet-batch.js';
import type { Shard } from '../shard.js';

export const name = 'Parse';
export function process(batch: PacketBatch, shard: Shard): void {
  const { live, liveCount, fault, flags, kind, dropReason } = batch;
  for (let i = 0; i < liveCount; i++) {
    const row = live[i]!;
    // What is wrong with a tunnel's carrier is the Classifier's to say.
    if (fault[row] === 0 || isTunnelFault(fault[row]!)) continue;
    if (!shard.metering || (kind[row] !== Kind.NonIp && (flags[row]! & RowFlag.Sound) === 0))
      dropReason[row] = fault[row]!;
  }
}

export const isTunnelFault = (fault: number): boolean =>
  fault === DropReason.UnknownTunnelPeer ||
  fault === DropReason.TunnelMalformed ||
  fault === DropReason.TunnelCriticalOption;
