/**
 * A batch request and its verdicts as MessagePack maps (contract §4): the reference of native/message.cc. A request is read
 * without making objects, its columns go straight into a batch's shared memory. Verdicts are written in one shape: a map of
 * fixed keys, 32-bit lengths.
 */
import { SeineError } from '../errors.js';
import { HeadFlag } from './head.js';
import { checkCounts, checkEnd, checkFrame } from './limits.js';
import type { PacketBatch } from './packet-batch.js';

/** What a request is: a batch (its fields found in place), or not. */
export interface BatchRequest {
  batchId: number | bigint;
  dataAt: number;
  dataSize: number;
  lengthAt: number;
  frames: number;
  /** −1: one in-port for all, in `inPort`. */
  inPortAt: number;
  inPorts: number;
  inPort: number;
  /** −1: none given. */
  timeAt: number;
  times: number;
  returnPackets: boolean;
}

/** Thrown when a message is no batch request; server/message.ts then says what is wrong. */
export const UNEXPECTED = Symbol('unexpected');

class Cursor {
  at = 0;
  end = 0;
  constructor(readonly octets: Buffer) {}

  private left(size: number): void {
    if (this.at + size > this.end) throw UNEXPECTED;
  }
  mapSize(): number {
    this.left(1);
    const tag = this.octets[this.at++]!;
    if (tag >>> 4 === 8) return tag & 0xf;
    if (tag === 0xde) {
      this.left(2);
      this.at += 2;
      return this.octets.readUInt16BE(this.at - 2);
    }
    if (tag === 0xdf) {
      this.left(4);
      this.at += 4;
      return this.octets.readUInt32BE(this.at - 4);
    }
    throw UNEXPECTED;
  }
  /** A string's start; its length in `size`. */
  size = 0;
  string(): number {
    this.left(1);
    const tag = this.octets[this.at++]!;
    if (tag >>> 5 === 5) this.size = tag & 0x1f;
    else {
      const width = tag === 0xd9 ? 1 : tag === 0xda ? 2 : tag === 0xdb ? 4 : 0;
      if (width === 0) throw UNEXPECTED;
      this.left(width);
      this.size = this.octets.readUIntBE(this.at, width);
      this.at += width;
    }
    this.left(this.size);
    const start = this.at;
    this.at += this.size;
    return start;
  }
  isBinary(): boolean {
    this.left(1);
    const tag = this.octets[this.at]!;
    return tag >= 0xc4 && tag <= 0xc6;
  }
  /** A bin's start; its length in `size`. */
  binary(): number {
    this.left(1);
    const tag = this.octets[this.at++]!;
    const width = tag === 0xc4 ? 1 : tag === 0xc5 ? 2 : tag === 0xc6 ? 4 : 0;
    if (width === 0) throw UNEXPECTED;
    this.left(width);
    this.size = this.octets.readUIntBE(this.at, width);
    this.at += width;
    this.left(this.size);
    const start = this.at;
    this.at += this.size;
    return start;
  }
  integer(): number | bigint {
    this.left(1);
    const tag = this.octets[this.at++]!;
    if (tag < 0x80) return tag;
    if (tag >= 0xe0) return tag - 256;
    if (tag === 0xcb) {
      // Encoders for JavaScript write integers beyond 32 bits as doubles.
      this.left(8);
      this.at += 8;
      const value = this.octets.readDoubleBE(this.at - 8);
      if (!Number.isSafeInteger(value)) throw UNEXPECTED;
      return value;
    }
    if (tag < 0xcc || tag > 0xd3) throw UNEXPECTED;
    const width = 1 << (tag & 3);
    this.left(width);
    const start = this.at;
    this.at += width;
    if (width === 8) {
      const value = tag === 0xcf ? this.octets.readBigUInt64BE(start) : this.octets.readBigInt64BE(start);
      return value <= BigInt(Number.MAX_SAFE_INTEGER) && value >= 0n ? Number(value) : value;
    }
    return tag <= 0xce ? this.octets.readUIntBE(start, width) : this.octets.readIntBE(start, width);
  }
  boolean(): boolean {
    this.left(1);
    const tag = this.octets[this.at++]!;
    if (tag !== 0xc2 && tag !== 0xc3) throw UNEXPECTED;
    return tag === 0xc3;
  }
}

