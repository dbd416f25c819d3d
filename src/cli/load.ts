/**
 * `seine load`: the load harness. Offers UDP packets of distinct connections between pods that the server lists (or between
 * any addresses where it lists none), as fast as answers come or at a rate, and reports what was answered.
 */
import { createConnection, type Socket } from 'node:net';
import { SingleBar } from 'cli-progress';
import type { Command } from 'commander';
import { VERDICTS } from '../batch/drop-reason.js';
import { BATCH_OCTETS_LIMIT, BATCH_ROWS } from '../batch/packet-batch.js';
import { connectControl, defaultControlAddress } from '../client/control.js';
import { encodeBatch, GrpcClient, grpcBatch } from '../client/index.js';
import { readConfig } from '../config/read.js';
import type { PortInfo } from '../engine/engine-view.js';
import { SeineError } from '../errors.js';
import { parseMacOrZero, udpFrame } from '../flow/build-frame.js';
import { table } from './output.js';

/** Sizes and shares of the simple IMIX: 64, 594 and 1518 octets as 7 : 4 : 1. */
const IMIX = [64, 64, 64, 64, 64, 64, 64, 594, 594, 594, 594, 1518];
/** Batches under way: enough to keep the server busy, few enough that latency means something. */
const WINDOW = 16;
/** Octets of Ethernet, IP and UDP header: what a frame has beside its payload. */
const HEADERS_4 = 42,
  HEADERS_6 = 62;

interface Options {
  server?: string;
  config?: string;
  transport: string;
  flows: string;
  size: string;
  batch: string;
  rate: string;
  duration: string;
  output: string;
}
interface Load {
  transport: 'unix' | 'grpc';
  flows: number;
  size: number | 'imix';
  batch: number;
  rate: number;
  seconds: number;
}
interface Batch {
  frames: Uint8Array;
  length: Uint32Array;
  inPort: Uint32Array;
}

