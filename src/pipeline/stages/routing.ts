/**
 * Routing: the destination address alone decides the out-port: local pod, tunnel to its node, gateway; group
 * destinations are flooded. The TTL is decremented where Antrea does (behaviour §2); used up, the packet is rejected.
 */
import { DropReason, Port } from '../../batch/drop-reason.js';
import { Kind, type PacketBatch, Rewrite, RowFlag } from '../../batch/packet-batch.js';
import { icmpTimeExceeded } from '../answers.js';
import { Route } from '../forwarding.js';
import type { Shard } from '../shard.js';

export const name = 'Routing';
export function process(batch: PacketBatch, shard: Shard): void {
  const { live, liveCount, flags, outPort, kind, address, inPort, ttl, rewrite, tunnel, dropReason } = batch;
  for (let i = 0; i < liveCount; i++) {
    const row = live[i]!;
    if ((flags[row]! & RowFlag.GroupDestination) !== 0) {
      outPort[row] = Port.Flood;
      continue;
    }
    if (shard.metering) {
      outPort[row] = Port.Local;
      continue;
    }
    const route = shard.forwarding.route(address, row * 8 + 4, kind[row] === Kind.Ip6 ? 6 : 4);
    const number = route & 0xffffff;
    let decrement = inPort[row] === Port.Tunnel;
    switch (route >>> 24) {
      case Route.LocalPod:
        outPort[row] = number;
        break;
      case Route.Tunnel:
        outPort[row] = Port.Tunnel;
        tunnel[row] = number === 0xffffff ? 0 : number;
        if (tunnel[row] !== 0) rewrite[row] = rewrite[row]! | Rewrite.Encapsulate;
        decrement = decrement || inPort[row] !== Port.Gateway;
        break;
      case Route.NoSuchEndpoint:
        dropReason[row] = DropReason.NoSuchEndpoint;
        continue;
      case Route.GatewayAddress:
        outPort[row] = Port.Gateway;
        decrement = decrement || inPort[row] !== Port.Gateway;
        break;
      default:
        outPort[row] = Port.Gateway;
        // What came through the tunnel for the outside is decremented on arrival; the host does the rest.
        break;
    }
    if (!decrement) continue;
    if (ttl[row]! <= 1) {
      dropReason[row] = DropReason.TtlExceeded;
      icmpTimeExceeded(batch, shard, row);
    } else rewrite[row] = rewrite[row]! | Rewrite.DecrementTtl;
  }
}
