/** IPv6 header and its chain of extension headers (RFC 8200 sections 3 and 4). The fragment header is fragment.ts's. */
import { Fault } from './fault.js';
import { IPV6_FRAGMENT_SIZE } from './fragment.js';
import { type Ip6Words, read16, readIp6, write16, write32, writeIp6 } from './octets.js';

export const IPV6_HEADER_SIZE = 40;
export const NextHeader = {
  HopByHop: 0,
  Routing: 43,
  Fragment: 44,
  Authentication: 51,
  None: 59,
  DestinationOptions: 60,
} as const;
const PAYLOAD_LENGTH = 4;
const NEXT_HEADER = 6;
const HOP_LIMIT = 7;
const SOURCE = 8;
const DESTINATION = 24;

export interface Ipv6Header {
  trafficClass: number;
  flowLabel: number;
  payloadLength: number;
  nextHeader: number;
  hopLimit: number;
  source: Ip6Words;
  destination: Ip6Words;
}

export function checkIpv6(packet: Uint8Array, offset: number, end = packet.length): Fault {
  if (end - offset < IPV6_HEADER_SIZE) return Fault.Truncated;
  return packet[offset]! >>> 4 === 6 ? Fault.None : Fault.BadVersion;
}

export const readIpv6 = (packet: Uint8Array, offset: number): Ipv6Header => ({
  trafficClass: ((packet[offset]! & 0xf) << 4) | (packet[offset + 1]! >>> 4),
  flowLabel: ((packet[offset + 1]! & 0xf) << 16) | read16(packet, offset + 2),
  payloadLength: read16(packet, offset + PAYLOAD_LENGTH),
  nextHeader: packet[offset + NEXT_HEADER]!,
  hopLimit: packet[offset + HOP_LIMIT]!,
  source: readIp6(packet, offset + SOURCE),
  destination: readIp6(packet, offset + DESTINATION),
});

export function writeIpv6(out: Uint8Array, offset: number, header: Ipv6Header): number {
  write32(
    out,
    offset,
    ((0x60 | (header.trafficClass >>> 4)) << 24) | ((header.trafficClass & 0xf) << 20) | header.flowLabel,
  );
  write16(out, offset + PAYLOAD_LENGTH, header.payloadLength);
  out[offset + NEXT_HEADER] = header.nextHeader;
  out[offset + HOP_LIMIT] = header.hopLimit;
  writeIp6(out, offset + SOURCE, header.source);
  writeIp6(out, offset + DESTINATION, header.destination);
  return IPV6_HEADER_SIZE;
}

/** Extension headers that are looked through; authentication and "no next header" end the chain. */
export const isExtension = (nextHeader: number): boolean =>
  nextHeader === NextHeader.HopByHop ||
  nextHeader === NextHeader.Routing ||
  nextHeader === NextHeader.Fragment ||
  nextHeader === NextHeader.DestinationOptions;

export interface ExtensionChain {
  fault: Fault;
  /** First next header that is no extension; of a later fragment, the fragment header's; of a broken chain, the last read. */
  protocol: number;
  /** Where the upper-layer header, or a later fragment's payload, begins. */
  at: number;
  /** Where the fragment header of a real fragment begins, or −1; an atomic one (RFC 6946) is looked through. */
  fragmentAt: number;
}

/** Walks from `at`, whose header is `nextHeader`, up to `end` (exclusive). */
export function walkExtensions(packet: Uint8Array, at: number, nextHeader: number, end: number): ExtensionChain {
  let protocol = nextHeader;
  let here = at;
  let fragmentAt = -1;
  while (isExtension(protocol)) {
    if (end - here < 8) return { fault: Fault.Truncated, protocol, at: here, fragmentAt };
    if (protocol === NextHeader.Fragment) {
      const field = read16(packet, here + 2);
      protocol = packet[here]!;
      if ((field & 0xfff9) !== 0) fragmentAt = here;
      here += IPV6_FRAGMENT_SIZE;
      if (field >>> 3 !== 0) break;
    } else {
      const size = (packet[here + 1]! + 1) * 8;
      protocol = packet[here]!;
      here += size;
      if (here > end) return { fault: Fault.BadLength, protocol, at: here, fragmentAt };
    }
  }
  return { fault: Fault.None, protocol, at: here, fragmentAt };
}

/** Writes a hop-by-hop, routing or destination options header around `content`, padded with PadN (section 4.2). */
export function writeExtension(out: Uint8Array, offset: number, nextHeader: number, content: Uint8Array): number {
  const size = Math.max(8, Math.ceil((content.length + 2) / 8) * 8);
  out[offset] = nextHeader;
  out[offset + 1] = size / 8 - 1;
  out.set(content, offset + 2);
  const pad = size - 2 - content.length;
  out.fill(0, offset + size - pad, offset + size);
  if (pad > 1) {
    out[offset + size - pad] = 1; // PadN
    out[offset + size - pad + 1] = pad - 2;
  }
  return size;
}
