/**
 * Forwarded frames as they leave: destination MAC, TTL (with RFC 1624's checksum update), VXLAN encapsulation (RFC 7348,
 * outer checksums by RFC 768, 791, 6935). Reference of native/compose.cc. A frame leaves with its IP packet's octets as they
 * came, Ethernet padding included.
 */
import { checksumAdd, checksumFold, internetChecksum, updateChecksum16 } from '../wire/checksum.js';
import { Kind, type PacketBatch, Rewrite } from './packet-batch.js';
import { N, NodeFlag, nodeAt, PORT_ENTRY_SIZE } from './rewrite-table.js';

/** Octets before the inner frame: Ethernet, IP, UDP, VXLAN. */
export const vxlanOverhead = (family: number): number => 14 + (family === 6 ? 40 : 20) + 8 + 8;
/** UDP source ports carry the inner flow's entropy (RFC 7348 section 5): 32768–60999. */
export const ENTROPY_PORT_FIRST = 32_768;
export const ENTROPY_PORTS = 60_999 - 32_768 + 1;

/**
 * Copies each listed row's frame to `out` from `outAt` on, back to back, changed by its `rewrite` bits. sizes[i]: octets of
 * row i's frame; 0 where its outer length would pass 65,535. Returns the octets written, −1 when `out` has no room for all.
 */
export function composeRows(
  batch: PacketBatch,
  table: Uint8Array,
  rows: Int32Array,
  count: number,
  out: Uint8Array,
  outAt: number,
  sizes: Uint32Array,
): number {
  let at = outAt;
  for (let i = 0; i < count; i++) {
    const row = rows[i]!;
    const length = batch.length[row]!;
    const rewrite = batch.rewrite[row]!;
    const node = nodeAt(batch.tunnel[row]! & 0xfff);
    const family = table[node + N.family]!;
    const encapsulate = (rewrite & Rewrite.Encapsulate) !== 0 && family !== 0;
    const overhead = encapsulate ? vxlanOverhead(family) : 0;
    if (encapsulate && length + overhead - 14 > 65_535) {
      sizes[i] = 0;
      continue;
    }
    if (at + overhead + length > out.length) return -1;
    const inner = at + overhead;
    const from = batch.offset[row]!;
    out.set(batch.data.subarray(from, from + length), inner);
    if ((rewrite & Rewrite.DestinationMac) !== 0) {
      const port = (batch.outPort[row]! & 0xffff) * PORT_ENTRY_SIZE;
      if (table[port + 6] !== 0) for (let k = 0; k < 6; k++) out[inner + k] = table[port + k]!;
    }
    const steps = (rewrite & Rewrite.DecrementTtl) !== 0 ? 1 : (rewrite & Rewrite.DecrementTtlTwice) !== 0 ? 2 : 0;
    if (steps !== 0) decrementTtl(out, inner + batch.l3Offset[row]!, batch.kind[row]!, steps);
    if (encapsulate) writeOuter(out, at, inner, length, table, node, family, batch.hash[row]!);
    sizes[i] = overhead + length;
    at += overhead + length;
  }
  return at - outAt;
}

function decrementTtl(out: Uint8Array, l3: number, kind: number, steps: number): void {
  if (kind === Kind.Ip6) {
    out[l3 + 7] = Math.max(0, out[l3 + 7]! - steps);
    return;
  }
  const before = (out[l3 + 8]! << 8) | out[l3 + 9]!;
  out[l3 + 8] = Math.max(0, out[l3 + 8]! - steps);
  const checksum = (out[l3 + 10]! << 8) | out[l3 + 11]!;
  if (checksum === 0) return; // not filled in by an offloading sender: stays so
  const updated = updateChecksum16(checksum, before, (out[l3 + 8]! << 8) | out[l3 + 9]!);
  out[l3 + 10] = updated >>> 8;
  out[l3 + 11] = updated & 0xff;
}

function writeOuter(
  out: Uint8Array,
  at: number,
  inner: number,
  length: number,
  table: Uint8Array,
  node: number,
  family: number,
  hash: number,
): void {
  const put16 = (offset: number, value: number) => {
    out[offset] = value >>> 8;
    out[offset + 1] = value & 0xff;
  };
  const flags = table[node + N.flags]!;
  for (let k = 0; k < 6; k++) {
    out[at + k] = table[node + N.destinationMac + k]!;
    out[at + 6 + k] = table[node + N.sourceMac + k]!;
  }
  const ip = at + 14;
  const udpLength = 16 + length;
  const udp = ip + (family === 6 ? 40 : 20);
  if (family === 6) {
    put16(at + 12, 0x86dd);
    put16(ip, 0x6000);
    put16(ip + 2, 0);
    put16(ip + 4, udpLength);
    out[ip + 6] = 17;
    out[ip + 7] = table[node + N.ttl]!;
    for (let k = 0; k < 16; k++) {
      out[ip + 8 + k] = table[node + N.local + k]!;
      out[ip + 24 + k] = table[node + N.remote + k]!;
    }
  } else {
    put16(at + 12, 0x0800);
    put16(ip, 0x4500);
    put16(ip + 2, 20 + udpLength);
    put16(ip + 4, 0);
    put16(ip + 6, (flags & NodeFlag.DontFragment) !== 0 ? 0x4000 : 0);
    out[ip + 8] = table[node + N.ttl]!;
    out[ip + 9] = 17;
    put16(ip + 10, 0);
    for (let k = 0; k < 4; k++) {
      out[ip + 12 + k] = table[node + N.local + k]!;
      out[ip + 16 + k] = table[node + N.remote + k]!;
    }
    put16(ip + 10, internetChecksum(out, ip, 20));
  }
  put16(udp, ENTROPY_PORT_FIRST + (hash % ENTROPY_PORTS));
  put16(udp + 2, (table[node + N.port]! << 8) | table[node + N.port + 1]!);
  put16(udp + 4, udpLength);
  put16(udp + 6, 0);
  out[udp + 8] = 0x08;
  out[udp + 9] = 0;
  out[udp + 10] = 0;
  out[udp + 11] = 0;
  out[udp + 12] = table[node + N.vni + 1]!;
  out[udp + 13] = table[node + N.vni + 2]!;
  out[udp + 14] = table[node + N.vni + 3]!;
  out[udp + 15] = 0;
  if ((flags & NodeFlag.UdpChecksum) !== 0) {
    const pseudo = checksumAdd(out, ip + (family === 6 ? 8 : 12), family === 6 ? 32 : 8, 17 + udpLength);
    const sum = checksumFold(checksumAdd(out, udp, inner + length - udp, pseudo));
    const checksum = ~sum & 0xffff;
    put16(udp + 6, checksum === 0 ? 0xffff : checksum);
  }
}
