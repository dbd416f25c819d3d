/** The key under which a row's connection, or its loose record, lies in the table. ICMP pairs request and reply by identifier. */
import { Kind, type PacketBatch, RowFlag } from '../batch/packet-batch.js';
import { tupleHash } from '../flow/tuple-hash.js';
import { LOOSE_KEY } from './entry.js';

/** Filled by the functions below; one per shard, so that nothing is allocated per packet. */
export class ConnectionKey {
  hash = 0;
  ports = 0;
  key = 0;
  discriminator = 0;
  /** 1: the row can only be original, 2: only a reply, 3: either; 0: no connection can hold it. */
  ways = 0;

  /** Sets the key of the row again, after other rows have used it. */
  refresh(batch: PacketBatch, row: number): void {
    connectionKey(batch, row, this);
  }
}

const ICMP = 1;
const ICMP6 = 58;
/** ICMP request types (RFC 792, 950) and their replies: echo, timestamp, information, address mask. */
const REQUEST_OF = new Map([
  [0, 8],
  [14, 13],
  [16, 15],
  [18, 17],
]);

export function connectionKey(batch: PacketBatch, row: number, out: ConnectionKey): void {
  const protocol = batch.protocol[row]!;
  out.hash = batch.hash[row]!;
  out.key = (protocol | (batch.kind[row]! << 8) | (batch.vlan[row]! << 16)) >>> 0;
  out.discriminator = 0;
  const unresolved = (batch.flags[row]! & (RowFlag.FragmentLater | RowFlag.Transport)) === RowFlag.FragmentLater;
  if ((protocol === ICMP || protocol === ICMP6) && !unresolved) {
    const type = batch.dstPort[row]! >>> 8;
    out.discriminator = batch.icmpId[row]!;
    const six = protocol === ICMP6;
    const request = six ? (type === 128 ? 128 : type === 129 ? 128 : -1) : (REQUEST_OF.get(type) ?? type);
    const isReply = request !== type;
    const known = six ? request === 128 : request === 8 || request === 13 || request === 15 || request === 17;
    out.ways = !known ? 0 : isReply ? 2 : 1;
    // The request's type stands as destination port; a reply looks for it turned round.
    out.ports = isReply ? request << 8 : ((request << 8) << 16) >>> 0;
    return;
  }
  out.ways = 3;
  out.ports = (batch.srcPort[row]! | (batch.dstPort[row]! << 16)) >>> 0;
}

/** Key of the loose record of a row: one direction, its in-port included. */
export function looseKey(batch: PacketBatch, row: number, out: ConnectionKey): void {
  const protocol = batch.protocol[row]!;
  out.ports = (batch.srcPort[row]! | (batch.dstPort[row]! << 16)) >>> 0;
  out.key = (protocol | (batch.kind[row]! << 8) | LOOSE_KEY | (batch.vlan[row]! << 16)) >>> 0;
  out.discriminator = batch.inPort[row]!;
  out.ways = 1;
  out.hash = looseHash(batch, row);
}

/** Hash of the row's own tuple, which is not `hash` for an ICMP error: decides which shard holds its record. */
export function looseHash(batch: PacketBatch, row: number): number {
  if ((batch.flags[row]! & RowFlag.IcmpError) === 0) return batch.hash[row]!;
  const family = batch.kind[row] === Kind.Ip6 ? 6 : 4;
  return tupleHash(batch.address, row * 8, family, batch.protocol[row]!, 0, 0);
}
