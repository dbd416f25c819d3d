/**
 * One client of the Unix socket, in the worker thread that owns its descriptor: reads frames, has their batches judged,
 * answers in order. A client that does not read its answers is not read from; nor is anyone while all batches are in use.
 *
 * Requests go from the buffer that was read into straight to a batch's memory; only what a read cut off is kept in between.
 * Answers gather in one buffer, which is sent when no more of what was read can be handled.
 */
import { Socket } from 'node:net';
import { HEAD_WORDS, HeadFlag } from '../batch/head.js';
import { MESSAGE_OCTETS_LIMIT } from '../batch/limits.js';
import { idOf } from '../batch/msgpack.js';
import type { PacketBatch } from '../batch/packet-batch.js';
import { copyOutput } from '../engine/engine.js';
import { SeineError } from '../errors.js';
import { kernels, sendNow } from '../native/kernels.js';
import { emissionCount } from '../pipeline/emitter.js';
import type { Adopted, WorkerContext } from '../worker/worker.js';
import { answerBound, errorMessage, helloMessage, RequestReader, refusal, writeAnswer } from './message.js';

/** Octets of one read: several batches, and few enough that they are still in the second-level cache when they are handled. */
const READ_SIZE = 1 << 16;
/** Octets of answers that are gathered before they are sent. */
const GATHER_SIZE = 1 << 16;
/** Answers that may wait for a slow reader before it is no longer read from. */
const WRITE_HIGH_WATER = 4 << 20;
const NOTHING = {};
const STAMP_TIME = { stampTime: true };
const GIVEN_TIME = { stampTime: false };

/** An answer's place in the order of requests: of a batch that is being judged, or of a refusal that waits for its turn. */
interface Answer {
  readonly head: Uint32Array;
  batch: PacketBatch | null;
  refusal: Buffer | null;
  /** Called when the batch is judged; made once, as the answer's objects are used again. */
  done: (error: Error | null) => void;
}

export class UnixConnection implements Adopted {
  private readonly socket: Socket;
  /** Octets [begin, end) are read and not yet handled. */
  private buffer = Buffer.allocUnsafe(READ_SIZE);
  private begin = 0;
  private end = 0;
  private paused = false;
  private stopping = false;
  private closed = false;
  /** In the order of requests. */
  private readonly answers: Answer[] = [];
  private readonly spare: Answer[] = [];
  /** Answers written and not yet sent: [0, gathered). */
  private out = Buffer.allocUnsafe(GATHER_SIZE);
  private gathered = 0;
  private sendDue = false;
  private handling = false;
  private drained: (() => void) | null = null;

