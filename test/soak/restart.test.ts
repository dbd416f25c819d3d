/**
 * A service that is killed in mid-load and started again: no established connection is lost, no packet of one is denied,
 * and a collector of the test's own gets every octet of the answered batches once, and of those in flight at most once. The
 * same where workers crash. Connections can't be picked up midway here (tcpLoose: false) and policy admits only one way,
 * so that one that is lost shows at once.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Client, connect } from '../../src/client/index.js';
import { fuzzSeed, Random } from '../fuzz/mutate.js';
import { decode } from '../unit/export/decode.js';
import { tcp4 } from '../unit/frames.js';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const KILLS = 4;
const PODS = 8;
const CONNECTIONS = 600;
const ROWS = 64;
const WINDOW = 6;
const PAYLOAD = 10;
const FORWARD = 1;
const ESTABLISHED = 2;
const LIMIT = { timeout: 180_000 };

const ip = (server: boolean, pod: number) => `10.0.${server ? 2 : 1}.${pod + 1}`;
/** Pods get ports by name: clients before servers. */
const portOf = (server: boolean, pod: number) => 3 + (server ? PODS : 0) + pod;
const objects = (): object[] => [
  ...[false, true].flatMap((server) =>
    Array.from({ length: PODS }, (_, pod) => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        namespace: 'default',
        name: `${server ? 'server' : 'client'}-${pod}`,
        labels: { side: server ? 'server' : 'client' },
      },
      spec: { containers: [] },
      status: { phase: 'Running', podIP: ip(server, pod), podIPs: [{ ip: ip(server, pod) }] },
    })),
  ),
  {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { namespace: 'default', name: 'servers' },
    spec: {
      podSelector: {},
      policyTypes: ['Ingress'],
      ingress: [
        { from: [{ podSelector: { matchLabels: { side: 'client' } } }], ports: [{ protocol: 'TCP', port: 80 }] },
      ],
    },
  },
];

/** What was sent in one direction of one connection. */
interface Sum {
  packets: number;
  octets: number;
}
const add = (to: Map<string, Sum>, key: string, packets: number, octets: number) => {
  const sum = to.get(key);
  if (sum === undefined) to.set(key, { packets, octets });
  else {
    sum.packets += packets;
    sum.octets += octets;
  }
};

interface Connection {
  client: number;
  server: number;
  sport: number;
  seq: [number, number];
}
interface Batch {
  id: number;
  /** Per row: key and layer-3 octets. */
  rows: { key: string; octets: number }[];
  /** Sequence numbers before it, of the connections in it. */
  before: [Connection, [number, number]][];
}

class Restarts {
  readonly folder = mkdtempSync(join(tmpdir(), 'seine-restart-'));
  readonly socketPath = join(this.folder, 's.sock');
  readonly rng: Random;
  readonly connections: Connection[];
  readonly answered = new Map<string, Sum>();
  readonly doubtful = new Map<string, Sum>();
  readonly exported = new Map<string, Sum>();
  child: ChildProcess | null = null;
  client: Client | null = null;
  stdout = '';
  stderr = '';
  answeredBatches = 0;
  lostHere = 0;
  wrong: string[] = [];
  private nextId = 0;

