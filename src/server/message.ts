/**
 * Messages of the Unix socket (contract §4): MessagePack maps behind a u32 little-endian length. Batches and verdicts are read
 * and written by batch/msgpack.ts and its native twin; here are hello, errors, what is wrong with a request that is no batch,
 * and what an answer holds beside verdicts.
 */
import { Packr, unpack } from 'msgpackr';
import { CT_BITS, DROP_REASONS, VERDICTS } from '../batch/drop-reason.js';
import { verdictsBound } from '../batch/head.js';
import { LIMITS } from '../batch/limits.js';
import { type BatchRequest, fillFromRequest, MsgpackWriter, RequestFields, UNEXPECTED } from '../batch/msgpack.js';
import type { PacketBatch } from '../batch/packet-batch.js';
import type { BatchOutput } from '../engine/engine-view.js';
import { SeineError } from '../errors.js';
import { kernels } from '../native/kernels.js';

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

/** Reads requests field by field, and tells what is wrong with those that are no batch. */
export class RequestReader {
  private readonly fields: RequestFields;
  /** The id of the batch last read, null where it had none. */
  batchId: number | bigint | null = null;
  constructor(private readonly octets: Buffer) {
    this.fields = new RequestFields(octets);
  }

  /** Reads the message at [start, end). Throws SeineError; `batchId` then tells the batch where that was read. */
  read(start: number, end: number): BatchRequest {
    try {
      return this.fields.find(start, end);
    } catch (error) {
      if (error !== UNEXPECTED) throw error;
    } finally {
      this.batchId = this.fields.batchId;
    }
    throw this.explain(start, end);
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

/** Why the kernel refused the message at [start, end) of `octets`, and the id of its batch where it has one. */
export function refusal(
  batch: PacketBatch,
  octets: Buffer,
  start: number,
  end: number,
): { batchId: number | bigint | null; error: SeineError } {
  const reader = new RequestReader(octets);
  try {
    fillFromRequest(batch, octets, reader.read(start, end));
  } catch (error) {
    if (error instanceof SeineError) return { batchId: reader.batchId, error };
    throw error;
  }
  throw new Error('a request that the kernel refused is sound to its reference');
}

// --- answers ---

type Extra = Pick<BatchOutput, 'data' | 'dataLength' | 'emit'>;

/** Octets that `writeAnswer` may need. */
export function answerBound(count: number, { data, emit }: Extra): number {
  return (
    4 +
    verdictsBound(count) +
    (data === undefined ? 0 : data.length + count * 4 + 64) +
    (emit === undefined ? 0 : emit.data.length + emit.length.length * 8 + 64)
  );
}

/**
 * Writes the answer of a judged batch at `at` of `out`, its length in front; returns where it ends. `extra`: what else was
 * asked for or made (frames as they leave, emissions).
 */
export function writeAnswer(batch: PacketBatch, head: Uint32Array, extra: Extra, out: Buffer, at: number): number {
  const { data, dataLength, emit } = extra;
  const keys = (data === undefined ? 0 : 2) + (emit === undefined ? 0 : 1);
  let end = at + 4 + kernels.writeMsgpack(batch, batch.count, head, keys, out, at + 4);
  if (keys > 0) {
    const writer = new MsgpackWriter(out, end);
    if (data !== undefined && dataLength !== undefined) {
      writer.column('data', data);
      writer.words('dataLength', dataLength);
    }
    if (emit !== undefined) {
      writer.key('emit');
      writer.raw([0x83]);
      writer.words('outPort', emit.outPort);
      writer.words('length', emit.length);
      writer.column('data', emit.data);
    }
    end = writer.at;
  }
  out.writeUInt32LE(end - at - 4, at);
  return end;
}
