/**
 * `seine load`: the load harness. Offers UDP packets of distinct connections between pods that the server lists (or between
 * any addresses where it lists none), as fast as answers come or at a rate, and reports what was answered.
 */
import { SingleBar } from 'cli-progress';
import type { Command } from 'commander';
import { VERDICTS } from '../batch/drop-reason.js';
import { BATCH_OCTETS_LIMIT, BATCH_ROWS } from '../batch/packet-batch.js';
import { connectControl, defaultControlAddress } from '../client/control.js';
import { readConfig } from '../config/read.js';
import type { PortInfo } from '../engine/engine-view.js';
import { SeineError } from '../errors.js';
import { IMIX_LARGEST, type Load, makeBatches } from './load-batches.js';
import { MEMIF_RING_MAX, MemifSender } from './load-memif.js';
import { GrpcSender, UnixSender } from './load-sender.js';
import { table } from './output.js';

interface Options {
  server?: string;
  config?: string;
  transport: string;
  flows: string;
  size: string;
  batch: string;
  rate: string;
  duration: string;
  window: string;
  output: string;
}
export function register(program: Command): void {
  program
    .command('load')
    .description('offer packets to a running service and measure what it answers')
    .option('--server <address>', 'unix:PATH (the socket of batches, or of gRPC or memif by --transport) or HOST:PORT')
    .option('--config <file>', 'configuration whose sockets are used')
    .option('--transport <name>', 'unix, grpc or memif', 'unix')
    .option('--flows <n>', 'distinct connections', '1024')
    .option('--size <octets>', 'octets of each frame, or imix', '64')
    .option('--batch <n>', 'packets a batch', '256')
    .option('--rate <pps>', 'packets a second; 0: as fast as answers come', '0')
    .option('--window <n>', 'batches under way at most', '16')
    .option('--duration <seconds>', 'how long packets are offered', '10')
    .option('-o, --output <format>', 'table or json', 'table')
    .action((options: Options) => run(options));
}

function whole(name: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < least || value > most)
    throw new SeineError('SEINE_ERR_USAGE', `--${name} ${text}: a whole number from ${least} to ${most} belongs here`);
  return value;
}

function parseLoad(options: Options): Load {
  if (options.transport !== 'unix' && options.transport !== 'grpc' && options.transport !== 'memif')
    throw new SeineError('SEINE_ERR_USAGE', `--transport ${options.transport}: unix, grpc or memif belongs here`);
  const batch = whole('batch', options.batch, 1, BATCH_ROWS);
  const size = options.size === 'imix' ? 'imix' : whole('size', options.size, 64, 65_535);
  if ((size === 'imix' ? IMIX_LARGEST : size) * batch > BATCH_OCTETS_LIMIT) {
    throw new SeineError(
      'SEINE_ERR_USAGE',
      `--size ${options.size} × --batch ${batch}: a batch holds at most ${BATCH_OCTETS_LIMIT} octets`,
    );
  }
  const window = whole('window', options.window, 1, 4096);
  if (options.transport === 'memif' && window * batch > MEMIF_RING_MAX) {
    throw new SeineError(
      'SEINE_ERR_USAGE',
      `--window ${window} × --batch ${batch}: a memif ring holds at most ${MEMIF_RING_MAX} frames`,
    );
  }
  const seconds = Number(options.duration);
  if (!(seconds > 0 && seconds <= 86_400))
    throw new SeineError('SEINE_ERR_USAGE', `--duration ${options.duration}: seconds above 0 belong here`);
  if (options.output !== 'table' && options.output !== 'json')
    throw new SeineError('SEINE_ERR_USAGE', `-o ${options.output}: table or json belongs here`);
  return {
    transport: options.transport,
    flows: whole('flows', options.flows, 1, 16_777_216),
    size,
    batch,
    rate: whole('rate', options.rate, 0, 1_000_000_000),
    seconds,
    window,
  };
}

