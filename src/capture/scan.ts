/**
 * The walk over a capture's ordinary packets: records that lie whole in the window become rows in place, one call for as
 * many as there are. What is out of the ordinary (a header block, a fault, a frame that is too long, a time in odd units)
 * stops it, and pcap.ts or pcapng.ts deals with that one. Reference of native/capture.cc.
 */
import { BATCH_OCTETS_LIMIT, FRAME_MAX_SIZE, type PacketBatch } from '../batch/packet-batch.js';
import { type LinkReader, linkOfKind, MADE_HEADER_SIZE } from './link.js';
import { fromSeconds, fromUnits, time } from './time-words.js';

/** Why a scan stopped. Other: the record at `position` is not an ordinary packet. */
export const Scan = { NeedMore: 0, Full: 1, Other: 2 } as const;
export type Scan = (typeof Scan)[keyof typeof Scan];

/** Words of a scan's state. */
export const S = {
  format: 0, // Format.*
  little: 1, // 1: the file's numbers are little-endian
  position: 2, // of the next record in `data`; moved on
  end: 3, // of the octets that are there
  rowsLimit: 4, // rows that the batch may have
  count: 5, // rows so far; moved on
  octets: 6, // captured octets of all rows so far; moved on
  clockLow: 7, // the latest time so far; moved on
  clockHigh: 8,
  inPort: 9, // in-port of a packet of interface 0
  inPortStep: 10, // what the next interface adds to it: 0 or 1
} as const;
export const STATE_WORDS = 16;
export const Format = { Pcap: 0, Pcapng: 1 } as const;

/** An interface's words: its link's kind, and ns per unit of time (0: odd units, which are no ordinary packets). */
export const INTERFACE_WORDS = 2;

/** Octets that one captured packet may have: tcpdump's own limit. */
export const CAPTURED_MAX_SIZE = 262_144;
/** Octets that a pcapng packet block may have beside the packet: its options. */
export const PACKET_OPTIONS_MAX_SIZE = 256 * 1024;

export const PCAP_RECORD_HEADER_SIZE = 16;
const ENHANCED_PACKET = 6,
  ENHANCED_HEADER_SIZE = 28,
  ENHANCED_LEAST_SIZE = 32;

/**
 * Scans `data` from the state's position on, and moves state and columns on. `interfaces`: INTERFACE_WORDS for each; of pcap
 * one. `ownTime` and `interfaceId` are CaptureRows'. Returns Scan.*. The 14 octets before a packet belong to no frame.
 */
export function scanRecords(
  batch: PacketBatch,
  state: Uint32Array,
  interfaces: Uint32Array,
  ownTime: Uint32Array,
  interfaceId: Uint32Array,
): Scan {
  const { data } = batch;
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const little = state[S.little] !== 0;
  const pcapng = state[S.format] === Format.Pcapng;
  const end = state[S.end]!;
  for (;;) {
    const at = state[S.position]!;
    let id = 0;
    let captured: number;
    let original: number;
    let packet: number;
    let next: number;
    if (pcapng) {
      if (end - at < 12) return Scan.NeedMore;
      if (view.getUint32(at, little) !== ENHANCED_PACKET) return Scan.Other;
      const size = view.getUint32(at + 4, little);
      if (size < ENHANCED_LEAST_SIZE || size % 4 !== 0 || size > CAPTURED_MAX_SIZE + PACKET_OPTIONS_MAX_SIZE)
        return Scan.Other;
      if (size > end - at) return Scan.NeedMore;
      id = view.getUint32(at + 8, little);
      captured = view.getUint32(at + 20, little);
      original = view.getUint32(at + 24, little);
      const last = view.getUint32(at + size - 4, little);
      if (last !== size || captured > CAPTURED_MAX_SIZE || captured > size - ENHANCED_LEAST_SIZE) return Scan.Other;
      if (id >= interfaces.length / INTERFACE_WORDS || interfaces[id * INTERFACE_WORDS + 1] === 0) return Scan.Other;
      packet = at + ENHANCED_HEADER_SIZE;
      next = at + size;
    } else {
      if (end - at < PCAP_RECORD_HEADER_SIZE) return Scan.NeedMore;
      captured = view.getUint32(at + 8, little);
      original = view.getUint32(at + 12, little);
      if (captured > CAPTURED_MAX_SIZE) return Scan.Other;
      if (end - at - PCAP_RECORD_HEADER_SIZE < captured) return Scan.NeedMore;
      packet = at + PCAP_RECORD_HEADER_SIZE;
      next = packet + captured;
    }
    if (state[S.count]! >= state[S.rowsLimit]!) return Scan.Full;
    const link = linkOfKind(interfaces[id * INTERFACE_WORDS]!);
    if (isTooLong(link, captured, original)) return Scan.Other;
    if (state[S.octets]! + captured + MADE_HEADER_SIZE > BATCH_OCTETS_LIMIT) return Scan.Full;
    const nsPerUnit = interfaces[id * INTERFACE_WORDS + 1]!;
    if (pcapng) fromUnits(view.getUint32(at + 12, little), view.getUint32(at + 16, little), nsPerUnit);
    else fromSeconds(view.getUint32(at, little), view.getUint32(at + 4, little) * nsPerUnit);
    putRow(batch, state, ownTime, interfaceId, link, id, packet, captured, original);
    state[S.position] = next;
  }
}

/** Octets on the wire of the frame as a row has it: with Ethernet's header in place of the link's own. */
export const wireLengthOf = (link: LinkReader, captured: number, original: number): number => {
  const onWire = Math.max(original, captured);
  return link.replaces ? Math.max(0, onWire - link.headerSize + MADE_HEADER_SIZE) : onWire;
};
export const isTooLong = (link: LinkReader, captured: number, original: number): boolean =>
  wireLengthOf(link, captured, original) > FRAME_MAX_SIZE || captured > FRAME_MAX_SIZE + link.headerSize;

/** Takes a packet of `captured` octets at `packet` as the next row, at `time`. */
export function putRow(
  batch: PacketBatch,
  state: Uint32Array,
  ownTime: Uint32Array,
  interfaceId: Uint32Array,
  link: LinkReader,
  id: number,
  packet: number,
  captured: number,
  original: number,
): void {
  const row = state[S.count]!;
  moveClock(state);
  let offset = packet;
  let length = captured;
  if (link.replaces) {
    if (captured < link.headerSize) {
      length = 0; // not even a link header: Parse says frame-truncated
    } else {
      link.writeEthernet(batch.data, packet, captured);
      offset = packet + link.headerSize - MADE_HEADER_SIZE;
      length = captured - link.headerSize + MADE_HEADER_SIZE;
    }
  }
  batch.offset[row] = offset;
  batch.length[row] = length;
  batch.wireLength[row] = wireLengthOf(link, captured, original);
  batch.frameOctets[row] = Math.max(original, captured);
  batch.timeNs[row * 2] = state[S.clockLow]!;
  batch.timeNs[row * 2 + 1] = state[S.clockHigh]!;
  batch.inPort[row] = state[S.inPort]! + state[S.inPortStep]! * id;
  ownTime[row * 2] = time.low;
  ownTime[row * 2 + 1] = time.high;
  interfaceId[row] = id;
  state[S.octets] = state[S.octets]! + captured;
  state[S.count] = row + 1;
}

/** The clock is the latest time so far. */
export function moveClock(state: Uint32Array): void {
  const { low, high } = time;
  if (high > state[S.clockHigh]! || (high === state[S.clockHigh] && low > state[S.clockLow]!)) {
    state[S.clockHigh] = high;
    state[S.clockLow] = low;
  }
}
