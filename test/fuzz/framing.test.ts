/** The Unix socket under mutated messages: a refusal each, connections live on as the contract says, no worker is lost. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { unpack } from 'msgpackr';
import { connect, encodeBatch } from '../../src/client/index.js';
import { parseConfig } from '../../src/config/read.js';
import { Engine } from '../../src/engine/engine.js';
import { listenUnix, type Listener } from '../../src/server/unix-listener.js';
import { udp4 } from '../unit/frames.js';
import { fuzzSeed, mutateOctets, Random, randomFrame } from './mutate.js';

const ROUNDS = process.env.SEINE_SLOW === '1' ? 40_000 : 4000;
let engine: Engine;
let listener: Listener;
let folder: string;
let path: string;
const losses: string[] = [];

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'seine-framing-'));
  path = join(folder, 'b.sock');
  const { config } = parseConfig({ workers: 2 }, 'test');
  engine = await Engine.start({ config, workerEntry: new URL('../../src/server/worker-entry.cjs', import.meta.url) });
  engine.onWarning = (line) => losses.push(line);
  listener = await listenUnix(path, (fd) => engine.adoptDescriptor(fd));
});
after(async () => {
  await listener.close();
  await engine.close();
  rmSync(folder, { recursive: true });
});

const frame = udp4({ src: '10.0.0.1', dst: '10.0.0.2', sport: 1, dport: 2 });
const good = (id: number): Buffer => encodeBatch(id, { data: frame, length: Uint32Array.of(frame.length), inPort: 3 });

/** Reads messages of a raw connection. */
class Raw {
  private received: Buffer = Buffer.alloc(0);
  readonly messages: Record<string, unknown>[] = [];
  closed = false;
  private wake: (() => void) | null = null;
  private constructor(readonly socket: Socket) {
    socket.on('data', (octets) => {
      this.received = Buffer.concat([this.received, octets]);
      while (this.received.length >= 4) {
        const size = this.received.readUInt32LE(0);
        if (this.received.length < 4 + size) break;
        this.messages.push(unpack(this.received.subarray(4, 4 + size)) as Record<string, unknown>);
        this.received = this.received.subarray(4 + size);
      }
      this.wake?.();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.closed = true;
      this.wake?.();
    });
  }
  static open(): Promise<Raw> {
    return new Promise((resolve, reject) => {
      const socket = createConnection(path, () => resolve(new Raw(socket)));
      socket.once('error', reject);
    });
  }
  async until(done: () => boolean): Promise<void> {
    const deadline = Date.now() + 10_000;
    while (!done() && Date.now() < deadline) {
      await new Promise<void>((resolve) => {
        this.wake = resolve;
        setTimeout(resolve, 100);
      });
    }
    assert.ok(done(), `${this.messages.length} messages, closed ${this.closed}`);
  }
}

test('framing: a message split at every offset is one message', async () => {
  const raw = await Raw.open();
  const message = good(1);
  let id = 0;
  for (let split = 1; split < message.length; split++) {
    const octets = good(++id);
    raw.socket.write(octets.subarray(0, split));
    await new Promise((resolve) => setImmediate(resolve));
    raw.socket.write(octets.subarray(split));
  }
  await raw.until(() => raw.messages.length === id + 1);
  assert.deepEqual(
    raw.messages.slice(1).map(({ batchId }) => Number(batchId)),
    Array.from({ length: id }, (_, i) => i + 1),
  );
  raw.socket.destroy();
});

test('framing: answers and refusals come in the order of the requests', async () => {
  const raw = await Raw.open();
  const bad = encodeBatch(2, { data: frame, length: Uint32Array.of(frame.length + 1), inPort: 3 });
  raw.socket.write(Buffer.concat([good(1), bad, good(3), good(4)]));
  await raw.until(() => raw.messages.length === 5);
  assert.deepEqual(
    raw.messages.slice(1).map(({ type, batchId }) => [type, Number(batchId)]),
    [
      ['verdicts', 1],
      ['error', 2],
      ['verdicts', 3],
      ['verdicts', 4],
    ],
  );
  raw.socket.destroy();
});

test('framing: a frame above 5 MiB is an error, then that connection ends; others live on', async () => {
  const other = await connect(`unix:${path}`);
  const raw = await Raw.open();
  const head = Buffer.alloc(4);
  head.writeUInt32LE(5 * 1024 * 1024 + 1);
  raw.socket.write(head);
  await raw.until(() => raw.closed);
  assert.deepEqual(
    [raw.messages[1]?.type, raw.messages[1]?.batchId, raw.messages[1]?.code],
    ['error', null, 'SEINE_ERR_MESSAGE_LIMIT'],
  );
  assert.equal((await other.process({ data: frame, length: Uint32Array.of(frame.length), inPort: 3 })).verdict[0], 1);
  await other.close();
});

test('framing: what a client sent before it shut its side is answered', async () => {
  const raw = await Raw.open();
  raw.socket.end(Buffer.concat([good(1), good(2), good(3).subarray(0, 20)]));
  await raw.until(() => raw.closed);
  assert.deepEqual(
    raw.messages.slice(1).map(({ batchId }) => Number(batchId)),
    [1, 2],
  );
});

test(`framing: ${ROUNDS} mutated messages: each is answered or refused, none costs a worker`, async (t) => {
  const seed = fuzzSeed();
  t.diagnostic(`seed ${seed}`);
  const rng = new Random(seed);
  let raw = await Raw.open();
  let expected = 1;
  for (let round = 0; round < ROUNDS; round++) {
    const frames = Array.from({ length: 1 + rng.below(4) }, () => randomFrame(rng));
    const body = encodeBatch(round, {
      data: Buffer.concat(frames),
      length: Uint32Array.from(frames, ({ length }) => length),
      inPort: 3,
    }).subarray(4);
    const mutated = rng.below(6) === 0 ? body : mutateOctets(rng, body);
    const head = Buffer.alloc(4);
    head.writeUInt32LE(mutated.length);
    raw.socket.write(Buffer.concat([head, mutated]));
    expected++;
    if (round % 200 === 199) {
      await raw.until(() => raw.messages.length >= expected || raw.closed);
      assert.equal(raw.closed, false, `seed ${seed}: the connection lives on`);
      for (const { type } of raw.messages.splice(1)) assert.ok(type === 'verdicts' || type === 'error');
      expected = 1;
    }
    if (round % 1000 === 999) {
      // Noise in place of framing: this connection may end, the service may not.
      const noise = Buffer.from(Array.from({ length: 200 }, () => rng.below(256)));
      raw.socket.write(noise);
      await new Promise((resolve) => setTimeout(resolve, 20));
      raw.socket.destroy();
      raw = await Raw.open();
      expected = 1;
    }
  }
  raw.socket.destroy();
  const client = await connect(`unix:${path}`);
  assert.equal((await client.process({ data: frame, length: Uint32Array.of(frame.length), inPort: 3 })).verdict[0], 1);
  await client.close();
  assert.deepEqual(losses, []);
});
