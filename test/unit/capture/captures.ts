/** Captures and frames for tests, built octet by octet: no file of anyone else's. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PacketBatch } from '../../../src/batch/packet-batch.js';
import { CaptureReader } from '../../../src/capture/reader.js';
import { CaptureRows } from '../../../src/capture/rows.js';
import { internetChecksum, transportChecksum } from '../../../src/wire/checksum.js';

export interface Packet {
  /** ns since 1970. */
  timeNs?: bigint;
  octets: Uint8Array;
  /** Octets on the wire; those captured by default. */
  original?: number;
  interfaceId?: number;
}

export class Octets {
  private readonly parts: number[] = [];
  constructor(readonly little: boolean) {}
  u8(...values: number[]): this {
    this.parts.push(...values.map((value) => value & 0xff));
    return this;
  }
  u16(value: number): this {
    return this.little ? this.u8(value, value >>> 8) : this.u8(value >>> 8, value);
  }
  u32(value: number): this {
    return this.little ? this.u16(value & 0xffff).u16(value >>> 16) : this.u16(value >>> 16).u16(value & 0xffff);
  }
  raw(octets: Uint8Array): this {
    for (const octet of octets) this.parts.push(octet);
    return this;
  }
  pad(): this {
    while (this.parts.length % 4 !== 0) this.parts.push(0);
    return this;
  }
  get size(): number {
    return this.parts.length;
  }
  done(): Uint8Array {
    return Uint8Array.from(this.parts);
  }
}

export function pcap(
  packets: readonly Packet[],
  { little = true, nanoseconds = false, linkType = 1, snapLength = 65_535 } = {},
): Uint8Array {
  const file = new Octets(little)
    .u32(nanoseconds ? 0xa1b23c4d : 0xa1b2c3d4)
    .u16(2)
    .u16(4)
    .u32(0)
    .u32(0)
    .u32(snapLength)
    .u32(linkType);
  for (const { timeNs = 0n, octets, original } of packets) {
    const fraction = timeNs % 1_000_000_000n;
    file.u32(Number(timeNs / 1_000_000_000n)).u32(Number(nanoseconds ? fraction : fraction / 1000n));
    file
      .u32(octets.length)
      .u32(original ?? octets.length)
      .raw(octets);
  }
  return file.done();
}

export function block(little: boolean, type: number, body: Uint8Array): Uint8Array {
  const size = 12 + ((body.length + 3) & ~3);
  return new Octets(little).u32(type).u32(size).raw(body).pad().u32(size).done();
}
export const section = (little = true): Uint8Array =>
  block(little, 0x0a0d0d0a, new Octets(little).u32(0x1a2b3c4d).u16(1).u16(0).u32(0xffffffff).u32(0xffffffff).done());

export function interfaceBlock({
  little = true,
  linkType = 1,
  snapLength = 0,
  resolution,
  offsetSeconds,
}: {
  little?: boolean;
  linkType?: number;
  snapLength?: number;
  resolution?: number;
  offsetSeconds?: bigint;
} = {}): Uint8Array {
  const body = new Octets(little).u16(linkType).u16(0).u32(snapLength);
  if (resolution !== undefined) body.u16(9).u16(1).u8(resolution).pad();
  if (offsetSeconds !== undefined) {
    const low = Number(BigInt.asUintN(32, offsetSeconds));
    const high = Number(BigInt.asUintN(32, offsetSeconds >> 32n));
    body.u16(14).u16(8);
    if (little) body.u32(low).u32(high);
    else body.u32(high).u32(low);
  }
  return block(little, 1, body.u16(0).u16(0).done());
}
export function enhancedPacket(units: bigint, packet: Packet, little = true): Uint8Array {
  const { octets, original, interfaceId = 0 } = packet;
  const body = new Octets(little)
    .u32(interfaceId)
    .u32(Number(units >> 32n))
    .u32(Number(units & 0xffffffffn));
  return block(
    little,
    6,
    body
      .u32(octets.length)
      .u32(original ?? octets.length)
      .raw(octets)
      .done(),
  );
}
export const concat = (...parts: Uint8Array[]): Uint8Array => Uint8Array.from(parts.flatMap((part) => [...part]));

const folder = mkdtempSync(join(tmpdir(), 'seine-capture-'));
let files = 0;
/** A temporary file of these octets. */
export function file(octets: Uint8Array, ending = 'pcap'): string {
  const path = join(folder, `${files++}.${ending}`);
  writeFileSync(path, octets);
  return path;
}

export interface ReadPacket {
  frame: Uint8Array;
  wireLength: number;
  frameOctets: number;
  /** The engine's clock, and the packet's own time. */
  clockNs: bigint;
  ownNs: bigint;
  interfaceId: number;
}
export interface ReadResult {
  packets: ReadPacket[];
  early: { reason: number; before: number; frameOctets: number }[];
  warnings: string[];
  cutOff: boolean;
  error: unknown;
}

