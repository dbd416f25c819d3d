/** An engine whose workers send themselves packets of pools: what the engine rows measure, and its digests. */
import { setEnvironmentData } from 'node:worker_threads';
import { createHash } from 'node:crypto';
import { Verdict } from '../src/batch/drop-reason.js';
import { parseConfig } from '../src/config/read.js';
import { Engine } from '../src/engine/engine.js';
import { counterIndex, sumCounter } from '../src/metrics/shared-counters.js';
import type { ClusterObjects } from '../src/objects/model.js';
import {
  type BenchEnvironment,
  DIGEST_AT,
  ENVIRONMENT_KEY,
  Figure,
  FIGURES_AT,
  MAILBOX_OCTETS,
  OrderFlag,
  type PoolMemory,
  Word,
} from './pool.js';

export interface PoolEngineOptions {
  objects: ClusterObjects;
  /** [shard][pool]; as many workers as there are lists. */
  pools: PoolMemory[][];
  config?: Record<string, unknown>;
  /** Switches that the engine's workers read as they start: SEINE_FASTPATH, SEINE_NATIVE. */
  environment?: Record<string, string>;
}
export interface Order {
  pool: number;
  passes?: number;
  /** Batches, of each shard's pool: all unless said. */
  first?: number;
  end?: number;
  returnPackets?: boolean;
  digest?: boolean;
  /** Tell the longest time between two answers. */
  gaps?: boolean;
  /** Packets' clock: ns at the first batch, and between batches. Else the service's clock. */
  clockNs?: number;
  stepNs?: number;
}
export interface Outcome {
  /** Of the slowest shard. */
  elapsedNs: number;
  /** Processor time of the shards' threads, all together: what neighbours on the machine don't disturb. */
  cpuNs: number;
  packets: number;
  /** Where packets were returned or digested. */
  forwarded: number;
  outOctets: number;
  /** With `gaps`. */
  longestGapNs: number;
  /** Of all shards' answers: verdict columns and frames as they leave. */
  digest: string;
}

export class PoolEngine {
  private constructor(
    readonly engine: Engine,
    private readonly environment: BenchEnvironment,
  ) {}

  static async start(options: PoolEngineOptions): Promise<PoolEngine> {
    const { pools } = options;
    const environment = { mailboxes: pools.map(() => new SharedArrayBuffer(MAILBOX_OCTETS)), pools };
    const { config } = parseConfig({ workers: pools.length, node: 'here', ...options.config }, 'bench');
    const before = Object.fromEntries(Object.keys(options.environment ?? {}).map((name) => [name, process.env[name]]));
    Object.assign(process.env, options.environment);
    setEnvironmentData(ENVIRONMENT_KEY, environment as never);
    try {
      const engine = await Engine.start({
        config,
        objects: options.objects,
        workerEntry: new URL('./engine-worker.cjs', import.meta.url),
      });
      // One client each: the engine hands the next one to the worker with the fewest.
      for (let shard = 0; shard < pools.length; shard++) engine.adoptDescriptor(-1);
      return new PoolEngine(engine, environment);
    } finally {
      setEnvironmentData(ENVIRONMENT_KEY, undefined as never);
      for (const [name, value] of Object.entries(before)) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    }
  }

  /** Has every worker do the order; resolves when all have. */
  async run(order: Order): Promise<Outcome> {
    const { mailboxes, pools } = this.environment;
    let packets = 0;
    const running = mailboxes.map(async (mailbox, shard) => {
      const words = new Int32Array(mailbox, 0, 16);
      const figures = new Float64Array(mailbox, FIGURES_AT, 16);
      const pool = pools[shard]![order.pool]!;
      const batches = Math.ceil(pool.rows / pool.batchRows);
      const first = order.first ?? 0;
      const end = Math.min(order.end ?? batches, batches);
      const rows = Math.min(end * pool.batchRows, pool.rows) - first * pool.batchRows;
      packets += rows * (order.passes ?? 1);
      words[Word.Pool] = order.pool;
      words[Word.FirstBatch] = first;
      words[Word.EndBatch] = end;
      words[Word.Passes] = order.passes ?? 1;
      words[Word.Flags] =
        (order.returnPackets ? OrderFlag.ReturnPackets : 0) |
        (order.digest ? OrderFlag.Digest : 0) |
        (order.gaps ? OrderFlag.Gaps : 0);
      figures[Figure.ClockNs] = order.clockNs ?? 0;
      figures[Figure.StepNs] = order.stepNs ?? 0;
      const number = Atomics.add(words, Word.Order, 1) + 1;
      Atomics.notify(words, Word.Order);
      for (let done = Atomics.load(words, Word.Done); done !== number; done = Atomics.load(words, Word.Done)) {
        const waiting = Atomics.waitAsync(words, Word.Done, done);
        if (waiting.async) await waiting.value;
      }
      if (words[Word.Failed] !== 0) throw new Error(`${words[Word.Failed]} batches failed`);
      return figures;
    });
    const figures = await Promise.all(running);
    const sum = (figure: number) => figures.reduce((total, each) => total + each[figure]!, 0);
    const hash = createHash('sha256');
    for (const mailbox of mailboxes) hash.update(new Uint8Array(mailbox.slice(DIGEST_AT)));
    return {
      elapsedNs: Math.max(...figures.map((each) => each[Figure.ElapsedNs]!)),
      cpuNs: sum(Figure.CpuNs),
      packets,
      forwarded: sum(Figure.Forwarded),
      outOctets: sum(Figure.OutOctets),
      longestGapNs: Math.max(...figures.map((each) => each[Figure.LongestGapNs]!)),
      digest: order.digest ? hash.digest('hex').slice(0, 16) : '',
    };
  }

  /** Every connection's state, rules and counters, whatever order the table has them in. */
  connectionsDigest(): string {
    let [low, high, count] = [0, 0, 0];
    for (const c of this.engine.connections()) {
      const text =
        `${c.src} ${c.dst} ${c.protocol} ${c.srcPort} ${c.dstPort} ${c.state} ${c.inPort} ${c.outPort} ` +
        `${c.verdict} ${c.reason} ${c.ingressRule} ${c.egressRule} ${c.packets} ${c.octets}`;
      let [a, b] = [0x811c9dc5, 0x9747b28c];
      for (let i = 0; i < text.length; i++) {
        a = Math.imul(a ^ text.charCodeAt(i), 0x01000193);
        b = Math.imul(b ^ text.charCodeAt(i), 0x85ebca6b);
      }
      low = (low + (a >>> 0)) % 2 ** 32;
      high = (high + (b >>> 0)) % 2 ** 32;
      count++;
    }
    return `${count}:${low.toString(16)}${high.toString(16)}`;
  }

  /** Packets that were forwarded since the start. */
  forwardedPackets(): bigint {
    return sumCounter(this.engine.counters(), counterIndex.packets(Verdict.Forward));
  }

  close(): Promise<void> {
    return this.engine.close();
  }
}
