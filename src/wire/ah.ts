/** Authentication Header (RFC 4302 section 2). It ends an IPv6 extension chain: what it covers is not looked at. */
import { Fault } from './fault.js';
import { read32, write16, write32 } from './octets.js';

export const AH_HEADER_MIN_SIZE = 12;
const NEXT_HEADER = 0;
const PAYLOAD_LENGTH = 1;
const SPI = 4;
const SEQUENCE = 8;

export interface AhHeader {
  nextHeader: number;
  spi: number;
  sequence: number;
  /** A multiple of 4 octets. */
  integrityCheckValue: Uint8Array;
}

/** The length field counts 32-bit words less 2. */
export const ahHeaderSize = (packet: Uint8Array, offset: number): number => (packet[offset + PAYLOAD_LENGTH]! + 2) * 4;

export function checkAh(packet: Uint8Array, offset: number, end = packet.length): Fault {
  if (end - offset < AH_HEADER_MIN_SIZE) return Fault.Truncated;
  const size = ahHeaderSize(packet, offset);
  return size < AH_HEADER_MIN_SIZE || size > end - offset ? Fault.BadLength : Fault.None;
}

export const readAh = (packet: Uint8Array, offset: number): AhHeader => ({
  nextHeader: packet[offset + NEXT_HEADER]!,
  spi: read32(packet, offset + SPI),
  sequence: read32(packet, offset + SEQUENCE),
  integrityCheckValue: packet.slice(offset + AH_HEADER_MIN_SIZE, offset + ahHeaderSize(packet, offset)),
});

export function writeAh(out: Uint8Array, offset: number, header: AhHeader): number {
  const size = AH_HEADER_MIN_SIZE + Math.ceil(header.integrityCheckValue.length / 4) * 4;
  out[offset + NEXT_HEADER] = header.nextHeader;
  out[offset + PAYLOAD_LENGTH] = size / 4 - 2;
  write16(out, offset + 2, 0);
  write32(out, offset + SPI, header.spi);
  write32(out, offset + SEQUENCE, header.sequence);
  out.fill(0, offset + AH_HEADER_MIN_SIZE, offset + size);
  out.set(header.integrityCheckValue, offset + AH_HEADER_MIN_SIZE);
  return size;
}
