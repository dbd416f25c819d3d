/**
 * Rows of a whole service in a process of its own: both transports under `seine load` against echoes of the same messages,
 * latency at a rate, a service that only waits, and load while autocannon scrapes /metrics. One worker and one connection, as the
 * echo has one thread: of two cores the other is the client's.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import autocannon from 'autocannon';
import { EXAMPLE_CLUSTER, EXAMPLE_NODE } from '../src/config/example-cluster.js';
import { parseConfig } from '../src/config/read.js';
import { type Load, makeBatches } from '../src/cli/load-batches.js';
import { connect } from '../src/client/index.js';
import { Engine } from '../src/engine/engine.js';
import { readManifest } from '../src/objects/read.js';
import { applyObjects, emptyObjects } from '../src/objects/store.js';
import { interleaved, median, type Row, type RowGroup, rounded } from './harness.js';

const MAIN = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const ECHO = fileURLToPath(new URL('./echo.js', import.meta.url));

const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });

interface LoadResult {
  packetsPerSecond: number;
  lost: number;
  latencyUs: { p50: number; p99: number };
}

/** A child that tells that it is ready by its first line. */
async function started(args: readonly string[]): Promise<ChildProcess> {
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise<void>((resolve, reject) => {
    child.stdout!.once('data', () => resolve());
    child.once('exit', (code) => reject(new Error(`${args.join(' ')} did not start: ${code}`)));
  });
  return child;
}
const stopped = (child: ChildProcess): Promise<void> =>
  new Promise((resolve) => {
    child.once('exit', () => resolve());
    child.kill('SIGTERM');
  });
async function resultOf(args: readonly string[]): Promise<LoadResult> {
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let out = '';
  child.stdout.on('data', (text) => {
    out += text;
  });
  const code = await new Promise((resolve) => child.on('close', resolve));
  if (code !== 0) throw new Error(`${args.slice(1).join(' ')}: exit ${code}`);
  const result = JSON.parse(out) as LoadResult;
  if (result.lost !== 0) throw new Error(`${result.lost} packets were lost`);
  return result;
}

const BATCHES_COMPARED = 8;
/** The verdict columns of some of the load's batches, sent one after another. */
async function digestOf(
  process: (batch: { data: Uint8Array; length: Uint32Array; inPort: Uint32Array }) => Promise<{
    verdict: Uint8Array;
    outPort: Uint32Array;
    reason: Uint8Array;
    ct: Uint8Array;
    rule: Uint32Array;
  }>,
  batches: ReturnType<typeof makeBatches>,
): Promise<string> {
  const hash = createHash('sha256');
  for (const { frames, length, inPort } of batches.slice(0, BATCHES_COMPARED)) {
    const { verdict, outPort, reason, ct, rule } = await process({ data: frames, length, inPort });
    for (const column of [verdict, outPort, reason, ct, rule])
      hash.update(new Uint8Array(column.buffer, column.byteOffset, column.byteLength));
  }
  return hash.digest('hex').slice(0, 16);
}

/** User and system time of a process so far, ms (proc(5)). */
function cpuMs(pid: number): number {
  const words = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)!.split(' ');
  return (Number(words[11]) + Number(words[12])) * 10;
}

const FLOWS = 65_536;
const LATENCY_RATE = 100_000;

