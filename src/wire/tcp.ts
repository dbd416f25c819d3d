/** TCP header and options (RFC 9293 section 3.1; window scale and timestamps: RFC 7323). Checksums are checksum.ts's. */
import { Fault } from './fault.js';
import { read16, read32, write16, write32 } from './octets.js';

export const TCP_HEADER_MIN_SIZE = 20;
export const TCP_HEADER_MAX_SIZE = 60;
/** RFC 7323 section 2.3: a greater shift counts as 14. */
export const WINDOW_SCALE_MAX = 14;
export const TcpFlag = { Fin: 1, Syn: 2, Rst: 4, Psh: 8, Ack: 16, Urg: 32, Ece: 64, Cwr: 128 } as const;
export const TcpOptionKind = {
  EndOfList: 0,
  NoOperation: 1,
  MaximumSegmentSize: 2,
  WindowScale: 3,
  SackPermitted: 4,
  Sack: 5,
  Timestamps: 8,
} as const;
const SOURCE_PORT = 0;
const DESTINATION_PORT = 2;
const SEQUENCE = 4;
const ACKNOWLEDGMENT = 8;
const DATA_OFFSET = 12;
const FLAGS = 13;
const WINDOW = 14;
const CHECKSUM = 16;
const URGENT = 18;

export interface TcpOption {
  kind: number;
  data: Uint8Array;
}
export interface TcpHeader {
  sourcePort: number;
  destinationPort: number;
  sequence: number;
  acknowledgment: number;
  /** TcpFlag bits. */
  flags: number;
  window: number;
  checksum: number;
  urgentPointer: number;
  options: TcpOption[];
}

/** `end`: of the segment by the IP length. */
export function checkTcp(segment: Uint8Array, offset: number, end = segment.length): Fault {
  if (end - offset < TCP_HEADER_MIN_SIZE) return Fault.Truncated;
  const size = tcpHeaderSize(segment, offset);
  return size < TCP_HEADER_MIN_SIZE || size > end - offset ? Fault.BadLength : Fault.None;
}

export const tcpHeaderSize = (segment: Uint8Array, offset: number): number =>
  (segment[offset + DATA_OFFSET]! >>> 4) * 4;

/** Options up to the end of the list; a broken one ends it, as it ends every receiver's. */
export function readTcpOptions(segment: Uint8Array, offset: number): TcpOption[] {
  const options: TcpOption[] = [];
  const end = offset + tcpHeaderSize(segment, offset);
  for (let at = offset + TCP_HEADER_MIN_SIZE; at < end; ) {
    const kind = segment[at]!;
    if (kind === TcpOptionKind.EndOfList) break;
    if (kind === TcpOptionKind.NoOperation) {
      at++;
      continue;
    }
    if (at + 1 >= end) break;
    const length = segment[at + 1]!;
    if (length < 2 || at + length > end) break;
    options.push({ kind, data: segment.slice(at + 2, at + length) });
    at += length;
  }
  return options;
}

export function windowScaleOf(options: readonly TcpOption[]): number | null {
  const option = options.findLast(({ kind, data }) => kind === TcpOptionKind.WindowScale && data.length === 1);
  return option === undefined ? null : Math.min(option.data[0]!, WINDOW_SCALE_MAX);
}
export function maximumSegmentSizeOf(options: readonly TcpOption[]): number | null {
  const option = options.findLast(({ kind, data }) => kind === TcpOptionKind.MaximumSegmentSize && data.length === 2);
  return option === undefined ? null : read16(option.data, 0);
}
export const windowScale = (shift: number): TcpOption => ({
  kind: TcpOptionKind.WindowScale,
  data: Uint8Array.of(shift),
});
export const maximumSegmentSize = (octets: number): TcpOption => ({
  kind: TcpOptionKind.MaximumSegmentSize,
  data: Uint8Array.of(octets >>> 8, octets & 0xff),
});

export const readTcp = (segment: Uint8Array, offset: number): TcpHeader => ({
  sourcePort: read16(segment, offset + SOURCE_PORT),
  destinationPort: read16(segment, offset + DESTINATION_PORT),
  sequence: read32(segment, offset + SEQUENCE),
  acknowledgment: read32(segment, offset + ACKNOWLEDGMENT),
  flags: segment[offset + FLAGS]!,
  window: read16(segment, offset + WINDOW),
  checksum: read16(segment, offset + CHECKSUM),
  urgentPointer: read16(segment, offset + URGENT),
  options: readTcpOptions(segment, offset),
});

/** Returns the header's size; options are padded with end-of-list octets to a multiple of 4. */
export function writeTcp(out: Uint8Array, offset: number, header: TcpHeader): number {
  let at = offset + TCP_HEADER_MIN_SIZE;
  for (const option of header.options) {
    out[at] = option.kind;
    out[at + 1] = option.data.length + 2;
    out.set(option.data, at + 2);
    at += option.data.length + 2;
  }
  const size = Math.ceil((at - offset) / 4) * 4;
  out.fill(TcpOptionKind.EndOfList, at, offset + size);
  write16(out, offset + SOURCE_PORT, header.sourcePort);
  write16(out, offset + DESTINATION_PORT, header.destinationPort);
  write32(out, offset + SEQUENCE, header.sequence);
  write32(out, offset + ACKNOWLEDGMENT, header.acknowledgment);
  out[offset + DATA_OFFSET] = (size / 4) << 4;
  out[offset + FLAGS] = header.flags;
  write16(out, offset + WINDOW, header.window);
  write16(out, offset + CHECKSUM, header.checksum);
  write16(out, offset + URGENT, header.urgentPointer);
  return size;
}