  constructor(seed: number) {
    this.rng = new Random(seed);
    this.connections = Array.from({ length: CONNECTIONS }, (_, i) => ({
      client: i % PODS,
      server: this.rng.below(PODS),
      sport: 20_000 + i,
      seq: [this.rng.next(), this.rng.next()],
    }));
    writeFileSync(
      join(this.folder, 'objects.json'),
      JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects() }),
    );
  }

  async start(collector: number, fault?: string): Promise<void> {
    writeFileSync(
      join(this.folder, 'seine.yaml'),
      JSON.stringify({
        workers: 2,
        listen: { unix: this.socketPath, grpc: [], http: null },
        conntrack: { max: 16_384, tcpLoose: false },
        stateFile: 'state',
        netflow: { targets: [`127.0.0.1:${collector}`], activeTimeout: 1, idleTimeout: 1 },
      }),
    );
    rmSync(this.socketPath, { force: true });
    const child = spawn(process.execPath, [MAIN, 'serve', '--config', 'seine.yaml', '--objects', 'objects.json'], {
      cwd: this.folder,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NODE_ENV: 'test', SEINE_FAULT: fault ?? '' },
    });
    this.child = child;
    this.stdout = '';
    child.stdout!.on('data', (text) => {
      this.stdout += text;
    });
    child.stderr!.on('data', (text) => {
      this.stderr += text;
    });
    while (!this.stdout.includes('Try next')) {
      assert.equal(child.exitCode, null, `it serves: ${this.stderr}`);
      await delay(20);
    }
    this.client = await connect(`unix:${this.socketPath}`);
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.child!;
    const gone = once(child, 'exit');
    child.kill(signal);
    await gone;
    this.child = null;
  }

  private frame(c: Connection, reply: boolean, flags: string, payload: number): Uint8Array {
    const side = reply ? 1 : 0;
    const frame = tcp4({
      src: reply ? ip(true, c.server) : ip(false, c.client),
      dst: reply ? ip(false, c.client) : ip(true, c.server),
      sport: reply ? 80 : c.sport,
      dport: reply ? c.sport : 80,
      flags,
      seq: c.seq[side]!,
      ack: flags === 'S' ? 0 : c.seq[1 - side]!,
      window: 65_000,
      payload: new Uint8Array(payload),
    });
    c.seq[side] = (c.seq[side]! + payload + (flags.includes('S') ? 1 : 0)) >>> 0;
    return frame;
  }
  private keyOf = (c: Connection, reply: boolean): string =>
    reply
      ? `${ip(true, c.server)}:80>${ip(false, c.client)}:${c.sport}`
      : `${ip(false, c.client)}:${c.sport}>${ip(true, c.server)}:80`;

  /** Sends rows as one batch; false when it was not answered with verdicts. */
  async send(list: readonly { c: Connection; reply: boolean; flags: string; payload: number }[]): Promise<boolean> {
    const batch: Batch = { id: this.nextId++, rows: [], before: [] };
    const frames: Uint8Array[] = [];
    const inPort = new Uint32Array(list.length);
    list.forEach(({ c, reply, flags, payload }, row) => {
      batch.before.push([c, [...c.seq]]);
      const frame = this.frame(c, reply, flags, payload);
      frames.push(frame);
      inPort[row] = portOf(reply, reply ? c.server : c.client);
      batch.rows.push({ key: this.keyOf(c, reply), octets: frame.length - 14 });
    });
    try {
      const { verdict, ct } = await this.client!.process({
        data: Buffer.concat(frames),
        length: Uint32Array.from(frames, ({ length }) => length),
        inPort,
      });
      this.answeredBatches++;
      batch.rows.forEach(({ key, octets }, row) => {
        add(this.answered, key, 1, octets);
        const established = list[row]!.flags === 'S' || (ct[row]! & ESTABLISHED) !== 0;
        if (verdict[row] !== FORWARD || !established)
          this.wrong.push(
            `batch ${batch.id} row ${row} ${key} ${list[row]!.flags}: verdict ${verdict[row]}, ct ${ct[row]}`,
          );
      });
      return true;
    } catch {
      this.lostHere++;
      for (const { key, octets } of batch.rows) add(this.doubtful, key, 1, octets);
      // The sender never saw it go: it sends the same again.
      for (const [c, seq] of batch.before.reverse()) c.seq = seq;
      return false;
    }
  }

  async handshakes(): Promise<void> {
    for (const [reply, flags] of [
      [false, 'S'],
      [true, 'SA'],
      [false, 'A'],
    ] as const) {
      for (let from = 0; from < CONNECTIONS; from += ROWS) {
        const some = this.connections.slice(from, from + ROWS);
        assert.ok(await this.send(some.map((c) => ({ c, reply, flags, payload: 0 }))));
      }
    }
  }

  /**
   * Data both ways on connections chosen at random, WINDOW batches under way, until a batch is lost or `enough`. A
   * connection is in one batch at a time, so that what was lost can be sent again.
   */
  async load(enough: () => boolean): Promise<void> {
    const busy = new Set<Connection>();
    let broken = false;
    const sender = async () => {
      while (!broken && !enough()) {
        const list: { c: Connection; reply: boolean; flags: string; payload: number }[] = [];
        const mine: Connection[] = [];
        while (list.length < ROWS) {
          const c = this.rng.pick(this.connections);
          if (busy.has(c)) continue;
          busy.add(c);
          mine.push(c);
          const replies = this.rng.oneIn(2);
          list.push({ c, reply: replies, flags: 'PA', payload: PAYLOAD });
          if (list.length < ROWS) list.push({ c, reply: !replies, flags: 'A', payload: 0 });
        }
        if (!(await this.send(list))) broken = true;
        for (const c of mine) busy.delete(c);
        if (this.rng.oneIn(8)) await delay(1);
      }
    };
    await Promise.all(Array.from({ length: WINDOW }, sender));
  }

  /** Sums at the collector against what was sent. */
  check(inDoubt: number): void {
    const missing: string[] = [];
    for (const [key, { packets, octets }] of this.exported) {
      const sure = this.answered.get(key) ?? { packets: 0, octets: 0 };
      const most = this.doubtful.get(key) ?? { packets: 0, octets: 0 };
      assert.ok(
        packets <= sure.packets + most.packets && octets <= sure.octets + most.octets,
        `${key}: counted twice: ${packets} packets, ${octets} octets; sent ${JSON.stringify(sure)}, in flight ${JSON.stringify(most)}`,
      );
    }
    for (const [key, sure] of this.answered) {
      const got = this.exported.get(key) ?? { packets: 0, octets: 0 };
      if (got.packets < sure.packets || got.octets < sure.octets)
        missing.push(`${key}: ${JSON.stringify(got)} of ${JSON.stringify(sure)}`);
    }
    assert.ok(missing.length <= inDoubt, `lost: ${missing.length} (${inDoubt} in doubt), e.g. ${missing[0]}`);
  }

  close(): void {
    this.child?.kill('SIGKILL');
    rmSync(this.folder, { recursive: true, force: true });
  }
}

