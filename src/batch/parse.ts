/**
 * Frames to columns: the reference of native/parse.cc, which says the same line by line. Link layer and VLAN tags (IEEE
 * 802.3, 802.1Q/ad), IPv4 (RFC 791), IPv6 with extension headers (RFC 8200), TCP (RFC 9293), UDP (RFC 768), SCTP (RFC 9260),
 * ICMP (RFC 792), ICMPv6 (RFC 4443). Reads only what was captured; what is wrong with a row is its `fault`.
 */
import { tupleHash } from '../flow/tuple-hash.js';
import { checksumAdd, checksumFold } from '../wire/checksum.js';
import { DropReason } from './drop-reason.js';
import { Kind, NO_VLAN, NO_WSCALE, type PacketBatch, RowFlag } from './packet-batch.js';

const ETHER_IP4 = 0x0800,
  ETHER_ARP = 0x0806,
  ETHER_IP6 = 0x86dd;
const HOP_BY_HOP = 0,
  ROUTING = 43,
  FRAGMENT = 44,
  DESTINATION = 60,
  AUTHENTICATION = 51,
  NO_NEXT = 59;
const ICMP = 1,
  TCP = 6,
  UDP = 17,
  ICMP6 = 58,
  SCTP = 132;
const FIN = 1,
  SYN = 2,
  RST = 4,
  PSH = 8,
  ACK = 16,
  URG = 32;

let data: Uint8Array;
const u16 = (at: number): number => (data[at]! << 8) | data[at + 1]!;
const u32 = (at: number): number =>
  ((data[at]! << 24) | (data[at + 1]! << 16) | (data[at + 2]! << 8) | data[at + 3]!) >>> 0;

/** Words of a carried packet's addresses, for an ICMP error's hash. */
const carried = new Uint32Array(8);

/** Fills every column of rows first … first + count − 1 from `offset`, `length`, `wireLength` and `data`. */
export function parseRows(batch: PacketBatch, first: number, count: number): void {
  for (let row = first; row < first + count; row++) parseRow(batch, row);
}

function parseRow(batch: PacketBatch, row: number): void {
  data = batch.data;
  const frame = batch.offset[row]!;
  const end = frame + batch.length[row]!;
  const wire = batch.wireLength[row]!;
  for (let i = 0; i < 8; i++) batch.address[row * 8 + i] = 0;
  batch.l3Offset[row] = 0;
  batch.l4Offset[row] = 0;
  batch.ipLength[row] = 0;
  batch.tcpSeq[row] = 0;
  batch.tcpAck[row] = 0;
  batch.payloadLength[row] = 0;
  batch.hash[row] = 0;
  batch.outPort[row] = 0;
  batch.rule[row] = 0;
  batch.egressRule[row] = 0;
  batch.ingressRule[row] = 0;
  batch.connection[row] = 0;
  batch.fragmentId[row] = 0;
  batch.etherType[row] = 0;
  batch.vlan[row] = NO_VLAN;
  batch.srcPort[row] = 0;
  batch.dstPort[row] = 0;
  batch.icmpId[row] = 0;
  batch.tcpWindow[row] = 0;
  batch.fragmentOffset[row] = 0;
  batch.tunnel[row] = 0;
  batch.rewrite[row] = 0;
  batch.kind[row] = Kind.NonIp;
  batch.flags[row] = 0;
  batch.protocol[row] = 0;
  batch.tos[row] = 0;
  batch.ttl[row] = 0;
  batch.tcpFlags[row] = 0;
  batch.wscale[row] = NO_WSCALE;
  batch.fault[row] = 0;
  batch.verdict[row] = 0;
  batch.dropReason[row] = 0;
  batch.stage[row] = 0;
  batch.ct[row] = 0;
  batch.direction[row] = 0;

  if (end - frame < 14) {
    batch.fault[row] = DropReason.FrameTruncated;
    return;
  }
  if ((data[frame]! & 1) !== 0) batch.flags[row] = RowFlag.GroupDestination;
  let at = frame + 12;
  let etherType = u16(at);
  for (let tags = 0; tags < 2 && (etherType === 0x8100 || etherType === 0x88a8 || etherType === 0x9100); tags++) {
    if (end - at < 6) {
      batch.etherType[row] = etherType;
      batch.fault[row] = DropReason.FrameTruncated;
      return;
    }
    if (tags === 0) batch.vlan[row] = u16(at + 2) & 0xfff;
    at += 4;
    etherType = u16(at);
  }
  at += 2;
  batch.etherType[row] = etherType;
  batch.l3Offset[row] = at - frame;
  // Octets on the wire behind the link header; a wire length below the captured one is the caller's mistake.
  const onWire = Math.max(wire, end - frame) - (at - frame);
  if (etherType === ETHER_IP4) parseIp4(batch, row, frame, at, end, onWire);
  else if (etherType === ETHER_IP6) parseIp6(batch, row, frame, at, end, onWire);
  else if (etherType === ETHER_ARP) batch.flags[row] = batch.flags[row]! | RowFlag.Arp;
  else batch.fault[row] = DropReason.UnsupportedEthertype;
}