/** Finds the fields of requests in `octets`. */
export class RequestFields {
  private readonly cursor: Cursor;
  readonly request: BatchRequest = {
    batchId: 0,
    dataAt: 0,
    dataSize: 0,
    lengthAt: 0,
    frames: 0,
    inPortAt: -1,
    inPorts: 1,
    inPort: 0,
    timeAt: -1,
    times: 0,
    returnPackets: false,
  };
  /** The id of the batch last read, null where it had none. */
  batchId: number | bigint | null = null;
  constructor(private readonly octets: Buffer) {
    this.cursor = new Cursor(octets);
  }

  /** Of the message at [start, end). Throws UNEXPECTED. */
  find(start: number, end: number): BatchRequest {
    const { cursor, request, octets } = this;
    cursor.at = start;
    cursor.end = end;
    this.batchId = null;
    request.inPortAt = -1;
    request.inPorts = 1;
    request.timeAt = -1;
    request.returnPackets = false;
    let seen = 0;
    for (let left = cursor.mapSize(); left > 0; left--) {
      const key = cursor.string();
      switch (octets.toString('latin1', key, key + cursor.size)) {
        case 'type': {
          const value = cursor.string();
          if (octets.toString('latin1', value, value + cursor.size) !== 'batch') throw UNEXPECTED;
          seen |= 1;
          break;
        }
        case 'batchId':
          request.batchId = cursor.integer();
          this.batchId = request.batchId;
          seen |= 2;
          break;
        case 'data':
          request.dataAt = cursor.binary();
          request.dataSize = cursor.size;
          seen |= 4;
          break;
        case 'length':
          request.lengthAt = cursor.binary();
          if (cursor.size % 4 !== 0) throw UNEXPECTED;
          request.frames = cursor.size / 4;
          seen |= 8;
          break;
        case 'inPort':
          if (cursor.isBinary()) {
            request.inPortAt = cursor.binary();
            if (cursor.size % 4 !== 0) throw UNEXPECTED;
            request.inPorts = cursor.size / 4;
          } else {
            const value = cursor.integer();
            if (typeof value === 'bigint' || value < 0 || value > 0xffffffff) throw UNEXPECTED;
            request.inPort = value;
          }
          seen |= 16;
          break;
        case 'time':
          request.timeAt = cursor.binary();
          if (cursor.size % 8 !== 0) throw UNEXPECTED;
          request.times = cursor.size / 8;
          break;
        case 'returnPackets':
          request.returnPackets = cursor.boolean();
          break;
        default:
          throw UNEXPECTED;
      }
    }
    if (seen !== 31 || cursor.at !== end) throw UNEXPECTED;
    return request;
  }
}

/** Checks a request and fills a batch with it. */
export function fillFromRequest(batch: PacketBatch, octets: Buffer, request: BatchRequest): void {
  const { frames, dataSize, dataAt, lengthAt, inPortAt, timeAt } = request;
  checkCounts(frames, dataSize, request.inPorts, timeAt < 0 ? null : request.times);
  const { offset, length, wireLength, frameOctets, inPort, timeNs } = batch;
  let at = 0;
  for (let row = 0; row < frames; row++) {
    const from = lengthAt + row * 4;
    const size =
      (octets[from]! | (octets[from + 1]! << 8) | (octets[from + 2]! << 16) | (octets[from + 3]! << 24)) >>> 0;
    offset[row] = at;
    length[row] = size;
    wireLength[row] = size;
    frameOctets[row] = size;
    at = checkFrame(row, size, at, dataSize);
  }
  checkEnd(frames, at, dataSize);
  if (inPortAt < 0) inPort.fill(request.inPort, 0, frames);
  else if (request.inPorts === 1) inPort.fill(octets.readUInt32LE(inPortAt), 0, frames);
  else for (let row = 0; row < frames; row++) inPort[row] = octets.readUInt32LE(inPortAt + row * 4);
  if (timeAt >= 0) {
    for (let word = 0; word < frames * 2; word++) timeNs[word] = octets.readUInt32LE(timeAt + word * 4);
  }
  batch.data.set(octets.subarray(dataAt, dataAt + dataSize));
  batch.count = frames;
}

