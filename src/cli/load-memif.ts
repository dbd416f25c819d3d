/**
 * `seine load` over memif: one interface for each pod of the server, as pods would have. There are no verdicts on a ring, only
 * frames that come back by the interface of the pod that they are for; so one packet of each kind (in-port, destination, port)
 * is sent beforehand, and those that do not come back are the denied ones. A batch is answered when the server has taken all
 * its frames and as many have come back as should.
 */
import { Verdict } from '../batch/drop-reason.js';
import { SeineError } from '../errors.js';
import { memifAddon } from '../native/kernels.js';
import type { MemifClient } from '../native/memif.js';
import { type Batch, IMIX_LARGEST, type Load } from './load-batches.js';
import { Sender } from './load-sender.js';

/** Descriptors of the largest ring that a memif server must take. */
export const MEMIF_RING_MAX = 16_384;
/** A packet that has not come back this long after the server took it was denied. */
const DENIED_MS = 30;
const PROBE_WAIT_MS = 5000;
/** Turns between two looks at the connections themselves. */
const TURNS_PER_CHECK = 4096;

/** One in-port's frames of a batch, and the octets that they lie in. */
interface Part {
  client: MemifClient;
  frames: Uint8Array;
  offsets: Uint32Array;
  lengths: Uint32Array;
}
interface Request {
  parts: Part[];
  /** Of each frame, forwarded ones first. */
  verdicts: Uint8Array;
  forwarded: number;
}

/** What decides of a frame's verdict between pods: where it comes in, to whom, which port. */
function kindOf(frame: Uint8Array, inPort: number): string {
  const octets = Buffer.from(frame.buffer, frame.byteOffset, frame.length);
  return `${inPort} ${octets[12] === 0x86 ? octets.toString('hex', 38, 54) + octets.toString('hex', 56, 58) : octets.toString('hex', 30, 34) + octets.toString('hex', 36, 38)}`;
}

export class MemifSender extends Sender {
  private readonly requests: Request[] = [];
  /** Frames offered, and that should come back, up to and with batch `id`, at id % window. */
  private readonly offeredUpTo: Float64Array;
  private readonly expectedUpTo: Float64Array;
  private offered = 0;
  private expected = 0;
  private taken = 0;
  private received = 0;
  private sent = 0;
  private done = 0;
  private turns = 0;
  private polling = true;

  private constructor(
    load: Load,
    batches: number,
    private readonly clients: ReadonlyMap<number, MemifClient>,
  ) {
    super(load, batches);
    this.offeredUpTo = new Float64Array(load.window);
    this.expectedUpTo = new Float64Array(load.window);
  }

  /** `ports`: of the pods. */
  static async open(
    load: Load,
    batches: readonly Batch[],
    path: string,
    ports: readonly number[],
  ): Promise<MemifSender> {
    const log2 = Math.ceil(Math.log2(Math.max(2, load.window * load.batch)));
    const largest = load.size === 'imix' ? IMIX_LARGEST : load.size;
    const clients = new Map<number, MemifClient>();
    for (const port of ports) {
      try {
        clients.set(port, new (memifAddon().MemifClient)(path, port, log2, Math.ceil(largest / 64) * 64));
      } catch (error) {
        for (const client of clients.values()) client.close();
        throw new SeineError(
          'SEINE_ERR_UNAVAILABLE',
          `memif:${path}: interface ${port}: ${(error as Error).message}: is \`listen.memif\` set, and no other client on that port?`,
        );
      }
    }
    const sender = new MemifSender(load, batches.length, clients);
    try {
      await sender.prepare(batches);
    } catch (error) {
      sender.close();
      throw error;
    }
    return sender;
  }

  private collect(): void {
    for (const client of this.clients.values()) {
      this.taken += client.taken();
      this.received += client.receive();
    }
  }

