/**
 * Row of memif: a testpmd on one processor offers frames of 64 Ki flows, both directions, in random order, to two memif
 * interfaces, and counts what comes back; on the other processor the engine, with conntrack and policy, or a second testpmd that
 * forwards from one to the other (io), stands between. The frames leave as they came (their destination's MAC is right
 * already), so that the digest of what comes back is the same for both.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tcpFrame, udpFrame } from '../src/flow/build-frame.js';
import { parseMac } from '../src/flow/ip-address.js';
import { interleaved, type Row, type RowGroup, rounded } from './harness.js';

const MAIN = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const A = { port: 3, ip: '10.0.0.3', mac: '02:00:00:00:00:03' };
const B = { port: 4, ip: '10.0.0.4', mac: '02:00:00:00:00:04' };

/** Two pods, each isolated in both directions, and each allowed to reach the other. */
const OBJECTS = `${[A, B]
  .map(
    ({ port, ip, mac }) => `apiVersion: v1
kind: Pod
metadata: {name: p${port}, namespace: default, labels: {app: bench}, annotations: {seine.dev/port: "${port}", seine.dev/mac: "${mac}"}}
spec: {nodeName: n1}
status: {phase: Running, podIP: ${ip}, podIPs: [{ip: ${ip}}]}
---
`,
  )
  .join('')}apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: bench, namespace: default}
spec:
  podSelector: {matchLabels: {app: bench}}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{podSelector: {matchLabels: {app: bench}}}]}]
  egress: [{to: [{podSelector: {matchLabels: {app: bench}}}]}]
`;

function pcap(frames: readonly Uint8Array[]): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(65_535, 16);
  header.writeUInt32LE(1, 20);
  return Buffer.concat([
    header,
    ...frames.flatMap((frame) => {
      const record = Buffer.alloc(16);
      record.writeUInt32LE(frame.length, 8);
      record.writeUInt32LE(frame.length, 12);
      return [record, frame];
    }),
  ]);
}
function framesOf(file: string): string[] {
  const octets = readFileSync(file);
  const frames: string[] = [];
  for (let at = 24; at + 16 <= octets.length; ) {
    const size = octets.readUInt32LE(at + 8);
    frames.push(octets.toString('latin1', at + 16, at + 16 + size));
    at += 16 + size;
  }
  return frames;
}

/** Half TCP, half UDP, 64 octets; the two directions of a connection answer each other. */
function makeFrames(connections: number): { ab: Uint8Array[]; ba: Uint8Array[] } {
  const make = (from: typeof A, to: typeof A, n: number, reply: boolean): Uint8Array => {
    const [client, server] = [1024 + ((n >> 1) % 60_000), 8000 + (n >> 1 >= 60_000 ? 1 : 0)];
    const ends = {
      srcMac: parseMac(from.mac)!,
      dstMac: parseMac(to.mac)!,
      src: from.ip,
      dst: to.ip,
      srcPort: reply ? server : client,
      dstPort: reply ? client : server,
    };
    return n % 2 === 0
      ? udpFrame({ ...ends, payload: 22 })
      : tcpFrame({ ...ends, flags: 0x10, seq: reply ? 2000 : 1000, ack: reply ? 1000 : 2000, payload: 10 });
  };
  let state = 1;
  const shuffled = (frames: Uint8Array[]): Uint8Array[] => {
    for (let i = frames.length - 1; i > 0; i--) {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
      const j = Math.floor((state / 0x100000000) * (i + 1));
      [frames[i], frames[j]] = [frames[j]!, frames[i]!];
    }
    return frames;
  };
  const each = Array.from({ length: connections }, (_, n) => n);
  return { ab: shuffled(each.map((n) => make(A, B, n, false))), ba: shuffled(each.map((n) => make(B, A, n, true))) };
}

