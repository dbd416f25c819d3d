/**
 * Overload: eight clients of the batch socket send without waiting for answers, the engine slowed to a tenth. What the engine
 * accepts keeps its latency, the rest waits with the clients, whose sockets are not read; memory is bounded; every batch that
 * was sent is answered, once and in order, and the counters say so.
 */
import assert from 'node:assert/strict';
import { createConnection, type Socket } from 'node:net';
import { test } from 'node:test';
import { encodeBatch } from '../../src/client/index.js';
import { BATCHES_PER_PARTICIPANT } from '../../src/engine/fabric.js';
import { udp4 } from '../unit/frames.js';
import { eventually } from '../unit/server/service.js';
import { ServiceProcess } from './service-process.js';

const SECONDS = process.env.SEINE_SLOW === '1' ? 60 : 5;
const CLIENTS = 8;
const WORKERS = 2;
const ROWS = 256;

/** Octets that may lie between a client's write and the engine: the kernel's buffers, the reader's, and the answers' way back. */
const IN_FLIGHT_OCTETS = 2 << 20;

class Client {
  sent = 0;
  answered = 0;
  mostInFlight = 0;
  /** The socket took no more, and the client waited. */
  pushedBack = 0;
  trouble: string | null = null;
  /** ms from write to answer, and when it was answered. */
  readonly took: { ms: number; at: number }[] = [];
  private readonly sentAt: number[] = [];
  private received: Buffer = Buffer.alloc(0);
  private going = true;

  private constructor(
    private readonly socket: Socket,
    private readonly frames: Parameters<typeof encodeBatch>[1],
  ) {
    socket.on('data', (octets) => this.take(octets));
    socket.on('error', (error) => {
      this.trouble ??= error.message;
    });
    socket.on('close', () => {
      this.going = false;
    });
    socket.on('drain', () => this.send());
  }
  static open(path: string, frames: Parameters<typeof encodeBatch>[1]): Promise<Client> {
    return new Promise((resolve, reject) => {
      const socket = createConnection(path, () => resolve(new Client(socket, frames)));
      socket.once('error', reject);
    });
  }

  /** Writes until the socket takes no more; goes on when it does. */
  send(): void {
    while (this.going) {
      this.sentAt.push(performance.now());
      const more = this.socket.write(encodeBatch(++this.sent, this.frames));
      this.mostInFlight = Math.max(this.mostInFlight, this.sent - this.answered);
      if (!more) {
        this.pushedBack++;
        return;
      }
    }
  }
  stop(): void {
    this.going = false;
  }
  close(): void {
    this.socket.destroy();
  }

  private take(octets: Buffer): void {
    this.received = this.received.length === 0 ? octets : Buffer.concat([this.received, octets]);
    let at = 0;
    while (this.received.length - at >= 4) {
      const size = this.received.readUInt32LE(at);
      if (this.received.length - at < 4 + size) break;
      this.message(this.received.subarray(at + 4, at + 4 + size));
      at += 4 + size;
    }
    this.received = this.received.subarray(at);
  }
  private message(body: Buffer): void {
    const text = body.toString('latin1', 0, 40);
    if (text.includes('hello')) return;
    const idAt = text.indexOf('batchId') + 7;
    if (!text.includes('verdicts') || idAt < 7) this.trouble ??= `no verdicts: ${text}`;
    this.answered++;
    const id = idOf(body, idAt);
    if (id !== this.answered) this.trouble ??= `batch ${id} is answered in place of ${this.answered}`;
    const at = performance.now();
    this.took.push({ ms: at - this.sentAt[this.answered - 1]!, at });
  }
}

/** MessagePack's unsigned integer at `at`. */
function idOf(body: Buffer, at: number): number {
  const tag = body[at]!;
  if (tag < 0x80) return tag;
  if (tag === 0xcf || tag === 0xd3) return Number(body.readBigUInt64BE(at + 1));
  if (tag >= 0xcc && tag <= 0xce) return body.readUIntBE(at + 1, 1 << (tag - 0xcc));
  throw new Error(`an id begins with ${tag.toString(16)}`);
}

const quantile = (values: readonly number[], part: number): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))]!;

