/**
 * Captures into batches: pcap (libpcap savefile; µs and ns, both byte orders) and pcapng (draft-ietf-opsawg-pcapng), .gz
 * and standard input. Fills rows in place, no object per packet. Times are exact ns. A capture cut off in mid-record
 * gives what was read and a warning.
 */
import { BATCH_DATA_SIZE, BATCH_ROWS, FRAME_MAX_SIZE, type PacketBatch } from '../batch/packet-batch.js';
import { SeineError } from '../errors.js';
import { ETHERNET_HEADER, LinkType, linkTypeIsKnown, readLinkHeader } from './link.js';
import { ByteSource } from './source.js';

/** More than any link layer's frame: such a record is damage. */
const RECORD_MAX = 1 << 20;
/** A block of pcapng may hold options and several structures beside a frame. */
const BLOCK_MAX = 1 << 24;
const MAGICS = new Map([
  [0xa1b2c3d4, { little: false, ns: false }],
  [0xa1b23c4d, { little: false, ns: true }],
  [0xd4c3b2a1, { little: true, ns: false }],
  [0x4d3cb2a1, { little: true, ns: true }],
]);

interface Interface {
  linkType: number;
  snapLength: number;
  /** Ticks a second, and seconds to add. */
  ticks: bigint;
  offsetNs: bigint;
}

/** A frame that is too long for a batch: told beside the rows, at its place among them. */
export interface LongFrame {
  /** Rows of the batch before it. */
  before: number;
  timeNs: bigint;
  wireLength: number;
  interfaceId: number;
}

export class CaptureReader {
  /** Of each row filled last: the packet's own time (two words), and its pcapng interface. */
  readonly time = new Uint32Array(BATCH_ROWS * 2);
  readonly interfaceId = new Uint32Array(BATCH_ROWS);
  longFrames: LongFrame[] = [];
  /** A capture was cut off. */
  truncated = false;
  packets = 0;
  private source: ByteSource | null = null;
  private next = 0;
  private format: 'pcap' | 'pcapng' = 'pcap';
  private little = true;
  private nanoseconds = false;
  private interfaces: Interface[] = [];
  private interfaceBase = 0;

  constructor(
    private readonly paths: readonly string[],
    private readonly warn: (line: string) => void,
  ) {}

  get bytesRead(): number {
    return this.source?.position ?? 0;
  }

  /** Fills at most `rows` rows; 0 and no long frames = no more packets. */
  async fill(batch: PacketBatch, rows = 1024): Promise<number> {
    batch.count = 0;
    this.longFrames = [];
    let at = 0;
    while (batch.count < rows) {
      if (this.source === null) {
        if (this.next === this.paths.length || batch.count > 0 || this.longFrames.length > 0) break;
        await this.open(this.paths[this.next++]!);
        continue;
      }
      const size = this.format === 'pcap' ? await this.pcapRecord(batch, at) : await this.pcapngBlock(batch, at);
      if (size === -1) {
        this.source = null;
        continue;
      }
      if (size === -2) break; // the batch's data is full
      at += size;
    }
    return batch.count;
  }

  private fail(problem: string): never {
    throw new SeineError('SEINE_ERR_CAPTURE_INVALID', `${this.source!.path}: packet ${this.packets + 1}, octet ${this.source!.position}: ${problem}`);
  }
  private cut(what: string): number {
    this.truncated = true;
    const reason = this.source!.broken === null ? '' : ` (${this.source!.broken})`;
    this.warn(`${this.source!.path}: cut off in mid-${what} after packet ${this.packets}${reason}; what was read counts`);
    return -1;
  }

  private async open(path: string): Promise<void> {
    const source = new ByteSource(path);
    this.source = source;
    if (!(await source.need(4))) {
      throw new SeineError('SEINE_ERR_CAPTURE_INVALID', `${path}: ${source.remaining} octets; a pcap or pcapng file begins with a header`);
    }
    const magic = source.view().readUInt32BE(source.offset);
    if (magic === 0x0a0d0d0a) {
      this.format = 'pcapng';
      this.interfaces = [];
      return;
    }
    const found = MAGICS.get(magic);
    if (found === undefined) {
      throw new SeineError('SEINE_ERR_CAPTURE_INVALID', `${path}: begins with ${magic.toString(16).padStart(8, '0')}; neither pcap nor pcapng, gzipped or not`);
    }
    if (!(await source.need(24))) {
      this.cut('header');
      this.source = null;
      return;
    }
    this.format = 'pcap';
    this.little = found.little;
    this.nanoseconds = found.ns;
    const view = source.view();
    const linkType = (this.little ? view.readUInt32LE(source.offset + 20) : view.readUInt32BE(source.offset + 20)) & 0xffff;
    this.checkLinkType(linkType);
    this.interfaces = [{ linkType, snapLength: 0, ticks: 0n, offsetNs: 0n }];
    source.take(24);
  }

