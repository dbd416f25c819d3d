/** Switching: the frame gets its destination's MAC where that is known; a group destination goes to every local pod. */
import { Port } from '../../batch/drop-reason.js';
import { type PacketBatch, Rewrite } from '../../batch/packet-batch.js';
import type { Shard } from '../shard.js';

export const name = 'Switching';
export function process(batch: PacketBatch, shard: Shard): void {
  if (shard.metering) return;
  const { live, liveCount, outPort, rewrite } = batch;
  for (let i = 0; i < liveCount; i++) {
    const row = live[i]!;
    const port = outPort[row]!;
    if (port !== Port.Flood && shard.forwarding.portMac.has(port))
      rewrite[row] = rewrite[row]! | Rewrite.DestinationMac;
  }
}