/** Reads the message at [start, end) into a batch. Returns its frames, 0 for what is no sound batch within limits. */
export function readMsgpack(
  batch: PacketBatch,
  octets: Uint8Array,
  start: number,
  end: number,
  head: Uint32Array,
): number {
  const buffer = Buffer.from(octets.buffer, octets.byteOffset, octets.length);
  try {
    const request = new RequestFields(buffer).find(start, end);
    fillFromRequest(batch, buffer, request);
    const id = BigInt(request.batchId);
    head[0] = Number(id & 0xffffffffn);
    head[1] = Number((id >> 32n) & 0xffffffffn);
    head[2] =
      (id < 0n ? HeadFlag.Negative : 0) |
      (request.returnPackets ? HeadFlag.ReturnPackets : 0) |
      (request.timeAt >= 0 ? HeadFlag.Timed : 0);
    return batch.count;
  } catch (error) {
    if (error !== UNEXPECTED && !(error instanceof SeineError)) throw error;
    return 0;
  }
}

/** The id that a head holds. */
export const idOf = (head: Uint32Array): bigint => {
  const id = (BigInt(head[1]!) << 32n) | BigInt(head[0]!);
  return (head[2]! & HeadFlag.Negative) !== 0 ? BigInt.asIntN(64, id) : id;
};

// --- verdicts ---

const text = (key: string): number[] => [0xa0 | key.length, ...Buffer.from(key)];
const HEAD = [...text('type'), ...text('verdicts'), ...text('batchId')];

const LITTLE = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/** Writes keys and bins one behind the other. The caller sees to room. */
export class MsgpackWriter {
  constructor(
    readonly octets: Uint8Array,
    public at: number,
  ) {}
  raw(octets: ArrayLike<number>): void {
    this.octets.set(octets, this.at);
    this.at += octets.length;
  }
  word(value: number): void {
    this.raw([value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff]);
  }
  key(key: string): void {
    this.raw(text(key));
  }
  /** A bin's key and head; its octets follow. */
  bin(key: string, size: number): void {
    this.key(key);
    this.raw([0xc6]);
    this.word(size);
  }
  column(key: string, octets: Uint8Array): void {
    this.bin(key, octets.length);
    this.raw(octets);
  }
  /** As u32le. */
  words(key: string, column: Uint32Array): void {
    this.bin(key, column.length * 4);
    // As they lie in memory on little-endian machines.
    if (LITTLE) this.raw(new Uint8Array(column.buffer, column.byteOffset, column.byteLength));
    else
      for (const value of column) this.raw([value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24]);
  }
}

/**
 * Writes the verdicts of a batch's first `count` rows at `at`; `extra` more keys follow by the caller. Returns the octets
 * written, at most verdictsBound(count).
 */
export function writeMsgpack(
  batch: PacketBatch,
  count: number,
  head: Uint32Array,
  extra: number,
  out: Uint8Array,
  at: number,
): number {
  const writer = new MsgpackWriter(out, at);
  writer.raw([0x80 | (7 + extra)]);
  writer.raw(HEAD);
  writer.raw([(head[2]! & HeadFlag.Negative) !== 0 ? 0xd3 : 0xcf]);
  writer.word(head[1]!);
  writer.word(head[0]!);
  writer.column('verdict', batch.verdict.subarray(0, count));
  writer.words('outPort', batch.outPort.subarray(0, count));
  writer.column('reason', batch.dropReason.subarray(0, count));
  writer.column('ct', batch.ct.subarray(0, count));
  writer.words('rule', batch.rule.subarray(0, count));
  return writer.at - at;
}