  constructor(
    private readonly fd: number,
    private readonly context: WorkerContext,
    private readonly onClosed: () => void,
  ) {
    this.socket = new Socket({
      fd,
      allowHalfOpen: true,
      readable: true,
      writable: true,
      onread: {
        buffer: Buffer.allocUnsafeSlow(READ_SIZE),
        callback: (size: number, octets: Uint8Array): boolean => {
          this.received(octets as Buffer, size);
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

  // --- requests ---

  private received(octets: Buffer, size: number): void {
    if (this.closed) return;
    this.handling = true;
    let at = 0;
    if (this.end > this.begin) at = this.complete(octets, size);
    if (at < size && this.end === this.begin) {
      try {
        at = this.handle(octets, at, size);
      } catch (error) {
        this.keep(octets, this.handled, size); // abandon answers what is behind the batch that the thread was lost with
        throw error;
      }
    }
    if (at < size && !this.stopping) this.keep(octets, at, size);
    this.handling = false;
    this.send();
  }

  /** Adds to the message that is held what it lacks, and handles it. Returns how much of `octets` that took. */
  private complete(octets: Buffer, size: number): number {
    let at = 0;
    for (const head of [true, false]) {
      const held = this.end - this.begin;
      let lacks = 4 - held;
      if (!head) {
        const message = this.buffer.readUInt32LE(this.begin);
        lacks = message > MESSAGE_OCTETS_LIMIT ? 0 : 4 + message - held;
      }
      if (lacks > size - at) {
        this.keep(octets, at, size);
        return size;
      }
      if (lacks > 0) {
        this.keep(octets, at, at + lacks);
        at += lacks;
      }
    }
    try {
      this.handleHeld();
    } catch (error) {
      this.keep(octets, at, size);
      throw error;
    }
    return at;
  }
  private handleHeld(): void {
    this.handled = this.begin;
    try {
      this.handle(this.buffer, this.begin, this.end);
    } finally {
      this.begin = this.handled;
    }
    if (this.begin === this.end) {
      this.begin = 0;
      this.end = 0;
    }
  }

  private keep(octets: Buffer, from: number, to: number): void {
    const size = to - from;
    const held = this.end - this.begin;
    if (this.end + size > this.buffer.length) {
      // A message that has come in part is made room for at once.
      const message = held >= 4 ? Math.min(this.buffer.readUInt32LE(this.begin), MESSAGE_OCTETS_LIMIT) + 4 : 0;
      const wanted = Math.max(held + size, message);
      if (wanted > this.buffer.length) {
        const larger = Buffer.allocUnsafe(Math.max(wanted, Math.min(this.buffer.length * 2, MESSAGE_OCTETS_LIMIT)));
        this.buffer.copy(larger, 0, this.begin, this.end);
        this.buffer = larger;
      } else this.buffer.copyWithin(0, this.begin, this.end);
      this.begin = 0;
      this.end = held;
    }
    octets.copy(this.buffer, this.end, from, to);
    this.end += size;
  }

  /** How far `handle` has come. */
  private handled = 0;
  /** Handles whole messages of [begin, end) until there is none, or no batch to put one in. Returns where it stopped. */
  private handle(octets: Buffer, begin: number, end: number): number {
    const { dispatcher } = this.context;
    this.handled = begin;
    while (!this.closed && !this.stopping && end - begin >= 4) {
      const size =
        (octets[begin]! | (octets[begin + 1]! << 8) | (octets[begin + 2]! << 16) | (octets[begin + 3]! << 24)) >>> 0;
      if (size > MESSAGE_OCTETS_LIMIT) {
        const error = new SeineError(
          'SEINE_ERR_MESSAGE_LIMIT',
          `a message of ${size} octets; at most ${MESSAGE_OCTETS_LIMIT} are taken, and this connection ends`,
        );
        this.stopping = true;
        this.refuse(errorMessage(null, error));
        this.endWhenAnswered();
        this.handled = end;
        return end;
      }
      const start = begin + 4;
      if (end - start < size) return begin;
      if (this.socket.writableLength > WRITE_HIGH_WATER) {
        this.pause();
        return begin;
      }
      const batch = dispatcher.acquire();
      if (batch === null) {
        this.pause();
        this.waitForBatch();
        return begin;
      }
      begin = start + size;
      this.handled = begin;
      const answer = this.spare.pop() ?? this.newAnswer();
      if (kernels.readMsgpack(batch, octets, start, begin, answer.head) === 0) {
        const { batchId, error } = refusal(batch, octets, start, begin);
        dispatcher.release(batch);
        this.spare.push(answer);
        dispatcher.counters.count('batchesRefused');
        this.refuse(errorMessage(batchId, error));
        continue;
      }
      answer.batch = batch;
      this.answers.push(answer);
      const timed = (answer.head[2]! & HeadFlag.Timed) !== 0;
      dispatcher.submit(batch, 'unix', timed ? GIVEN_TIME : STAMP_TIME, answer.done);
    }
    return begin;
  }

  // --- answers ---

  private newAnswer(): Answer {
    const answer: Answer = {
      head: new Uint32Array(HEAD_WORDS),
      batch: null,
      refusal: null,
      done: (error) => this.judged(answer, error),
    };
    return answer;
  }

  private judged(answer: Answer, error: Error | null): void {
    if (this.abandoned) return;
    const batch = answer.batch!;
    // Batches are judged in the order of submits, and refusals before this one were written: it is its turn.
    if (this.answers.shift() !== answer) throw new Error('batches are judged in their order');
    if (error !== null) this.gather(errorMessage(idOf(answer.head), error as SeineError));
    else {
      const returnPackets = (answer.head[2]! & HeadFlag.ReturnPackets) !== 0;
      const extra =
        returnPackets || emissionCount(batch) > 0 ? copyOutput(batch, returnPackets, this.context.rewrite) : NOTHING;
      this.room(answerBound(batch.count, extra));
      this.gathered = writeAnswer(batch, answer.head, extra, this.out, this.gathered);
    }
    answer.batch = null;
    this.spare.push(answer);
    this.context.dispatcher.release(batch, false);
    this.gatheredAnswers++;
    this.writeRefusals();
    this.sendSoon();
  }

  private refuse(message: Buffer): void {
    const answer = this.newAnswer();
    answer.refusal = message;
    this.answers.push(answer);
    this.writeRefusals();
    this.sendSoon();
  }
  /** Refusals whose turn it is. */
  private writeRefusals(): void {
    while (this.answers.length > 0 && this.answers[0]!.refusal !== null) this.gather(this.answers.shift()!.refusal!);
  }
  private gather(message: Buffer): void {
    this.room(message.length);
    message.copy(this.out, this.gathered);
    this.gathered += message.length;
  }
  /** Sees to it that the next answer, of at most `size` octets, has room behind those gathered. */
  private room(size: number): void {
    if (this.gathered + size <= this.out.length) return;
    this.flush();
    if (size > this.out.length) this.out = Buffer.allocUnsafe(size);
    else if (this.out.length > GATHER_SIZE && size <= GATHER_SIZE) this.out = Buffer.allocUnsafe(GATHER_SIZE);
  }

  /** While requests are handled, the answers wait for each other; those of other shards, for the end of this turn. */
  private sendSoon(): void {
    if (this.handling || this.sendDue) return;
    this.sendDue = true;
    queueMicrotask(() => {
      this.sendDue = false;
      this.send();
    });
  }
  private send(): void {
    this.flush();
    if (this.answers.length === 0) this.drained?.();
  }
  /** Batches whose answers are gathered and not sent. */
  private gatheredAnswers = 0;
  private flush(): void {
    const size = this.gathered;
    const answers = this.gatheredAnswers;
    this.gathered = 0;
    this.gatheredAnswers = 0;
    const { dispatcher } = this.context;
    if (size === 0 || this.socket.destroyed) {
      dispatcher.answered(answers);
      return;
    }
    // The socket mostly takes all at once; what it does not take, or what comes behind such, waits in the stream.
    const sent = this.socket.writableLength === 0 ? sendNow(this.fd, this.out, 0, size) : 0;
    if (sent === size) dispatcher.answered(answers);
    else this.socket.write(Buffer.from(this.out.subarray(sent, size)), () => dispatcher.answered(answers));
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
    this.handling = true;
    this.handleHeld();
    this.handling = false;
    this.send();
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
    if (this.answers.length === 0 && this.gathered === 0) end();
    else this.drained = end;
  }
  private abandoned = false;
  /**
   * This thread ends now: what it has of this client's is answered with `error`, as far as the socket takes it at once (a
   * client that does not read its answers sees the connection end with batches unanswered).
   */
  abandon(error: SeineError): void {
    if (this.closed) return;
    this.abandoned = true;
    for (const { refusal, head } of this.answers.splice(0)) this.gather(refusal ?? errorMessage(idOf(head), error));
    // What was read, and not yet handed to the engine.
    const reader = new RequestReader(this.buffer);
    while (this.end - this.begin >= 4) {
      const size = this.buffer.readUInt32LE(this.begin);
      if (size > MESSAGE_OCTETS_LIMIT || this.end - this.begin < 4 + size) break;
      try {
        reader.read(this.begin + 4, this.begin + 4 + size);
      } catch {} // no batch: its id, if it has one, is read all the same
      this.gather(errorMessage(reader.batchId, error));
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
