/** The gRPC front end: order, refusals, what TCP may not do, limits. Clients in another language: test/interop. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { credentials, type ServiceError, status } from '@grpc/grpc-js';
import { connectControl, loadSeine } from '../../../src/client/control.js';
import { connect, GrpcClient, grpcBatch } from '../../../src/client/index.js';
import type { SeineError } from '../../../src/errors.js';
import { listenGrpc } from '../../../src/server/grpc.js';
import { udp4 } from '../frames.js';
import { eventually, startEngine } from './service.js';

const frame = udp4({ src: '10.0.0.1', dst: '10.0.0.2', sport: 1, dport: 2 });
const one = { data: frame, length: Uint32Array.of(frame.length), inPort: 3 };

test('grpc: a stream is answered in its order, batches being scarce', async (t) => {
  const { engine, closeAfter } = await startEngine(t, { example: false, workers: 2 });
  const listener = await listenGrpc(engine, '127.0.0.1:0');
  closeAfter(listener);
  const held = [];
  for (let each = engine.dispatcher.acquire(); each !== null; each = engine.dispatcher.acquire()) held.push(each);
  for (const each of held.splice(0, 2)) engine.dispatcher.release(each);
  const client = new GrpcClient(listener.address);
  const streams = Array.from({ length: 3 }, () => ({ stream: client.stream(), ids: [] as number[] }));
  for (const { stream, ids } of streams) stream.on('data', ({ batchId }) => ids.push(Number(batchId)));
  const wanted = Array.from({ length: 300 }, (_, id) => id);
  for (const id of wanted) for (const { stream } of streams) stream.write(grpcBatch(id, one));
  for (const { stream } of streams) stream.end();
  await eventually('all answers', () => streams.every(({ ids }) => ids.length === wanted.length), 30_000);
  for (const { ids } of streams) assert.deepEqual(ids, wanted);
  for (const each of held) engine.dispatcher.release(each);
  await client.close();
});

test('grpc: a bad batch ends its stream with code and place; others go on', async (t) => {
  const { engine, closeAfter } = await startEngine(t, { example: false });
  const listener = await listenGrpc(engine, '127.0.0.1:0');
  closeAfter(listener);
  const client = new GrpcClient(listener.address);
  const bad = client.stream();
  let error: ServiceError | null = null;
  bad.on('error', (each: ServiceError) => {
    error = each;
  });
  const answered: string[] = [];
  bad.on('data', ({ batchId }) => answered.push(batchId));
  bad.write(grpcBatch(1, one));
  bad.write(grpcBatch(2, { ...one, length: Uint32Array.of(13) }));
  bad.write(grpcBatch(3, one));
  await eventually('the refusal', () => error !== null);
  assert.equal(error!.code, status.INVALID_ARGUMENT);
  assert.match(error!.details, /^frame 0: 13 octets/);
  assert.deepEqual(answered, ['1'], 'what came before is answered, what came behind is not');
  const garbage = client.octetStream();
  const refusal = new Promise<ServiceError>((resolve) => garbage.on('error', resolve));
  garbage.on('data', () => {});
  garbage.write(Buffer.alloc(20, 0xff));
  assert.equal((await refusal).code, status.INVALID_ARGUMENT);
  assert.match((await refusal).details, /not a message in protobuf's encoding/);
  assert.equal((await client.process(one)).verdict[0], 1);
  await client.close();
});

test('grpc: changes are refused on TCP and taken on the Unix listener, manifests of a large cluster too', async (t) => {
  const { engine, folder, closeAfter } = await startEngine(t, { example: true });
  const tcp = await listenGrpc(engine, '127.0.0.1:0');
  const unix = await listenGrpc(engine, `unix:${join(folder, 'g.sock')}`);
  closeAfter(tcp);
  closeAfter(unix);
  const open = connectControl(tcp.address);
  const trusted = connectControl(unix.address);
  t.after(() => {
    open.close();
    trusted.close();
  });
  const is = (code: string) => (error: SeineError) => error.code === code;
  await assert.rejects(open.call('Apply', { manifest: '' }), is('SEINE_ERR_PERMISSION'));
  await assert.rejects(open.call('Delete', { kind: 'Pod', name: 'x' }), is('SEINE_ERR_PERMISSION'));
  await assert.rejects(open.call('UpdateSettings', {}), is('SEINE_ERR_PERMISSION'));
  await assert.rejects(trusted.call('UpdateSettings', {}), is('SEINE_ERR_UNIMPLEMENTED'));
  await assert.rejects(trusted.call('Delete', { kind: 'Pod', namespace: 'a', name: 'b' }), is('SEINE_ERR_NOT_FOUND'));
  const { ports } = (await open.call('ListPorts', {})) as { ports: { name: string }[] };
  assert.deepEqual(
    ports.map(({ name }) => name),
    engine.ports().map(({ name }) => name),
  );
  const namespace = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'big', annotations: { note: '' } } };
  namespace.metadata.annotations.note = 'x'.repeat(9 << 20);
  const { changes } = (await trusted.call('Apply', { manifest: JSON.stringify(namespace) })) as { changes: object[] };
  assert.deepEqual(changes, [{ kind: 'Namespace', namespace: '', name: 'big', change: 'created' }]);
});

test('grpc: an answer with the copies of broadcasts stays within 4 MiB; what is left out is counted', async (t) => {
  const { engine, closeAfter } = await startEngine(t, { example: true });
  const listener = await listenGrpc(engine, '127.0.0.1:0');
  closeAfter(listener);
  const pods = engine.ports().filter(({ kind }) => kind === 'pod');
  // A pod that egress policy lets broadcast, found by trying.
  const attempt = (pod: (typeof pods)[number], sport: number, payload: number): Uint8Array =>
    udp4({
      srcMac: pod.mac!,
      dstMac: 'ff:ff:ff:ff:ff:ff',
      src: pod.ips.find((ip) => !ip.includes(':'))!,
      dst: '255.255.255.255',
      sport,
      dport: 67,
      payload: new Uint8Array(payload),
    });
  const tries = await engine.process({
    data: Buffer.concat(pods.map((pod) => attempt(pod, 1, 100))),
    length: Uint32Array.from(pods, (pod) => attempt(pod, 1, 100).length),
    inPort: Uint32Array.from(pods, ({ port }) => port),
  });
  const sender = pods[tries.outPort.indexOf(65535)];
  assert.ok(sender !== undefined, 'a pod of the example may broadcast');
  const frames = Array.from({ length: 2000 }, (_, i) => attempt(sender, 1000 + i, 1458));
  const { Datapath } = loadSeine();
  // The default limits of a client: 4 MiB.
  const client = new Datapath(listener.address, credentials.createInsecure());
  const reply = await new Promise<{ emit: { length: number[] }; verdict: Buffer }>((resolve, reject) =>
    (client as never as Record<string, (request: object, done: (error: Error | null, reply: never) => void) => void>)
      .process!(
      grpcBatch(1, {
        data: Buffer.concat(frames),
        length: Uint32Array.from(frames, ({ length }) => length),
        inPort: sender.port,
        returnPackets: true,
      }),
      (error, value) => (error === null ? resolve(value) : reject(error)),
    ),
  );
  client.close();
  assert.equal(reply.verdict.length, frames.length);
  assert.ok(reply.emit.length.length > 0);
});

test('client: gRPC addresses are HOST:PORT, http://HOST:PORT and grpc:unix:PATH', async (t) => {
  const { engine, folder, closeAfter } = await startEngine(t, { example: false });
  const tcp = await listenGrpc(engine, '127.0.0.1:0');
  closeAfter(tcp);
  closeAfter(await listenGrpc(engine, `unix:${join(folder, 'g.sock')}`));
  for (const address of [tcp.address, `http://${tcp.address}`, `grpc:unix:${join(folder, 'g.sock')}`]) {
    const client = await connect(address);
    assert.equal((await client.process(one)).verdict[0], 1, address);
    await client.close();
  }
});
