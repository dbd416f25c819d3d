/**
 * Messages of the Unix socket (contract §4): MessagePack maps behind a u32 little-endian length. A batch request is read
 * without making objects, its columns go straight into a batch's shared memory; anything else is decoded by msgpackr.
 * Answers are written by hand in one shape: a map of fixed keys, 32-bit lengths.
 */
import { Packr, unpack } from 'msgpackr';
import { checkCounts, checkEnd, checkFrame, LIMITS } from '../batch/limits.js';
import { CT_BITS, DROP_REASONS, VERDICTS } from '../batch/drop-reason.js';
import type { PacketBatch } from '../batch/packet-batch.js';
import { SeineError } from '../errors.js';
import type { BatchOutput } from '../engine/engine-view.js';

const packr = new Packr({ useRecords: false, int64AsType: 'bigint' as never });

/** A message with its length in front. */
export function frameMessage(value: object): Buffer {
  const body = packr.pack(value);
  const frame = Buffer.allocUnsafe(body.length + 4);
  frame.writeUInt32LE(body.length, 0);
  body.copy(frame, 4);
  return frame;
}

export const helloMessage = (shards: number): Buffer =>
  frameMessage({
    type: 'hello',
    version: 1,
    limits: LIMITS,
    verdicts: [...VERDICTS],
    reasons: [...DROP_REASONS],
    ctBits: [...CT_BITS],
    shards: { count: shards, hash: 'crc32c-symmetric' },
  });

export const errorMessage = (batchId: number | bigint | null, error: SeineError): Buffer =>
  frameMessage({
    type: 'error',
    // msgpackr writes larger numbers as doubles, which a client with typed integers does not take for an id.
    batchId: typeof batchId === 'number' && batchId > 0xffffffff ? BigInt(batchId) : batchId,
    code: error.code,
    message: error.message,
  });

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

/** Thrown when a message is not of the fixed shape; the general decoder then says what is wrong. */
const UNEXPECTED = Symbol('unexpected');

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

export class RequestReader {
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
  constructor(private readonly octets: Buffer) {
    this.cursor = new Cursor(octets);
  }

  /** Reads the message at [start, end). Throws SeineError; `request.batchId` then tells the batch where that was read. */
  read(start: number, end: number): BatchRequest {
    try {
      return this.readFixed(start, end);
    } catch (error) {
      if (error !== UNEXPECTED) throw error;
    }
    throw this.explain(start, end);
  }
  /** The id of the batch last read, null where it had none. */
  batchId: number | bigint | null = null;

