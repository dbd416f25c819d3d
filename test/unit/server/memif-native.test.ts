/** memif's part of the addon: wrong arguments are errors, whatever they are, and what is closed stays closed. */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { PacketBatch } from '../../../src/batch/packet-batch.js';
import { RewriteTable } from '../../../src/batch/rewrite-table.js';
import { duplicateDescriptor, memifAddon } from '../../../src/native/kernels.js';
import { MEMIF_TOTALS, memifEvents } from '../../../src/native/memif.js';

const { MemifListener, MemifPoller, MemifClient, DescriptorWatch } = memifAddon();

function listen(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'seine-memif-'));
  const path = join(folder, 'm.sock');
  const listener = new MemifListener(path);
  t.after(() => {
    listener.close();
    rmSync(folder, { recursive: true });
  });
  return { path, listener };
}

test('memif addon: what is no path, hub, descriptor or batch is refused', (t) => {
  const { path, listener } = listen(t);
  for (const wrong of [undefined, 1, '', 'x'.repeat(108)])
    assert.throws(() => new MemifListener(wrong as string), TypeError);
  assert.throws(() => new MemifListener(path), /bind: Address already in use/);
  for (const wrong of [undefined, -1, 'x', 4_000_000_000]) assert.throws(() => new MemifPoller(wrong as number));
  for (const wrong of [undefined, -1, Number.NaN]) assert.throws(() => new DescriptorWatch(wrong as number, () => {}));
  assert.throws(() => new DescriptorWatch(listener.descriptor, null as never), TypeError);
  const poller = new MemifPoller(listener.hub);
  const batch = new PacketBatch();
  const totals = new Uint32Array(MEMIF_TOTALS);
  const table = new RewriteTable().octets;
  assert.throws(() => poller.receive(batch.block.subarray(1), batch.data, 1, totals));
  assert.throws(() => poller.receive(batch.block, batch.data.subarray(0, 100), 1, totals), TypeError);
  assert.throws(() => poller.receive(batch.block, batch.data, 4097, totals), TypeError);
  assert.throws(() => poller.receive(batch.block, batch.data, 1, new Uint32Array(0)), TypeError);
  assert.equal(poller.receive(batch.block, batch.data, 1, totals), 0);
  assert.throws(() => poller.sendRows(batch.block, batch.data, table.subarray(1), 1, totals), TypeError);
  batch.verdict[0] = 1;
  batch.length[0] = 64;
  batch.offset[0] = batch.data.length - 63;
  assert.throws(() => poller.sendRows(batch.block, batch.data, table, 1, totals), /outside the batch's data/);
  batch.offset[0] = 0;
  batch.rewrite[0] = 2;
  batch.l3Offset[0] = 50;
  assert.throws(() => poller.sendRows(batch.block, batch.data, table, 1, totals), /no IP header/);
  const one = Uint32Array.of(65);
  assert.throws(() => poller.sendFrames(new Uint8Array(64), one, one, 1, totals), /outside frames/);
  assert.throws(() => poller.sendFrames(new Uint8Array(64), one, new Uint32Array(0), 1, totals), TypeError);
  assert.deepEqual([...totals], [0, 0, 0, 0, 0]);
  poller.sendFrames(new Uint8Array(65), one, Uint32Array.of(9), 1, totals);
  assert.deepEqual([...totals], [0, 0, 1, 0, 0]); // nobody is at port 9
});

test('memif addon: a client of our own and a poller shake hands; a frame crosses; closing tells the client', async (t) => {
  const { path, listener } = listen(t);
  const poller = new MemifPoller(listener.hub);
  // The client's handshake waits for answers: it has a thread of its own.
  const { Worker } = await import('node:worker_threads');
  const kernels = new URL('../../../src/native/kernels.js', import.meta.url).href;
  const worker = new Worker(
    `import(${JSON.stringify(kernels)}).then(async ({ memifAddon }) => {
      const { parentPort } = await import('node:worker_threads');
      const client = new (memifAddon().MemifClient)(${JSON.stringify(path)}, 7, 4, 128);
      const sent = client.send(new Uint8Array(64).fill(5), Uint32Array.of(0), Uint32Array.of(64), 0);
      while (client.receive() === 0) await new Promise((next) => setImmediate(next));
      parentPort.postMessage([sent, client.taken(), client.closed()]);
      while (!client.closed()) await new Promise((next) => setImmediate(next));
      client.close();
      try { client.taken(); } catch (error) { parentPort.postMessage(error.message); }
    })`,
    { eval: true },
  );
  const said: unknown[] = [];
  worker.on('message', (message) => said.push(message));
  const batch = new PacketBatch();
  const totals = new Uint32Array(MEMIF_TOTALS);
  let rows = 0;
  let handle = 0;
  const end = Date.now() + 20_000;
  while (said.length < 2 && Date.now() < end) {
    const fd = listener.accept();
    if (fd !== null) poller.adopt(fd);
    for (const event of memifEvents(poller.service())) if (!event.closed) handle = event.handle;
    if (rows === 0) {
      rows = poller.receive(batch.block, batch.data, 16, totals);
      if (rows > 0) {
        assert.deepEqual([rows, batch.inPort[0], batch.length[0], batch.data[63]], [1, 7, 64, 5]);
        poller.sendFrames(batch.data, Uint32Array.of(64), Uint32Array.of(7), 1, totals);
      }
    }
    if (said.length === 1 && handle !== 0) {
      const [event] = memifEvents(poller.close(handle, 'enough'));
      assert.deepEqual([event!.closed, event!.port, event!.client, event!.reason], [true, 7, 'seine load', 'enough']);
      handle = 0;
    }
    await new Promise((next) => setImmediate(next));
  }
  await worker.terminate();
  assert.deepEqual(said, [[1, 1, false], 'the client is closed']);
  assert.deepEqual([...totals], [0, 1, 0, 0, 0]);
  assert.throws(() => new MemifClient(`${path}.none`, 3, 4, 128), /No such file/);
});

test('memif addon: a watch calls back while its descriptor is readable, and not after it is closed', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'seine-watch-'));
  const path = join(folder, 's.sock');
  const accepted = new Promise<Socket>((resolve) => {
    const server = createServer({ pauseOnConnect: true }, (socket) => {
      server.close();
      resolve(socket);
    }).listen(path);
  });
  const client = connect(path);
  const { _handle } = (await accepted) as unknown as { _handle: { fd: number } };
  const fd = duplicateDescriptor(_handle.fd);
  t.after(async () => {
    client.destroy();
    (await accepted).destroy();
    closeSync(fd);
    rmSync(folder, { recursive: true });
  });
  let called = 0;
  const watch = new DescriptorWatch(fd, () => {
    called++;
    if (called === 2) watch.close();
  });
  await new Promise((next) => setTimeout(next, 50));
  assert.equal(called, 0);
  client.write('x');
  const end = Date.now() + 5000;
  while (called < 2 && Date.now() < end) await new Promise((next) => setImmediate(next));
  await new Promise((next) => setTimeout(next, 50));
  assert.equal(called, 2);
  watch.close();
});
