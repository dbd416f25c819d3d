/**
 * The senders of `seine load`. They must cost less than the service: requests are encoded once and sent with a new id in
 * place, of an answer only id and verdicts are read, and nothing is allocated for a batch.
 */
import { createConnection, type Socket } from 'node:net';
import { unpack } from 'msgpackr';
import { VERDICTS } from '../batch/drop-reason.js';
import { WireReader } from '../batch/protobuf.js';
import { encodePacketBatch, writeBatchId } from '../client/grpc-messages.js';
import { encodeBatch, GrpcClient } from '../client/index.js';
import { SeineError } from '../errors.js';
import type { Batch, Load } from './load-batches.js';

/** Latencies in µs, in a histogram of 1 µs up to 100 ms and a list beyond. */
export class Latency {
  private readonly buckets = new Uint32Array(100_000);
  private readonly beyond: number[] = [];
  private count = 0;
  add(us: number): void {
    this.count++;
    if (us < this.buckets.length) {
      const bucket = Math.max(0, Math.floor(us));
      this.buckets[bucket] = this.buckets[bucket]! + 1;
    } else this.beyond.push(us);
  }
  percentile(share: number): number {
    let left = Math.ceil(this.count * share);
    if (left === 0) return 0;
    for (let us = 0; us < this.buckets.length; us++) {
      left -= this.buckets[us]!;
      if (left <= 0) return us;
    }
    this.beyond.sort((a, b) => a - b);
    return this.beyond[Math.min(this.beyond.length - 1, this.beyond.length + left - 1)] ?? 0;
  }
}

export interface Totals {
  offered: number;
  answered: number;
  verdicts: Float64Array;
  latency: Latency;
}

/** Below this many ms to the next batch a sender at a rate looks at the clock all the time: timers are no finer. */
const SPIN_MS = 2;
/** The wait for answers that are due. */
const ANSWER_WAIT_MS = 30_000;

/** Sends batches in turn until the time is up, then waits for the answers that are due. */
export abstract class Sender {
  readonly totals: Totals = {
    offered: 0,
    answered: 0,
    verdicts: new Float64Array(VERDICTS.length),
    latency: new Latency(),
  };
  /** Of batch `id`, at id % window: when it was sent, ms. Answers come in order, so that the oldest is the next. */
  private readonly sentAt: Float64Array;
  private next = 0;
  private oldest = 0;
  private until = 0;
  private started = 0;
  private timer: NodeJS.Timeout | null = null;
  /** At a rate: the next batch waits for its time; or, for the answer of an earlier one. */
  private ticking = false;
  private blocked = false;
  private finish: (() => void) | null = null;
  private abort: ((error: Error) => void) | null = null;

  constructor(
    protected readonly load: Load,
    private readonly requestCount: number,
  ) {
    this.sentAt = new Float64Array(load.window);
  }
  protected abstract send(id: number, request: number): void;
  abstract close(): void;

  async run(progress: (share: number) => void): Promise<number> {
    this.started = performance.now();
    this.until = this.started + this.load.seconds * 1000;
    const done = new Promise<void>((resolve, reject) => {
      this.finish = resolve;
      this.abort = reject;
    });
    const ticker = setInterval(
      () => progress(Math.min(1, (performance.now() - this.started) / 1000 / this.load.seconds)),
      200,
    );
    this.pump();
    try {
      await done;
    } finally {
      clearInterval(ticker);
      if (this.timer !== null) clearTimeout(this.timer);
    }
    return (performance.now() - this.started) / 1000;
  }

