/** Parse: the columns are there already; a row whose headers are faulty ends here. Metering drops only unsound IP headers. */
import { type PacketBatch, Kind, RowFlag } from '../../batch/packet-batch.js';
import type { Shard } from '../shard.js';

export const name = 'Parse';
export function process(batch: PacketBatch, shard: Shard): void {
  const { live, liveCount, fault, flags, kind, dropReason } = batch;
  for (let i = 0; i < liveCount; i++) {
    const row = live[i]!;
    if (fault[row] === 0) continue;
    if (!shard.metering || (kind[row] !== Kind.NonIp && (flags[row]! & RowFlag.Sound) === 0)) dropReason[row] = fault[row]!;
  }
}
