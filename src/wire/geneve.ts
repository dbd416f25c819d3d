/** Geneve (RFC 8926 section 3.4) with its options (section 3.5). Unknown critical options are the caller's to refuse. */
import { EtherType } from './ethernet.js';
import { Fault } from './fault.js';
import { read16, read24, write16, write24 } from './octets.js';

export const GENEVE_HEADER_MIN_SIZE = 8;
export const GENEVE_PORT = 6081;
const VERSION_LENGTH = 0;
const FLAGS = 1;
const PROTOCOL = 2;
const VNI = 4;
const FLAG_O = 0x80;
const FLAG_C = 0x40;
const OPTION_HEADER_SIZE = 4;
/** The high bit of an option's type. */
export const GENEVE_CRITICAL = 0x80;

export interface GeneveOption {
  optionClass: number;
  /** With its critical bit. */
  type: number;
  /** A multiple of 4 octets, at most 124. */
  data: Uint8Array;
}
export interface GeneveHeader {
  /** EtherType of what follows; 0x6558 for a frame. */
  protocolType: number;
  vni: number;
  options: GeneveOption[];
}

export const geneveHeaderSize = (packet: Uint8Array, offset: number): number =>
  GENEVE_HEADER_MIN_SIZE + (packet[offset + VERSION_LENGTH]! & 0x3f) * 4;

/** Section 3.4: another version is dropped; so is a control packet (O), which is for no endpoint behind us. */
export function checkGeneve(packet: Uint8Array, offset: number, end = packet.length): Fault {
  if (end - offset < GENEVE_HEADER_MIN_SIZE) return Fault.Truncated;
  if (packet[offset + VERSION_LENGTH]! >>> 6 !== 0) return Fault.BadVersion;
  if ((packet[offset + FLAGS]! & FLAG_O) !== 0) return Fault.BadFlags;
  const stop = offset + geneveHeaderSize(packet, offset);
  if (stop > end) return Fault.Truncated;
  for (let at = offset + GENEVE_HEADER_MIN_SIZE; at < stop; ) {
    at += OPTION_HEADER_SIZE + (packet[at + 3]! & 0x1f) * 4;
    if (at > stop) return Fault.BadOption;
  }
  return Fault.None;
}

export function readGeneve(packet: Uint8Array, offset: number): GeneveHeader {
  const options: GeneveOption[] = [];
  const stop = offset + geneveHeaderSize(packet, offset);
  for (let at = offset + GENEVE_HEADER_MIN_SIZE; at < stop; ) {
    const size = OPTION_HEADER_SIZE + (packet[at + 3]! & 0x1f) * 4;
    options.push({
      optionClass: read16(packet, at),
      type: packet[at + 2]!,
      data: packet.slice(at + OPTION_HEADER_SIZE, at + size),
    });
    at += size;
  }
  return { protocolType: read16(packet, offset + PROTOCOL), vni: read24(packet, offset + VNI), options };
}

export const hasCriticalOption = (options: readonly GeneveOption[]): boolean =>
  options.some(({ type }) => (type & GENEVE_CRITICAL) !== 0);

/** Returns the header's size; the C flag follows from the options. */
export function writeGeneve(out: Uint8Array, offset: number, header: GeneveHeader): number {
  let at = offset + GENEVE_HEADER_MIN_SIZE;
  for (const { optionClass, type, data } of header.options) {
    const size = Math.ceil(data.length / 4) * 4;
    write16(out, at, optionClass);
    out[at + 2] = type;
    out[at + 3] = size / 4;
    out.fill(0, at + OPTION_HEADER_SIZE, at + OPTION_HEADER_SIZE + size);
    out.set(data, at + OPTION_HEADER_SIZE);
    at += OPTION_HEADER_SIZE + size;
  }
  out[offset + VERSION_LENGTH] = (at - offset - GENEVE_HEADER_MIN_SIZE) / 4;
  out[offset + FLAGS] = hasCriticalOption(header.options) ? FLAG_C : 0;
  write16(out, offset + PROTOCOL, header.protocolType);
  write24(out, offset + VNI, header.vni);
  out[offset + 7] = 0;
  return at - offset;
}

/** The header that carries frames without options, as Antrea sends it. */
export const geneveOfFrame = (vni: number): GeneveHeader => ({
  protocolType: EtherType.TransparentEthernet,
  vni,
  options: [],
});
