/**
 * One collector: its own socket (connected, so that a refusal is told), sequence, bounded queue and pace. Whatever is
 * wrong with it is its own: no other collector waits for it. Every datagram handed in comes back by `resolved`, once:
 * delivered (given to the network and not refused) or lost, with a reason.
 *
 * UDP has no flow control. A datagram is sent when its receiver can take it: a receiver on this machine is watched
 * (receiver-backlog.ts), any other gets BURST datagrams a millisecond, some 700,000 records a second.
 */
import { createSocket, type Socket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { constants } from 'node:os';
import { DATAGRAMS_MAX, sendDatagrams } from '../native/kernels.js';
import { isLocalAddress, receiverBacklog } from './receiver-backlog.js';
import type { TargetAddress } from './target.js';

export const LOSS_REASONS = ['queue-full', 'unresolved', 'unreachable', 'refused', 'closed'] as const;
export type CollectorLoss = (typeof LOSS_REASONS)[number];

export interface QueuedDatagram {
  octets: Uint8Array;
  /** flow records that end in it. */
  flows: number;
}
/** What became of what a collector was handed: flow records, and datagrams given to the network. */
export interface CollectorCounts {
  datagrams: number;
  records: number;
  lost: number;
}
export interface CollectorOptions<T extends QueuedDatagram> {
  /** Counted on from here: those of the socket before, where one collector gets a new one. */
  counts?: CollectorCounts;
  /** Local address to send from; null = the system's choice. */
  source: string | null;
  /** Datagrams that may wait; past that the new one is lost. Infinity: who pushes waits for `drained`. */
  queueLimit: number;
  resolved(datagram: T, loss: CollectorLoss | null): void;
  /** The datagram is about to be given to the kernel; then, that the kernel has it (whatever becomes of it there). */
  sending?(datagram: T): void;
  /** At most one datagram is to be between `sending` and `sent`. */
  oneByOne?(): boolean;
  sent?(datagram: T): void;
  /** The queue went below LOW_WATER. */
  drained(): void;
}

/** Datagrams in a queue above which who can wait should, and below which it may go on. */
export const HIGH_WATER = 2048;
export const LOW_WATER = 512;
/**
 * Datagrams sent at a stretch. The kernel charges some 2.3 KB for each: with the backlog that may be there, two thirds of a
 * default receive buffer (212,992 octets).
 */
const BURST = 48;
/** A receiver with more than this unread is waited for. */
const BACKLOG_OCTETS = 32 * 1024;
/** After this long without reading, a receiver is taken for hung, and not waited for. */
const HUNG_MS = 2000;
const SEND_BUFFER_SIZE = 4 * 1024 * 1024;
const RESOLVE_TIMEOUT_MS = 5000;
const RESOLVE_AGAIN_MS = 60_000;
const RETRY_MS = 2000;
/** A sent datagram counts as delivered when no refusal came for this long, or twice as long. */
const DOUBT_MS = 50;

interface Sent<T> {
  datagram: T;
  again: boolean;
}

export class Collector<T extends QueuedDatagram> {
  readonly counts: CollectorCounts;
  state = 'starting';
  /** flow_sequence of the next datagram. */
  sequence = 0;

  #queue: T[] = [];
  #head = 0;
  #socket: Socket | null = null;
  #fd: number | null = null;
  #address: string | null = null;
  #local = false;
  /** Why datagrams are lost at the moment; null = they are sent, or wait for the socket. */
  #broken: CollectorLoss | null = null;
  #inFlight = 0;
  #credit = BURST;
  #lastBurst = 0;
  #waitingSince = 0;
  #hung = false;
  #pause: NodeJS.Timeout | NodeJS.Immediate | null = null;
  #retry: NodeJS.Timeout | null = null;
  #doubtTimer: NodeJS.Timeout | null = null;
  /** Sent in the last DOUBT_MS, and in those before. */
  #young: T[] = [];
  #old: T[] = [];
  #closed = false;
  #idle: (() => void)[] = [];
  #above = false;

  constructor(
    readonly target: TargetAddress,
    readonly options: CollectorOptions<T>,
  ) {
    this.counts = options.counts ?? { datagrams: 0, records: 0, lost: 0 };
    void this.#open();
  }

  get queued(): number {
    return this.#queue.length - this.#head;
  }

  push(datagram: T): void {
    const full = this.queued >= this.options.queueLimit;
    const loss = this.#closed ? 'closed' : (this.#broken ?? (full ? 'queue-full' : null));
    if (loss !== null) {
      this.#lose(datagram, loss);
      return;
    }
    this.#queue.push(datagram);
    if (this.queued > HIGH_WATER) this.#above = true;
  }

  /** Resolves when nothing waits any more and what was sent is known to be delivered or refused. */
  async settle(): Promise<void> {
    if (this.queued > 0 || this.#inFlight > 0) await new Promise<void>((done) => this.#idle.push(done));
    if (this.#young.length + this.#old.length > 0) {
      // A refusal comes by return on this machine; from another one it may come too late to be counted.
      await new Promise((done) => setTimeout(done, DOUBT_MS));
      // A timer that is late comes before what the sockets have to tell; an immediate comes after it.
      await new Promise((done) => setImmediate(done));
      this.#resolveDoubts();
      this.#resolveDoubts();
    }
  }

  /** Gives up what still waits, and closes the socket. */
  close(): void {
    this.#closed = true;
    this.#dropQueue('closed');
    this.#resolveDoubts();
    this.#resolveDoubts();
    for (const timer of [this.#retry, this.#doubtTimer]) if (timer !== null) clearTimeout(timer);
    this.#clearPause();
    this.#closeSocket();
    this.state = 'closed';
    this.#wakeIdle();
  }

  async #open(): Promise<void> {
    const { host, family, port } = this.target;
    const { source } = this.options;
    let address = host;
    if (family === 0) {
      const wanted = source === null ? 0 : source.includes(':') ? 6 : 4;
      let timer: NodeJS.Timeout | undefined;
      try {
        const late = new Promise<never>((_, reject) => {
          timer = setTimeout(
            () => reject(new Error(`no answer in ${RESOLVE_TIMEOUT_MS / 1000} s`)),
            RESOLVE_TIMEOUT_MS,
          );
        });
        address = (await Promise.race([lookup(host, { family: wanted }), late])).address;
      } catch (error) {
        // A name that once had an address keeps it until there is a newer one.
        if (this.#socket === null) this.#break('unresolved', `the name ${host} is not resolved: ${reasonOf(error)}`);
        else this.#scheduleOpen(RETRY_MS);
        return;
      } finally {
        clearTimeout(timer);
      }
      if (this.#closed) return;
      this.#scheduleOpen(RESOLVE_AGAIN_MS);
      if (this.#socket !== null && address === this.#address) return;
    }
    const socket = createSocket({ type: address.includes(':') ? 'udp6' : 'udp4' });
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once('error', reject);
        const connect = () =>
          socket.connect(port, address, ((error?: Error) => (error ? reject(error) : resolve())) as () => void);
        if (source === null) connect();
        else socket.bind({ address: source, port: 0 }, connect);
      });
    } catch (error) {
      socket.close();
      if (this.#socket === null) this.#break('unreachable', `no way to ${address} port ${port}: ${reasonOf(error)}`);
      return;
    }
    if (this.#closed) {
      socket.close();
      return;
    }
    socket.removeAllListeners('error');
    // A refusal may be told here or by the next send, whichever asks the kernel first.
    socket.on('error', (error) => this.#refused(error));
    try {
      socket.setSendBufferSize(SEND_BUFFER_SIZE);
    } catch {
      // The system's maximum is smaller: its default serves, only in shorter bursts.
    }
    socket.unref();
    this.#closeSocket();
    this.#socket = socket;
    this.#fd = descriptorOf(socket);
    this.#address = address;
    this.#local = isLocalAddress(address);
    this.#broken = null;
    this.state = 'sending';
    this.pump();
  }

  #break(reason: CollectorLoss, state: string): void {
    if (this.#closed) return;
    this.#broken = reason;
    this.state = state;
    this.#dropQueue(reason);
    this.#scheduleOpen(RETRY_MS);
  }

  #scheduleOpen(ms: number): void {
    if (this.#closed) return;
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#retry = setTimeout(() => void this.#open(), ms);
    this.#retry.unref();
  }

  #closeSocket(): void {
    const socket = this.#socket;
    this.#socket = null;
    this.#fd = null;
    socket?.close();
  }

  #lose(datagram: T, reason: CollectorLoss): void {
    this.counts.lost += datagram.flows;
    this.options.resolved(datagram, reason);
  }

  #dropQueue(reason: CollectorLoss): void {
    const rest = this.#queue.slice(this.#head);
    this.#queue = [];
    this.#head = 0;
    for (const datagram of rest) this.#lose(datagram, reason);
    this.#afterQueue();
  }

  #afterQueue(): void {
    if (this.#above && this.queued < LOW_WATER) {
      this.#above = false;
      this.options.drained();
    }
    if (this.queued === 0 && this.#inFlight === 0) this.#wakeIdle();
  }

  #wakeIdle(): void {
    for (const done of this.#idle.splice(0)) done();
  }

  /** Sends what waits, so far as the receiver can take it: called once for all that was pushed, which leaves together. */
  pump(): void {
    if (this.#socket === null || this.#pause !== null || this.queued === 0) return;
    const now = performance.now();
    if (this.#credit < BURST && now - this.#lastBurst > 5) this.#credit = BURST;
    this.#lastBurst = now;
    while (this.#credit > 0 && this.queued > 0 && this.#socket !== null) this.#sendSome(this.#socket);
    if (this.queued > 0) this.#pauseFor(this.#local ? 0 : 1);
    this.#afterQueue();
  }

  /** Sends as many as it may in one call; the one that the kernel does not take goes, or is lost, by itself. */
  #sendSome(socket: Socket): void {
    const fd = this.#fd;
    // What libuv has queued goes first.
    if (fd === null || this.#inFlight > 0) {
      this.#credit--;
      this.#send(socket, { datagram: this.#take(1)[0]!, again: false });
      return;
    }
    const most = this.options.oneByOne?.() === true ? 1 : DATAGRAMS_MAX;
    const count = Math.min(this.#credit, this.queued, most);
    const some = this.#queue.slice(this.#head, this.#head + count);
    this.options.sending?.(some[count - 1]!);
    const { taken, errno } = sendDatagrams(
      fd,
      some.map(({ octets }) => octets),
      0,
      count,
    );
    this.#take(taken);
    this.#credit -= taken;
    if (taken > 0) {
      this.counts.datagrams += taken;
      for (let i = 0; i < taken; i++) {
        this.#young.push(some[i]!);
        this.options.sent?.(some[i]!);
      }
      this.#watchDoubts();
    }
    if (errno === 0) return;
    this.#credit--;
    if (errno === constants.errno.ECONNREFUSED) {
      // The kernel tells of an earlier datagram and did not send this one.
      this.#refused(new Error('ECONNREFUSED'));
      this.#send(socket, { datagram: this.#take(1)[0]!, again: true });
    } else this.#send(socket, { datagram: this.#take(1)[0]!, again: false });
  }

  #take(count: number): T[] {
    const taken = this.#queue.slice(this.#head, this.#head + count);
    this.#queue.fill(undefined as never, this.#head, this.#head + count);
    this.#head += count;
    if (this.#head === this.#queue.length) {
      this.#queue = [];
      this.#head = 0;
    } else if (this.#head >= 4096) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
    return taken;
  }

  #send(socket: Socket, sent: Sent<T>): void {
    this.#inFlight++;
    let told = false;
    const tellSent = () => {
      if (!told) this.options.sent?.(sent.datagram);
      told = true;
    };
    this.options.sending?.(sent.datagram);
    socket.send(sent.datagram.octets, (error) => {
      this.#inFlight--;
      tellSent();
      const code = (error as NodeJS.ErrnoException | null)?.code;
      if (!error) {
        this.counts.datagrams++;
        this.#young.push(sent.datagram);
        this.#watchDoubts();
      } else if (code === 'ECONNREFUSED' && socket === this.#socket) {
        // The kernel tells of an earlier datagram and did not send this one.
        this.#refused(error);
        if (sent.again) this.#lose(sent.datagram, 'refused');
        else this.#send(socket, { datagram: sent.datagram, again: true });
      } else {
        if (!this.#closed)
          this.state = `sending to ${this.#address} port ${this.target.port} failed: ${reasonOf(error)}`;
        this.#lose(sent.datagram, this.#closed ? 'closed' : 'unreachable');
      }
      if (this.queued === 0 && this.#inFlight === 0) this.#wakeIdle();
    });
    // The call hands it over at once, unless the kernel's buffer is full; the callback comes a turn later.
    if (socket.getSendQueueCount() === 0) tellSent();
  }

  #refused(error: Error): void {
    if (this.#closed) return;
    this.state = `${this.#address} port ${this.target.port} refuses: ${reasonOf(error)}`;
    const datagram = this.#young.pop() ?? this.#old.pop();
    if (datagram !== undefined) this.#lose(datagram, 'refused');
  }

  #watchDoubts(): void {
    if (this.#doubtTimer !== null) return;
    this.#doubtTimer = setTimeout(() => {
      this.#doubtTimer = null;
      this.#resolveDoubts();
      if (this.#old.length > 0) this.#watchDoubts();
    }, DOUBT_MS);
    this.#doubtTimer.unref();
  }

  #resolveDoubts(): void {
    const old = this.#old;
    this.#old = this.#young;
    this.#young = [];
    if (old.length > 0 && this.#broken === null && !this.#closed) this.state = 'sending';
    for (const datagram of old) {
      this.counts.records += datagram.flows;
      this.options.resolved(datagram, null);
    }
  }

  #pauseFor(ms: number): void {
    const go = () => {
      this.#pause = null;
      const backlog = this.#local ? receiverBacklog(this.target.port) : null;
      const now = performance.now();
      if (backlog === null || backlog <= BACKLOG_OCTETS) {
        this.#waitingSince = 0;
        this.#hung = false;
        // Without a look into the receiver, time must pass instead.
        if (backlog === null && ms === 0) return this.#pauseFor(1);
      } else {
        if (this.#waitingSince === 0) this.#waitingSince = now;
        if (now - this.#waitingSince > HUNG_MS) this.#hung = true;
        if (!this.#hung) return this.#pauseFor(1);
        if (ms === 0) return this.#pauseFor(1);
      }
      this.#credit = BURST;
      this.#lastBurst = now;
      this.pump();
    };
    this.#pause = ms === 0 ? setImmediate(go) : setTimeout(go, ms);
  }

  #clearPause(): void {
    if (this.#pause === null) return;
    clearTimeout(this.#pause as NodeJS.Timeout);
    clearImmediate(this.#pause as NodeJS.Immediate);
    this.#pause = null;
  }
}

function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return code ?? message;
}

/**
 * The descriptor behind a socket, where Node lets it be found (its state stands under a symbol; the property of old is
 * deprecated); null: the socket itself sends.
 */
function descriptorOf(socket: Socket): number | null {
  const symbol = Object.getOwnPropertySymbols(socket).find(({ description }) => description === 'state symbol');
  if (symbol === undefined) return null;
  const state = (socket as unknown as Record<symbol, { handle?: { fd?: unknown } | null }>)[symbol];
  const fd = state?.handle?.fd;
  return typeof fd === 'number' && fd > 0 ? fd : null;
}