  protected pump(): void {
    const { rate, batch, window } = this.load;
    for (;;) {
      const now = performance.now();
      if (now >= this.until) {
        this.ending();
        return;
      }
      if (this.next - this.oldest >= window) {
        this.blocked = true;
        return;
      }
      let from = now;
      if (rate > 0) {
        const due = this.started + (this.next * batch * 1000) / rate;
        if (due > now) {
          this.blocked = false;
          this.wait(due - now);
          return;
        }
        // A batch that the service held up has waited since it was due; one that this process held up has not.
        if (this.blocked) from = due;
      }
      const id = this.next++;
      this.sentAt[id % window] = from;
      this.totals.offered += batch;
      this.send(id, id % this.requestCount);
    }
  }
  private wait(ms: number): void {
    if (this.ticking) return;
    this.ticking = true;
    if (ms > SPIN_MS) setTimeout(this.tick, ms - SPIN_MS);
    else setImmediate(this.tick);
  }
  private readonly tick = (): void => {
    this.ticking = false;
    this.pump();
  };
  private ending(): void {
    if (this.next === this.oldest) this.finish?.();
    else
      this.timer ??= setTimeout(
        () =>
          this.fail(
            new SeineError('SEINE_ERR_UNAVAILABLE', `${this.next - this.oldest} batches were not answered within 30 s`),
          ),
        ANSWER_WAIT_MS,
      );
  }

  /** The verdicts of batch `id` are octets[start, end). The caller pumps when it has taken all that came. */
  protected answered(id: number, octets: Uint8Array, start: number, end: number): void {
    if (id !== this.oldest || id >= this.next) {
      this.fail(new SeineError('SEINE_ERR_IO', `batch ${id} was answered while ${this.oldest} was due`));
      return;
    }
    this.oldest++;
    const { totals } = this;
    totals.latency.add((performance.now() - this.sentAt[id % this.load.window]!) * 1000);
    totals.answered += end - start;
    const { verdicts } = totals;
    for (let at = start; at < end; at++) {
      const verdict = octets[at]!;
      if (verdict < verdicts.length) verdicts[verdict] = verdicts[verdict]! + 1;
    }
  }
  protected fail(error: Error): void {
    this.abort?.(error);
  }
}

/**
 * Requests are sent from where they were encoded: there are at least as many as batches under way, so that one is sent
 * again, with its new id, only when it was answered.
 */
const repeated = (load: Load, batches: readonly Batch[]): Batch[] =>
  Array.from(
    { length: Math.ceil(load.window / batches.length) * batches.length },
    (_, i) => batches[i % batches.length]!,
  );

/** How the service begins an answer with verdicts; batchId, as 64 bits, and verdict, a bin of 32-bit length, follow. */
const ANSWER = Buffer.from('\xa4type\xa8verdicts\xa7batchId\xcf', 'latin1');
const ID_AT = 1 + ANSWER.length;
const SIZE_AT = ID_AT + 8 + 'xverdict'.length + 1;

export class UnixSender extends Sender {
  private readonly requests: Buffer[];
  private readonly idAt: number[];
  /** Where the id of batch `id` stands in its request. */
  protected idAtOf(id: number): number {
    return this.idAt[id % this.idAt.length]!;
  }
  /** What a read cut off: octets [0, held). */
  private rest = Buffer.allocUnsafe(1 << 16);
  private held = 0;

  protected constructor(
    load: Load,
    batches: readonly Batch[],
    private readonly socket: Socket,
    onRead: { take: (octets: Buffer) => void },
  ) {
    super(load, batches.length);
    this.requests = batches.map((batch) =>
      encodeBatch(0x7fffffff, { data: batch.frames, length: batch.length, inPort: batch.inPort }),
    );
    const idMark = Buffer.of(0xce, 0x7f, 0xff, 0xff, 0xff);
    this.idAt = this.requests.map((request) => request.indexOf(idMark) + 1);
    onRead.take = (octets) => this.received(octets);
    socket.on('error', (error) => this.fail(new SeineError('SEINE_ERR_UNAVAILABLE', error.message)));
    socket.on('close', () => this.fail(new SeineError('SEINE_ERR_CLOSED', 'the service closed the connection')));
  }