interface Program {
  child: ChildProcess;
  said(): string;
  ended: Promise<void>;
}
function run(command: string, args: readonly string[]): Program {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  child.stdin!.on('error', () => {}); // it has ended already
  let text = '';
  for (const stream of [child.stdout!, child.stderr!])
    stream.on('data', (chunk) => {
      text += chunk;
    });
  return { child, said: () => text, ended: new Promise((resolve) => child.once('close', () => resolve())) };
}
async function until(what: string, program: Program, condition: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + 30_000;
  while (!(await condition())) {
    if (Date.now() > end || program.child.exitCode !== null) throw new Error(`${what}: ${program.said().slice(-1500)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
/** Ends a program in its own way, or after a while in ours. */
async function quit(program: Program): Promise<void> {
  const { child } = program;
  const kill = setTimeout(() => child.kill('SIGKILL'), 5000);
  if (child.spawnargs.includes('serve')) child.kill('SIGTERM');
  else child.stdin!.end('stop\nquit\n');
  await program.ended;
  clearTimeout(kill);
}
const pause = (seconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

const eal = (name: string, processor: number, memory: number): string[] => [
  ...['--no-huge', '-m', String(memory), '--no-pci', '--no-telemetry', '--file-prefix', `seine-${process.pid}-${name}`],
  ...['--lcores', `(0-1)@${processor}`],
];
const memif = (n: number, role: 'client' | 'server', port: number, socket: string): string =>
  `--vdev=net_memif${n},role=${role},id=${port},socket=${socket},socket-abstract=no`;

/** What stands between the two interfaces. */
interface Between {
  socket: string;
  program: Program;
  connected(): Promise<boolean>;
}
async function startTestpmd(folder: string): Promise<Between> {
  const socket = join(folder, 'testpmd.sock');
  const program = run('stdbuf', [
    ...['-oL', 'dpdk-testpmd'],
    ...eal('between', 0, 128),
    memif(0, 'server', A.port, socket),
    memif(1, 'server', B.port, socket),
    ...['--', '--forward-mode=io', '--total-num-mbufs=8192', '--no-flush-rx', '--auto-start', '-i'],
  ]);
  await until('testpmd does not start', program, () => program.said().includes('testpmd>'));
  return { socket, program, connected: async () => true };
}
async function startSeine(folder: string): Promise<Between & { metrics(): Promise<string> }> {
  const http = await new Promise<number>((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
  const socket = join(folder, 'seine.sock');
  writeFileSync(join(folder, 'objects.yaml'), OBJECTS);
  writeFileSync(
    join(folder, 'c.yaml'),
    `node: n1\nworkers: 1\nlisten: {unix: null, grpc: [], http: '127.0.0.1:${http}', memif: ${socket}}\n`,
  );
  const program = run('taskset', [
    ...['-c', '0', process.execPath, MAIN, 'serve', '--config', join(folder, 'c.yaml')],
    ...['--objects', join(folder, 'objects.yaml')],
  ]);
  await until('the service does not start', program, () => program.said().includes('listens on http'));
  const metrics = async (): Promise<string> => (await fetch(`http://127.0.0.1:${http}/metrics`)).text();
  return {
    socket,
    program,
    metrics,
    connected: async () =>
      (program.said().match(/is connected/g) ?? []).length % 2 === 0 && program.said().includes('is connected'),
  };
}

/** A testpmd between captures and the two interfaces. */
async function startClient(
  between: Between,
  captures: readonly [string, string],
  memory: number,
  buffers: number,
): Promise<Program> {
  const program = run('stdbuf', [
    ...['-oL', 'dpdk-testpmd'],
    ...eal('client', 1, memory),
    `--vdev=net_pcap0,${captures[0]}`,
    memif(0, 'client', A.port, between.socket),
    memif(1, 'client', B.port, between.socket),
    `--vdev=net_pcap1,${captures[1]}`,
    ...['--', '-i', '--port-topology=paired', '--forward-mode=io', `--total-num-mbufs=${buffers}`, '--no-flush-rx'],
  ]);
  await until(
    'the client does not connect',
    program,
    async () => program.said().includes('testpmd>') && (await between.connected()),
  );
  // A DPDK client gives its empty buffers at its first reading: before a frame is sent, both interfaces are read.
  program.child.stdin!.write('set fwd rxonly\nset portlist 1,2\nstart\n');
  await pause(0.5);
  program.child.stdin!.write('stop\nset portlist 0,1,2,3\nset fwd io\nstart\n');
  return program;
}

/**
 * A DPDK client that is refused, or comes too early, does not try again, and a DPDK server may not outlive its client (22.11
 * unmaps what another of its threads still polls): such a run is made again, from the start of both.
 */
async function retried<T>(attempt: () => Promise<T>): Promise<T> {
  for (let left = 2; ; left--) {
    try {
      return await attempt();
    } catch (error) {
      if (left === 0) throw error;
      process.stderr.write(`bench: memif: once more: ${(error as Error).message.split('\n')[0]}\n`);
    }
  }
}

/** Packets a second that come back, over both interfaces. */
async function rate(between: Between, folder: string, buffers: number, warm: number, seconds: number): Promise<number> {
  const client = await startClient(
    between,
    [`rx_pcap=${join(folder, 'ab.pcap')},infinite_rx=1`, `rx_pcap=${join(folder, 'ba.pcap')},infinite_rx=1`],
    Math.ceil((buffers * 3) / 1000) + 256,
    buffers,
  );
  try {
    const rates = (): number[] => [...client.said().matchAll(/Rx-pps: +(\d+)/g)].map((match) => Number(match[1]));
    /** Of both interfaces, since the last time. */
    const ask = async (): Promise<number[]> => {
      const before = rates().length;
      client.child.stdin!.write('show port stats 1\nshow port stats 2\n');
      await until('testpmd tells no rates', client, () => rates().length === before + 2);
      return rates().slice(before);
    };
    const end = Date.now() + 10_000;
    while ((await ask()).some((value) => value === 0)) {
      if (Date.now() > end) throw new Error(`nothing comes back: ${client.said().slice(-1500)}`);
      await pause(0.1);
    }
    await pause(warm);
    await ask();
    await pause(seconds);
    const [first, second] = await ask();
    return first! + second!;
  } finally {
    await quit(client);
  }
}

/** Frames that come back of few, in any order. */
async function digest(between: Between, folder: string, expected: number): Promise<string> {
  const out = [join(folder, 'ba.out'), join(folder, 'ab.out')] as const;
  const client = await startClient(
    between,
    [
      `rx_pcap=${join(folder, 'ab-few.pcap')},tx_pcap=${out[0]}`,
      `rx_pcap=${join(folder, 'ba-few.pcap')},tx_pcap=${out[1]}`,
    ],
    128,
    8192,
  );
  const back = (): number =>
    [...client.said().matchAll(/NIC statistics for port (\d).*\n +RX-packets: (\d+)/g)]
      .slice(-2)
      .reduce((sum, match) => sum + Number(match[2]), 0);
  const end = Date.now() + 10_000;
  while (back() < expected && Date.now() < end) {
    client.child.stdin!.write('show port stats 1\nshow port stats 2\n');
    await pause(0.2);
  }
  await quit(client);
  const frames = out.flatMap(framesOf).sort();
  if (frames.length !== expected) throw new Error(`${frames.length} of ${expected} frames came back`);
  return createHash('sha256').update(frames.join('')).digest('hex').slice(0, 16);
}

const sample = (text: string, name: string): number =>
  Number(new RegExp(`^${name.replace(/[{}]/g, '\\$&')} (\\d+)`, 'm').exec(text)?.[1] ?? 0);

export const memifRows: RowGroup = {
  rows: ['memif, end to end, 64 B, a testpmd as client, 64 Ki flows'],
  async run(quick): Promise<Row[]> {
    if (spawnSync('dpdk-testpmd', ['--version']).error !== undefined) {
      process.stderr.write("bench: NOT MEASURED: memif: dpdk-testpmd not found; install Debian's dpdk-dev\n");
      return [];
    }
    const folder = mkdtempSync(join(tmpdir(), 'seine-bench-'));
    const connections = quick ? 1024 : 32_768;
    const buffers = connections * 2 + 8192 * 4;
    const { ab, ba } = makeFrames(connections);
    writeFileSync(join(folder, 'ab.pcap'), pcap(ab));
    writeFileSync(join(folder, 'ba.pcap'), pcap(ba));
    // Fewer than a ring holds: what testpmd finds no room for it drops itself.
    const few = Math.min(900, connections);
    writeFileSync(join(folder, 'ab-few.pcap'), pcap(ab.slice(0, few)));
    writeFileSync(join(folder, 'ba-few.pcap'), pcap(ba.slice(0, few)));
    let service: Program | null = null;
    /** What stands between, for as long as `use` takes: a testpmd polls also when there is nothing, an idle engine does not. */
    const withTestpmd = async <T>(use: (between: Between) => Promise<T>): Promise<T> => {
      const between = await startTestpmd(folder);
      try {
        return await use(between);
      } finally {
        await quit(between.program);
      }
    };
    try {
      const baselineDigest = await retried(() => withTestpmd((between) => digest(between, folder, few * 2)));
      const seine = await startSeine(folder);
      service = seine.program;
      const ours = await retried(() => digest(seine, folder, few * 2));
      if (ours !== baselineDigest) throw new Error('other frames come back from the engine than went in');
      const [warm, seconds] = quick ? [0.2, 0.5] : [1, 2];
      const measured = (between: Between): Promise<number> => rate(between, folder, buffers, warm, seconds);
      const { a, b, ratio } = await interleaved(
        quick ? 1 : 3,
        () => retried(() => measured(seine)),
        () => retried(() => withTestpmd(measured)),
      );
      const metrics = await seine.metrics();
      const forwarded = sample(metrics, 'seine_packets_total{verdict="forward"}');
      if (forwarded === 0 || forwarded !== sample(metrics, 'seine_memif_packets_total{direction="received"}'))
        throw new Error(`${forwarded} packets were forwarded of those received`);
      if (sample(metrics, 'seine_connections_created_total') < connections)
        throw new Error('some connections were not tracked');
      return [
        {
          row: this.rows[0]!,
          value: rounded(a),
          unit: 'packets/s',
          baseline: 'a testpmd in its place, forwarding unseen',
          baselineValue: rounded(b),
          ratio: rounded(ratio),
          target: '≥ 0.5 ×',
          met: ratio >= 0.5,
          digest: ours,
        },
      ];
    } finally {
      if (service !== null) await quit(service);
      rmSync(folder, { recursive: true, force: true });
    }
  },
};