export const service: RowGroup = {
  rows: [
    'Unix socket, end to end, 256 × 64 octets',
    'Unix socket, the transport alone, 256 × 64 octets',
    'gRPC stream, end to end, 256 × 64 octets',
    'latency at 100 k packets/s, Unix socket, batches of 32: p50',
    'latency at 100 k packets/s, Unix socket, batches of 32: p99',
    'a service that waits',
    'Unix socket, 256 × 64 octets, /metrics scraped without pause',
  ],
  async run(quick): Promise<Row[]> {
    const folder = mkdtempSync(join(tmpdir(), 'seine-bench-'));
    const http = await freePort();
    const config = join(folder, 'c.yaml');
    writeFileSync(
      config,
      `listen: {unix: ${folder}/b.sock, grpc: ['unix:${folder}/g.sock'], http: '127.0.0.1:${http}'}\nworkers: 1\n`,
    );
    const serve = await started([MAIN, 'serve', '--example', '--config', config]);
    const echoes = {
      unix: await started([ECHO, 'serve', 'unix', join(folder, 'e.sock')]),
      grpc: await started([ECHO, 'serve', 'grpc', join(folder, 'eg.sock')]),
      unjudged: await started([ECHO, 'serve', 'unjudged', join(folder, 'n.sock')]),
    };
    try {
      const seconds = quick ? 0.3 : 2;
      const rounds = quick ? 1 : 5;
      const flows = quick ? 2048 : FLOWS;
      const common = { flows, size: 64, seconds } as const;
      const WINDOW = 32;
      const full = (transport: Load['transport']): Load => ({
        ...common,
        transport,
        batch: 256,
        rate: 0,
        window: WINDOW,
      });
      const paced: Load = { ...common, transport: 'unix', batch: 32, rate: LATENCY_RATE, window: WINDOW };
      const load = ({ transport, batch, rate, window }: Load, server?: string): Promise<LoadResult> => {
        const common = { transport, flows, size: 64, batch, rate, window, duration: seconds, output: 'json', config };
        const options = server === undefined ? common : { ...common, server };
        return resultOf([MAIN, 'load', ...Object.entries(options).flatMap(([key, value]) => [`--${key}`, `${value}`])]);
      };
      const echo = (of: Load): Promise<LoadResult> =>
        resultOf([
          ECHO,
          'load',
          of.transport,
          join(folder, of.transport === 'unix' ? 'e.sock' : 'eg.sock'),
          `unix:${folder}/g.sock`,
          JSON.stringify(of),
        ]);
      const rate = async (result: Promise<LoadResult>) => (await result).packetsPerSecond;

      // A service that has just been used, and is not any more.
      await load(full('unix'));
      const idle = async (): Promise<number> => {
        const wait = quick ? 500 : 10_000;
        await new Promise((resolve) => setTimeout(resolve, quick ? 100 : 2000));
        const before = cpuMs(serve.pid!);
        await new Promise((resolve) => setTimeout(resolve, wait));
        return ((cpuMs(serve.pid!) - before) / wait) * 1000;
      };
      const waiting = await idle();

      // What clients of both transports get told, and what an engine in this process says.
      const objects = applyObjects(emptyObjects(), readManifest(EXAMPLE_CLUSTER, 'example').inputs).objects;
      const here = await Engine.start({
        config: parseConfig({ workers: 1, node: EXAMPLE_NODE }, 'bench').config,
        objects,
      });
      const pods = here.ports().filter(({ kind }) => kind === 'pod');
      const batches = makeBatches(full('unix'), pods);
      const digests: string[] = [await digestOf((batch) => here.process(batch), batches)];
      await here.close();
      for (const address of [`unix:${folder}/b.sock`, `grpc:unix:${folder}/g.sock`]) {
        const client = await connect(address);
        digests.push(await digestOf((batch) => client.process(batch), batches));
        await client.close();
      }
      const digest = digests[0]!;
      if (digests.some((each) => each !== digest)) throw new Error(`transports differ: ${digests.join(' ')}`);

      const unix = await interleaved(
        rounds,
        () => rate(load(full('unix'))),
        () => rate(echo(full('unix'))),
      );
      /** Processor time of a server, µs a batch. */
      const costOf = async (server: ChildProcess, loaded: () => Promise<LoadResult>): Promise<number> => {
        const before = cpuMs(server.pid!);
        const { packetsPerSecond } = await loaded();
        return ((cpuMs(server.pid!) - before) * 1000) / ((packetsPerSecond * seconds) / 256);
      };
      const alone = await interleaved(
        rounds,
        () => costOf(echoes.unjudged, () => load(full('unix'), `unix:${folder}/n.sock`)),
        () => costOf(echoes.unix, () => echo(full('unix'))),
      );
      const grpc = await interleaved(
        rounds,
        () => rate(load(full('grpc'))),
        () => rate(echo(full('grpc'))),
      );
      const latency: LoadResult['latencyUs'][] = [];
      const echoLatency: LoadResult['latencyUs'][] = [];
      for (let round = 0; round < rounds; round++) {
        latency.push((await load(paced)).latencyUs);
        echoLatency.push((await echo(paced)).latencyUs);
      }
      let scrapes = 0;
      const scraped = async (): Promise<number> => {
        const cannon = autocannon({
          url: `http://127.0.0.1:${http}/metrics`,
          connections: 1,
          duration: Math.ceil(seconds) + 2,
        });
        const result = await rate(load(full('unix')));
        (cannon as unknown as { stop(): void }).stop();
        const { non2xx, errors, requests } = await cannon;
        if (non2xx > 0 || errors > 0) throw new Error(`${errors} scrapes failed`);
        scrapes += requests.total;
        return result;
      };
      const busy = await interleaved(rounds, scraped, () => rate(load(full('unix'))));
      if (scrapes === 0) throw new Error('nothing was scraped');

      const row = (index: number, rest: Omit<Row, 'row' | 'digest'> & { digest?: string | null }): Row => ({
        row: this.rows[index]!,
        digest: null,
        ...rest,
        met: quick || rest.met,
      });
      const micros = (index: number, percentile: 'p50' | 'p99', most: number): Row => {
        const value = median(latency.map((each) => each[percentile]));
        const baseline = median(echoLatency.map((each) => each[percentile]));
        const ratio = median(latency.map((each, round) => each[percentile] / echoLatency[round]![percentile]));
        return row(index, {
          value: rounded(value),
          unit: 'µs',
          baseline: 'raw echo',
          baselineValue: rounded(baseline),
          ratio: rounded(ratio),
          target: `≤ ${most}, ≤ 1.5 × echo`,
          met: value <= most && ratio <= 1.5,
        });
      };
      return [
        row(0, {
          value: rounded(unix.a),
          unit: 'packets/s',
          baseline: 'raw onread echo of the same frames',
          baselineValue: rounded(unix.b),
          ratio: rounded(unix.ratio),
          target: '≥ 1.0 × echo',
          met: unix.ratio >= 1,
          digest,
        }),
        row(1, {
          value: Math.max(0.001, rounded(alone.a)),
          unit: 'µs of CPU a batch',
          baseline: 'raw onread echo of the same frames',
          baselineValue: rounded(alone.b),
          ratio: Number.isFinite(alone.ratio) ? rounded(alone.ratio) : null,
          target: '≤ 1.0 × echo',
          met: alone.ratio <= 1,
        }),
        row(2, {
          value: rounded(grpc.a),
          unit: 'packets/s',
          baseline: 'grpc-js echo of the same messages',
          baselineValue: rounded(grpc.b),
          ratio: rounded(grpc.ratio),
          target: '≥ 0.8 × echo',
          met: grpc.ratio >= 0.8,
          digest,
        }),
        micros(3, 'p50', 60),
        micros(4, 'p99', 300),
        row(5, {
          value: Math.max(0.001, rounded(waiting)),
          unit: 'ms of CPU a second',
          baseline: null,
          baselineValue: null,
          ratio: null,
          target: '≤ 2',
          met: waiting <= 2,
        }),
        row(6, {
          value: rounded(busy.a),
          unit: 'packets/s',
          baseline: 'the same load unscraped',
          baselineValue: rounded(busy.b),
          ratio: rounded(busy.ratio),
          target: 'told beside it',
          met: true,
        }),
      ];
    } finally {
      await Promise.all([serve, ...Object.values(echoes)].map(stopped));
      rmSync(folder, { recursive: true, force: true });
    }
  },
};
