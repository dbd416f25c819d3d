/** GRE (RFC 2784) with key and sequence number (RFC 2890). Routing (RFC 1701) and version 1 (RFC 2637) are refused. */
import { internetChecksum } from './checksum.js';
import { Fault } from './fault.js';
import { read16, read32, write16, write32 } from './octets.js';

export const GRE_HEADER_MIN_SIZE = 4;
const PROTOCOL = 2;
const CHECKSUM_PRESENT = 0x8000;
const KEY_PRESENT = 0x2000;
const SEQUENCE_PRESENT = 0x1000;
/** RFC 2784 section 2.3: a receiver discards a packet in which bits 1–5 are set; RFC 2890 defines two of them. */
const MUST_BE_ZERO = 0x4c00;
const VERSION = 0x0007;

export interface GreHeader {
  /** EtherType of what follows. */
  protocolType: number;
  /** With a checksum over header and payload? */
  checksum: boolean;
  key: number | null;
  sequence: number | null;
}

const sizeOf = (flags: number): number =>
  GRE_HEADER_MIN_SIZE +
  ((flags & CHECKSUM_PRESENT) !== 0 ? 4 : 0) +
  ((flags & KEY_PRESENT) !== 0 ? 4 : 0) +
  ((flags & SEQUENCE_PRESENT) !== 0 ? 4 : 0);

export function checkGre(packet: Uint8Array, offset: number, end = packet.length): Fault {
  if (end - offset < GRE_HEADER_MIN_SIZE) return Fault.Truncated;
  const flags = read16(packet, offset);
  if ((flags & VERSION) !== 0) return Fault.BadVersion;
  if ((flags & MUST_BE_ZERO) !== 0) return Fault.BadFlags;
  return end - offset < sizeOf(flags) ? Fault.Truncated : Fault.None;
}

export const greHeaderSize = (packet: Uint8Array, offset: number): number => sizeOf(read16(packet, offset));

export function readGre(packet: Uint8Array, offset: number): GreHeader {
  const flags = read16(packet, offset);
  let at = offset + GRE_HEADER_MIN_SIZE;
  const checksum = (flags & CHECKSUM_PRESENT) !== 0;
  if (checksum) at += 4;
  let key: number | null = null;
  if ((flags & KEY_PRESENT) !== 0) {
    key = read32(packet, at);
    at += 4;
  }
  const sequence = (flags & SEQUENCE_PRESENT) !== 0 ? read32(packet, at) : null;
  return { protocolType: read16(packet, offset + PROTOCOL), checksum, key, sequence };
}

/** True as well where the header holds none; `end` is the packet's. */
export const greChecksumIsRight = (packet: Uint8Array, offset: number, end = packet.length): boolean =>
  (read16(packet, offset) & CHECKSUM_PRESENT) === 0 || internetChecksum(packet, offset, end - offset) === 0;

/** Writes the header and returns its size. With a checksum, the payload must stand behind it already, up to `end`. */
export function writeGre(out: Uint8Array, offset: number, header: GreHeader, end: number): number {
  const flags =
    (header.checksum ? CHECKSUM_PRESENT : 0) |
    (header.key !== null ? KEY_PRESENT : 0) |
    (header.sequence !== null ? SEQUENCE_PRESENT : 0);
  write16(out, offset, flags);
  write16(out, offset + PROTOCOL, header.protocolType);
  let at = offset + GRE_HEADER_MIN_SIZE;
  if (header.checksum) {
    write32(out, at, 0);
    at += 4;
  }
  if (header.key !== null) {
    write32(out, at, header.key);
    at += 4;
  }
  if (header.sequence !== null) {
    write32(out, at, header.sequence);
    at += 4;
  }
  if (header.checksum) write16(out, offset + GRE_HEADER_MIN_SIZE, internetChecksum(out, offset, end - offset));
  return at - offset;
}