export function register(program: Command): void {
  program
    .command('load')
    .description('offer packets to a running service and measure what it answers')
    .option('--server <address>', 'unix:PATH (the batch socket, or with --transport grpc the gRPC socket) or HOST:PORT')
    .option('--config <file>', 'configuration whose sockets are used')
    .option('--transport <name>', 'unix or grpc', 'unix')
    .option('--flows <n>', 'distinct connections', '1024')
    .option('--size <octets>', 'octets of each frame, or imix', '64')
    .option('--batch <n>', 'packets a batch', '256')
    .option('--rate <pps>', 'packets a second; 0: as fast as answers come', '0')
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
  if (options.transport === 'memif')
    throw new SeineError('SEINE_ERR_USAGE', '--transport memif: not in this version; unix or grpc is');
  if (options.transport !== 'unix' && options.transport !== 'grpc')
    throw new SeineError('SEINE_ERR_USAGE', `--transport ${options.transport}: unix or grpc belongs here`);
  const batch = whole('batch', options.batch, 1, BATCH_ROWS);
  const size = options.size === 'imix' ? 'imix' : whole('size', options.size, 64, 65_535);
  if ((size === 'imix' ? 1518 : size) * batch > BATCH_OCTETS_LIMIT) {
    throw new SeineError(
      'SEINE_ERR_USAGE',
      `--size ${options.size} × --batch ${batch}: a batch holds at most ${BATCH_OCTETS_LIMIT} octets`,
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
  };
}

/** Pods to send between: from the server where it tells them. */
async function listPods(address: string): Promise<PortInfo[]> {
  const client = connectControl(address);
  try {
    const { ports } = (await client.call('ListPorts', {})) as { ports: PortInfo[] };
    return ports.filter(({ kind, ips }) => kind === 'pod' && ips.length > 0);
  } finally {
    client.close();
  }
}

/** Flow n: distinct for every n below 2^24 and any list of pods: by source port, then by destination port or addresses. */
function flowFrame(pods: readonly PortInfo[], n: number, size: number): { frame: Uint8Array; inPort: number } {
  const mac = new Uint8Array(6);
  // Source ports from 1024 up, then the next pair of ends.
  const sport = 1024 + (n % 60_000);
  const pair = Math.floor(n / 60_000);
  if (pods.length >= 2) {
    const four = pods.filter(({ ips }) => ips.some((ip) => !ip.includes(':')));
    const list = four.length >= 2 ? four : pods;
    const wanted = four.length >= 2 ? (ip: string) => !ip.includes(':') : (ip: string) => ip.includes(':');
    const from = list[(n + pair) % list.length]!;
    const to = list[(n + pair + 1 + (pair % (list.length - 1))) % list.length]!;
    const frame = udpFrame({
      srcMac: parseMacOrZero(from.mac || null),
      dstMac: parseMacOrZero(to.mac || null),
      src: from.ips.find(wanted)!,
      dst: to.ips.find(wanted)!,
      srcPort: sport,
      dstPort: 8080 + pair,
      payload: size - (four.length >= 2 ? HEADERS_4 : HEADERS_6),
    });
    return { frame, inPort: from.port };
  }
  const octet = pair & 0xff;
  const frame = udpFrame({
    srcMac: mac,
    dstMac: mac,
    src: `10.0.${octet}.1`,
    dst: `10.1.${octet}.2`,
    srcPort: sport,
    dstPort: 8080 + pair,
    payload: size - HEADERS_4,
  });
  return { frame, inPort: 3 };
}

function makeBatches(load: Load, pods: readonly PortInfo[]): Batch[] {
  const count = Math.ceil(load.flows / load.batch);
  const batches: Batch[] = [];
  for (let b = 0; b < count; b++) {
    const frames: Uint8Array[] = [];
    const inPort = new Uint32Array(load.batch);
    for (let i = 0; i < load.batch; i++) {
      const n = (b * load.batch + i) % load.flows;
      const flow = flowFrame(pods, n, load.size === 'imix' ? IMIX[n % IMIX.length]! : load.size);
      frames.push(flow.frame);
      inPort[i] = flow.inPort;
    }
    batches.push({ frames: Buffer.concat(frames), length: Uint32Array.from(frames, ({ length }) => length), inPort });
  }
  return batches;
}

/** Latencies in µs, in a histogram of 1 µs up to 100 ms and a list beyond. */
class Latency {
  private readonly buckets = new Uint32Array(100_000);
  private readonly beyond: number[] = [];
  private count = 0;
  add(us: number): void {
    this.count++;
    if (us < this.buckets.length) {
      const bucket = Math.max(0, Math.floor(us));
      this.buckets[bucket] = this.buckets[bucket]! + 1;
    } else this.beyond.push(us);
  }
  percentile(share: number): number {
    let left = Math.ceil(this.count * share);
    if (left === 0) return 0;
    for (let us = 0; us < this.buckets.length; us++) {
      left -= this.buckets[us]!;
      if (left <= 0) return us;
    }
    this.beyond.sort((a, b) => a - b);
    return this.beyond[Math.min(this.beyond.length - 1, this.beyond.length + left - 1)] ?? 0;
  }
}

interface Totals {
  offered: number;
  answered: number;
  verdicts: number[];
  latency: Latency;
}

/** Sends batches in turn until the time is up, then waits for the answers that are due. */
abstract class Sender {
  readonly totals: Totals = { offered: 0, answered: 0, verdicts: VERDICTS.map(() => 0), latency: new Latency() };
  private readonly sentAt = new Map<number, bigint>();
  private next = 0;
  private until = 0n;
  private started = 0n;
  private timer: NodeJS.Timeout | null = null;
  /** At a rate: when the next batch may be due. */
  private tick: NodeJS.Timeout | null = null;
  private finish: (() => void) | null = null;
  private abort: ((error: Error) => void) | null = null;

  constructor(
    protected readonly load: Load,
    private readonly batches: number,
  ) {}
  protected abstract send(id: number, batch: number): void;

  async run(progress: (share: number) => void): Promise<number> {
    this.started = process.hrtime.bigint();
    this.until = this.started + BigInt(Math.round(this.load.seconds * 1e9));
    const done = new Promise<void>((resolve, reject) => {
      this.finish = resolve;
      this.abort = reject;
    });
    const ticker = setInterval(
      () => progress(Math.min(1, Number(process.hrtime.bigint() - this.started) / 1e9 / this.load.seconds)),
      200,
    );
    this.pump();
    try {
      await done;
    } finally {
      clearInterval(ticker);
      if (this.timer !== null) clearTimeout(this.timer);
    }
    return Number(process.hrtime.bigint() - this.started) / 1e9;
  }

  private pump(): void {
    for (;;) {
      const now = process.hrtime.bigint();
      if (now >= this.until) {
        if (this.sentAt.size === 0) this.finish?.();
        else if (this.timer === null)
          this.timer = setTimeout(
            () =>
              this.fail(
                new SeineError('SEINE_ERR_UNAVAILABLE', `${this.sentAt.size} batches were not answered within 30 s`),
              ),
            30_000,
          );
        return;
      }
      if (this.sentAt.size >= WINDOW) return;
      if (this.load.rate > 0) {
        const due = (Number(now - this.started) / 1e9) * this.load.rate;
        if (this.totals.offered > due) {
          if (this.tick === null)
            this.tick = setTimeout(() => {
              this.tick = null;
              this.pump();
            }, 1);
          return;
        }
      }
      const id = this.next++;
      this.sentAt.set(id, now);
      this.totals.offered += this.load.batch;
      this.send(id, id % this.batches);
    }
  }

  protected answered(id: number, verdict: Uint8Array): void {
    const sent = this.sentAt.get(id);
    if (sent === undefined) return;
    this.sentAt.delete(id);
    this.totals.latency.add(Number(process.hrtime.bigint() - sent) / 1000);
    this.totals.answered += verdict.length;
    const { verdicts } = this.totals;
    for (let i = 0; i < verdict.length; i++) verdicts[verdict[i]!] = verdicts[verdict[i]!]! + 1;
    if (this.load.rate === 0 || this.sentAt.size === 0) this.pump();
  }
  protected fail(error: Error): void {
    this.abort?.(error);
  }
  abstract close(): void;
}

class UnixSender extends Sender {
  private readonly frames: Buffer[];
  private received: Buffer = Buffer.alloc(0);
  private constructor(
    load: Load,
    batches: readonly Batch[],
    private readonly socket: Socket,
  ) {
    super(load, batches.length);
    // Encoded once; a template's batchId (u32 behind its key) is patched at each sending.
    this.frames = batches.map((batch) =>
      encodeBatch(0x7fffffff, { data: batch.frames, length: batch.length, inPort: batch.inPort }),
    );
    this.idAt = this.frames.map((frame) => frame.indexOf(Buffer.from([0xce, 0x7f, 0xff, 0xff, 0xff])) + 1);
    socket.on('data', (octets) => this.data(octets));
    socket.on('error', (error) => this.fail(new SeineError('SEINE_ERR_UNAVAILABLE', error.message)));
    socket.on('close', () => this.fail(new SeineError('SEINE_ERR_CLOSED', 'the service closed the connection')));
  }
  private readonly idAt: number[];

  static async open(load: Load, batches: readonly Batch[], path: string): Promise<UnixSender> {
    const socket = createConnection(path);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', (error) =>
        reject(
          new SeineError(
            'SEINE_ERR_UNAVAILABLE',
            `no service answers at unix:${path} (${error.message}): start one with \`seine serve\``,
          ),
        ),
      );
    });
    return new UnixSender(load, batches, socket);
  }

  protected send(id: number, batch: number): void {
    // A template may still wait in the socket's queue: a copy is patched.
    const frame = Buffer.from(this.frames[batch]!);
    frame.writeUInt32BE(id, this.idAt[batch]!);
    this.socket.write(frame);
  }

  private data(octets: Buffer): void {
    this.received = this.received.length === 0 ? octets : Buffer.concat([this.received, octets]);
    let at = 0;
    while (this.received.length - at >= 4) {
      const size = this.received.readUInt32LE(at);
      if (this.received.length - at < 4 + size) break;
      this.message(this.received.subarray(at + 4, at + 4 + size));
      at += 4 + size;
    }
    this.received = this.received.subarray(at);
  }
  /** The service writes answers in one shape: batchId, then the verdicts, at fixed places. */
  private message(message: Buffer): void {
    const id = message.indexOf('batchId');
    const isVerdicts = message.indexOf('verdicts') >= 0 && message.subarray(0, 40).includes('verdicts');
    if (!isVerdicts) {
      if (message.subarray(0, 40).includes('hello')) return;
      this.fail(
        new SeineError(
          'SEINE_ERR_IO',
          `the service refused a batch: ${message.toString('latin1').replace(/[^ -~]+/g, ' ')}`,
        ),
      );
      return;
    }
    const batchId = Number(message.readBigUInt64BE(id + 8));
    const verdict = message.indexOf('verdict', id + 16);
    const size = message.readUInt32BE(verdict + 8);
    this.answered(batchId, message.subarray(verdict + 12, verdict + 12 + size));
  }
  close(): void {
    this.socket.removeAllListeners('close');
    this.socket.destroy();
  }
}