  /** Finds out which kinds of packets are forwarded, and lays the batches out by interface. */
  private async prepare(batches: readonly Batch[]): Promise<void> {
    const verdicts = new Map<string, number>();
    for (const { frames, length, inPort } of batches) {
      const verdict = new Uint8Array(length.length);
      const lists = new Map<number, { offsets: number[]; lengths: number[] }>();
      let at = 0;
      for (let i = 0; i < length.length; at += length[i]!, i++) {
        const kind = kindOf(frames.subarray(at, at + length[i]!), inPort[i]!);
        if (!verdicts.has(kind)) verdicts.set(kind, await this.probe(frames, at, length[i]!, inPort[i]!));
        verdict[i] = verdicts.get(kind)!;
        let list = lists.get(inPort[i]!);
        if (list === undefined) {
          list = { offsets: [], lengths: [] };
          lists.set(inPort[i]!, list);
        }
        list.offsets.push(at);
        list.lengths.push(length[i]!);
      }
      this.requests.push({
        parts: [...lists].map(([port, { offsets, lengths }]) => ({
          client: this.clients.get(port)!,
          frames,
          offsets: Uint32Array.from(offsets),
          lengths: Uint32Array.from(lengths),
        })),
        verdicts: verdict,
        forwarded: verdict.reduce((sum, code) => sum + (code === Verdict.Forward ? 1 : 0), 0),
      });
    }
    this.taken = 0;
    this.received = 0;
  }

  private async probe(frames: Uint8Array, at: number, length: number, inPort: number): Promise<number> {
    this.taken = 0;
    this.received = 0;
    this.clients.get(inPort)!.send(frames, Uint32Array.of(at), Uint32Array.of(length), 0);
    const started = performance.now();
    let takenAt = 0;
    for (;;) {
      this.collect();
      if (this.received > 0) return Verdict.Forward;
      const now = performance.now();
      if (this.taken > 0 && takenAt === 0) takenAt = now;
      if (takenAt > 0 && now - takenAt > DENIED_MS) return Verdict.Drop;
      if (now - started > PROBE_WAIT_MS)
        throw new SeineError('SEINE_ERR_UNAVAILABLE', `the service takes no frames of interface ${inPort}`);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  override async run(progress: (share: number) => void): Promise<number> {
    setImmediate(this.poll);
    return super.run(progress);
  }

  protected send(id: number, index: number): void {
    const { parts, verdicts, forwarded } = this.requests[index]!;
    for (const { client, frames, offsets, lengths } of parts) {
      // The ring holds all that may be under way.
      if (client.send(frames, offsets, lengths, 0) !== lengths.length)
        this.fail(new SeineError('SEINE_ERR_IO', 'a ring is full of frames that were answered'));
    }
    this.offered += verdicts.length;
    this.expected += forwarded;
    this.offeredUpTo[id % this.load.window] = this.offered;
    this.expectedUpTo[id % this.load.window] = this.expected;
    this.sent = id + 1;
  }

  private readonly poll = (): void => {
    if (!this.polling) return;
    this.collect();
    const { window } = this.load;
    const before = this.done;
    while (this.done < this.sent) {
      const slot = this.done % window;
      if (this.taken < this.offeredUpTo[slot]! || this.received < this.expectedUpTo[slot]!) break;
      const { verdicts } = this.requests[this.done % this.requests.length]!;
      this.answered(this.done++, verdicts, 0, verdicts.length);
    }
    if (this.received > this.expected)
      this.fail(new SeineError('SEINE_ERR_IO', 'more frames came back than should: does another sender run?'));
    if (++this.turns % TURNS_PER_CHECK === 0 && [...this.clients.values()].some((client) => client.closed()))
      this.fail(new SeineError('SEINE_ERR_CLOSED', 'the service closed a connection'));
    if (this.done > before) this.pump();
    setImmediate(this.poll);
  };

  close(): void {
    this.polling = false;
    for (const client of this.clients.values()) client.close();
  }
}
