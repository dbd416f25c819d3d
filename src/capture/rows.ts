/**
 * Where captured packets become rows of a batch, in place: the window lies in the batch's own data, so that no frame is
 * copied and no object made per packet. What a batch has no column for (a packet's own time, its pcapng interface, packets
 * that no engine sees) stands in CaptureRows.
 */
import { DropReason } from '../batch/drop-reason.js';
import { BATCH_OCTETS_LIMIT, BATCH_ROWS, Kind, PacketBatch, RowFlag } from '../batch/packet-batch.js';
import { parseRows } from '../batch/parse.js';
import { kernels } from '../native/kernels.js';
import { type LinkReader, MADE_HEADER_SIZE } from './link.js';
import { isTooLong, moveClock, putRow, S, type Scan, STATE_WORDS, wireLengthOf } from './scan.js';
import { time } from './time-words.js';
import type { Window } from './window.js';

/** A packet that is judged before the engine: it has a verdict line and a count, but no row. */
export interface EarlyDrop {
  /** It came before this row of its batch. */
  beforeRow: number;
  reason: number;
  timeLow: number;
  timeHigh: number;
  interfaceId: number;
  frameOctets: number;
  /** null without a sound IP header. */
  flow: EarlyFlow | null;
}
export interface EarlyFlow {
  family: 4 | 6;
  address: Uint32Array;
  protocol: number;
  srcPort: number;
  dstPort: number;
}

/** The flow of a parsed row, for when the row is not kept. */
export function flowOfRow(batch: PacketBatch, row: number): EarlyFlow | null {
  if ((batch.flags[row]! & RowFlag.Sound) === 0) return null;
  return {
    family: batch.kind[row] === Kind.Ip6 ? 6 : 4,
    address: batch.address.slice(row * 8, row * 8 + 8),
    protocol: batch.protocol[row]!,
    srcPort: batch.srcPort[row]!,
    dstPort: batch.dstPort[row]!,
  };
}

/** What belongs to a batch's rows beside its columns. One per batch in flight; fill() overwrites it. */
export class CaptureRows {
  /** Each packet's own time, two words, low first; the batch's timeNs never goes back, this may. */
  readonly ownTime = new Uint32Array(BATCH_ROWS * 2);
  readonly interfaceId = new Uint32Array(BATCH_ROWS);
  /** In capture order. */
  readonly early: EarlyDrop[] = [];
  /** Number of the batch's first packet, 1-based over all captures. */
  firstPacket = 1;
}

/** Octets of a too long frame that are looked at: all headers, extension headers included, in practice. */
const LONG_HEADERS_SIZE = 2048;

export class RowWriter {
  /** In-port that a packet gets: `inPort`, and with `perInterface` its interface's number more. */
  inPort = 0;
  perInterface = false;
  private packetsBefore = 0;
  private earlyCount = 0;
  private batch: PacketBatch | null = null;
  private rows: CaptureRows | null = null;
  private rowsLimit = BATCH_ROWS;
  private readonly state = new Uint32Array(STATE_WORDS);
  private scratch: PacketBatch | null = null;

  begin(batch: PacketBatch, rows: CaptureRows, rowsLimit: number): void {
    this.packetsBefore = this.packets;
    this.earlyCount = 0;
    this.batch = batch;
    this.rows = rows;
    this.rowsLimit = rowsLimit;
    this.state[S.count] = 0;
    this.state[S.octets] = 0;
    this.state[S.inPort] = this.inPort;
    this.state[S.inPortStep] = this.perInterface ? 1 : 0;
    batch.count = 0;
    rows.early.length = 0;
    rows.firstPacket = this.packetsBefore + 1;
  }

  /** Packets seen over all captures. */
  get packets(): number {
    return this.packetsBefore + this.taken;
  }
  /** Packets in the batch: rows and early drops. */
  get taken(): number {
    return this.state[S.count]! + this.earlyCount;
  }
  /** Where the last row's frame ends in the batch's data; 0 without a row. */
  get dataEnd(): number {
    const last = this.state[S.count]! - 1;
    return last < 0 ? 0 : this.batch!.offset[last]! + this.batch!.length[last]!;
  }
  /** The clock's words, for packets without a time of their own. */
  get latestLow(): number {
    return this.state[S.clockLow]!;
  }
  get latestHigh(): number {
    return this.state[S.clockHigh]!;
  }

  /** Takes ordinary packets from the window's start on, which moves behind them. */
  scan(window: Window, format: number, little: boolean, interfaces: Uint32Array): Scan {
    const { state } = this;
    const rows = this.rows!;
    state[S.format] = format;
    state[S.little] = little ? 1 : 0;
    state[S.position] = window.start;
    state[S.end] = window.end;
    state[S.rowsLimit] = this.rowsLimit - this.earlyCount;
    const stopped = kernels.scanRecords(this.batch!, state, interfaces, rows.ownTime, rows.interfaceId);
    window.start = state[S.position]!;
    this.batch!.count = state[S.count]!;
    return stopped;
  }

  /**
   * Takes one packet of `captured` octets at `position` of the window, at `time`; false when the batch is full and the packet
   * must come again with the next. The MADE_HEADER_SIZE octets before `position` belong to no frame (a record's header), so
   * that a link header may be written there.
   */
  row(position: number, captured: number, original: number, interfaceId: number, link: LinkReader): boolean {
    const batch = this.batch!;
    const rows = this.rows!;
    const { state } = this;
    if (this.taken >= this.rowsLimit) return false;
    if (isTooLong(link, captured, original)) {
      moveClock(state);
      this.earlyCount++;
      rows.early.push({
        beforeRow: state[S.count]!,
        reason: DropReason.FrameTooLong,
        timeLow: time.low,
        timeHigh: time.high,
        interfaceId,
        frameOctets: Math.max(original, captured),
        flow: this.flowOfLong(position, captured, wireLengthOf(link, captured, original), link),
      });
      return true;
    }
    if (state[S.octets]! + captured + MADE_HEADER_SIZE > BATCH_OCTETS_LIMIT) return false;
    putRow(batch, state, rows.ownTime, rows.interfaceId, link, interfaceId, position, captured, original);
    batch.count = state[S.count]!;
    return true;
  }

  /** The headers of a frame that is too long for a batch still say whose it is. */
  private flowOfLong(position: number, captured: number, wireLength: number, link: LinkReader): EarlyFlow | null {
    this.scratch ??= new PacketBatch();
    const scratch = this.scratch;
    const size = Math.min(captured, LONG_HEADERS_SIZE);
    if (size < link.headerSize) return null;
    scratch.data.set(this.batch!.data.subarray(position, position + size), MADE_HEADER_SIZE);
    link.writeEthernet(scratch.data, MADE_HEADER_SIZE, size);
    const replaced = link.replaces ? MADE_HEADER_SIZE - link.headerSize : 0;
    scratch.offset[0] = MADE_HEADER_SIZE - replaced;
    scratch.length[0] = size + replaced;
    scratch.wireLength[0] = wireLength;
    parseRows(scratch, 0, 1);
    return flowOfRow(scratch, 0);
  }
}

/** One interface's words for `scan`: INTERFACE_WORDS. */
export const interfaceWords = (link: LinkReader, nsPerUnit: number): number[] => [link.kind, nsPerUnit];