class GrpcSender extends Sender {
  private readonly client: GrpcClient;
  private readonly stream: ReturnType<GrpcClient['stream']>;
  constructor(
    load: Load,
    private readonly templates: readonly Batch[],
    address: string,
  ) {
    super(load, templates.length);
    this.client = new GrpcClient(address);
    this.stream = this.client.stream();
    this.stream.on('data', (reply: { batchId: string; verdict: Buffer }) =>
      this.answered(Number(reply.batchId), reply.verdict),
    );
    this.stream.on('error', (error: Error) =>
      this.fail(new SeineError('SEINE_ERR_UNAVAILABLE', `${address}: ${error.message}`)),
    );
  }
  protected send(id: number, batch: number): void {
    const { frames, length, inPort } = this.templates[batch]!;
    this.stream.write(grpcBatch(id, { data: frames, length, inPort }));
  }
  close(): void {
    this.stream.removeAllListeners('error');
    this.stream.on('error', () => {});
    this.stream.cancel();
    void this.client.close();
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
  if (load.transport === 'unix' && (unixAddress === null || !unixAddress.startsWith('unix:'))) {
    throw new SeineError('SEINE_ERR_USAGE', `--server ${options.server}: unix:PATH belongs here with --transport unix`);
  }
  const pods = await listPods(grpcAddress).catch((error: Error) => {
    if (load.transport === 'grpc') throw error;
    process.stderr.write(
      `seine: warning: ${grpcAddress} does not list pods (${error.message}); any addresses are used\n`,
    );
    return [] as PortInfo[];
  });
  const batches = makeBatches(load, pods);
  const sender =
    load.transport === 'unix'
      ? await UnixSender.open(load, batches, unixAddress!.slice(5))
      : new GrpcSender(load, batches, grpcAddress);
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
