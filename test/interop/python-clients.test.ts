/** Clients in Python (Debian's grpcio and msgpack) get right verdicts, and refusals that name what is wrong. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { DROP_REASONS, Verdict } from '../../src/batch/drop-reason.js';
import { EXAMPLE_CLUSTER, EXAMPLE_NODE } from '../../src/config/example-cluster.js';
import { parseConfig } from '../../src/config/read.js';
import { Engine } from '../../src/engine/engine.js';
import { counterIndex } from '../../src/metrics/shared-counters.js';
import { readManifest } from '../../src/objects/read.js';
import { applyObjects, emptyObjects } from '../../src/objects/store.js';
import { listenGrpc } from '../../src/server/grpc.js';
import { listenUnix } from '../../src/server/unix-listener.js';
import { arp, udp4 } from '../unit/frames.js';

const SCRIPT = fileURLToPath(new URL('../../../test/interop/clients.py', import.meta.url));
const PROTO = fileURLToPath(new URL('../../../src/api/seine/v1', import.meta.url));

test('python: gRPC and MessagePack clients get the same right verdicts; bad batches are refused by name', async (t) => {
  const python = ['/usr/bin/python3', 'python3'].find(
    (program) => spawnSync(program, ['-c', 'import grpc, grpc_tools, msgpack']).status === 0,
  );
  if (python === undefined) {
    if (process.env.CI === 'true') assert.fail('python3-grpcio, python3-grpc-tools or python3-msgpack is missing');
    t.skip("NOT TESTED: Debian's python3-grpcio, python3-grpc-tools and python3-msgpack not found");
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'seine-python-'));
  const { config } = parseConfig({ node: EXAMPLE_NODE, workers: 2 }, 'test');
  const { objects } = applyObjects(emptyObjects(), readManifest(EXAMPLE_CLUSTER, 'example').inputs);
  const engine = await Engine.start({
    config,
    objects,
    workerEntry: new URL('../../src/server/worker-entry.cjs', import.meta.url),
  });
  const socket = join(folder, 'b.sock');
  const listeners = [
    await listenUnix(socket, (fd) => engine.adoptDescriptor(fd)),
    await listenGrpc(engine, '127.0.0.1:0'),
    await listenGrpc(engine, `unix:${join(folder, 'g.sock')}`),
  ];
  t.after(async () => {
    for (const listener of listeners) await listener.close();
    await engine.close();
    rmSync(folder, { recursive: true });
  });
  for (const name of ['b.sock', 'g.sock']) assert.equal(statSync(join(folder, name)).mode & 0o777, 0o660);
  await assert.rejects(
    listenUnix(socket, () => {}),
    /another process listens there/,
  );

  const stubs = spawnSync(
    python,
    ['-m', 'grpc_tools.protoc', `-I${PROTO}`, `--python_out=${folder}`, `--grpc_python_out=${folder}`, 'seine.proto'],
    { encoding: 'utf8' },
  );
  assert.equal(stubs.status, 0, stubs.stderr);

  const pod = (name: string) => engine.ports().find((port) => port.name === name)!;
  const web = pod('shop/web-1');
  const redis = pod('data/redis');
  const dns = engine.ports().find(({ name }) => name.startsWith('platform/coredns'))!;
  const four = ({ ips }: { ips: string[] }) => ips.find((ip) => !ip.includes(':'))!;
  const frames: [number, Uint8Array, number, string][] = [
    [
      web.port,
      udp4({ srcMac: web.mac!, src: four(web), dst: four(dns), sport: 5000, dport: 53 }),
      Verdict.Forward,
      'none',
    ],
    [
      web.port,
      udp4({ srcMac: web.mac!, src: four(web), dst: four(redis), sport: 5001, dport: 6379 }),
      Verdict.Drop,
      'egress-default-deny',
    ],
    [
      web.port,
      udp4({ srcMac: web.mac!, src: '192.0.2.9', dst: four(dns), sport: 5002, dport: 53 }),
      Verdict.Drop,
      'spoofed',
    ],
    [999, udp4({ src: four(web), dst: four(dns), sport: 5003, dport: 53 }), Verdict.Drop, 'unknown-port'],
    [web.port, arp({ srcMac: web.mac!, senderIp: four(web), targetIp: four(dns) }), Verdict.Consume, 'none'],
  ];
  const client = spawn(python, [SCRIPT, listeners[1]!.address, socket, folder], { timeout: 60_000 });
  client.stdin.end(JSON.stringify(frames.map(([port, frame]) => [port, Buffer.from(frame).toString('hex')])));
  const run = { status: null as number | null, stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    client[name].on('data', (text) => {
      run[name] += text;
    });
  }
  run.status = await new Promise((resolve) => client.on('close', resolve));
  assert.equal(run.status, 0, run.stderr);
  const result = JSON.parse(run.stdout);
  const verdicts = frames.map(([, , verdict]) => verdict);
  assert.deepEqual(result.unary.verdict, verdicts);
  assert.deepEqual(
    result.unary.reason.map((code: number) => DROP_REASONS[code]),
    frames.map(([, , , reason]) => reason),
  );
  assert.deepEqual(result.unix.verdict, verdicts);
  assert.deepEqual(result.again, verdicts);
  assert.deepEqual(result.unix.rule, result.unary.rule);
  assert.deepEqual(result.unix.length, result.unary.length);
  assert.equal(result.unary.outPort[0], dns.port);
  assert.equal(result.unary.outPort[1], 65533);
  assert.equal(result.unary.length[0], frames[0]![1].length);
  assert.deepEqual(result.unary.length.slice(1), [0, 0, 0, 0]);
  assert.deepEqual(result.unary.emit, [web.port], 'the ARP reply goes back to the asker');
  assert.equal(engine.rule(result.unary.rule[1])?.direction, 'egress');
  assert.equal(result.unix.batchId, 2 ** 40);
  assert.deepEqual(result.order, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  assert.match(result.refused.apply, /^PERMISSION_DENIED: /);
  assert.match(result.refused.short, /^INVALID_ARGUMENT: frame 0: 2 octets/);
  assert.match(result.refused.trace, /^UNIMPLEMENTED/);
  assert.equal(result.hello.version, 1);
  assert.deepEqual(result.hello.reasons, [...DROP_REASONS]);
  assert.deepEqual(result.hello.limits, {
    frames: 4096,
    frameOctets: 65557,
    batchOctets: 3145728,
    messageOctets: 5242880,
  });
  assert.deepEqual(
    result.errors.map(([type, id, code]: [string, number | null, string]) => [type, id, code]),
    [
      ['error', 5, 'SEINE_ERR_BATCH_LIMIT'],
      ['error', 6, 'SEINE_ERR_BATCH_INVALID'],
      ['error', null, 'SEINE_ERR_MESSAGE_INVALID'],
      ['error', null, 'SEINE_ERR_MESSAGE_INVALID'],
      ['error', 8, 'SEINE_ERR_BATCH_INVALID'],
    ],
  );
  assert.ok(result.ports.some(([port, name]: [number, string]) => port === web.port && name === 'shop/web-1'));
  // Counters equal what was sent: 11 gRPC and 2 socket batches.
  const sum = (index: number) => engine.counters().reduce((total, block) => total + block.read(index), 0n);
  assert.equal(sum(counterIndex.packets(Verdict.Forward)), 13n);
  assert.equal(sum(counterIndex.packets(Verdict.Drop)), 39n);
  assert.equal(sum(counterIndex.packets(Verdict.Consume)), 13n);
});
