/** A service for tests of front ends: the example cluster, listening in a folder of its own, gone after the test. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { unpack } from 'msgpackr';
import { EXAMPLE_CLUSTER, EXAMPLE_NODE } from '../../../src/config/example-cluster.js';
import { parseConfig } from '../../../src/config/read.js';
import { Engine } from '../../../src/engine/engine.js';
import { readManifest } from '../../../src/objects/read.js';
import { applyObjects, emptyObjects } from '../../../src/objects/store.js';

export async function startEngine(t: TestContext, options: { example: boolean; workers?: number }) {
  const folder = mkdtempSync(join(tmpdir(), 'seine-server-'));
  const { config } = parseConfig(
    { node: options.example ? EXAMPLE_NODE : undefined, workers: options.workers ?? 1, conntrack: { max: 65_536 } },
    'test',
  );
  const objects = options.example
    ? applyObjects(emptyObjects(), readManifest(EXAMPLE_CLUSTER, 'example').inputs).objects
    : emptyObjects();
  const engine = await Engine.start({
    config,
    objects,
    workerEntry: new URL('../../../src/server/worker-entry.cjs', import.meta.url),
  });
  const closers: (() => Promise<void>)[] = [];
  t.after(async () => {
    for (const close of closers) await close();
    await engine.close();
    rmSync(folder, { recursive: true });
  });
  return { engine, folder, closeAfter: (listener: { close(): Promise<void> }) => closers.push(() => listener.close()) };
}

/** A client of the batch socket that shows messages as they come. */
export class RawClient {
  private received: Buffer = Buffer.alloc(0);
  readonly messages: Record<string, unknown>[] = [];
  closed = false;
  private constructor(readonly socket: Socket) {
    socket.on('data', (octets) => {
      this.received = Buffer.concat([this.received, octets]);
      while (this.received.length >= 4) {
        const size = this.received.readUInt32LE(0);
        if (this.received.length < 4 + size) break;
        this.messages.push(unpack(this.received.subarray(4, 4 + size)) as Record<string, unknown>);
        this.received = this.received.subarray(4 + size);
      }
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.closed = true;
    });
  }
  static open(path: string): Promise<RawClient> {
    return new Promise((resolve, reject) => {
      const socket = createConnection(path, () => resolve(new RawClient(socket)));
      socket.once('error', reject);
    });
  }
  /** Sends a message's octets with their length in front. */
  send(body: Uint8Array): void {
    const head = Buffer.alloc(4);
    head.writeUInt32LE(body.length);
    this.socket.write(Buffer.concat([head, body]));
  }
}

/** Waits for what must come; says what was awaited when it does not. */
export async function eventually(what: string, done: () => boolean, withinMs = 15_000): Promise<void> {
  const deadline = Date.now() + withinMs;
  while (!done()) {
    if (Date.now() > deadline) throw new Error(`not within ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
