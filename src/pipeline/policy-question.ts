/** Which endpoint's policy a row's connection asks, and what it says: for EgressSecurity, IngressSecurity and flood copies. */
import { Port } from '../batch/drop-reason.js';
import { Kind, type PacketBatch, RowFlag } from '../batch/packet-batch.js';
import { C } from '../conntrack/entry.js';
import { PortKind } from './forwarding.js';
import { type Shard, Work } from './shard.js';

const TCP = 6,
  UDP = 17,
  SCTP = 132;

/** Does the row travel against its connection's original direction? */
const turned = (batch: PacketBatch, shard: Shard, row: number): boolean =>
  (shard.work[row]! & Work.Existing) !== 0 && batch.direction[row] === 1;

/** The local pod's port whose egress (1) or ingress (0) policy is to be asked; 0 = none. */
export function decidingPort(batch: PacketBatch, shard: Shard, row: number, direction: 0 | 1): number {
  const { address, inPort, outPort, kind } = batch;
  const family = kind[row] === Kind.Ip6 ? 6 : 4;
  const back = turned(batch, shard, row);
  // The connection's in- and out-port. Of one that is seen on its way back, the table knows the in-port.
  const from = back ? shard.table.words[shard.table.cold(shard.entry[row]!) + C.origin]! & 0xffff : inPort[row]!;
  const to = back ? inPort[row]! : outPort[row]!;
  const port = direction === 1 ? from : to;
  if (port > 0xffff || shard.forwarding.portKind[port] !== PortKind.Pod) return 0;
  if (from === to) return 0; // a pod reaching itself
  if (direction === 0 && from === Port.Gateway) {
    const source = row * 8 + (back ? 4 : 0);
    if (shard.forwarding.isOwnNode(address, source, family)) return 0;
  }
  return port;
}

/** What the endpoint's policy says: 0 nothing selects it, +rule allowed, −rule denied. */
export function ruleOf(batch: PacketBatch, shard: Shard, row: number, direction: 0 | 1, port: number): number {
  const family = batch.kind[row] === Kind.Ip6 ? 6 : 4;
  const back = turned(batch, shard, row);
  const src = row * 8 + (back ? 4 : 0);
  const dst = row * 8 + (back ? 0 : 4);
  const protocol = batch.protocol[row]!;
  // A later fragment whose first was not seen.
  const later = (batch.flags[row]! & (RowFlag.FragmentLater | RowFlag.Transport)) === RowFlag.FragmentLater;
  const hasPorts = (protocol === TCP || protocol === UDP || protocol === SCTP) && !later;
  const dstPort = hasPorts ? (back ? batch.srcPort[row]! : batch.dstPort[row]!) : -1;
  const { address } = batch;
  return direction === 1
    ? shard.policy.decide(1, port, address, dst, address, src, family, protocol, dstPort)
    : shard.policy.decide(0, port, address, src, address, dst, family, protocol, dstPort);
}
