/**
 * `replay --decapsulate`: rows whose packet is carried in VXLAN (RFC 7348), Geneve (RFC 8926), GRE (RFC 2784, 2890) or STT
 * (draft-davie-stt-08) become the packet inside, in place; what is in no tunnel stays. A malformed carrier leaves the batch as
 * an early drop. One layer is taken off. Left as they are, for they can't be opened one by one: fragments of carriers,
 * STT segments behind a frame's first, GRE and Geneve of protocols other than Ethernet and IP.
 */
import { DropReason } from '../batch/drop-reason.js';
import { type PacketBatch, RowFlag } from '../batch/packet-batch.js';
import { kernels } from '../native/kernels.js';
import { checksumAdd, checksumFold } from '../wire/checksum.js';
import { MADE_HEADER_SIZE } from './link.js';
import { type CaptureRows, type EarlyDrop, flowOfRow } from './rows.js';

const TCP = 6,
  UDP = 17,
  GRE = 47;
const VXLAN_PORT = 4789,
  GENEVE_PORT = 6081,
  STT_PORT = 7471;
const ETHER_IP4 = 0x0800,
  ETHER_IP6 = 0x86dd,
  TRANSPARENT_ETHERNET = 0x6558;
const VXLAN_HEADER_SIZE = 8,
  GENEVE_HEADER_SIZE = 8,
  GRE_HEADER_SIZE = 4,
  STT_HEADER_SIZE = 18;
const TCP_HEADER_SIZE = 20;

let data: Uint8Array;
const u16 = (at: number): number => (data[at]! << 8) | data[at + 1]!;

/** What a carrier holds: set by the readers below. `protocol` is an EtherType, TRANSPARENT_ETHERNET for a whole frame. */
const inner = { at: 0, end: 0, protocol: 0 };
const AS_IT_IS = 0xff;

/** Needs a filled batch whose rows were not submitted. Updates `rows` where rows leave. */
export function decapsulateRows(batch: PacketBatch, rows: CaptureRows): void {
  kernels.parseRows(batch, 0, batch.count);
  data = batch.data;
  let drops: { row: number; reason: number }[] | null = null;
  for (let row = 0; row < batch.count; row++) {
    const reason = open(batch, row);
    if (reason === AS_IT_IS) continue;
    if (reason !== DropReason.None) {
      drops ??= [];
      drops.push({ row, reason });
    } else replace(batch, row);
  }
  if (drops !== null) takeOut(batch, rows, drops);
}

/** Finds the packet inside a row's frame: sets `inner`, or says why it is dropped or left. Positions are in `data`. */
function open(batch: PacketBatch, row: number): number {
  const flags = batch.flags[row]!;
  if ((flags & RowFlag.Sound) === 0 || (flags & (RowFlag.FragmentFirst | RowFlag.FragmentLater)) !== 0) return AS_IT_IS;
  if (batch.l4Offset[row] === 0) return AS_IT_IS;
  const frame = batch.offset[row]!;
  const there = frame + batch.length[row]!;
  const at = frame + batch.l4Offset[row]!;
  const end = frame + batch.l3Offset[row]! + batch.ipLength[row]!;
  const fault = batch.fault[row]!;
  switch (batch.protocol[row]) {
    case UDP: {
      const port = batch.dstPort[row];
      if (fault !== 0 || (port !== VXLAN_PORT && port !== GENEVE_PORT)) return AS_IT_IS;
      const payloadEnd = at + u16(at + 4);
      return port === VXLAN_PORT ? openVxlan(at + 8, there, payloadEnd) : openGeneve(at + 8, there, payloadEnd);
    }
    case GRE:
      return fault !== 0 ? AS_IT_IS : openGre(at, there, end);
    case TCP:
      // STT's flags mean nothing (draft section 3.2), so such a fault does not count.
      if (batch.dstPort[row] !== STT_PORT || (fault !== 0 && fault !== DropReason.TcpInvalidFlags)) return AS_IT_IS;
      return openStt(at, there, end);
    default:
      return AS_IT_IS;
  }
}

function holds(at: number, end: number, protocol: number): number {
  if (protocol === TRANSPARENT_ETHERNET && end - at < 14) return DropReason.TunnelMalformed;
  inner.at = at;
  inner.end = end;
  inner.protocol = protocol;
  return DropReason.None;
}

function openVxlan(at: number, there: number, end: number): number {
  if (Math.min(there, end) - at < VXLAN_HEADER_SIZE || (data[at]! & 0x08) === 0) return DropReason.TunnelMalformed;
  return holds(at + VXLAN_HEADER_SIZE, end, TRANSPARENT_ETHERNET);
}

function openGeneve(at: number, there: number, end: number): number {
  const stop = Math.min(there, end);
  if (stop - at < GENEVE_HEADER_SIZE) return DropReason.TunnelMalformed;
  const version = data[at]! >>> 6;
  const control = (data[at + 1]! & 0x80) !== 0;
  const optionsEnd = at + GENEVE_HEADER_SIZE + (data[at]! & 0x3f) * 4;
  if (version !== 0 || control || optionsEnd > stop) return DropReason.TunnelMalformed;
  let critical = (data[at + 1]! & 0x40) !== 0;
  for (let option = at + GENEVE_HEADER_SIZE; option < optionsEnd; ) {
    critical ||= (data[option + 2]! & 0x80) !== 0;
    option += 4 + (data[option + 3]! & 0x1f) * 4;
    if (option > optionsEnd) return DropReason.TunnelMalformed;
  }
  // No option is known here, so a critical one is an unknown one.
  if (critical) return DropReason.TunnelCriticalOption;
  const protocol = u16(at + 2);
  return opensAs(protocol) ? holds(optionsEnd, end, protocol) : AS_IT_IS;
}

