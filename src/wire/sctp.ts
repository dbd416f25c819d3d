/** SCTP common header and chunk headers (RFC 9260 sections 3.1 and 3.2). The checksum is CRC-32C, sent low octet first. */
import { crc32c } from './crc32c.js';
import { Fault } from './fault.js';
import { read16, read32, write16, write32 } from './octets.js';

export const SCTP_HEADER_SIZE = 12;
export const SCTP_CHUNK_HEADER_SIZE = 4;
export const SctpChunkType = {
  Data: 0,
  Init: 1,
  InitAck: 2,
  Sack: 3,
  Heartbeat: 4,
  HeartbeatAck: 5,
  Abort: 6,
  Shutdown: 7,
  ShutdownAck: 8,
  Error: 9,
  CookieEcho: 10,
  CookieAck: 11,
  ShutdownComplete: 14,
} as const;
const SOURCE_PORT = 0;
const DESTINATION_PORT = 2;
const VERIFICATION_TAG = 4;
const CHECKSUM = 8;

export interface SctpHeader {
  sourcePort: number;
  destinationPort: number;
  verificationTag: number;
}
export interface SctpChunk {
  type: number;
  flags: number;
  data: Uint8Array;
}

/** The common header and every chunk's length up to `end`, the packet's end by the IP length. */
export function checkSctp(packet: Uint8Array, offset: number, end = packet.length): Fault {
  if (end - offset < SCTP_HEADER_SIZE) return Fault.Truncated;
  for (let at = offset + SCTP_HEADER_SIZE; at < end; ) {
    if (end - at < SCTP_CHUNK_HEADER_SIZE) return Fault.BadOption;
    const length = read16(packet, at + 2);
    if (length < SCTP_CHUNK_HEADER_SIZE || length > end - at) return Fault.BadOption;
    at += (length + 3) & ~3;
  }
  return Fault.None;
}

export const readSctp = (packet: Uint8Array, offset: number): SctpHeader => ({
  sourcePort: read16(packet, offset + SOURCE_PORT),
  destinationPort: read16(packet, offset + DESTINATION_PORT),
  verificationTag: read32(packet, offset + VERIFICATION_TAG),
});

export function readSctpChunks(packet: Uint8Array, offset: number, end = packet.length): SctpChunk[] {
  const chunks: SctpChunk[] = [];
  for (let at = offset + SCTP_HEADER_SIZE; at < end; ) {
    const length = read16(packet, at + 2);
    chunks.push({
      type: packet[at]!,
      flags: packet[at + 1]!,
      data: packet.slice(at + SCTP_CHUNK_HEADER_SIZE, at + length),
    });
    at += (length + 3) & ~3;
  }
  return chunks;
}

/** Writes header, chunks and checksum; returns the packet's octets. */
export function writeSctp(out: Uint8Array, offset: number, header: SctpHeader, chunks: readonly SctpChunk[]): number {
  write16(out, offset + SOURCE_PORT, header.sourcePort);
  write16(out, offset + DESTINATION_PORT, header.destinationPort);
  write32(out, offset + VERIFICATION_TAG, header.verificationTag);
  let at = offset + SCTP_HEADER_SIZE;
  for (const chunk of chunks) {
    const length = SCTP_CHUNK_HEADER_SIZE + chunk.data.length;
    out[at] = chunk.type;
    out[at + 1] = chunk.flags;
    write16(out, at + 2, length);
    out.set(chunk.data, at + SCTP_CHUNK_HEADER_SIZE);
    out.fill(0, at + length, at + ((length + 3) & ~3));
    at += (length + 3) & ~3;
  }
  out.fill(0, offset + CHECKSUM, offset + CHECKSUM + 4);
  writeSctpChecksum(out, offset, crc32c(out, offset, at - offset));
  return at - offset;
}

/** Appendix A: the CRC's low octet goes first. */
function writeSctpChecksum(out: Uint8Array, offset: number, crc: number): void {
  for (let i = 0; i < 4; i++) out[offset + CHECKSUM + i] = crc >>> (i * 8);
}

export function sctpChecksumIsRight(packet: Uint8Array, offset: number, end = packet.length): boolean {
  const zeroed = packet.slice(offset, end);
  zeroed.fill(0, CHECKSUM, CHECKSUM + 4);
  const crc = crc32c(zeroed, 0, zeroed.length);
  for (let i = 0; i < 4; i++) if (packet[offset + CHECKSUM + i] !== ((crc >>> (i * 8)) & 0xff)) return false;
  return true;
}