function parseIp4(batch: PacketBatch, row: number, frame: number, at: number, end: number, onWire: number): void {
  batch.kind[row] = Kind.Ip4;
  if (end - at < 20) {
    batch.fault[row] = end > at && data[at]! >>> 4 !== 4 ? DropReason.IpBadVersion : DropReason.IpHeaderTruncated;
    return;
  }
  if (data[at]! >>> 4 !== 4) {
    batch.fault[row] = DropReason.IpBadVersion;
    return;
  }
  const header = (data[at]! & 0xf) * 4;
  const total = u16(at + 2);
  if (header < 20 || header > total) {
    batch.fault[row] = DropReason.IpBadHeaderLength;
    return;
  }
  if (end - at < header) {
    batch.fault[row] = DropReason.IpHeaderTruncated;
    return;
  }
  if (total > onWire) {
    batch.fault[row] = DropReason.IpLengthExceedsFrame;
    return;
  }
  if (u16(at + 10) !== 0 && checksumFold(checksumAdd(data, at, header)) !== 0xffff) {
    batch.fault[row] = DropReason.IpBadChecksum;
    return;
  }
  batch.ipLength[row] = total;
  batch.tos[row] = data[at + 1]!;
  batch.ttl[row] = data[at + 8]!;
  const protocol = data[at + 9]!;
  batch.protocol[row] = protocol;
  batch.address[row * 8] = u32(at + 12);
  const destination = u32(at + 16);
  batch.address[row * 8 + 4] = destination;
  let flags = batch.flags[row]! | RowFlag.Sound;
  if (destination >>> 28 === 14 || destination === 0xffffffff) flags |= RowFlag.GroupDestination;
  const fragment = u16(at + 6);
  const more = (fragment & 0x2000) !== 0;
  const offset = fragment & 0x1fff;
  if (more || offset !== 0) {
    batch.fragmentId[row] = u16(at + 4);
    batch.fragmentOffset[row] = offset;
    flags |= offset === 0 ? RowFlag.FragmentFirst : RowFlag.FragmentLater;
    const payload = total - header;
    if ((more && (payload === 0 || payload % 8 !== 0)) || offset * 8 + payload > 65_535)
      batch.fault[row] = DropReason.FragmentBad;
  }
  batch.flags[row] = flags;
  parseTransport(batch, row, frame, at + header, end, total - header);
}

