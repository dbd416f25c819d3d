/**
 * Clients of a running service: `connect(address)` by the address's form. `unix:PATH` speaks MessagePack over the batch socket;
 * `HOST:PORT`, `http://HOST:PORT` and `grpc:unix:PATH` speak gRPC. Many batches may be under way; answers come in order.
 */
import { createConnection, type Socket } from 'node:net';
import { type ClientDuplexStream, credentials } from '@grpc/grpc-js';
import { Packr, unpack } from 'msgpackr';
import type { BatchInput, BatchOutput } from '../engine/engine-view.js';
import { type ErrorCode, ERRORS, SeineError } from '../errors.js';
import { fromServiceError, loadSeine } from './control.js';
import { decodeVerdictBatch, encodePacketBatch } from './grpc-messages.js';

export type { BatchInput, BatchOutput } from '../engine/engine-view.js';
export { SeineError } from '../errors.js';

export interface Hello {
  version: number;
  limits: { frames: number; frameOctets: number; batchOctets: number; messageOctets: number };
  verdicts: string[];
  reasons: string[];
  ctBits: string[];
}
export interface Client {
  /** Of the batch socket only. */
  readonly hello: Hello | null;
  process(batch: BatchInput): Promise<Omit<BatchOutput, 'stage'>>;
  close(): Promise<void>;
}

export function connect(address: string): Promise<Client> {
  if (address.startsWith('unix:')) return UnixClient.connect(address.slice(5));
  return Promise.resolve(new GrpcClient(address.replace(/^(grpc:(\/\/)?|http:\/\/)/, '').replace(/\/$/, '')));
}

const packr = new Packr({ useRecords: false });
const octetsOf = (column: Uint32Array | BigUint64Array): Buffer =>
  Buffer.from(column.buffer, column.byteOffset, column.byteLength);
const wordsOf = (octets: Uint8Array): Uint32Array => {
  const copy = new Uint8Array(octets);
  return new Uint32Array(copy.buffer);
};

/** A batch request with its length in front. */
export function encodeBatch(batchId: number, batch: BatchInput): Buffer {
  const body = packr.pack({
    type: 'batch',
    batchId,
    data: Buffer.from(batch.data.buffer, batch.data.byteOffset, batch.data.byteLength),
    length: octetsOf(batch.length),
    inPort: typeof batch.inPort === 'number' ? batch.inPort : octetsOf(batch.inPort),
    ...(batch.time === undefined ? {} : { time: octetsOf(batch.time) }),
    ...(batch.returnPackets === undefined ? {} : { returnPackets: batch.returnPackets }),
  });
  const frame = Buffer.allocUnsafe(4 + body.length);
  frame.writeUInt32LE(body.length, 0);
  body.copy(frame, 4);
  return frame;
}

class UnixClient implements Client {
  hello: Hello | null = null;
  private next = 1;
  private received: Buffer = Buffer.alloc(0);
  private readonly waiting = new Map<
    number,
    { resolve: (output: Omit<BatchOutput, 'stage'>) => void; reject: (error: Error) => void }
  >();
  private onHello: (() => void) | null = null;
  private failure: SeineError | null = null;

  private constructor(
    private readonly socket: Socket,
    path: string,
  ) {
    socket.on('data', (octets) => this.data(octets));
    socket.on('error', (error) => this.fail(new SeineError('SEINE_ERR_UNAVAILABLE', `unix:${path}: ${error.message}`)));
    socket.on('close', () => this.fail(new SeineError('SEINE_ERR_CLOSED', `unix:${path}: the connection is closed`)));
  }

  static connect(path: string): Promise<UnixClient> {
    return new Promise((resolve, reject) => {
      const client = new UnixClient(createConnection(path), path);
      client.onHello = () => resolve(client);
      client.onFailure = reject;
    });
  }
  private onFailure: ((error: Error) => void) | null = null;

  private fail(error: SeineError): void {
    this.failure ??= error;
    this.onFailure?.(this.failure);
    for (const { reject } of this.waiting.values()) reject(this.failure);
    this.waiting.clear();
  }

  private data(octets: Buffer): void {
    this.received = this.received.length === 0 ? octets : Buffer.concat([this.received, octets]);
    while (this.received.length >= 4) {
      const size = this.received.readUInt32LE(0);
      if (this.received.length < 4 + size) return;
      const message = unpack(this.received.subarray(4, 4 + size)) as Record<string, unknown>;
      this.received = this.received.subarray(4 + size);
      this.message(message);
    }
  }

