/** IGMP versions 1 and 2 (RFC 2236 section 2) and 3 (RFC 3376 section 4). */
import { internetChecksum } from './checksum.js';
import { Fault } from './fault.js';
import { read16, read32, write16, write32 } from './octets.js';

export const IGMP_SIZE = 8;
export const IGMP3_QUERY_MIN_SIZE = 12;
export const IgmpType = { Query: 0x11, Report1: 0x12, Report2: 0x16, Leave: 0x17, Report3: 0x22 } as const;
const MAX_RESPONSE = 1;
const CHECKSUM = 2;
const GROUP = 4;
const RECORDS = 6;

export interface IgmpRecord {
  type: number;
  group: number;
  sources: number[];
}
export type IgmpMessage =
  | { version: 2; type: number; maxResponse: number; group: number }
  | {
      version: 3;
      type: typeof IgmpType.Query;
      maxResponse: number;
      group: number;
      /** S flag and QRV, as octet 8 has them. */
      robustness: number;
      queryIntervalCode: number;
      sources: number[];
    }
  | { version: 3; type: typeof IgmpType.Report3; records: IgmpRecord[] };

export function checkIgmp(message: Uint8Array, offset: number, end = message.length): Fault {
  const size = end - offset;
  if (size < IGMP_SIZE) return Fault.Truncated;
  if (message[offset] === IgmpType.Query && size >= IGMP3_QUERY_MIN_SIZE)
    return read16(message, offset + 10) * 4 > size - IGMP3_QUERY_MIN_SIZE ? Fault.BadOption : Fault.None;
  if (message[offset] !== IgmpType.Report3) return Fault.None;
  let at = offset + IGMP_SIZE;
  for (let record = read16(message, offset + RECORDS); record > 0; record--) {
    if (end - at < 8) return Fault.BadOption;
    const recordSize = 8 + read16(message, at + 2) * 4 + message[at + 1]! * 4;
    if (recordSize > end - at) return Fault.BadOption;
    at += recordSize;
  }
  return Fault.None;
}

const readAddresses = (message: Uint8Array, at: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => read32(message, at + i * 4));

export function readIgmp(message: Uint8Array, offset: number, end = message.length): IgmpMessage {
  const type = message[offset]!;
  if (type === IgmpType.Report3) {
    const records: IgmpRecord[] = [];
    let at = offset + IGMP_SIZE;
    for (let record = read16(message, offset + RECORDS); record > 0; record--) {
      const count = read16(message, at + 2);
      records.push({
        type: message[at]!,
        group: read32(message, at + 4),
        sources: readAddresses(message, at + 8, count),
      });
      at += 8 + count * 4 + message[at + 1]! * 4;
    }
    return { version: 3, type, records };
  }
  const maxResponse = message[offset + MAX_RESPONSE]!;
  const group = read32(message, offset + GROUP);
  // RFC 3376 section 7.1: a query of 12 octets or more is version 3's.
  if (type !== IgmpType.Query || end - offset < IGMP3_QUERY_MIN_SIZE) return { version: 2, type, maxResponse, group };
  return {
    version: 3,
    type,
    maxResponse,
    group,
    robustness: message[offset + 8]!,
    queryIntervalCode: message[offset + 9]!,
    sources: readAddresses(message, offset + IGMP3_QUERY_MIN_SIZE, read16(message, offset + 10)),
  };
}

/** Writes the message with its checksum and returns its octets. */
export function writeIgmp(out: Uint8Array, offset: number, message: IgmpMessage): number {
  out.fill(0, offset, offset + IGMP_SIZE);
  out[offset] = message.type;
  let at = offset + IGMP_SIZE;
  if ('records' in message) {
    write16(out, offset + RECORDS, message.records.length);
    for (const { type, group, sources } of message.records) {
      out[at] = type;
      out[at + 1] = 0;
      write16(out, at + 2, sources.length);
      write32(out, at + 4, group);
      for (const [i, source] of sources.entries()) write32(out, at + 8 + i * 4, source);
      at += 8 + sources.length * 4;
    }
  } else {
    out[offset + MAX_RESPONSE] = message.maxResponse;
    write32(out, offset + GROUP, message.group);
    if (message.version === 3) {
      out[offset + 8] = message.robustness;
      out[offset + 9] = message.queryIntervalCode;
      write16(out, offset + 10, message.sources.length);
      for (const [i, source] of message.sources.entries()) write32(out, offset + IGMP3_QUERY_MIN_SIZE + i * 4, source);
      at = offset + IGMP3_QUERY_MIN_SIZE + message.sources.length * 4;
    }
  }
  write16(out, offset + CHECKSUM, internetChecksum(out, offset, at - offset));
  return at - offset;
}