function parseIp6(batch: PacketBatch, row: number, frame: number, at: number, end: number, onWire: number): void {
  batch.kind[row] = Kind.Ip6;
  if (end - at < 40) {
    batch.fault[row] = end > at && data[at]! >>> 4 !== 6 ? DropReason.IpBadVersion : DropReason.IpHeaderTruncated;
    return;
  }
  if (data[at]! >>> 4 !== 6) {
    batch.fault[row] = DropReason.IpBadVersion;
    return;
  }
  const payload = u16(at + 4);
  // A payload length of 0 would be a jumbogram (RFC 2675): not supported.
  if (payload === 0 || payload + 40 > onWire) {
    batch.fault[row] = DropReason.IpLengthExceedsFrame;
    return;
  }
  batch.ipLength[row] = payload + 40;
  batch.tos[row] = ((data[at]! & 0xf) << 4) | (data[at + 1]! >>> 4);
  batch.ttl[row] = data[at + 7]!;
  for (let i = 0; i < 8; i++) batch.address[row * 8 + i] = u32(at + 8 + i * 4);
  batch.flags[row] = batch.flags[row]! | RowFlag.Sound | (data[at + 24] === 0xff ? RowFlag.GroupDestination : 0);

  const limit = at + 40 + payload; // end of the packet by its own length
  let next = data[at + 6]!;
  let here = at + 40;
  while (next === HOP_BY_HOP || next === ROUTING || next === FRAGMENT || next === DESTINATION) {
    batch.protocol[row] = next;
    if (limit - here < 8 || end - here < 8) {
      batch.fault[row] = DropReason.Ip6BadExtension;
      break;
    }
    if (next === FRAGMENT) {
      const fragment = u16(here + 2);
      const more = (fragment & 1) !== 0;
      const offset = fragment >>> 3;
      next = data[here]!;
      if (more || offset !== 0) {
        const size = limit - here - 8;
        batch.fragmentId[row] = u32(here + 4);
        batch.fragmentOffset[row] = offset;
        batch.flags[row] = batch.flags[row]! | (offset === 0 ? RowFlag.FragmentFirst : RowFlag.FragmentLater);
        if ((more && (size === 0 || size % 8 !== 0)) || offset * 8 + size > 65_535)
          batch.fault[row] = DropReason.FragmentBad;
        if (offset !== 0) {
          batch.protocol[row] = next;
          parseTransport(batch, row, frame, here + 8, end, size);
          return;
        }
      }
      here += 8;
      continue;
    }
    const size = (data[here + 1]! + 1) * 8;
    next = data[here]!;
    here += size;
    if (here > limit) {
      // The header says more than there is: the chain is broken behind the value read last.
      batch.protocol[row] = next;
      batch.fault[row] = DropReason.Ip6BadExtension;
      break;
    }
  }
  if (batch.fault[row] === DropReason.Ip6BadExtension) {
    batch.hash[row] = tupleHash(batch.address, row * 8, 6, batch.protocol[row]!, 0, 0);
    return;
  }
  batch.protocol[row] = next;
  if (next === AUTHENTICATION || next === NO_NEXT) {
    batch.hash[row] = tupleHash(batch.address, row * 8, 6, next, 0, 0);
    return;
  }
  parseTransport(batch, row, frame, here, end, limit - here);
}

/** `size`: octets of the transport segment by the IP length. */
function parseTransport(batch: PacketBatch, row: number, frame: number, at: number, end: number, size: number): void {
  const family = batch.kind[row] === Kind.Ip6 ? 6 : 4;
  const protocol = batch.protocol[row]!;
  const later = (batch.flags[row]! & RowFlag.FragmentLater) !== 0;
  if (!later) {
    const there = Math.max(0, Math.min(size, end - at));
    batch.l4Offset[row] = at - frame;
    let fault = 0;
    if (protocol === TCP) fault = parseTcp(batch, row, at, there, size);
    else if (protocol === UDP) fault = parseUdp(batch, row, at, there, size);
    else if (protocol === SCTP) {
      if (there >= 4) setPorts(batch, row, at);
      if (there < 12) fault = DropReason.SctpTruncated;
    } else if ((protocol === ICMP && family === 4) || (protocol === ICMP6 && family === 6))
      fault = parseIcmp(batch, row, at, there, family);
    if (batch.fault[row] === 0) batch.fault[row] = fault;
    if (fault === 0) batch.flags[row] = batch.flags[row]! | RowFlag.Transport;
  }
  if (
    (batch.flags[row]! & RowFlag.IcmpError) !== 0 &&
    hashCarried(batch, row, at + 8, Math.min(end, at + size), family)
  )
    return;
  const portless = protocol === ICMP || protocol === ICMP6;
  batch.hash[row] = tupleHash(
    batch.address,
    row * 8,
    family,
    protocol,
    portless ? 0 : batch.srcPort[row]!,
    portless ? 0 : batch.dstPort[row]!,
  );
}

function setPorts(batch: PacketBatch, row: number, at: number): void {
  batch.srcPort[row] = u16(at);
  batch.dstPort[row] = u16(at + 2);
}