  private message(message: Record<string, unknown>): void {
    if (message.type === 'hello') {
      this.hello = message as unknown as Hello;
      this.onHello?.();
      return;
    }
    const id = message.batchId === null ? null : Number(message.batchId);
    if (message.type === 'error') {
      const code = (String(message.code) in ERRORS ? message.code : 'SEINE_ERR_IO') as ErrorCode;
      const error = new SeineError(code, String(message.message));
      if (id === null) this.fail(error);
      else this.take(id)?.reject(error);
      return;
    }
    const emit = message.emit as Record<string, Uint8Array> | undefined;
    this.take(id!)?.resolve({
      verdict: message.verdict as Uint8Array,
      outPort: wordsOf(message.outPort as Uint8Array),
      reason: message.reason as Uint8Array,
      ct: message.ct as Uint8Array,
      rule: wordsOf(message.rule as Uint8Array),
      ...(message.data === undefined
        ? {}
        : { data: message.data as Uint8Array, dataLength: wordsOf(message.dataLength as Uint8Array) }),
      ...(emit === undefined
        ? {}
        : { emit: { outPort: wordsOf(emit.outPort!), length: wordsOf(emit.length!), data: emit.data! } }),
    });
  }
  private take(id: number) {
    const entry = this.waiting.get(id);
    this.waiting.delete(id);
    return entry;
  }

  process(batch: BatchInput): Promise<Omit<BatchOutput, 'stage'>> {
    if (this.failure !== null) return Promise.reject(this.failure);
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.socket.write(encodeBatch(id, batch));
    });
  }
  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.socket.destroyed) resolve();
      else {
        this.socket.once('close', () => resolve());
        this.socket.end();
        setTimeout(() => this.socket.destroy(), 1000).unref();
      }
    });
  }
}

interface GrpcVerdicts {
  batchId: string;
  verdict: Buffer;
  outPort: number[];
  reason: Buffer;
  ct: Buffer;
  rule: number[];
  data: Buffer;
  length: number[];
  emit: { outPort: number[]; length: number[]; data: Buffer } | null;
}

/** A batch as a PacketBatch message. */
export const grpcBatch = (batchId: number, batch: BatchInput): object => ({
  batchId: String(batchId),
  data: batch.data,
  length: Array.from(batch.length),
  inPort: typeof batch.inPort === 'number' ? [batch.inPort] : Array.from(batch.inPort),
  timeNs: batch.time === undefined ? [] : Array.from(batch.time, String),
  returnPackets: batch.returnPackets ?? false,
});

const asIs = (octets: Buffer): Buffer => octets;

class GrpcClient implements Client {
  readonly hello = null;
  private next = 1;
  private readonly client: InstanceType<ReturnType<typeof loadSeine>['Datapath']>;
  constructor(private readonly address: string) {
    const { Datapath } = loadSeine();
    this.client = new Datapath(address, credentials.createInsecure(), {
      'grpc.max_receive_message_length': 16 << 20,
      'grpc.max_send_message_length': 16 << 20,
    });
  }
  process(batch: BatchInput): Promise<Omit<BatchOutput, 'stage'>> {
    return new Promise((resolve, reject) => {
      const message = encodePacketBatch(this.next++, batch);
      this.client.makeUnaryRequest('/seine.v1.Datapath/Process', asIs, asIs, message, (error, reply) => {
        if (error !== null) reject(fromServiceError(error, this.address));
        else {
          try {
            resolve(decodeVerdictBatch(reply!, batch.returnPackets ?? false));
          } catch (failure) {
            reject(failure);
          }
        }
      });
    });
  }
  /** The bidirectional stream, of messages as they lie in memory: for those who read and write them in place. */
  octetStream(): ClientDuplexStream<Buffer, Buffer> {
    return this.client.makeBidiStreamRequest('/seine.v1.Datapath/ProcessStream', asIs, asIs);
  }
  /** The bidirectional stream itself: PacketBatch objects in, VerdictBatch objects out. */
  stream(): ClientDuplexStream<object, GrpcVerdicts> {
    return (
      this.client as unknown as Record<string, () => ClientDuplexStream<object, GrpcVerdicts>>
    ).processStream!.call(this.client);
  }
  close(): Promise<void> {
    this.client.close();
    return Promise.resolve();
  }
}
export { GrpcClient };