  private checkLinkType(type: number): void {
    if (!linkTypeIsKnown(type)) {
      throw new SeineError(
        'SEINE_ERR_CAPTURE_INVALID',
        `${this.source!.path}: link type ${type} is not read; Ethernet (1), raw IP (101), null/loopback (0, 108) and Linux cooked (113, 276) are`,
      );
    }
  }

  private u32(offset: number): number {
    const view = this.source!.view();
    return this.little ? view.readUInt32LE(offset) : view.readUInt32BE(offset);
  }
  private u16(offset: number): number {
    const view = this.source!.view();
    return this.little ? view.readUInt16LE(offset) : view.readUInt16BE(offset);
  }

  /** One record of a pcap file. −1: end, −2: no room in the batch, else the octets of data used. */
  private async pcapRecord(batch: PacketBatch, at: number): Promise<number> {
    const source = this.source!;
    if (!source.has(16) && !(await source.need(16))) return source.remaining === 0 && source.broken === null ? -1 : this.cut('record');
    let offset = source.offset;
    const captured = this.u32(offset + 8);
    if (captured > RECORD_MAX) this.fail(`a record of ${captured} octets; no frame is that long, the file is damaged`);
    if (!source.has(16 + captured)) {
      if (!(await source.need(16 + captured))) return this.cut('record');
      offset = source.offset;
    }
    const seconds = this.u32(offset);
    const fraction = this.u32(offset + 4) * (this.nanoseconds ? 1 : 1000);
    const wire = this.u32(offset + 12);
    // seconds × 10^9 + fraction in two words: the product of 32 and 30 bits is split at 16.
    const low = (seconds & 0xffff) * 1e9;
    const high = (seconds >>> 16) * 1e9;
    const sum = (high % 65536) * 65536 + low + fraction;
    const used = this.row(batch, at, offset + 16, captured, wire, 0, sum % 0x100000000, Math.floor(high / 65536) + Math.floor(sum / 0x100000000));
    if (used !== -2) source.take(16 + captured);
    return used;
  }

  /** One block of a pcapng file. */
  private async pcapngBlock(batch: PacketBatch, at: number): Promise<number> {
    const source = this.source!;
    if (!source.has(12) && !(await source.need(12))) return source.remaining === 0 && source.broken === null ? -1 : this.cut('block');
    let offset = source.offset;
    if (source.view().readUInt32BE(offset) === 0x0a0d0d0a) {
      const order = source.view().readUInt32BE(offset + 8);
      if (order !== 0x1a2b3c4d && order !== 0x4d3c2b1a) this.fail('a section header without byte-order magic');
      this.little = order === 0x4d3c2b1a;
      this.interfaceBase += this.interfaces.length;
      this.interfaces = [];
    }
    const type = this.u32(offset);
    const total = this.u32(offset + 4);
    if (total < 12 || total % 4 !== 0 || total > BLOCK_MAX) this.fail(`a block of ${total} octets; the file is damaged`);
    if (!source.has(total)) {
      if (!(await source.need(total))) return this.cut('block');
      offset = source.offset;
    }
    const body = offset + 8;
    const size = total - 12;
    let used = 0;
    if (type === 1) this.interfaceBlock(body, size);
    else if (type === 6 && size >= 20) {
      const captured = this.u32(body + 12);
      if (captured > size - 20) this.fail(`an enhanced packet block of ${size} octets holds no ${captured}`);
      used = this.timed(batch, at, this.u32(body), this.u32(body + 4), this.u32(body + 8), body + 20, captured, this.u32(body + 16));
    } else if (type === 2 && size >= 20) {
      const captured = this.u32(body + 12);
      if (captured > size - 20) this.fail(`a packet block of ${size} octets holds no ${captured}`);
      used = this.timed(batch, at, this.u16(body), this.u32(body + 4), this.u32(body + 8), body + 20, captured, this.u32(body + 16));
    } else if (type === 3 && size >= 4) {
      const wire = this.u32(body);
      const snap = this.interfaces[0]?.snapLength ?? 0;
      const captured = Math.min(size - 4, wire, snap === 0 ? wire : snap);
      if (this.interfaces.length === 0) this.fail('a simple packet block before any interface');
      used = this.row(batch, at, body + 4, captured, wire, 0, 0, 0); // it has no time
    }
    if (used !== -2) source.take(total);
    return used;
  }

