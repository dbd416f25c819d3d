/** The Unix listener and its connections: sockets' manners, back-pressure, draining. */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { encodeBatch } from '../../../src/client/index.js';
import type { SeineError } from '../../../src/errors.js';
import { listenUnix } from '../../../src/server/unix-listener.js';
import { udp4 } from '../frames.js';
import { eventually, RawClient, startEngine } from './service.js';

const frame = udp4({ src: '10.0.0.1', dst: '10.0.0.2', sport: 1, dport: 2 });
const batch = (id: number, frames = 1): Buffer =>
  encodeBatch(id, {
    data: Buffer.concat(new Array<Uint8Array>(frames).fill(frame)),
    length: new Uint32Array(frames).fill(frame.length),
    inPort: 3,
    returnPackets: true,
  });

test('unix-listener: a stale socket is replaced, mode 0660, unlinked at close', async (t) => {
  const { engine, folder } = await startEngine(t, { example: false });
  const path = join(folder, 'stale.sock');
  // A process that ends without closing leaves its socket behind.
  spawnSync(process.execPath, [
    '-e',
    `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`,
  ]);
  assert.ok(existsSync(path));
  chmodSync(path, 0o777);
  const listener = await listenUnix(path, (fd) => engine.adoptDescriptor(fd));
  assert.equal(statSync(path).mode & 0o777, 0o660);
  const raw = await RawClient.open(path);
  await eventually('hello', () => raw.messages[0]?.type === 'hello');
  raw.socket.destroy();
  await listener.close();
  assert.equal(existsSync(path), false);
});

test('unix-listener: a live socket and a plain file are not replaced', async (t) => {
  const { folder } = await startEngine(t, { example: false });
  const live = join(folder, 'live.sock');
  const server = createServer().listen(live);
  t.after(() => server.close());
  const isInUse = (error: SeineError): boolean => error.code === 'SEINE_ERR_ADDRESS_IN_USE';
  await assert.rejects(
    listenUnix(live, () => {}),
    isInUse,
  );
  const file = join(folder, 'file');
  writeFileSync(file, 'kept');
  await assert.rejects(
    listenUnix(file, () => {}),
    isInUse,
  );
  assert.ok(existsSync(file) && existsSync(live));
});

test('unix-connection: a client that does not read is no longer read from; once it reads, all is answered in order', async (t) => {
  const { engine, folder, closeAfter } = await startEngine(t, { example: false });
  const path = join(folder, 'b.sock');
  closeAfter(await listenUnix(path, (fd) => engine.adoptDescriptor(fd)));
  const raw = await RawClient.open(path);
  await eventually('hello', () => raw.messages.length === 1);
  raw.socket.pause();
  const BATCHES = 400; // 400 × about 60 KB of answers: more than sockets and high-water mark hold
  for (let id = 0; id < BATCHES; id++) raw.socket.write(batch(id, 1024));
  let left = -1;
  await eventually('the socket takes no more', () => {
    const before = left;
    left = raw.socket.writableLength;
    return left > 0 && left === before;
  });
  const packets = (): bigint => engine.workers()[0]!.packets;
  assert.ok(packets() < BigInt(BATCHES * 1024), 'what waits is not judged yet');
  raw.socket.resume();
  await eventually('all answers', () => raw.messages.length === BATCHES + 1, 60_000);
  assert.deepEqual(
    raw.messages.slice(1).map(({ batchId }) => Number(batchId)),
    Array.from({ length: BATCHES }, (_, id) => id),
  );
  raw.socket.destroy();
});

test('unix-connection: more clients than batches, over two workers, some gone in between: every other is answered', async (t) => {
  const { engine, folder, closeAfter } = await startEngine(t, { example: false, workers: 2 });
  const path = join(folder, 'b.sock');
  closeAfter(await listenUnix(path, (fd) => engine.adoptDescriptor(fd)));
  const clients = await Promise.all(Array.from({ length: 60 }, () => RawClient.open(path)));
  for (let id = 0; id < 30; id++) for (const client of clients) client.socket.write(batch(id, 64));
  const stay = clients.filter((client, index) => {
    if (index % 3 === 0) client.socket.destroy();
    return index % 3 !== 0;
  });
  await eventually('every answer', () => stay.every(({ messages }) => messages.length === 31), 60_000);
  for (const { messages, socket } of stay) {
    assert.ok(messages.slice(1).every(({ type, batchId }, at) => type === 'verdicts' && Number(batchId) === at));
    socket.destroy();
  }
});

test('dispatcher: a waiter that no longer wants its batch leaves it to the next', async (t) => {
  const { engine } = await startEngine(t, { example: false });
  const held = [];
  for (let each = engine.dispatcher.acquire(); each !== null; each = engine.dispatcher.acquire()) held.push(each);
  let woken = 0;
  engine.dispatcher.whenFree(() => {});
  engine.dispatcher.whenFree(() => {});
  engine.dispatcher.whenFree(() => woken++);
  engine.dispatcher.release(held.pop()!);
  await eventually('the third waiter', () => woken === 1, 2000);
  for (const each of held) engine.dispatcher.release(each);
});
