/**
 * One client of the Unix socket, in the worker thread that owns its descriptor: reads frames, has their batches judged,
 * answers in order. A client that does not read its answers is not read from; nor is anyone while all batches are in use.
 */
import { Socket } from 'node:net';
import { MESSAGE_OCTETS_LIMIT } from '../batch/limits.js';
import { copyOutput } from '../engine/engine.js';
import { SeineError } from '../errors.js';
import { emissionCount } from '../pipeline/emitter.js';
import type { Adopted, WorkerContext } from '../worker/worker.js';
import { errorMessage, fillFromRequest, helloMessage, RequestReader, verdictsMessage } from './message.js';

const BUFFER_SIZE = MESSAGE_OCTETS_LIMIT + 4 + (1 << 16);
/** Answers that may wait for a slow reader before it is no longer read from. */
const WRITE_HIGH_WATER = 4 << 20;

interface Answer {
  batchId: number | bigint | null;
  /** null: the batch is in hand. */
  ready: Buffer | null;
}

export class UnixConnection implements Adopted {
  private readonly socket: Socket;
  private buffer = Buffer.allocUnsafe(1 << 18);
  private reader = new RequestReader(this.buffer);
  /** Octets [begin, end) of the buffer are read and not yet handled. */
  private begin = 0;
  private end = 0;
  private paused = false;
  private stopping = false;
  private closed = false;
  /** Answers wait for their turn: batches are judged in order, refusals must not overtake them. */
  private readonly answers: Answer[] = [];
  private drained: (() => void) | null = null;

  constructor(
    fd: number,
    private readonly context: WorkerContext,
    private readonly onClosed: () => void,
  ) {
    const chunk = Buffer.allocUnsafe(1 << 17);
    this.socket = new Socket({
      fd,
      allowHalfOpen: true,
      readable: true,
      writable: true,
      onread: {
        buffer: chunk,
        callback: (size: number, octets: Uint8Array): boolean => {
          this.received(octets.subarray(0, size));
          return true;
        },
      },
    } as never);
    this.socket.on('end', () => this.ended());
    this.socket.on('error', () => this.destroy());
    this.socket.on('close', () => this.finish());
    this.socket.on('drain', () => this.resume());
    this.socket.write(helloMessage(context.shards));
    this.socket.resume();
  }

  private received(octets: Uint8Array): void {
    if (this.closed) return;
    this.room(octets.length);
    this.buffer.set(octets, this.end);
    this.end += octets.length;
    this.handle();
  }

  private room(size: number): void {
    if (this.end + size <= this.buffer.length) return;
    const held = this.end - this.begin;
    if (held + size > this.buffer.length) {
      const larger = Buffer.allocUnsafe(Math.min(Math.max(this.buffer.length * 2, held + size), BUFFER_SIZE + size));
      this.buffer.copy(larger, 0, this.begin, this.end);
      this.buffer = larger;
      this.reader = new RequestReader(larger);
    } else this.buffer.copyWithin(0, this.begin, this.end);
    this.begin = 0;
    this.end = held;
  }

  /** Handles whole messages until there is none, or no batch to put one in. */
  private handle(): void {
    while (!this.closed && !this.stopping && this.end - this.begin >= 4) {
      const size = this.buffer.readUInt32LE(this.begin);
      if (size > MESSAGE_OCTETS_LIMIT) {
        const error = new SeineError(
          'SEINE_ERR_MESSAGE_LIMIT',
          `a message of ${size} octets; at most ${MESSAGE_OCTETS_LIMIT} are taken, and this connection ends`,
        );
        this.stopping = true;
        this.answer(errorMessage(null, error));
        this.endWhenAnswered();
        return;
      }
      if (this.end - this.begin < 4 + size) return;
      if (this.socket.writableLength > WRITE_HIGH_WATER) {
        this.pause();
        return;
      }
      const start = this.begin + 4;
      const batch = this.context.dispatcher.acquire();
      if (batch === null) {
        this.pause();
        this.waitForBatch();
        return;
      }
      this.begin = start + size;
      let batchId: number | bigint;
      let returnPackets: boolean;
      let stampTime: boolean;
      try {
        const request = this.reader.read(start, start + size);
        ({ batchId, returnPackets } = request);
        stampTime = request.timeAt < 0;
        fillFromRequest(batch, this.buffer, request);
      } catch (error) {
        this.context.dispatcher.release(batch);
        if (!(error instanceof SeineError)) throw error;
        this.context.dispatcher.counters.count('batchesRefused');
        this.answer(errorMessage(this.reader.batchId, error));
        continue;
      }
      const slot: Answer = { batchId, ready: null };
      this.answers.push(slot);
      this.context.dispatcher.submit(batch, 'unix', { stampTime }, (error) => {
        if (error !== null) slot.ready = errorMessage(batchId, error as SeineError);
        else {
          const extra =
            returnPackets || emissionCount(batch) > 0 ? copyOutput(batch, returnPackets, this.context.rewrite) : {};
          slot.ready = verdictsMessage(batch, batchId, extra);
        }
        this.context.dispatcher.release(batch);
        this.flush();
      });
    }
    if (this.begin === this.end) {
      this.begin = 0;
      this.end = 0;
    }
  }