/** Of the batches between two scrapes, the share that took at most `seconds`, by the bucket that holds it. */
function shareWithin(before: Bucket[], after: Bucket[], seconds: number): { share: number; bound: number } {
  const within = (bucket: number) => after[bucket]!.count - before[bucket]!.count;
  const bucket = after.findIndex(({ le }) => le >= seconds);
  return { share: within(bucket) / within(after.length - 1), bound: after[bucket]!.le };
}
interface Bucket {
  le: number;
  count: number;
}
const durations = async (service: ServiceProcess): Promise<Bucket[]> =>
  [...(await service.metric('seine_batch_duration_seconds_bucket'))]
    .filter(([labels]) => labels.includes('transport="unix"'))
    .map(([labels, count]) => ({ le: Number(/le="([^"]+)"/.exec(labels)![1]!.replace('+Inf', 'Infinity')), count }))
    .sort((a, b) => a.le - b.le);

test(`overload: ${CLIENTS} clients that don't wait, slow:10, ${SECONDS} s: pushed back, nothing lost, latency and memory bounded`, {
  timeout: (SECONDS + 60) * 1000,
}, async (t) => {
  const service = await ServiceProcess.start(t, { workers: WORKERS, fault: 'slow:10' });
  const clients: Client[] = [];
  for (let c = 0; c < CLIENTS; c++) {
    const frames = Array.from({ length: ROWS }, (_, i) =>
      udp4({ src: `10.0.${c}.1`, dst: '10.1.0.2', sport: 1024 + i, dport: 53, payload: new Uint8Array(22) } as never),
    );
    clients.push(
      await Client.open(service.socket, {
        data: Buffer.concat(frames),
        length: Uint32Array.from(frames, ({ length }) => length),
        inPort: 3,
      }),
    );
  }
  const batchOctets = ROWS * 64;
  const started = performance.now();
  for (const client of clients) client.send();
  // A first part to come to rest, then memory may not grow.
  await new Promise((resolve) => setTimeout(resolve, SECONDS * 250));
  const settled = service.anonymousOctets();
  const durationsBefore = await durations(service);
  const answeredBefore = clients.reduce((sum, { answered }) => sum + answered, 0);
  const measuredFrom = performance.now();
  let most = 0;
  while (performance.now() - started < SECONDS * 1000) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    most = Math.max(most, service.anonymousOctets());
  }
  const answeredInTime = clients.reduce((sum, { answered }) => sum + answered, 0);
  const elapsed = performance.now() - started;
  const measured = performance.now() - measuredFrom;
  const durationsAfter = await durations(service);
  for (const client of clients) client.stop();
  await eventually('every batch is answered', () => clients.every(({ sent, answered }) => sent === answered), 30_000);

  // Nothing is lost, nothing twice, and the counters are what was answered.
  for (const { trouble } of clients) assert.equal(trouble, null);
  const answered = clients.reduce((sum, client) => sum + client.answered, 0);
  assert.equal((await service.metric('seine_batches_total')).get('transport="unix"'), answered);
  assert.equal(await service.total('seine_packets_total'), answered * ROWS);
  assert.equal(await service.total('seine_worker_restarts_total'), 0);

  // Pushed back: each client had to wait, with a bounded part of its batches under way; none was starved.
  for (const client of clients) {
    assert.ok(client.pushedBack > 0);
    assert.ok(
      client.mostInFlight * batchOctets < IN_FLIGHT_OCTETS,
      `${client.mostInFlight} batches of one client under way`,
    );
    assert.ok(client.answered > answered / CLIENTS / 4, `${client.answered} of ${answered} batches were one client's`);
  }

  // A batch that was accepted waits at most for those that its worker, and the other for its slices, accepted before it:
  // twice their time, since others share the processors.
  const batchMs = (measured * WORKERS) / (answeredInTime - answeredBefore);
  const limitMs = 2 * WORKERS * BATCHES_PER_PARTICIPANT * batchMs;
  const { share, bound } = shareWithin(durationsBefore, durationsAfter, limitMs / 1000);
  assert.ok(share >= 0.99, `${share} of the accepted batches took at most ${bound} s; ${batchMs} ms a batch`);
  // From outside, with the kernel's buffers before it: it does not grow while the overload lasts.
  const times = clients.flatMap(({ took }) => took);
  const third = (from: number, to: number) =>
    quantile(
      times.filter(({ at }) => at - started >= elapsed * from && at - started < elapsed * to).map(({ ms }) => ms),
      0.99,
    );
  const [early, late] = [third(0.25, 0.5), third(0.75, 1)];
  assert.ok(late < early * 2 + 50, `p99 was ${early} ms, and then ${late} ms`);

  assert.ok(most - settled < 32 << 20, `anonymous memory grew by ${(most - settled) >> 20} MiB`);
  t.diagnostic(
    `${answered} batches, ${batchMs.toFixed(2)} ms each a worker; ${(share * 100).toFixed(2)} % accepted within ${bound} s; ` +
      `p99 from outside ${early.toFixed(0)}, then ${late.toFixed(0)} ms; at most ${Math.max(...clients.map((c) => c.mostInFlight))} under way; ` +
      `memory grew by ${(most - settled) >> 10} KiB`,
  );
  for (const client of clients) client.close();
});
