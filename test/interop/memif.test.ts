/**
 * memif: DPDK's testpmd in both of its client's modes, and a client of our own (memif_client.py) with interrupts and chained
 * buffers, get every frame that should leave, octet by octet as another front end composes it.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Verdict } from '../../src/batch/drop-reason.js';
import { listenMemif } from '../../src/server/memif-listener.js';
import { arp, tcp4, udp4 } from '../unit/frames.js';
import { A, B, expectedOut, havePython, type MemifService, runScenario, startMemif, until } from './memif-service.js';
import { havePeers } from './peer.js';

const hex = (frame: Uint8Array): string => Buffer.from(frame).toString('hex');
/** A UDP packet from one pod to the other, its payload of `size` octets told apart by `n`. */
const packet = (from: typeof A, to: typeof A, n: number, size: number): Uint8Array => {
  const payload = Uint8Array.from({ length: size }, (_, i) => (n * 31 + i) & 0xff);
  // The gateway's MAC stands for whatever the sender knew: Switching writes the pod's.
  return udp4({ src: from.ip, dst: to.ip, srcMac: from.mac, sport: 1000 + n, dport: 53, payload });
};

test('memif: with interrupts, frames of 60 to 9,000 octets cross workers as they should, in order', async (t) => {
  if (!havePython(t)) return;
  const service = await startMemif(t);
  const single = [18, 22, 64, 1000, 1458, 2100, 5000, 8958].map((size, n) =>
    n % 2 === 0 ? packet(A, B, n, size) : packet(B, A, n, size),
  );
  const burst = Array.from({ length: 40 }, (_, n) => packet(A, B, 100 + n, 18 + n));
  const all = [...single, ...burst];
  const { frames: expected } = await expectedOut(
    all,
    all.map((_, i) => (i < single.length && i % 2 === 1 ? B.port : A.port)),
  );
  assert.ok(expected.every((frame) => frame.length > 0));
  assert.notEqual(expected[0], hex(all[0]!)); // the destination's MAC was written
  const got = (await runScenario(service.socket, 'interrupt', { single: single.map(hex), burst: burst.map(hex) })) as {
    single: string[][];
    burst: string[];
    latencyUs: number[];
  };
  assert.deepEqual(
    got.single,
    expected.slice(0, single.length).map((frame) => [frame]),
  );
  assert.deepEqual(got.burst, expected.slice(single.length));
  t.diagnostic(`one packet with interrupts on both sides: median ${Math.round(got.latencyUs[4]!)} µs`);
  assert.equal(service.counter('memifReceived'), all.length);
  assert.equal(service.counter('memifSent'), all.length);
  await until('the clients are gone', () => service.clients() === 0);
  assert.equal(service.counter('memifViolations'), 0);
});

test('memif: what the engine makes itself leaves by the port that it is for', async (t) => {
  if (!havePython(t)) return;
  const service = await startMemif(t);
  const frames = [arp({ srcMac: A.mac, senderIp: A.ip, targetIp: B.ip })];
  const { output } = await expectedOut(frames, [A.port]);
  assert.equal(output.verdict[0], Verdict.Consume);
  const got = (await runScenario(service.socket, 'emitted', { frames: frames.map(hex) })) as { frames: string[][] };
  assert.deepEqual(got.frames, [[hex(output.emit!.data)]]);
});

test('memif: a client that does not read loses its own frames, counted; wrong sizes and absent ports are counted too', async (t) => {
  if (!havePython(t)) return;
  const service = await startMemif(t);
  // The receiving ring holds 64: of 200 the rest is lost to a full ring.
  const frames = Array.from({ length: 200 }, (_, n) => packet(A, B, n, 18));
  const got = (await runScenario(service.socket, 'crowd', {
    frames: [...frames.map(hex), '00'.repeat(13), ''],
  })) as { kept: number };
  assert.equal(got.kept, 64);
  await until('the last is judged', () => service.counter('memifLostRingFull') >= 136);
  assert.equal(service.counter('memifSent'), 64);
  assert.equal(service.counter('memifLostRingFull'), 136);
  assert.equal(service.counter('memifLostSize'), 2);
  const alone = (await runScenario(service.socket, 'alone', { frames: frames.slice(0, 5).map(hex) })) as object;
  assert.deepEqual(alone, {});
  await until('frames without an interface are counted', () => service.counter('memifLostNoInterface') === 5);
  assert.equal(service.counter('memifReceived'), 205);
});

