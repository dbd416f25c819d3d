/** IPv4 header (RFC 791 section 3.1) with its options; fragment fields in 8-octet units. The checksum is not checked here. */
import { internetChecksum } from './checksum.js';
import { Fault } from './fault.js';
import { read16, read32, write16, write32 } from './octets.js';

export const IPV4_HEADER_MIN_SIZE = 20;
export const IPV4_HEADER_MAX_SIZE = 60;
export const IPV4_LENGTH_MAX = 65_535;
const VERSION_IHL = 0;
const TOS = 1;
const TOTAL_LENGTH = 2;
const IDENTIFICATION = 4;
const FRAGMENT = 6;
const TTL = 8;
const PROTOCOL = 9;
const CHECKSUM = 10;
const SOURCE = 12;
const DESTINATION = 16;
const DONT_FRAGMENT = 0x4000;
const MORE_FRAGMENTS = 0x2000;

export const IpOption = { EndOfList: 0, NoOperation: 1, RecordRoute: 7, Timestamp: 68, RouterAlert: 148 } as const;

export interface Ipv4Header {
  tos: number;
  totalLength: number;
  identification: number;
  dontFragment: boolean;
  moreFragments: boolean;
  /** In 8-octet units. */
  fragmentOffset: number;
  ttl: number;
  protocol: number;
  checksum: number;
  source: number;
  destination: number;
  /** As they stand, padding included: a multiple of 4 octets, at most 40. */
  options: Uint8Array;
}

/** The header alone: `totalLength` is held against the header length, not against the octets behind it. */
export function checkIpv4(packet: Uint8Array, offset: number, end = packet.length): Fault {
  if (end - offset < IPV4_HEADER_MIN_SIZE) return Fault.Truncated;
  if (packet[offset + VERSION_IHL]! >>> 4 !== 4) return Fault.BadVersion;
  const header = ipv4HeaderSize(packet, offset);
  if (header < IPV4_HEADER_MIN_SIZE || header > read16(packet, offset + TOTAL_LENGTH)) return Fault.BadLength;
  return end - offset < header ? Fault.Truncated : Fault.None;
}

export const ipv4HeaderSize = (packet: Uint8Array, offset: number): number => (packet[offset + VERSION_IHL]! & 0xf) * 4;

/** RFC 791 section 3.1; 0 counts as not yet filled in by an offloading sender. */
export const ipv4ChecksumIsRight = (packet: Uint8Array, offset: number): boolean =>
  read16(packet, offset + CHECKSUM) === 0 || internetChecksum(packet, offset, ipv4HeaderSize(packet, offset)) === 0;

export function readIpv4(packet: Uint8Array, offset: number): Ipv4Header {
  const fragment = read16(packet, offset + FRAGMENT);
  return {
    tos: packet[offset + TOS]!,
    totalLength: read16(packet, offset + TOTAL_LENGTH),
    identification: read16(packet, offset + IDENTIFICATION),
    dontFragment: (fragment & DONT_FRAGMENT) !== 0,
    moreFragments: (fragment & MORE_FRAGMENTS) !== 0,
    fragmentOffset: fragment & 0x1fff,
    ttl: packet[offset + TTL]!,
    protocol: packet[offset + PROTOCOL]!,
    checksum: read16(packet, offset + CHECKSUM),
    source: read32(packet, offset + SOURCE),
    destination: read32(packet, offset + DESTINATION),
    options: packet.slice(offset + IPV4_HEADER_MIN_SIZE, offset + ipv4HeaderSize(packet, offset)),
  };
}

/** Writes the header with its checksum and returns its size; options are padded with end-of-list octets. */
export function writeIpv4(out: Uint8Array, offset: number, header: Omit<Ipv4Header, 'checksum'>): number {
  const size = IPV4_HEADER_MIN_SIZE + Math.ceil(header.options.length / 4) * 4;
  out[offset + VERSION_IHL] = 0x40 | (size / 4);
  out[offset + TOS] = header.tos;
  write16(out, offset + TOTAL_LENGTH, header.totalLength);
  write16(out, offset + IDENTIFICATION, header.identification);
  write16(
    out,
    offset + FRAGMENT,
    (header.dontFragment ? DONT_FRAGMENT : 0) | (header.moreFragments ? MORE_FRAGMENTS : 0) | header.fragmentOffset,
  );
  out[offset + TTL] = header.ttl;
  out[offset + PROTOCOL] = header.protocol;
  write16(out, offset + CHECKSUM, 0);
  write32(out, offset + SOURCE, header.source);
  write32(out, offset + DESTINATION, header.destination);
  out.fill(IpOption.EndOfList, offset + IPV4_HEADER_MIN_SIZE, offset + size);
  out.set(header.options, offset + IPV4_HEADER_MIN_SIZE);
  write16(out, offset + CHECKSUM, internetChecksum(out, offset, size));
  return size;
}
