/**
 * Where captured packets become rows of a batch. Octets are copied once per run of records, record headers included, so
 * frames lie in `data` with gaps; no object is made per packet. What a batch has no column for (a packet's own time, its
 * pcapng interface, packets that no engine sees) stands in CaptureRows.
 */
import { DropReason } from '../batch/drop-reason.js';
import {
  BATCH_DATA_SIZE,
  BATCH_OCTETS_LIMIT,
  BATCH_ROWS,
  FRAME_MAX_SIZE,
  Kind,
  PacketBatch,
  RowFlag,
} from '../batch/packet-batch.js';
import { parseRows } from '../batch/parse.js';
import { ETHERNET, type LinkReader, MADE_HEADER_SIZE } from './link.js';

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

/** Why a format's scan stopped. */
export const Scan = { NeedMore: 0, Full: 1 } as const;
export type Scan = (typeof Scan)[keyof typeof Scan];

export class RowWriter {
  /** Packets seen over all captures. */
  packets = 0;
  private batch: PacketBatch | null = null;
  private rows: CaptureRows | null = null;
  private window: Uint8Array = new Uint8Array(0);
  private rowsLimit = BATCH_ROWS;
  private dataAt = 0;
  private octets = 0;
  private runStart = -1;
  private runEnd = 0;
  private runRow = 0;
  private runLink: LinkReader = ETHERNET;
  private scratch: PacketBatch | null = null;
  /** The latest time so far over all captures: the engine's clock. */
  private clockLow = 0;
  private clockHigh = 0;

  begin(batch: PacketBatch, rows: CaptureRows, rowsLimit: number): void {
    this.batch = batch;
    this.rows = rows;
    this.rowsLimit = rowsLimit;
    this.dataAt = 0;
    this.octets = 0;
    this.runStart = -1;
    batch.count = 0;
    rows.early.length = 0;
    rows.firstPacket = this.packets + 1;
  }

  /** The octets that positions of `row` refer to; call flush() before they move. */
  setWindow(window: Uint8Array): void {
    this.window = window;
  }

  /** The clock's words, for packets without a time of their own. */
  get latestLow(): number {
    return this.clockLow;
  }
  get latestHigh(): number {
    return this.clockHigh;
  }

  /**
   * Takes one packet of `captured` octets at `position` of the window; false when the batch is full and the packet must come
   * again with the next. At least one octet range of MADE_HEADER_SIZE before `position` belongs to no frame (a record's
   * header), so that a link header may be written there.
   */
  row(
    position: number,
    captured: number,
    original: number,
    timeLow: number,
    timeHigh: number,
    interfaceId: number,
    link: LinkReader,
  ): boolean {
    const batch = this.batch!;
    const rows = this.rows!;
    const row = batch.count;
    const onWire = original > captured ? original : captured;
    const wireLength = link === ETHERNET ? onWire : Math.max(0, onWire - link.headerSize + MADE_HEADER_SIZE);
    if (row + rows.early.length >= this.rowsLimit) return false;
    const tooLong = wireLength > FRAME_MAX_SIZE || captured > FRAME_MAX_SIZE + link.headerSize;
    if (!tooLong) {
      if (this.octets + captured + MADE_HEADER_SIZE > BATCH_OCTETS_LIMIT) return false;
      if (this.runStart >= 0 && link !== this.runLink) this.flush();
      const from = this.runStart >= 0 ? this.runStart : Math.max(0, position - MADE_HEADER_SIZE);
      const at = this.runStart >= 0 ? this.dataAt : this.dataAt + MADE_HEADER_SIZE;
      if (at + (position + captured - from) > BATCH_DATA_SIZE) return false;
      if (this.runStart < 0) {
        this.runStart = from;
        this.dataAt = at;
        this.runRow = row;
        this.runLink = link;
      }
    }
    if (timeHigh > this.clockHigh || (timeHigh === this.clockHigh && timeLow > this.clockLow)) {
      this.clockHigh = timeHigh;
      this.clockLow = timeLow;
    }
    this.packets++;
    if (tooLong) {
      rows.early.push({
        beforeRow: row,
        reason: DropReason.FrameTooLong,
        timeLow,
        timeHigh,
        interfaceId,
        frameOctets: onWire,
        flow: this.flowOfLong(position, captured, wireLength, link),
      });
      return true;
    }
    this.runEnd = position + captured;
    this.octets += captured;
    batch.offset[row] = this.dataAt + (position - this.runStart);
    batch.length[row] = captured;
    batch.wireLength[row] = wireLength;
    batch.frameOctets[row] = onWire;
    batch.timeNs[row * 2] = this.clockLow;
    batch.timeNs[row * 2 + 1] = this.clockHigh;
    batch.inPort[row] = 0;
    rows.ownTime[row * 2] = timeLow;
    rows.ownTime[row * 2 + 1] = timeHigh;
    rows.interfaceId[row] = interfaceId;
    batch.count = row + 1;
    return true;
  }

  /** The headers of a frame that is too long for a batch still say whose it is. */
  private flowOfLong(position: number, captured: number, wireLength: number, link: LinkReader): EarlyFlow | null {
    this.scratch ??= new PacketBatch();
    const scratch = this.scratch;
    const size = Math.min(captured, LONG_HEADERS_SIZE);
    if (size < link.headerSize) return null;
    scratch.data.set(this.window.subarray(position, position + size), MADE_HEADER_SIZE);
    link.writeEthernet(scratch.data, MADE_HEADER_SIZE, size);
    const replaced = link === ETHERNET ? 0 : MADE_HEADER_SIZE - link.headerSize;
    scratch.offset[0] = MADE_HEADER_SIZE - replaced;
    scratch.length[0] = size + replaced;
    scratch.wireLength[0] = wireLength;
    parseRows(scratch, 0, 1);
    return flowOfRow(scratch, 0);
  }

  /** Copies the run's octets into the batch and puts Ethernet headers where the link has others. */
  flush(): void {
    if (this.runStart < 0) return;
    const batch = this.batch!;
    batch.data.set(this.window.subarray(this.runStart, this.runEnd), this.dataAt);
    this.dataAt += this.runEnd - this.runStart;
    this.runStart = -1;
    if (this.runLink === ETHERNET) return;
    for (let row = this.runRow; row < batch.count; row++) {
      const header = this.runLink.headerSize;
      const offset = batch.offset[row]!;
      const length = batch.length[row]!;
      if (length < header) {
        // Not even a link header: Parse says frame-truncated.
        batch.length[row] = 0;
        continue;
      }
      this.runLink.writeEthernet(batch.data, offset, length);
      batch.offset[row] = offset + header - MADE_HEADER_SIZE;
      batch.length[row] = length - header + MADE_HEADER_SIZE;
    }
  }
}
