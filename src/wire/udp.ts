/** UDP header (RFC 768): 8 octets. Checksums are checksum.ts's. */
import { Fault } from './fault.js';
import { read16, write16 } from './octets.js';

export const UDP_HEADER_SIZE = 8;
const SOURCE_PORT = 0;
const DESTINATION_PORT = 2;
const LENGTH = 4;
const CHECKSUM = 6;

export interface UdpHeader {
  sourcePort: number;
  destinationPort: number;
  /** Octets of header and payload. */
  length: number;
  checksum: number;
}

/** `end`: of the datagram by the IP length. A length of 0 (RFC 2675) is not accepted. */
export function checkUdp(datagram: Uint8Array, offset: number, end = datagram.length): Fault {
  if (end - offset < UDP_HEADER_SIZE) return Fault.Truncated;
  const length = read16(datagram, offset + LENGTH);
  return length < UDP_HEADER_SIZE || length > end - offset ? Fault.BadLength : Fault.None;
}

export const readUdp = (datagram: Uint8Array, offset: number): UdpHeader => ({
  sourcePort: read16(datagram, offset + SOURCE_PORT),
  destinationPort: read16(datagram, offset + DESTINATION_PORT),
  length: read16(datagram, offset + LENGTH),
  checksum: read16(datagram, offset + CHECKSUM),
});

export function writeUdp(out: Uint8Array, offset: number, header: UdpHeader): number {
  write16(out, offset + SOURCE_PORT, header.sourcePort);
  write16(out, offset + DESTINATION_PORT, header.destinationPort);
  write16(out, offset + LENGTH, header.length);
  write16(out, offset + CHECKSUM, header.checksum);
  return UDP_HEADER_SIZE;
}