  /** A sender of this class. */
  static async open(load: Load, batches: readonly Batch[], path: string): Promise<UnixSender> {
    const early: Buffer[] = [];
    const onRead = {
      take: (octets: Buffer): void => {
        early.push(Buffer.from(octets));
      },
    };
    const socket = createConnection({
      path,
      onread: {
        buffer: Buffer.allocUnsafeSlow(1 << 16),
        callback: (size, octets) => {
          onRead.take((octets as Buffer).subarray(0, size));
          return true;
        },
      },
    });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', (error) =>
        reject(
          new SeineError(
            'SEINE_ERR_UNAVAILABLE',
            `no service answers at unix:${path} (${error.message}): start one with \`seine serve\``,
          ),
        ),
      );
    });
    const sender = new this(load, repeated(load, batches), socket, onRead);
    for (const octets of early) sender.received(octets);
    return sender;
  }

  protected send(id: number, index: number): void {
    const request = this.requests[index]!;
    request.writeUInt32BE(id, this.idAt[index]!);
    this.socket.write(request);
  }

  protected received(octets: Buffer): void {
    let at = 0;
    while (this.held > 0) {
      // The message that is held gets what it lacks.
      const wanted = this.held < 4 ? 4 : 4 + this.rest.readUInt32LE(0);
      if (this.held >= 4 && this.held === wanted) {
        this.message(this.rest, 4, wanted);
        this.held = 0;
        break;
      }
      if (at === octets.length) return;
      at += this.hold(octets, at, Math.min(octets.length, at + wanted - this.held));
    }
    while (octets.length - at >= 4) {
      const size = octets.readUInt32LE(at);
      if (octets.length - at < 4 + size) break;
      this.message(octets, at + 4, at + 4 + size);
      at += 4 + size;
    }
    if (at < octets.length) this.hold(octets, at, octets.length);
    this.pump();
  }
  private hold(octets: Buffer, from: number, to: number): number {
    const size = to - from;
    if (this.held + size > this.rest.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.held + size, this.rest.length * 2));
      this.rest.copy(larger, 0, 0, this.held);
      this.rest = larger;
    }
    octets.copy(this.rest, this.held, from, to);
    this.held += size;
    return size;
  }

  private message(octets: Buffer, start: number, end: number): void {
    if (end - start > SIZE_AT + 4 && octets.compare(ANSWER, 0, ANSWER.length, start + 1, start + ID_AT) === 0) {
      const id = octets.readUInt32BE(start + ID_AT) * 0x1_0000_0000 + octets.readUInt32BE(start + ID_AT + 4);
      const size = octets.readUInt32BE(start + SIZE_AT);
      const from = start + SIZE_AT + 4;
      if (from + size <= end) {
        this.answered(id, octets, from, from + size);
        return;
      }
    }
    const { type, code, message } = unpack(octets.subarray(start, end)) as Record<string, unknown>;
    if (type === 'hello') return;
    this.fail(new SeineError('SEINE_ERR_IO', `the service refused a batch: ${code}: ${message}`));
  }
  close(): void {
    this.socket.removeAllListeners('close');
    this.socket.destroy();
  }
}

export class GrpcSender extends Sender {
  private readonly client: GrpcClient;
  private readonly stream: ReturnType<GrpcClient['octetStream']>;
  private readonly messages: Buffer[];
  constructor(load: Load, batches: readonly Batch[], address: string) {
    const all = repeated(load, batches);
    super(load, all.length);
    this.messages = all.map(({ frames, length, inPort }) => encodePacketBatch(0, { data: frames, length, inPort }));
    this.client = new GrpcClient(address);
    this.stream = this.client.octetStream();
    this.stream.on('data', (reply: Buffer) => this.message(reply));
    this.stream.on('error', (error: Error) =>
      this.fail(new SeineError('SEINE_ERR_UNAVAILABLE', `${address}: ${error.message}`)),
    );
  }
  protected send(id: number, index: number): void {
    const message = this.messages[index]!;
    writeBatchId(message, id);
    this.stream.write(message);
  }
  protected message(reply: Buffer): void {
    const wire = new WireReader(reply, 0, reply.length);
    let id = 0;
    while (wire.at < wire.end) {
      wire.tag();
      if (wire.field === 1 && wire.type === 0) {
        wire.varint();
        id = wire.high * 0x1_0000_0000 + wire.low;
      } else if (wire.field === 2 && wire.type === 2) {
        // The service writes the id before the verdicts.
        wire.view();
        this.answered(id, reply, wire.start, wire.at);
        break;
      } else wire.skip();
    }
    this.pump();
  }
  close(): void {
    this.stream.removeAllListeners('error');
    this.stream.on('error', () => {});
    this.stream.cancel();
    void this.client.close();
  }
}