function parseTcp(batch: PacketBatch, row: number, at: number, there: number, size: number): number {
  if (there >= 4) setPorts(batch, row, at);
  if (there < 20) return DropReason.TcpTruncated;
  const header = (data[at + 12]! >>> 4) * 4;
  const flags = data[at + 13]!;
  batch.tcpFlags[row] = flags;
  batch.tcpSeq[row] = u32(at + 4);
  batch.tcpAck[row] = u32(at + 8);
  batch.tcpWindow[row] = u16(at + 14);
  if (header < 20 || header > size) return DropReason.TcpBadOffset;
  batch.payloadLength[row] = size - header;
  if ((flags & SYN) !== 0 ? (flags & (RST | FIN)) !== 0 : (flags & (ACK | RST)) === 0)
    return DropReason.TcpInvalidFlags;
  if ((flags & ACK) === 0 && (flags & (FIN | PSH | URG)) !== 0) return DropReason.TcpInvalidFlags;
  if ((flags & SYN) !== 0) {
    const stop = at + Math.min(header, there);
    for (let option = at + 20; option < stop; ) {
      const kind = data[option]!;
      if (kind === 0) break;
      if (kind === 1) {
        option++;
        continue;
      }
      if (option + 1 >= stop) break;
      const length = data[option + 1]!;
      if (length < 2 || option + length > stop) break;
      if (kind === 3 && length === 3) batch.wscale[row] = Math.min(data[option + 2]!, 14);
      option += length;
    }
  }
  return 0;
}

function parseUdp(batch: PacketBatch, row: number, at: number, there: number, size: number): number {
  if (there >= 4) setPorts(batch, row, at);
  if (there < 8) return DropReason.UdpTruncated;
  const length = u16(at + 4);
  const first = (batch.flags[row]! & RowFlag.FragmentFirst) !== 0;
  return length < 8 || (!first && length > size) ? DropReason.UdpBadLength : 0;
}

function parseIcmp(batch: PacketBatch, row: number, at: number, there: number, family: 4 | 6): number {
  if (there >= 2) batch.dstPort[row] = u16(at);
  if (there < 8) return DropReason.IcmpTruncated;
  const type = data[at]!;
  if (family === 4) {
    if (type === 3 || type === 4 || type === 5 || type === 11 || type === 12)
      batch.flags[row] = batch.flags[row]! | RowFlag.IcmpError;
    else if (type === 0 || type === 8 || (type >= 13 && type <= 18)) batch.icmpId[row] = u16(at + 4);
  } else if (type >= 1 && type <= 4) batch.flags[row] = batch.flags[row]! | RowFlag.IcmpError;
  else if (type === 128 || type === 129) batch.icmpId[row] = u16(at + 4);
  else if ((type >= 130 && type <= 137) || type === 143)
    batch.flags[row] = batch.flags[row]! | RowFlag.NeighbourDiscovery;
  return 0;
}

/** Sets `hash` to that of the packet that an ICMP error carries; false where it can't be read so far. */
function hashCarried(batch: PacketBatch, row: number, from: number, end: number, family: 4 | 6): boolean {
  let at = from;
  let protocol: number;
  carried.fill(0);
  if (family === 4) {
    if (end - at < 20 || data[at]! >>> 4 !== 4) return false;
    const header = (data[at]! & 0xf) * 4;
    if (header < 20 || (u16(at + 6) & 0x1fff) !== 0) return false;
    protocol = data[at + 9]!;
    carried[0] = u32(at + 12);
    carried[4] = u32(at + 16);
    at += header;
  } else {
    if (end - at < 40 || data[at]! >>> 4 !== 6) return false;
    protocol = data[at + 6]!;
    for (let i = 0; i < 8; i++) carried[i] = u32(at + 8 + i * 4);
    at += 40;
    while (protocol === HOP_BY_HOP || protocol === ROUTING || protocol === FRAGMENT || protocol === DESTINATION) {
      if (end - at < 8) return false;
      if (protocol === FRAGMENT && (u16(at + 2) & 0xfff8) !== 0) return false;
      const size = protocol === FRAGMENT ? 8 : (data[at + 1]! + 1) * 8;
      protocol = data[at]!;
      at += size;
    }
  }
  let srcPort = 0;
  let dstPort = 0;
  if (protocol === TCP || protocol === UDP || protocol === SCTP) {
    if (end - at < 4) return false;
    srcPort = u16(at);
    dstPort = u16(at + 2);
  }
  batch.hash[row] = tupleHash(carried, 0, family, protocol, srcPort, dstPort);
  return true;
}
