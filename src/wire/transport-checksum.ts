/** Filling in transport checksums: TCP (RFC 9293), UDP (RFC 768), ICMP (RFC 792), ICMPv6 (RFC 4443). Sums: checksum.ts. */
import { internetChecksum, transportChecksum } from './checksum.js';
import { write16 } from './octets.js';

const ICMP = 1;
const TCP = 6;
const UDP = 17;
const ICMP6 = 58;

/** Where the checksum stands in the header; −1 for protocols that have none of this kind. */
export function checksumFieldOf(protocol: number): number {
  if (protocol === TCP) return 16;
  if (protocol === UDP) return 6;
  return protocol === ICMP || protocol === ICMP6 ? 2 : -1;
}

/** Fills in the checksum of the segment at `at`. UDP's 0 means "none", so a sum of 0 is sent as all ones (RFC 768). */
export function setTransportChecksum(
  frame: Uint8Array,
  addressAt: number,
  family: 4 | 6,
  protocol: number,
  at: number,
  length: number,
): void {
  const field = at + checksumFieldOf(protocol);
  write16(frame, field, 0);
  // ICMP, unlike ICMPv6, has no pseudo header.
  const sum =
    protocol === ICMP
      ? internetChecksum(frame, at, length)
      : transportChecksum(frame, addressAt, family, protocol, at, length);
  write16(frame, field, sum === 0 && protocol === UDP ? 0xffff : sum);
}