const opensAs = (protocol: number): boolean =>
  protocol === TRANSPARENT_ETHERNET || protocol === ETHER_IP4 || protocol === ETHER_IP6;

function openGre(at: number, there: number, end: number): number {
  const stop = Math.min(there, end);
  if (stop - at < GRE_HEADER_SIZE) return DropReason.TunnelMalformed;
  const flags = u16(at);
  const protocol = u16(at + 2);
  // Version 1 is PPTP's (RFC 2637), and ERSPAN and others have protocols of their own: no tunnel of ours.
  if ((flags & 7) === 1 || !opensAs(protocol)) return AS_IT_IS;
  // RFC 2784 section 2.3: of bits 1–5, only those of RFC 2890 may be set; routing (RFC 1701) is not understood.
  if ((flags & 7) !== 0 || (flags & 0x4c00) !== 0) return DropReason.TunnelMalformed;
  const size =
    4 + ((flags & 0x8000) !== 0 ? 4 : 0) + ((flags & 0x2000) !== 0 ? 4 : 0) + ((flags & 0x1000) !== 0 ? 4 : 0);
  if (stop - at < size) return DropReason.TunnelMalformed;
  if ((flags & 0x8000) !== 0 && there >= end && checksumFold(checksumAdd(data, at, end - at)) !== 0xffff) {
    return DropReason.TunnelMalformed;
  }
  return holds(at + size, end, protocol);
}

/**
 * A TCP-like header whose sequence number is the STT frame's length and this segment's place in it; the first segment has
 * STT's own header. The frame inside counts with the length that it has over all its segments.
 */
function openStt(at: number, there: number, end: number): number {
  const stop = Math.min(there, end);
  const frameLength = u16(at + 4);
  if (u16(at + 6) !== 0) return AS_IT_IS;
  if ((data[at + 12]! >>> 4) * 4 !== TCP_HEADER_SIZE) return DropReason.TunnelMalformed;
  const header = at + TCP_HEADER_SIZE;
  if (stop - header < STT_HEADER_SIZE || data[header] !== 0) return DropReason.TunnelMalformed;
  if (frameLength < STT_HEADER_SIZE || header + frameLength < end) return DropReason.TunnelMalformed;
  return holds(header + STT_HEADER_SIZE, header + frameLength, TRANSPARENT_ETHERNET);
}

/** Makes the row the packet at `inner`. The carrier's header is long enough for a made Ethernet header before an IP packet. */
function replace(batch: PacketBatch, row: number): void {
  const there = batch.offset[row]! + batch.length[row]!;
  let { at } = inner;
  if (inner.protocol !== TRANSPARENT_ETHERNET) {
    at -= MADE_HEADER_SIZE;
    data.fill(0, at, at + 12);
    data[at + 12] = inner.protocol >>> 8;
    data[at + 13] = inner.protocol & 0xff;
  }
  batch.offset[row] = at;
  batch.length[row] = Math.max(0, Math.min(there, inner.end) - at);
  batch.wireLength[row] = inner.end - at;
}

/** Moves the named rows from the batch to `rows.early`, in capture order. */
function takeOut(batch: PacketBatch, rows: CaptureRows, drops: readonly { row: number; reason: number }[]): void {
  const before = rows.early.slice();
  const early: EarlyDrop[] = [];
  let nextBefore = 0;
  let nextDrop = 0;
  let kept = 0;
  const { ownTime, interfaceId } = rows;
  for (let row = 0; row <= batch.count; row++) {
    while (nextBefore < before.length && before[nextBefore]!.beforeRow === row) {
      early.push({ ...before[nextBefore++]!, beforeRow: kept });
    }
    if (row === batch.count) break;
    if (nextDrop < drops.length && drops[nextDrop]!.row === row) {
      early.push({
        beforeRow: kept,
        reason: drops[nextDrop++]!.reason,
        timeLow: ownTime[row * 2]!,
        timeHigh: ownTime[row * 2 + 1]!,
        interfaceId: interfaceId[row]!,
        frameOctets: batch.frameOctets[row]!,
        flow: flowOfRow(batch, row),
      });
      continue;
    }
    if (kept !== row) {
      batch.offset[kept] = batch.offset[row]!;
      batch.length[kept] = batch.length[row]!;
      batch.wireLength[kept] = batch.wireLength[row]!;
      batch.frameOctets[kept] = batch.frameOctets[row]!;
      batch.inPort[kept] = batch.inPort[row]!;
      interfaceId[kept] = interfaceId[row]!;
      for (let word = 0; word < 2; word++) {
        batch.timeNs[kept * 2 + word] = batch.timeNs[row * 2 + word]!;
        ownTime[kept * 2 + word] = ownTime[row * 2 + word]!;
      }
    }
    kept++;
  }
  batch.count = kept;
  rows.early.length = 0;
  rows.early.push(...early);
}