  private readFixed(start: number, end: number): BatchRequest {
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

  /** Why the message is no batch. */
  private explain(start: number, end: number): SeineError {
    this.batchId = null;
    let value: unknown;
    try {
      value = unpack(Buffer.from(this.octets.subarray(start, end)));
    } catch (error) {
      return new SeineError('SEINE_ERR_MESSAGE_INVALID', `not MessagePack: ${(error as Error).message.split('\n')[0]}`);
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Uint8Array) {
      return new SeineError('SEINE_ERR_MESSAGE_INVALID', 'a message is a map with `type`');
    }
    const message = value as Record<string, unknown>;
    if (message.type !== 'batch') {
      return new SeineError(
        'SEINE_ERR_MESSAGE_INVALID',
        `type ${JSON.stringify(message.type) ?? 'missing'} is not known; "batch" is`,
      );
    }
    const { batchId } = message;
    if ((typeof batchId === 'number' && Number.isInteger(batchId)) || typeof batchId === 'bigint')
      this.batchId = batchId;
    else return new SeineError('SEINE_ERR_BATCH_INVALID', 'batchId: an integer belongs here');
    const column = (key: string, size: number, optional = false): string | null => {
      const entry = message[key];
      if (entry === undefined && optional) return null;
      if (!(entry instanceof Uint8Array)) return `${key}: bin belongs here`;
      return entry.length % size === 0
        ? null
        : `${key}: ${entry.length} octets are no whole number of ${size}-octet values`;
    };
    const known = ['type', 'batchId', 'data', 'length', 'inPort', 'time', 'returnPackets'];
    const unknown = Object.keys(message).find((key) => !known.includes(key));
    const inPort = message.inPort;
    const problem =
      column('data', 1) ??
      column('length', 4) ??
      (typeof inPort === 'number'
        ? Number.isInteger(inPort) && inPort >= 0 && inPort <= 0xffffffff
          ? null
          : 'inPort: a port number belongs here'
        : column('inPort', 4)) ??
      column('time', 8, true) ??
      (message.returnPackets !== undefined && typeof message.returnPackets !== 'boolean'
        ? 'returnPackets: true or false belongs here'
        : null) ??
      (unknown !== undefined ? `unknown field ${JSON.stringify(unknown)}` : null) ??
      'the map is not of the form that the protocol describes';
    return new SeineError('SEINE_ERR_BATCH_INVALID', problem);
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

// --- answers ---

const KEY = (text: string): number[] => [0xa0 | text.length, ...Buffer.from(text)];
const HEAD_VERDICTS = [...KEY('type'), ...KEY('verdicts'), ...KEY('batchId')];
const UINT64 = [0xcf],
  INT64 = [0xd3];
const bin = (key: string): Uint8Array => Uint8Array.from([...KEY(key), 0xc6]);
const K = {
  verdict: bin('verdict'),
  outPort: bin('outPort'),
  reason: bin('reason'),
  ct: bin('ct'),
  rule: bin('rule'),
  data: bin('data'),
  dataLength: bin('dataLength'),
};

class AnswerWriter {
  at = 4;
  constructor(readonly octets: Buffer) {}
  raw(bytes: ArrayLike<number>): void {
    this.octets.set(bytes, this.at);
    this.at += bytes.length;
  }
  column(key: Uint8Array, size: number): void {
    this.raw(key);
    this.octets.writeUInt32BE(size, this.at);
    this.at += 4;
  }
}

/** The answer of a judged batch. `output`: what else was asked for or made (frames as they leave, emissions). */
export function verdictsMessage(
  batch: PacketBatch,
  batchId: number | bigint,
  output: Pick<BatchOutput, 'data' | 'dataLength' | 'emit'>,
): Buffer {
  const { count } = batch;
  const { data, dataLength, emit } = output;
  const emitSize = emit === undefined ? 0 : emit.data.length + emit.length.length * 8 + 64;
  const bound = 4 + 128 + count * 11 + (data === undefined ? 0 : data.length + count * 4 + 64) + emitSize;
  const writer = new AnswerWriter(Buffer.allocUnsafe(bound));
  writer.raw([0x80 | (7 + (data === undefined ? 0 : 2) + (emit === undefined ? 0 : 1))]);
  writer.raw(HEAD_VERDICTS);
  writer.raw(batchId < 0 ? INT64 : UINT64);
  writer.octets.writeBigUInt64BE(BigInt.asUintN(64, BigInt(batchId)), writer.at);
  writer.at += 8;
  writer.column(K.verdict, count);
  writer.raw(batch.verdict.subarray(0, count));
  writer.column(K.outPort, count * 4);
  words(writer, batch.outPort, count);
  writer.column(K.reason, count);
  writer.raw(batch.dropReason.subarray(0, count));
  writer.column(K.ct, count);
  writer.raw(batch.ct.subarray(0, count));
  writer.column(K.rule, count * 4);
  words(writer, batch.rule, count);
  if (data !== undefined && dataLength !== undefined) {
    writer.column(K.data, data.length);
    writer.raw(data);
    writer.column(K.dataLength, count * 4);
    words(writer, dataLength, count);
  }
  if (emit !== undefined) {
    writer.raw([...KEY('emit'), 0x83]);
    writer.column(K.outPort, emit.outPort.length * 4);
    words(writer, emit.outPort, emit.outPort.length);
    writer.column(bin('length'), emit.length.length * 4);
    words(writer, emit.length, emit.length.length);
    writer.column(K.data, emit.data.length);
    writer.raw(emit.data);
  }
  writer.octets.writeUInt32LE(writer.at - 4, 0);
  return writer.octets.subarray(0, writer.at);
}

/** Little-endian words: as they lie in memory on little-endian machines. */
const LITTLE = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;
function words(writer: AnswerWriter, column: Uint32Array, count: number): void {
  if (LITTLE) writer.raw(new Uint8Array(column.buffer, column.byteOffset, count * 4));
  else
    for (let i = 0; i < count; i++) {
      writer.octets.writeUInt32LE(column[i]!, writer.at);
      writer.at += 4;
    }
}