test('memif: connected and silent, clients cost no processor time', async (t) => {
  if (!havePython(t)) return;
  const service = await startMemif(t);
  let before: NodeJS.CpuUsage | null = null;
  let used = 0;
  await runScenario(service.socket, 'idle', { seconds: 1.5 }, () => {
    setTimeout(() => {
      before = process.cpuUsage();
      setTimeout(() => {
        const { user, system } = process.cpuUsage(before!);
        used = user + system;
      }, 1000);
    }, 200);
  });
  assert.ok(used > 0 && used < 50_000, `${used} µs of a second`);
});

test('memif: a metering engine counts what comes, and that it goes nowhere', async (t) => {
  if (!havePython(t)) return;
  const service = await startMemif(t, 1, undefined, false);
  const frames = [packet(A, B, 1, 18), arp({ srcMac: A.mac, senderIp: A.ip, targetIp: B.ip })];
  await runScenario(service.socket, 'alone', { frames: frames.map(hex) });
  await until('both are counted', () => service.counter('memifLostNoInterface') === 2);
  assert.equal(service.counter('memifReceived'), 2);
});

for (const fault of ['worker-throw', 'worker-exit']) {
  test(`memif, ${fault}: clients are told, what was in hand is counted, and connected anew they are served`, async (t) => {
    if (!havePython(t)) return;
    const service = await startMemif(t, 1, `${fault}:5`);
    const found = (await runScenario(service.socket, 'lost', { frame: hex(packet(A, B, 1, 18)) })) as {
      reasons: string[];
      sent: number;
      arrived: number;
    };
    assert.deepEqual(found.reasons, ['the worker was lost']);
    assert.equal(found.arrived, 1);
    assert.equal(service.engine.workers()[0]!.restarts, 1);
    await until('the clients are gone', () => service.clients() === 0);
    const lost = service.counter('memifLostWorker');
    assert.ok(lost > 0, 'the batch in hand is counted');
    // Nothing is lost without a reason.
    const left = (['memifSent', 'memifLostNoInterface', 'memifLostRingFull', 'memifLostWorker'] as const).map(
      service.counter,
    );
    assert.equal(
      left.reduce((sum, value) => sum + value, 0),
      service.counter('memifReceived'),
    );
  });
}

test('memif: the socket has mode 0660, a live one is not taken over, a stale one is', async (t) => {
  const service = await startMemif(t);
  assert.equal(statSync(service.socket).mode & 0o777, 0o660);
  await assert.rejects(
    listenMemif(service.socket, () => {}),
    /another process listens there/,
  );
  const stale = join(service.folder, 'stale.sock');
  const made = spawnSync('python3', [
    '-c',
    `import socket; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).bind(${JSON.stringify(stale)})`,
  ]);
  assert.equal(made.status, 0);
  const listener = await listenMemif(stale, () => {});
  await listener.close();
});

/** A capture file of these frames (pcap, microseconds, Ethernet). */
function writePcap(path: string, frames: readonly Uint8Array[]): void {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(65_535, 16);
  header.writeUInt32LE(1, 20);
  const records = frames.map((frame) => {
    const record = Buffer.alloc(16);
    record.writeUInt32LE(frame.length, 8);
    record.writeUInt32LE(frame.length, 12);
    return Buffer.concat([record, frame]);
  });
  writeFileSync(path, Buffer.concat([header, ...records]));
}
function readPcap(path: string): string[] {
  const octets = readFileSync(path);
  const frames: string[] = [];
  for (let at = 24; at + 16 <= octets.length; ) {
    const size = octets.readUInt32LE(at + 8);
    frames.push(octets.toString('hex', at + 16, at + 16 + size));
    at += 16 + size;
  }
  return frames;
}

