/**
 * The memif clients of one worker thread: their rings are polled for batches while frames come, and waited for by interrupt
 * when none have come for a while, so that idle costs nothing. A judged batch's frames leave by the interfaces of their
 * out-ports, whichever worker's clients those are (the hub in native/memif.h), or are counted as lost with the reason.
 */
import { closeSync } from 'node:fs';
import { Port, Verdict } from '../batch/drop-reason.js';
import type { PacketBatch } from '../batch/packet-batch.js';
import { composedBound, emissions, forwardedRows } from '../engine/engine.js';
import { kernels, memifAddon, nativeEnabled } from '../native/kernels.js';
import { type DescriptorWatch, MEMIF_TOTALS, memifEvents, type MemifPoller, MemifTotal } from '../native/memif.js';
import { emissionCount } from '../pipeline/emitter.js';
import type { Adopted, WorkerContext } from '../worker/worker.js';

/** Rows of one batch: many enough that a batch's own cost is small, few enough that its columns stay in the cache (bench row memif). */
const ROWS_PER_BATCH = 512;
/** Batches taken before other events of the thread get their turn. */
const BATCHES_PER_TURN = 4;
/** Polling goes on this long after the last frame, then interrupts are asked for. */
const POLL_MS = 0.1;
/** A client whose processor wrote its ring's head late, past our last look and its own look at the flags, is looked at again. */
const RECHECK_MS = 1;
/** Lines about clients that may be written a second; the rest is told as a number. */
const LINES_PER_SECOND = 10;

interface Client {
  closed(): void;
  gone: (() => void) | null;
}

export class MemifServer {
  private readonly poller: MemifPoller;
  private readonly watch: DescriptorWatch;
  private readonly clients = new Map<number, Client>();
  private readonly totals = new Uint32Array(MEMIF_TOTALS);
  private scheduled = false;
  private polling = false;
  private draining = false;
  private inFlight = 0;
  private rowsInFlight = 0;
  private lastFrameMs = 0;
  private recheck: NodeJS.Timeout | null = null;
  private readonly whenIdle: (() => void)[] = [];

  constructor(
    hub: number,
    private readonly context: WorkerContext,
  ) {
    const addon = memifAddon();
    this.poller = new addon.MemifPoller(hub);
    this.watch = new addon.DescriptorWatch(this.poller.descriptor, () => this.attend());
  }

  /** Takes a client's socket over. */
  adopt(fd: number, closed: () => void): Adopted {
    const handle = this.poller.adopt(fd);
    const client: Client = { closed, gone: null };
    this.clients.set(handle, client);
    // Not at once: the caller notes the client first.
    setImmediate(() => this.attend());
    return { drain: () => this.drain(handle, client), abandon: () => this.abandon(handle) };
  }

  /** A socket or an interrupt wants attention. */
  private attend(): void {
    this.tell(this.poller.service());
    if (!this.polling && !this.draining) this.startPolling();
  }

