/**
 * VXLAN decapsulation (RFC 7348) of what enters by the tunnel port: the row becomes the inner frame, where the outer packet
 * is addressed to this node and comes from a known node; else it keeps a fault that Classifier's stage reports.
 */
import { DropReason, Port } from '../batch/drop-reason.js';
import { Kind, type PacketBatch, RowFlag } from '../batch/packet-batch.js';
import { kernels } from '../native/kernels.js';
import type { Forwarding } from './forwarding.js';

export const VXLAN_PORT = 4789;
const UDP = 17;

/** The rows in `rest` that came by the tunnel port; true where one was decapsulated. */
export function decapsulateTunnelRows(batch: PacketBatch, rest: number, forwarding: Forwarding): boolean {
  let moved = false;
  for (let i = 0; i < rest; i++) {
    const row = batch.rest[i]!;
    if (batch.inPort[row] !== Port.Tunnel || batch.fault[row] !== 0) continue;
    const fault = decapsulate(batch, row, forwarding);
    if (fault !== 0) batch.fault[row] = fault;
    else {
      kernels.parseRows(batch, row, 1);
      moved = true;
    }
  }
  return moved;
}

/** Moves the row on to its inner frame; a drop reason where it can't be. */
function decapsulate(batch: PacketBatch, row: number, forwarding: Forwarding): number {
  const family = batch.kind[row] === Kind.Ip6 ? 6 : 4;
  if (batch.kind[row] === Kind.NonIp || (batch.flags[row]! & RowFlag.Sound) === 0) return DropReason.TunnelMalformed;
  if (!forwarding.isSelf(batch.address, row * 8 + 4, family)) return DropReason.UnknownTunnelPeer;
  if (forwarding.tunnelPeer(batch.address, row * 8, family) === 0) return DropReason.UnknownTunnelPeer;
  if ((batch.flags[row]! & (RowFlag.FragmentFirst | RowFlag.FragmentLater)) !== 0) return DropReason.TunnelMalformed;
  if (
    batch.protocol[row] !== UDP ||
    (batch.flags[row]! & RowFlag.Transport) === 0 ||
    batch.dstPort[row] !== forwarding.tunnelPort
  ) {
    return DropReason.TunnelMalformed;
  }
  const udp = batch.offset[row]! + batch.l4Offset[row]!;
  const end = batch.offset[row]! + batch.length[row]!;
  const udpLength = (batch.data[udp + 4]! << 8) | batch.data[udp + 5]!;
  const inner = udp + 16;
  // The I flag is required, reserved bits are ignored (RFC 7348 section 5).
  if (udpLength < 16 + 14 || inner > end || (batch.data[udp + 8]! & 0x08) === 0) return DropReason.TunnelMalformed;
  const size = udpLength - 16;
  const captured = Math.min(size, end - inner);
  if (captured < size) return DropReason.TunnelMalformed;
  batch.offset[row] = inner;
  batch.length[row] = captured;
  batch.wireLength[row] = size;
  return 0;
}
