/** ICMP (RFC 792; router messages RFC 1256, next-hop MTU RFC 1191): the 8-octet header; what an error carries follows it. */
import { internetChecksum } from './checksum.js';
import { Fault } from './fault.js';
import { read16, read32, write16, write32 } from './octets.js';

export const ICMP_HEADER_SIZE = 8;
export const IcmpType = {
  EchoReply: 0,
  DestinationUnreachable: 3,
  SourceQuench: 4,
  Redirect: 5,
  EchoRequest: 8,
  TimeExceeded: 11,
  ParameterProblem: 12,
  TimestampRequest: 13,
  TimestampReply: 14,
  InformationRequest: 15,
  InformationReply: 16,
  AddressMaskRequest: 17,
  AddressMaskReply: 18,
} as const;
export const IcmpUnreachable = { Port: 3, FragmentationNeeded: 4, AdministrativelyProhibited: 13 } as const;
const TYPE = 0;
const CODE = 1;
const CHECKSUM = 2;
const REST = 4;

export interface IcmpHeader {
  type: number;
  code: number;
  checksum: number;
  /** Octets 4–7: identifier and sequence number, a gateway, or unused and the next-hop MTU. */
  rest: number;
}

export const checkIcmp = (message: Uint8Array, offset: number, end = message.length): Fault =>
  end - offset < ICMP_HEADER_SIZE ? Fault.Truncated : Fault.None;

export const readIcmp = (message: Uint8Array, offset: number): IcmpHeader => ({
  type: message[offset + TYPE]!,
  code: message[offset + CODE]!,
  checksum: read16(message, offset + CHECKSUM),
  rest: read32(message, offset + REST),
});

/** Does this message carry the packet that caused it? */
export const isIcmpError = (type: number): boolean =>
  type === IcmpType.DestinationUnreachable ||
  type === IcmpType.SourceQuench ||
  type === IcmpType.Redirect ||
  type === IcmpType.TimeExceeded ||
  type === IcmpType.ParameterProblem;

/** Does octet 4 begin an identifier? */
export const hasIcmpIdentifier = (type: number): boolean =>
  type === IcmpType.EchoReply ||
  type === IcmpType.EchoRequest ||
  (type >= IcmpType.TimestampRequest && type <= IcmpType.AddressMaskReply);

/** Writes header, `payload` and checksum; returns the message's octets. */
export function writeIcmp(
  out: Uint8Array,
  offset: number,
  header: Omit<IcmpHeader, 'checksum'>,
  payload: Uint8Array,
): number {
  out[offset + TYPE] = header.type;
  out[offset + CODE] = header.code;
  write16(out, offset + CHECKSUM, 0);
  write32(out, offset + REST, header.rest);
  out.set(payload, offset + ICMP_HEADER_SIZE);
  const size = ICMP_HEADER_SIZE + payload.length;
  write16(out, offset + CHECKSUM, internetChecksum(out, offset, size));
  return size;
}
