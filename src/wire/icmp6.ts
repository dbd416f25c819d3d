/** ICMPv6 header (RFC 4443 section 2.1) and its messages' first 8 octets. Neighbour Discovery is nd.ts, MLD mld.ts. */
import { Fault } from './fault.js';
import { read16, read32, write16, write32 } from './octets.js';

export const ICMP6_HEADER_SIZE = 8;
export const Icmp6Type = {
  DestinationUnreachable: 1,
  PacketTooBig: 2,
  TimeExceeded: 3,
  ParameterProblem: 4,
  EchoRequest: 128,
  EchoReply: 129,
  MulticastListenerQuery: 130,
  MulticastListenerReport: 131,
  MulticastListenerDone: 132,
  RouterSolicitation: 133,
  RouterAdvertisement: 134,
  NeighbourSolicitation: 135,
  NeighbourAdvertisement: 136,
  Redirect: 137,
  MulticastListenerReport2: 143,
} as const;
const TYPE = 0;
const CODE = 1;
const CHECKSUM = 2;
const REST = 4;

export interface Icmp6Header {
  type: number;
  code: number;
  checksum: number;
  /** Octets 4–7: identifier and sequence number, MTU, pointer, or flags. */
  rest: number;
}

export const checkIcmp6 = (message: Uint8Array, offset: number, end = message.length): Fault =>
  end - offset < ICMP6_HEADER_SIZE ? Fault.Truncated : Fault.None;

export const readIcmp6 = (message: Uint8Array, offset: number): Icmp6Header => ({
  type: message[offset + TYPE]!,
  code: message[offset + CODE]!,
  checksum: read16(message, offset + CHECKSUM),
  rest: read32(message, offset + REST),
});

/** Section 2.1: types below 128 are errors; those defined carry the packet that caused them. */
export const isIcmp6Error = (type: number): boolean =>
  type >= Icmp6Type.DestinationUnreachable && type <= Icmp6Type.ParameterProblem;

/** Writes the header with checksum 0: setTransportChecksum (transport-checksum.ts) fills it in once the message is whole. */
export function writeIcmp6(out: Uint8Array, offset: number, header: Omit<Icmp6Header, 'checksum'>): number {
  out[offset + TYPE] = header.type;
  out[offset + CODE] = header.code;
  write16(out, offset + CHECKSUM, 0);
  write32(out, offset + REST, header.rest);
  return ICMP6_HEADER_SIZE;
}