async function collect(t: TestContext, run: Restarts): Promise<number> {
  const socket = createSocket({ type: 'udp4', recvBufferSize: 4 * 1024 * 1024 });
  socket.on('message', (octets) => {
    for (const { src, dst, srcPort, dstPort, packets, octets: size } of decode(octets).records) {
      const text = (address: number) => [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join('.');
      add(run.exported, `${text(src)}:${srcPort}>${text(dst)}:${dstPort}`, packets, size);
    }
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  t.after(() => socket.close());
  return socket.address().port;
}
const found = (text: string, pattern: RegExp): number => Number(pattern.exec(text)?.[1] ?? 0);

test('restart: killed in mid-load, the service goes on where it was', LIMIT, async (t) => {
  const seed = fuzzSeed();
  t.diagnostic(`seed ${seed}`);
  const run = new Restarts(seed);
  t.after(() => run.close());
  const port = await collect(t, run);
  await run.start(port);
  assert.match(run.stdout, /state in .*begun afresh/);
  await run.handshakes();
  let inDoubt = 0;
  let told = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    const until = Date.now() + 30_000;
    const loading = run.load(() => Date.now() > until);
    await delay(700 + run.rng.below(900));
    const before = run.lostHere;
    await run.end('SIGKILL');
    await loading;
    const lost = run.lostHere - before;
    await run.start(port);
    const [, connections, batches] = /state in .*: (\d+) connections taken up; (\d+) batches were in flight/.exec(
      run.stdout,
    ) ?? [run.stdout];
    assert.equal(Number(connections), CONNECTIONS, run.stdout);
    // What was in flight to the service: some may not have reached it yet, or their answers may not have reached us.
    assert.ok(Number(batches) <= lost, `${batches} batches told of, ${lost} lost here`);
    assert.doesNotMatch(run.stdout, /could not be kept/);
    inDoubt += found(run.stdout, /(\d+) flow records were being sent/);
    told += Number(batches);
    assert.equal(found(run.stdout, /(\d+) flow records are lost/), 0);
  }
  const all = run.answeredBatches;
  await run.load(() => run.answeredBatches > all + 100);
  await run.client!.close();
  await run.end('SIGTERM');
  await delay(200);
  t.diagnostic(
    `${run.answeredBatches} batches answered, ${run.lostHere} not, ${told} of them told of as in flight, ${inDoubt} records in doubt`,
  );
  assert.deepEqual(run.wrong.slice(0, 3), []);
  assert.ok(run.answeredBatches > KILLS * 50, 'there was load');
  run.check(inDoubt);
  assert.ok(existsSync(join(run.folder, 'state')));
});

for (const fault of ['worker-throw', 'worker-exit']) {
  test(`restart: ${fault}: the shard's connections and records are kept`, LIMIT, async (t) => {
    const seed = fuzzSeed();
    t.diagnostic(`seed ${seed}`);
    const run = new Restarts(seed);
    t.after(() => run.close());
    const port = await collect(t, run);
    await run.start(port, `${fault}:150`);
    await run.handshakes();
    const until = Date.now() + 20_000;
    const enough = () => Date.now() > until || (run.lostHere > 0 && run.answeredBatches > 900);
    while (!enough()) {
      await run.load(enough);
      await run.client!.close().catch(() => {});
      for (let tries = 0; tries < 200; tries++) {
        const client = await connect(`unix:${run.socketPath}`).catch(() => null);
        if (client !== null) {
          run.client = client;
          break;
        }
        await delay(20);
      }
    }
    await run.client!.close();
    await run.end('SIGTERM');
    await delay(200);
    t.diagnostic(`${run.answeredBatches} batches answered, ${run.lostHere} not`);
    assert.match(run.stderr, /worker \d was lost/);
    assert.deepEqual(run.wrong.slice(0, 3), []);
    run.check(0);
  });
}
