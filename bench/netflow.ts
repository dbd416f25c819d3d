/**
 * NetFlow on against off: the same packets through two engines, of which one exports every flow to a collector within the
 * measured time. The packets' clock runs so that each direction's active timeout falls once into every run, spread over it.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { Exporter } from '../src/export/exporter.js';
import { counterIndex, sumCounter } from '../src/metrics/shared-counters.js';
import { poolsOf } from './engine.js';
import { interleaved, type Row, type RowGroup, rounded } from './harness.js';
import { PoolEngine } from './pool-engine.js';
import { cluster, makeFlows } from './traffic.js';

const ACTIVE_S = 60;
const OPEN = 0;
const RUN = 1;

export const netflow: RowGroup = {
  rows: ['full-fidelity NetFlow v5 on against off, 64 Ki × 2 flows'],
  async run(quick): Promise<Row[]> {
    const flows = quick ? 2048 : 65_536;
    const passes = quick ? 8 : 64;
    const counts = new Int32Array(new SharedArrayBuffer(8));
    const sink = new Worker(new URL('./netflow-sink.js', import.meta.url), { workerData: counts.buffer });
    const [port] = (await once(sink, 'message')) as [number];
    const pools = [poolsOf(makeFlows(flows, {}), 23)];
    const start = (config: Record<string, unknown>) =>
      PoolEngine.start({
        objects: cluster(4),
        pools,
        config: { conntrack: { max: flows + 65_536, maxPerEndpoint: flows }, ...config },
      });
    const on = await start({
      netflow: { targets: [`127.0.0.1:${port}`], activeTimeout: ACTIVE_S, idleTimeout: ACTIVE_S * 5 },
    });
    const off = await start({});
    const exporter = new Exporter(on.engine.config, 'serve');
    on.engine.exportRecords({
      push: (words) => void exporter.push(words, on.engine.nowNs()),
      progress: (sending, done) => exporter.progress(sending, done),
    });
    const made = () => Number(sumCounter(on.engine.counters(), counterIndex.single('recordsMade')));

    // A run lasts the active timeout and two passes more: an entry's next record begins up to a pass after its last was due.
    const batches = (pool: number) => Math.ceil(pools[0]![pool]!.rows / pools[0]![pool]!.batchRows);
    const spanNs = ACTIVE_S * 1e9 * (1 + 2 / passes);
    const stepOf = (count: number) => Math.floor(spanNs / count);
    let clockNs = Date.now() * 1e6 + 60e9;
    const runs = new Map([on, off].map((engine) => [engine, clockNs]));
    const run = async (engine: PoolEngine, pool: number, times: number, digest = false) => {
      const stepNs = stepOf(batches(pool) * times);
      clockNs = runs.get(engine)!;
      runs.set(engine, clockNs + spanNs);
      return engine.run({ pool, passes: times, clockNs, stepNs, digest });
    };
    const opened = [await run(on, OPEN, 1), await run(off, OPEN, 1)];
    const digests = [await run(on, RUN, 1, true), await run(off, RUN, 1, true)].map(({ digest }) => digest);
    if (digests[0] !== digests[1]) throw new Error(`verdicts differ: ${digests.join(' / ')}`);

    const exported = async () => {
      const deadline = Date.now() + 60_000;
      for (exporter.flush(); counts[1]! < made(); exporter.flush()) {
        if (Date.now() > deadline) throw new Error(`the sink has ${counts[1]} of ${made()} records`);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    };
    const packets = pools[0]![RUN]!.rows * passes;
    const timedOn = async (): Promise<number> => {
      const before = made();
      const started = process.hrtime.bigint();
      await run(on, RUN, passes);
      await exported();
      const took = Number(process.hrtime.bigint() - started);
      if (made() - before < flows * 2) throw new Error(`${made() - before} records of ${flows * 2} flows`);
      return took / packets;
    };
    const timedOff = async (): Promise<number> => {
      const started = process.hrtime.bigint();
      await run(off, RUN, passes);
      return Number(process.hrtime.bigint() - started) / packets;
    };
    await timedOn();
    await timedOff();
    const { a, b, ratio } = await interleaved(quick ? 1 : 31, timedOn, timedOff);
    await exported();
    const [datagrams, records] = [counts[0]!, counts[1]!];
    if (records !== made()) throw new Error(`${made()} records were made, the sink has ${records}`);
    if (opened.some(({ packets: sent }) => sent !== flows * 3)) throw new Error('not all handshakes were sent');
    await on.close();
    await off.close();
    await exporter.close();
    await sink.terminate();
    return [
      {
        row: this.rows[0]!,
        value: rounded(a),
        unit: 'ns/packet',
        baseline: 'off',
        baselineValue: rounded(b),
        ratio: rounded(ratio),
        target: 'ratio ≤ 1.05',
        met: quick || ratio <= 1.05,
        digest: `${digests[0]}, ${records} records in ${datagrams} datagrams`,
      },
    ];
  },
};
