/** Multicast Listener Discovery: version 1 (RFC 2710 section 3) and version 2 (RFC 3810 section 5). Part of ICMPv6. */
import { Fault } from './fault.js';
import { Icmp6Type } from './icmp6.js';
import { type Ip6Words, read16, readIp6, write16, writeIp6 } from './octets.js';

export const MLD_SIZE = 24;
export const MLD2_QUERY_MIN_SIZE = 28;
export const MLD2_REPORT_MIN_SIZE = 8;
const MAX_RESPONSE = 4;
const COUNT = 6;
const GROUP = 8;
const RECORD_SIZE = 20;
const ADDRESS_SIZE = 16;

export interface MldRecord {
  type: number;
  group: Ip6Words;
  sources: Ip6Words[];
}
export type MldMessage =
  | { version: 1; type: number; maxResponseDelayMs: number; group: Ip6Words }
  | {
      version: 2;
      type: typeof Icmp6Type.MulticastListenerQuery;
      /** As it stands: a floating-point code above 32,767 (section 5.1.3). */
      maxResponseCode: number;
      group: Ip6Words;
      /** S flag and QRV, as octet 24 has them. */
      robustness: number;
      queryIntervalCode: number;
      sources: Ip6Words[];
    }
  | { version: 2; type: typeof Icmp6Type.MulticastListenerReport2; records: MldRecord[] };

const isVersion1 = (type: number): boolean =>
  type >= Icmp6Type.MulticastListenerQuery && type <= Icmp6Type.MulticastListenerDone;

export function checkMld(message: Uint8Array, offset: number, end = message.length): Fault {
  const size = end - offset;
  if (size < 8) return Fault.Truncated;
  const type = message[offset]!;
  if (isVersion1(type)) {
    if (size < MLD_SIZE) return Fault.Truncated;
    if (type !== Icmp6Type.MulticastListenerQuery || size < MLD2_QUERY_MIN_SIZE) return Fault.None;
    return read16(message, offset + 26) * ADDRESS_SIZE > size - MLD2_QUERY_MIN_SIZE ? Fault.BadOption : Fault.None;
  }
  if (type !== Icmp6Type.MulticastListenerReport2) return Fault.BadType;
  let at = offset + MLD2_REPORT_MIN_SIZE;
  for (let record = read16(message, offset + COUNT); record > 0; record--) {
    if (end - at < RECORD_SIZE) return Fault.BadOption;
    const recordSize = RECORD_SIZE + read16(message, at + 2) * ADDRESS_SIZE + message[at + 1]! * 4;
    if (recordSize > end - at) return Fault.BadOption;
    at += recordSize;
  }
  return Fault.None;
}

const readAddresses = (message: Uint8Array, at: number, count: number): Ip6Words[] =>
  Array.from({ length: count }, (_, i) => readIp6(message, at + i * ADDRESS_SIZE));

export function readMld(message: Uint8Array, offset: number, end = message.length): MldMessage {
  const type = message[offset]!;
  if (isVersion1(type)) {
    const group = readIp6(message, offset + GROUP);
    const maxResponse = read16(message, offset + MAX_RESPONSE);
    // Section 8.1: a query of 28 octets or more is version 2's.
    if (type !== Icmp6Type.MulticastListenerQuery || end - offset < MLD2_QUERY_MIN_SIZE)
      return { version: 1, type, maxResponseDelayMs: maxResponse, group };
    return {
      version: 2,
      type,
      maxResponseCode: maxResponse,
      group,
      robustness: message[offset + 24]!,
      queryIntervalCode: message[offset + 25]!,
      sources: readAddresses(message, offset + MLD2_QUERY_MIN_SIZE, read16(message, offset + 26)),
    };
  }
  const records: MldRecord[] = [];
  let at = offset + MLD2_REPORT_MIN_SIZE;
  for (let record = read16(message, offset + COUNT); record > 0; record--) {
    const count = read16(message, at + 2);
    records.push({
      type: message[at]!,
      group: readIp6(message, at + 4),
      sources: readAddresses(message, at + RECORD_SIZE, count),
    });
    at += RECORD_SIZE + count * ADDRESS_SIZE + message[at + 1]! * 4;
  }
  return { version: 2, type: Icmp6Type.MulticastListenerReport2, records };
}

/** Writes the message with checksum 0 and returns its octets. */
export function writeMld(out: Uint8Array, offset: number, message: MldMessage): number {
  out.fill(0, offset, offset + MLD2_REPORT_MIN_SIZE);
  out[offset] = message.type;
  if (message.version === 1) {
    write16(out, offset + MAX_RESPONSE, message.maxResponseDelayMs);
    writeIp6(out, offset + GROUP, message.group);
    return MLD_SIZE;
  }
  if (message.type === Icmp6Type.MulticastListenerQuery) {
    write16(out, offset + MAX_RESPONSE, message.maxResponseCode);
    writeIp6(out, offset + GROUP, message.group);
    out[offset + 24] = message.robustness;
    out[offset + 25] = message.queryIntervalCode;
    write16(out, offset + 26, message.sources.length);
    message.sources.forEach((source, i) => {
      writeIp6(out, offset + MLD2_QUERY_MIN_SIZE + i * ADDRESS_SIZE, source);
    });
    return MLD2_QUERY_MIN_SIZE + message.sources.length * ADDRESS_SIZE;
  }
  write16(out, offset + COUNT, message.records.length);
  let at = offset + MLD2_REPORT_MIN_SIZE;
  for (const { type, group, sources } of message.records) {
    out[at] = type;
    out[at + 1] = 0;
    write16(out, at + 2, sources.length);
    writeIp6(out, at + 4, group);
    for (const [i, source] of sources.entries()) writeIp6(out, at + RECORD_SIZE + i * ADDRESS_SIZE, source);
    at += RECORD_SIZE + sources.length * ADDRESS_SIZE;
  }
  return at - offset;
}