  private answer(message: Buffer): void {
    this.answers.push({ batchId: null, ready: message });
    this.flush();
  }
  private flush(): void {
    while (this.answers.length > 0 && this.answers[0]!.ready !== null) {
      const { ready } = this.answers.shift()!;
      if (!this.closed) this.socket.write(ready!);
    }
    if (this.answers.length === 0) this.drained?.();
  }

  private awaitingBatch = false;
  private waitForBatch(): void {
    if (this.awaitingBatch) return;
    this.awaitingBatch = true;
    this.context.dispatcher.whenFree(() => {
      this.awaitingBatch = false;
      this.resume();
    });
  }
  private pause(): void {
    if (this.paused) return;
    this.paused = true;
    this.socket.pause();
  }
  private resume(): void {
    if (!this.paused || this.closed) return;
    this.paused = false;
    this.handle();
    if (this.paused || this.stopping) return;
    if (this.inputEnded) this.endIfDone();
    else this.socket.resume();
  }

  /** The client has sent all: what it sent is answered, then the connection ends. */
  private ended(): void {
    this.inputEnded = true;
    this.endIfDone();
  }
  private inputEnded = false;
  /** Nothing more will come, and no whole message waits for a free batch: the rest is answering. */
  private endIfDone(): void {
    if (!this.inputEnded || this.stopping || this.paused) return;
    this.stopping = true;
    this.endWhenAnswered();
  }
  private endWhenAnswered(): void {
    this.socket.pause();
    const end = () => {
      this.drained = null;
      if (!this.closed) this.socket.end(() => this.destroy());
    };
    if (this.answers.length === 0) end();
    else this.drained = end;
  }
  /**
   * This thread ends now: what it has of this client's is answered with `error`, as far as the socket takes it at once (a
   * client that does not read its answers sees the connection end with batches unanswered).
   */
  abandon(error: SeineError): void {
    if (this.closed) return;
    for (const answer of this.answers) answer.ready ??= errorMessage(answer.batchId, error);
    // What was read, and not yet handed to the engine.
    while (this.end - this.begin >= 4) {
      const size = this.buffer.readUInt32LE(this.begin);
      if (size > MESSAGE_OCTETS_LIMIT || this.end - this.begin < 4 + size) break;
      try {
        this.reader.read(this.begin + 4, this.begin + 4 + size);
      } catch {} // no batch: its id, if it has one, is read all the same
      this.answers.push({ batchId: null, ready: errorMessage(this.reader.batchId, error) });
      this.begin += 4 + size;
    }
    this.flush();
  }
  private destroy(): void {
    if (!this.closed) this.socket.destroy();
  }
  private finish(): void {
    if (this.closed) return;
    this.closed = true;
    this.onClosed();
    this.whenClosed?.();
  }
  private whenClosed: (() => void) | null = null;

  /** Whole messages that were received are answered; then the connection is closed. */
  drain(): Promise<void> {
    if (this.closed) return Promise.resolve();
    return new Promise((resolve) => {
      this.whenClosed = resolve;
      this.socket.pause();
      this.ended();
      // A client that does not take its answers does not hold the service up.
      setTimeout(() => this.destroy(), 2000).unref();
    });
  }
}