/** Pods to send between: from the server where it tells them. */
export async function listPods(address: string): Promise<PortInfo[]> {
  const client = connectControl(address);
  try {
    const { ports } = (await client.call('ListPorts', {})) as { ports: PortInfo[] };
    return ports.filter(({ kind, ips }) => kind === 'pod' && ips.length > 0);
  } finally {
    client.close();
  }
}

async function run(options: Options): Promise<void> {
  const load = parseLoad(options);
  const { config } = readConfig(options.config ?? null);
  const grpcAddress =
    load.transport === 'grpc' && options.server !== undefined
      ? options.server.replace(/^grpc:/, '')
      : defaultControlAddress(options.config);
  const unixAddress =
    options.server !== undefined && load.transport === 'unix'
      ? options.server
      : config.listen.unix === null
        ? null
        : `unix:${config.listen.unix}`;
  const memif = options.server?.replace(/^unix:/, '') ?? config.listen.memif;
  if (load.transport === 'memif' && memif === null)
    throw new SeineError(
      'SEINE_ERR_USAGE',
      '--transport memif: `listen.memif` is not set; name a socket there, or --server unix:PATH',
    );
  if (load.transport === 'unix' && (unixAddress === null || !unixAddress.startsWith('unix:'))) {
    throw new SeineError('SEINE_ERR_USAGE', `--server ${options.server}: unix:PATH belongs here with --transport unix`);
  }
  const pods = await listPods(grpcAddress).catch((error: Error) => {
    if (load.transport !== 'unix') throw error;
    process.stderr.write(
      `seine: warning: ${grpcAddress} does not list pods (${error.message}); any addresses are used\n`,
    );
    return [] as PortInfo[];
  });
  if (load.transport === 'memif' && pods.length < 2)
    throw new SeineError(
      'SEINE_ERR_USAGE',
      '--transport memif: frames come back by the interfaces of the pods that they are for, but the server lists fewer than two pods',
    );
  const batches = makeBatches(load, pods);
  const sender =
    load.transport === 'unix'
      ? await UnixSender.open(load, batches, unixAddress!.slice(5))
      : load.transport === 'grpc'
        ? new GrpcSender(load, batches, grpcAddress)
        : await MemifSender.open(
            load,
            batches,
            memif!,
            pods.map(({ port }) => port),
          );
  const bar = process.stderr.isTTY ? new SingleBar({ format: '{bar} {percentage}%', stream: process.stderr }) : null;
  bar?.start(100, 0);
  let seconds: number;
  try {
    seconds = await sender.run((share) => bar?.update(Math.round(share * 100)));
  } finally {
    bar?.stop();
    sender.close();
  }
  const { totals } = sender;
  const result = {
    transport: load.transport,
    flows: load.flows,
    size: load.size,
    batch: load.batch,
    seconds: Number(seconds.toFixed(3)),
    offered: totals.offered,
    answered: totals.answered,
    lost: totals.offered - totals.answered,
    packetsPerSecond: Math.round(totals.answered / seconds),
    verdicts: Object.fromEntries(VERDICTS.slice(1).map((name, i) => [name, totals.verdicts[i + 1]!])),
    latencyUs: {
      p50: totals.latency.percentile(0.5),
      p90: totals.latency.percentile(0.9),
      p99: totals.latency.percentile(0.99),
      p999: totals.latency.percentile(0.999),
    },
  };
  if (options.output === 'json') process.stdout.write(`${JSON.stringify(result)}\n`);
  else {
    const { verdicts, latencyUs, ...plain } = result;
    process.stdout.write(
      table(
        [{ ...plain, ...verdicts, p50us: latencyUs.p50, p99us: latencyUs.p99 }],
        [...Object.keys(plain), ...Object.keys(verdicts), 'p50us', 'p99us'],
      ),
    );
  }
  if (result.lost !== 0) process.exitCode = 1;
}