  private interfaceBlock(body: number, size: number): void {
    if (size < 8) this.fail(`an interface description of ${size} octets`);
    const view = this.source!.view();
    const result: Interface = { linkType: this.u16(body), snapLength: this.u32(body + 4), ticks: 1_000_000n, offsetNs: 0n };
    this.checkLinkType(result.linkType);
    for (let at = body + 8; at + 4 <= body + size; ) {
      const code = this.u16(at);
      const length = this.u16(at + 2);
      if (code === 0 || at + 4 + length > body + size) break;
      if (code === 9 && length >= 1) {
        const resolution = view[at + 4]!;
        const exponent = BigInt(resolution & 0x7f);
        if (exponent > 63n) this.fail(`a time resolution of ${resolution}`);
        result.ticks = (resolution & 0x80) !== 0 ? 2n ** exponent : 10n ** exponent;
      } else if (code === 14 && length >= 8) {
        const seconds = this.little ? view.readBigInt64LE(at + 4) : view.readBigInt64BE(at + 4);
        result.offsetNs = seconds * 1_000_000_000n;
      }
      at += 4 + Math.ceil(length / 4) * 4;
    }
    this.interfaces.push(result);
  }

  private timed(batch: PacketBatch, at: number, id: number, high: number, low: number, from: number, captured: number, wire: number): number {
    const found = this.interfaces[id];
    if (found === undefined) this.fail(`interface ${id}, but ${this.interfaces.length} are described`);
    if (found.ticks === 1_000_000n && found.offsetNs === 0n && high < 0x200000) {
      // The common µs: × 1000 without BigInt. high × 2^32 + low < 2^53.
      const lowProduct = low * 1000;
      return this.row(batch, at, from, captured, wire, id, lowProduct % 0x100000000, high * 1000 + Math.floor(lowProduct / 0x100000000));
    }
    const ticks = (BigInt(high) << 32n) | BigInt(low);
    let ns = found.ticks === 1_000_000_000n ? ticks : (ticks * 1_000_000_000n) / found.ticks;
    ns += found.offsetNs;
    if (ns < 0n) ns = 0n;
    return this.row(batch, at, from, captured, wire, id, Number(ns & 0xffffffffn), Number((ns >> 32n) & 0xffffffffn));
  }

  private row(batch: PacketBatch, at: number, from: number, captured: number, wire: number, id: number, low: number, high: number): number {
    const view = this.source!.view();
    const { linkType } = this.interfaces[id]!;
    const row = batch.count;
    const wireLength = Math.max(wire, captured);
    let header = 0;
    let behind = 0;
    let etherType = 0;
    let mac = -1;
    if (linkType !== LinkType.Ethernet) {
      const link = readLinkHeader(linkType, view, from, captured);
      header = ETHERNET_HEADER;
      // A record too short for its link header leaves nothing: Parse says frame-truncated.
      behind = link.size < 0 ? captured : link.size;
      if (link.size < 0) header = 0;
      etherType = link.etherType;
      mac = link.mac;
    }
    const length = captured - behind + header;
    if (length > FRAME_MAX_SIZE || wireLength - behind + header > FRAME_MAX_SIZE) {
      this.longFrames.push({ before: row, timeNs: (BigInt(high) << 32n) | BigInt(low), wireLength, interfaceId: this.interfaceBase + id });
      this.packets++;
      return 0;
    }
    if (at + length > BATCH_DATA_SIZE) return -2;
    if (header > 0) {
      batch.data.fill(0, at, at + ETHERNET_HEADER);
      if (mac >= 0) batch.data.set(view.subarray(from + mac, from + mac + 6), at + 6);
      batch.data[at + 12] = etherType >>> 8;
      batch.data[at + 13] = etherType & 0xff;
    }
    const start = from + behind;
    const end = from + captured;
    // Short copies by hand are cheaper than a view and `set`.
    if (end - start <= 128) for (let i = start, to = at + header; i < end; ) batch.data[to++] = view[i++]!;
    else batch.data.set(view.subarray(start, end), at + header);
    batch.offset[row] = at;
    batch.length[row] = length;
    batch.wireLength[row] = wireLength - behind + header;
    batch.frameOctets[row] = wireLength;
    batch.timeNs[row * 2] = low;
    batch.timeNs[row * 2 + 1] = high;
    this.time[row * 2] = low;
    this.time[row * 2 + 1] = high;
    this.interfaceId[row] = this.interfaceBase + id;
    batch.count = row + 1;
    this.packets++;
    return length;
  }
}