/** testpmd reads a capture into its port 3 and writes what comes back by its port 4. Returns those frames. */
async function throughTestpmd(
  t: TestContext,
  service: MemifService,
  frames: readonly Uint8Array[],
  zeroCopy: number | null,
) {
  const from = join(service.folder, 'in.pcap');
  const to = join(service.folder, 'out.pcap');
  writePcap(from, frames);
  const memif = (n: number, port: number) =>
    `--vdev=net_memif${n},role=client,id=${port},socket=${service.socket},socket-abstract=no,zero-copy=${zeroCopy === port ? 'yes' : 'no'}`;
  const child = spawn(
    'dpdk-testpmd',
    [
      '--no-huge',
      ...['-m', '128', '--no-pci', '--no-telemetry', '--file-prefix', `seine-${process.pid}`, '--lcores', '(0-1)@0'],
      ...(zeroCopy === null ? [] : ['--single-file-segments']),
      `--vdev=net_pcap0,rx_pcap=${from},tx_pcap=/dev/null`,
      memif(0, A.port),
      memif(1, B.port),
      `--vdev=net_pcap1,tx_pcap=${to}`,
      '--',
      ...['-i', '--port-topology=paired', '--forward-mode=io', '--total-num-mbufs=4096', '--no-flush-rx'],
    ],
    { stdio: ['pipe', 'pipe', 'pipe'] },
  );
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (text) => {
      said += text;
    });
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  t.after(() => child.kill('SIGKILL'));
  try {
    await until('testpmd is connected', () => service.clients() === 2 && said.includes('testpmd>'), 30);
    // A DPDK client gives its empty buffers at its first reading: before a frame is sent, both interfaces are read.
    child.stdin.write('set fwd rxonly\nset portlist 1,2\nstart\n');
    await new Promise((resolve) => setTimeout(resolve, 500));
    child.stdin.write('stop\nset portlist 0,1,2,3\nset fwd io\nstart\n');
    await until('every frame has come back', () => service.counter('memifSent') >= frames.length, 30);
    await new Promise((resolve) => setTimeout(resolve, 100));
    child.stdin.end('stop\nquit\n');
    await ended;
  } catch (error) {
    throw new Error(
      `${(error as Error).message}; received ${service.counter('memifReceived')}, sent ${service.counter('memifSent')}; testpmd: ${said.slice(-2000)}`,
    );
  }
  return readPcap(to);
}

// One of its two interfaces at a time: DPDK closes the descriptors of its memory when one zero-copy interface is connected.
for (const [mode, zeroCopy] of [
  ['copying', null],
  ['sending without copies', A.port],
  ['receiving without copies', B.port],
] as const) {
  test(`memif: DPDK's testpmd as a client, ${mode}: every frame comes back as it should`, async (t) => {
    if (!havePeers(t, ['dpdk-testpmd'], 'dpdk-dev')) return;
    const service = await startMemif(t);
    // Fewer than testpmd's ring holds (1,024): what a full ring makes it drop never reaches us.
    const frames = Array.from({ length: 900 }, (_, n) =>
      n % 3 === 0
        ? tcp4({
            src: A.ip,
            dst: B.ip,
            srcMac: A.mac,
            sport: 2000 + (n % 100),
            dport: 80,
            flags: n < 300 ? 'S' : 'A',
            payload: new Uint8Array(n % 1400),
          })
        : packet(A, B, n, 18 + (n % 1400)),
    );
    const { frames: expected } = await expectedOut(
      frames,
      frames.map(() => A.port),
    );
    const forwarded = expected.filter((frame) => frame.length > 0);
    assert.equal(forwarded.length, frames.length);
    const got = await throughTestpmd(t, service, frames, zeroCopy);
    assert.equal(got.length, forwarded.length);
    // Connections of different shards may overtake each other between batches; each one's packets may not.
    assert.deepEqual([...got].sort(), [...forwarded].sort());
    await until('testpmd is gone', () => service.clients() === 0);
    assert.equal(service.counter('memifViolations'), 0);
    for (const lost of ['memifLostRingFull', 'memifLostNoInterface', 'memifLostSize'] as const)
      assert.equal(service.counter(lost), 0, lost);
  });
}
