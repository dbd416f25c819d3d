/**
 * Neighbour Discovery (RFC 4861 section 4): solicitations, advertisements and redirect, with their options. The checksum
 * is transport-checksum.ts's; that the hop limit is 255 and the sender may speak so is for SpoofGuard to judge.
 */
import { Fault } from './fault.js';
import { Icmp6Type } from './icmp6.js';
import { type Ip6Words, read16, read32, readIp6, write16, write32, writeIp6 } from './octets.js';

export const NdOptionType = {
  SourceLinkLayer: 1,
  TargetLinkLayer: 2,
  PrefixInformation: 3,
  RedirectedHeader: 4,
  Mtu: 5,
} as const;
/** Bits of a neighbour advertisement's octet 4. */
export const NdFlag = { Router: 0x80, Solicited: 0x40, Override: 0x20 } as const;
const FLAGS = 4;
const TARGET = 8;
const DESTINATION = 24;

export interface NdOption {
  type: number;
  /** Without type and length: 8 × n − 2 octets. */
  data: Uint8Array;
}
export type NdMessage =
  | { type: typeof Icmp6Type.RouterSolicitation; options: NdOption[] }
  | {
      type: typeof Icmp6Type.RouterAdvertisement;
      hopLimit: number;
      flags: number;
      routerLifetimeS: number;
      reachableTimeMs: number;
      retransTimerMs: number;
      options: NdOption[];
    }
  | { type: typeof Icmp6Type.NeighbourSolicitation; target: Ip6Words; options: NdOption[] }
  | { type: typeof Icmp6Type.NeighbourAdvertisement; flags: number; target: Ip6Words; options: NdOption[] }
  | { type: typeof Icmp6Type.Redirect; target: Ip6Words; destination: Ip6Words; options: NdOption[] };

/** Octets before the options; 0 for a type that is no ND message. */
export function ndFixedSize(type: number): number {
  if (type === Icmp6Type.RouterSolicitation) return 8;
  if (type === Icmp6Type.RouterAdvertisement) return 16;
  if (type === Icmp6Type.NeighbourSolicitation || type === Icmp6Type.NeighbourAdvertisement) return 24;
  return type === Icmp6Type.Redirect ? 40 : 0;
}

/** Section 6.1 and 7.1: code 0, the fixed part there, every option longer than 0 and within the message. */
export function checkNd(message: Uint8Array, offset: number, end = message.length): Fault {
  if (end - offset < 8) return Fault.Truncated;
  const fixed = ndFixedSize(message[offset]!);
  if (fixed === 0) return Fault.BadType;
  if (end - offset < fixed) return Fault.Truncated;
  if (message[offset + 1] !== 0) return Fault.BadFlags;
  for (let at = offset + fixed; at < end; ) {
    const size = end - at < 8 ? 0 : message[at + 1]! * 8;
    if (size === 0 || size > end - at) return Fault.BadOption;
    at += size;
  }
  return Fault.None;
}

/** `null` where the type is no ND message. */
export function readNd(message: Uint8Array, offset: number, end = message.length): NdMessage | null {
  const type = message[offset]!;
  const options: NdOption[] = [];
  for (let at = offset + ndFixedSize(type); at < end; at += message[at + 1]! * 8)
    options.push({ type: message[at]!, data: message.slice(at + 2, at + message[at + 1]! * 8) });
  switch (type) {
    case Icmp6Type.RouterSolicitation:
      return { type, options };
    case Icmp6Type.RouterAdvertisement:
      return {
        type,
        hopLimit: message[offset + 4]!,
        flags: message[offset + 5]!,
        routerLifetimeS: read16(message, offset + 6),
        reachableTimeMs: read32(message, offset + 8),
        retransTimerMs: read32(message, offset + 12),
        options,
      };
    case Icmp6Type.NeighbourSolicitation:
      return { type, target: readIp6(message, offset + TARGET), options };
    case Icmp6Type.NeighbourAdvertisement:
      return { type, flags: message[offset + FLAGS]!, target: readIp6(message, offset + TARGET), options };
    case Icmp6Type.Redirect:
      return {
        type,
        target: readIp6(message, offset + TARGET),
        destination: readIp6(message, offset + DESTINATION),
        options,
      };
    default:
      return null;
  }
}

/** Writes the message with checksum 0 and returns its octets. */
export function writeNd(out: Uint8Array, offset: number, message: NdMessage): number {
  const fixed = ndFixedSize(message.type);
  out.fill(0, offset, offset + fixed);
  out[offset] = message.type;
  if (message.type === Icmp6Type.RouterAdvertisement) {
    out[offset + 4] = message.hopLimit;
    out[offset + 5] = message.flags;
    write16(out, offset + 6, message.routerLifetimeS);
    write32(out, offset + 8, message.reachableTimeMs);
    write32(out, offset + 12, message.retransTimerMs);
  } else if (message.type !== Icmp6Type.RouterSolicitation) {
    if (message.type === Icmp6Type.NeighbourAdvertisement) out[offset + FLAGS] = message.flags;
    writeIp6(out, offset + TARGET, message.target);
    if (message.type === Icmp6Type.Redirect) writeIp6(out, offset + DESTINATION, message.destination);
  }
  let at = offset + fixed;
  for (const { type, data } of message.options) {
    const size = Math.ceil((data.length + 2) / 8) * 8;
    out[at] = type;
    out[at + 1] = size / 8;
    out.set(data, at + 2);
    out.fill(0, at + 2 + data.length, at + size);
    at += size;
  }
  return at - offset;
}

/** The MAC in a source or target link-layer option, or null. */
export function linkLayerOf(options: readonly NdOption[], type: number): Uint8Array | null {
  const option = options.find((candidate) => candidate.type === type && candidate.data.length === 6);
  return option === undefined ? null : option.data;
}