const u64 = (words: Uint32Array, at: number): bigint => (BigInt(words[at + 1]!) << 32n) | BigInt(words[at]!);

/** Everything a reader gives, until its end or its error. */
export async function readAll(paths: string[], rowsPerBatch = 4096): Promise<ReadResult> {
  const result: ReadResult = { packets: [], early: [], warnings: [], cutOff: false, error: null };
  const reader = new CaptureReader(paths, { onWarning: (line) => result.warnings.push(line), rowsPerBatch });
  const batch = new PacketBatch();
  const rows = new CaptureRows();
  try {
    while ((await reader.fill(batch, rows)) > 0) {
      for (const { reason, beforeRow, frameOctets } of rows.early) {
        result.early.push({ reason, before: result.packets.length + beforeRow, frameOctets });
      }
      for (let row = 0; row < batch.count; row++) {
        const from = batch.offset[row]!;
        result.packets.push({
          frame: batch.data.slice(from, from + batch.length[row]!),
          wireLength: batch.wireLength[row]!,
          frameOctets: batch.frameOctets[row]!,
          clockNs: u64(batch.timeNs, row * 2),
          ownNs: u64(rows.ownTime, row * 2),
          interfaceId: rows.interfaceId[row]!,
        });
      }
    }
  } catch (error) {
    result.error = error;
  }
  result.cutOff = reader.cutOff;
  await reader.close();
  return result;
}

const hex = (text: string): Uint8Array =>
  Uint8Array.from(text.replace(/\s/g, '').match(/../g) ?? [], (octet) => Number.parseInt(octet, 16));
export const mac = (text: string): Uint8Array => hex(text.replaceAll(':', ''));
const ip4 = (text: string): number[] => text.split('.').map(Number);

export interface FrameFields {
  src?: string;
  dst?: string;
  srcMac?: string;
  dstMac?: string;
  protocol?: number;
  ttl?: number;
  payload?: Uint8Array;
  /** identification, then flags and offset */
  id?: number;
  fragment?: number;
}
export function ipv4({
  src = '10.0.0.1',
  dst = '10.0.0.2',
  protocol = 17,
  ttl = 64,
  payload = new Uint8Array(8),
  id = 0,
  fragment = 0,
}: FrameFields = {}): Uint8Array {
  const header = new Octets(false)
    .u8(0x45, 0)
    .u16(20 + payload.length)
    .u16(id)
    .u16(fragment)
    .u8(ttl, protocol)
    .u16(0);
  const packet = header
    .u8(...ip4(src), ...ip4(dst))
    .raw(payload)
    .done();
  const checksum = internetChecksum(packet, 0, 20);
  packet[10] = checksum >>> 8;
  packet[11] = checksum & 0xff;
  return packet;
}
function withChecksum(packet: Uint8Array, protocol: number, field: number): Uint8Array {
  const checksum = transportChecksum(packet, 12, 4, protocol, 20, packet.length - 20);
  packet[20 + field] = checksum >>> 8;
  packet[20 + field + 1] = checksum & 0xff;
  return packet;
}
export const udp = (srcPort: number, dstPort: number, payload: Uint8Array = new Uint8Array(0)): Uint8Array =>
  new Octets(false)
    .u16(srcPort)
    .u16(dstPort)
    .u16(8 + payload.length)
    .u16(0)
    .raw(payload)
    .done();
export function udp4(fields: FrameFields & { srcPort?: number; dstPort?: number } = {}): Uint8Array {
  const { srcPort = 1000, dstPort = 2000, payload = new Uint8Array(4) } = fields;
  return withChecksum(ipv4({ ...fields, protocol: 17, payload: udp(srcPort, dstPort, payload) }), 17, 6);
}
export function tcp4(
  fields: FrameFields & {
    srcPort?: number;
    dstPort?: number;
    flags?: number;
    seq?: number;
    ack?: number;
    offset?: number;
  } = {},
): Uint8Array {
  const {
    srcPort = 40_000,
    dstPort = 80,
    flags = 2,
    seq = 1000,
    ack = 0,
    offset = 5,
    payload = new Uint8Array(0),
  } = fields;
  const segment = new Octets(false)
    .u16(srcPort)
    .u16(dstPort)
    .u32(seq)
    .u32(ack)
    .u8(offset << 4, flags)
    .u16(65_535)
    .u16(0)
    .u16(0);
  return withChecksum(ipv4({ ...fields, protocol: 6, payload: segment.raw(payload).done() }), 6, 16);
}
export const ethernet = (
  packet: Uint8Array,
  etherType = 0x0800,
  { srcMac = '02:00:00:00:00:01', dstMac = '02:00:00:00:00:02' }: FrameFields = {},
): Uint8Array => concat(mac(dstMac), mac(srcMac), Uint8Array.of(etherType >>> 8, etherType & 0xff), packet);
