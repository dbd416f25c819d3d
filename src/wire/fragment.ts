/** IPv6 fragment header (RFC 8200 section 4.5): 8 octets. IPv4's fragment fields are in ipv4.ts. Offsets in 8-octet units. */
import { Fault } from './fault.js';
import { read16, read32, write16, write32 } from './octets.js';

export const IPV6_FRAGMENT_SIZE = 8;
const NEXT_HEADER = 0;
const OFFSET_MORE = 2;
const IDENTIFICATION = 4;

export interface FragmentHeader {
  nextHeader: number;
  /** In 8-octet units. */
  fragmentOffset: number;
  moreFragments: boolean;
  identification: number;
}

export const checkFragment = (packet: Uint8Array, offset: number, end = packet.length): Fault =>
  end - offset < IPV6_FRAGMENT_SIZE ? Fault.Truncated : Fault.None;

export function readFragment(packet: Uint8Array, offset: number): FragmentHeader {
  const field = read16(packet, offset + OFFSET_MORE);
  return {
    nextHeader: packet[offset + NEXT_HEADER]!,
    fragmentOffset: field >>> 3,
    moreFragments: (field & 1) !== 0,
    identification: read32(packet, offset + IDENTIFICATION),
  };
}

export function writeFragment(out: Uint8Array, offset: number, header: FragmentHeader): number {
  out[offset + NEXT_HEADER] = header.nextHeader;
  out[offset + 1] = 0;
  write16(out, offset + OFFSET_MORE, (header.fragmentOffset << 3) | (header.moreFragments ? 1 : 0));
  write32(out, offset + IDENTIFICATION, header.identification);
  return IPV6_FRAGMENT_SIZE;
}