  private startPolling(): void {
    this.polling = true;
    this.lastFrameMs = performance.now();
    this.poller.interrupts(false);
    this.turn();
  }

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      this.turn();
    });
  }

  private turn(): void {
    if (!this.polling || this.draining) return;
    for (let i = 0; i < BATCHES_PER_TURN; i++) {
      const batch = this.context.dispatcher.acquire();
      if (batch === null) {
        // Frames wait in their rings meanwhile.
        this.context.dispatcher.whenFree(() => this.schedule());
        return;
      }
      const count = this.poller.receive(batch.block, batch.data, ROWS_PER_BATCH, this.totals);
      this.countBadSizes();
      if (count === 0) {
        this.context.dispatcher.release(batch);
        if (performance.now() - this.lastFrameMs > POLL_MS && this.rest()) return;
        break;
      }
      batch.count = count;
      this.judge(batch);
      this.lastFrameMs = performance.now();
      if (count < ROWS_PER_BATCH) break;
    }
    this.schedule();
  }

  /** Leaves the rings to interrupts; false when frames have come meanwhile. */
  private rest(): boolean {
    if (!this.poller.interrupts(true)) {
      this.poller.interrupts(false);
      return false;
    }
    this.polling = false;
    if (this.recheck === null && this.clients.size > 0) {
      this.recheck = setTimeout(() => {
        this.recheck = null;
        if (!this.polling && !this.draining && !this.poller.interrupts(true)) this.startPolling();
      }, RECHECK_MS);
    }
    return true;
  }

  private judge(batch: PacketBatch): void {
    const { dispatcher } = this.context;
    this.inFlight++;
    this.rowsInFlight += batch.count;
    dispatcher.counters.count('memifReceived', batch.count);
    dispatcher.submit(batch, 'memif', { stampTime: true }, (error) => {
      if (error !== null) dispatcher.counters.count('memifLostWorker', batch.count);
      else this.send(batch);
      this.rowsInFlight -= batch.count;
      dispatcher.release(batch);
      this.inFlight--;
      if (this.inFlight === 0) for (const done of this.whenIdle.splice(0)) done();
    });
  }

  private send(batch: PacketBatch): void {
    const { rewrite } = this.context;
    const { totals } = this;
    if (nativeEnabled) this.poller.sendRows(batch.block, batch.data, rewrite.octets, batch.count, totals);
    else this.sendComposed(batch);
    if (emissionCount(batch) > 0) {
      const made = emissions(batch, rewrite);
      this.poller.sendFrames(
        Buffer.concat(made.map(({ octets }) => octets)),
        Uint32Array.from(made, ({ octets }) => octets.length),
        Uint32Array.from(made, ({ outPort }) => outPort),
        made.length,
        totals,
      );
    }
    // A metering engine makes no copies of what is for all.
    if (this.context.dispatcher.forwarding?.metering)
      for (let row = 0; row < batch.count; row++)
        if (batch.verdict[row] === Verdict.Forward && batch.outPort[row] === Port.Flood)
          totals[MemifTotal.NoInterface]!++;
    const { counters } = this.context.dispatcher;
    if (totals[MemifTotal.Sent]! > 0) counters.count('memifSent', totals[MemifTotal.Sent]);
    if (totals[MemifTotal.NoInterface]! > 0) counters.count('memifLostNoInterface', totals[MemifTotal.NoInterface]);
    if (totals[MemifTotal.RingFull]! > 0) counters.count('memifLostRingFull', totals[MemifTotal.RingFull]);
    if (totals[MemifTotal.TooLong]! > 0) counters.count('memifLostSize', totals[MemifTotal.TooLong]);
    totals.fill(0);
  }

  /** SEINE_NATIVE=off: frames composed by the reference. */
  private sendComposed(batch: PacketBatch): void {
    const rows = new Int32Array(batch.count);
    const forwarded = rows.subarray(0, forwardedRows(batch, rows)).filter((row) => batch.outPort[row] !== Port.Flood);
    const sizes = new Uint32Array(forwarded.length);
    const frames = new Uint8Array(composedBound(batch));
    kernels.composeRows(batch, this.context.rewrite.octets, forwarded, forwarded.length, frames, 0, sizes);
    const fit = [...forwarded.keys()].filter((i) => sizes[i]! > 0);
    this.totals[MemifTotal.TooLong]! += forwarded.length - fit.length;
    this.poller.sendFrames(
      frames,
      Uint32Array.from(fit, (i) => sizes[i]!),
      Uint32Array.from(fit, (i) => batch.outPort[forwarded[i]!]!),
      fit.length,
      this.totals,
    );
  }

  private countBadSizes(): void {
    const bad = this.totals[MemifTotal.BadSize]!;
    if (bad === 0) return;
    this.context.dispatcher.counters.count('memifLostSize', bad);
    this.totals[MemifTotal.BadSize] = 0;
  }

  private tell(events: string): void {
    if (events === '') return;
    for (const event of memifEvents(events)) {
      const who = `memif client ${JSON.stringify(event.client)}${event.port === 0 ? '' : ` of port ${event.port}`}`;
      if (!event.closed) {
        this.line(`${who} is connected`);
        continue;
      }
      if (event.violation) this.context.dispatcher.counters.count('memifViolations');
      this.line(`${who}: ${event.violation ? 'closed, it breaks the protocol: ' : 'closed: '}${event.reason}`);
      const client = this.clients.get(event.handle);
      this.clients.delete(event.handle);
      client?.closed();
      client?.gone?.();
    }
  }

  private second = 0;
  private lines = 0;
  private line(text: string): void {
    const second = Math.floor(performance.now() / 1000);
    if (second !== this.second) {
      if (this.lines > LINES_PER_SECOND)
        process.stderr.write(`seine: ${this.lines - LINES_PER_SECOND} more lines about memif clients\n`);
      this.second = second;
      this.lines = 0;
    }
    if (++this.lines <= LINES_PER_SECOND) process.stderr.write(`seine: ${text}\n`);
  }

  /** What was taken from the rings is judged and sent; then the client is told that the service stops. */
  private async drain(handle: number, client: Client): Promise<void> {
    this.draining = true;
    if (this.inFlight > 0) await new Promise<void>((resolve) => this.whenIdle.push(resolve));
    if (this.clients.has(handle)) {
      const gone = new Promise<void>((resolve) => {
        client.gone = resolve;
      });
      this.tell(this.poller.close(handle, 'the service stops'));
      await gone;
    }
    if (this.clients.size === 0) {
      if (this.recheck !== null) clearTimeout(this.recheck);
      this.watch.close();
    }
  }

  /** The thread ends now: what it had in hand is counted, once for all clients, and each client told so, which connects anew. */
  private abandon(handle: number): void {
    if (this.rowsInFlight > 0) this.context.dispatcher.counters.count('memifLostWorker', this.rowsInFlight);
    this.rowsInFlight = 0;
    this.draining = true;
    this.poller.close(handle, 'the worker was lost');
  }
}

/** Adopts a client for a server that may have to be made first; a socket that can't be served is closed, and told. */
export function adoptMemif(make: () => MemifServer, fd: number, closed: () => void): Adopted {
  let server: MemifServer;
  try {
    server = make();
  } catch (error) {
    closeSync(fd);
    process.stderr.write(`seine: warning: a memif client can't be served: ${(error as Error).message}\n`);
    setImmediate(closed);
    return { drain: async () => {}, abandon: () => {} };
  }
  return server.adopt(fd, closed);
}
