/**
 * What a state file costs, and what taking one up takes: established packets with tables in a file in memory against tables
 * in anonymous memory; and a table of 1 Mi connections recovered, against a copy of its memory.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FlowAccounting } from '../src/conntrack/flow-accounting.js';
import { recoverTable } from '../src/conntrack/recover.js';
import { ConnectionTable } from '../src/conntrack/table.js';
import { RecordsRing } from '../src/flow/records-ring.js';
import { established, poolsOf } from './engine.js';
import { interleaved, median, type Row, type RowGroup, rounded } from './harness.js';
import { makeFlows } from './traffic.js';

const RUN = 1;

export const stateFile: RowGroup = {
  rows: [
    'established packets, tables in a state file against anonymous memory, 64 Ki flows',
    'state taken up after a crash, 1 Mi connections',
  ],
  async run(quick): Promise<Row[]> {
    const folder = mkdtempSync(join(process.platform === 'linux' ? '/dev/shm' : tmpdir(), 'seine-bench-'));
    try {
      return [await packets(this.rows[0]!, folder, quick), await takenUp(this.rows[1]!, quick)];
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
};

async function packets(row: string, folder: string, quick: boolean): Promise<Row> {
  const pools = [poolsOf(makeFlows(quick ? 2048 : 65_536, {}), 11)];
  const inFile = await established(pools, { config: { stateFile: join(folder, 'state') } });
  const anonymous = await established(pools);
  const digests = [];
  for (const engine of [inFile, anonymous]) {
    const { digest } = await engine.run({ pool: RUN, digest: true });
    digests.push(`${digest} ${engine.connectionsDigest()}`);
  }
  if (digests[0] !== digests[1]) throw new Error(`digests differ: ${digests.join(' / ')}`);
  const passes = quick ? 1 : 24;
  const time = async (engine: typeof inFile) => {
    const { elapsedNs, packets: sent } = await engine.run({ pool: RUN, passes });
    return elapsedNs / sent;
  };
  await time(inFile);
  await time(anonymous);
  const { a, b, ratio } = await interleaved(
    quick ? 1 : 15,
    () => time(inFile),
    () => time(anonymous),
  );
  await inFile.close();
  await anonymous.close();
  return {
    row,
    value: rounded(a),
    unit: 'ns/packet',
    baseline: 'anonymous memory',
    baselineValue: rounded(b),
    ratio: rounded(ratio),
    target: 'ratio ≤ 1.2',
    met: quick || ratio <= 1.2,
    digest: digests[0]!,
  };
}

/** Entries as an engine made them; every round recovers a fresh copy, and must keep them all. */
async function takenUp(row: string, quick: boolean): Promise<Row> {
  const flows = quick ? 2048 : 1_048_576;
  const pool = await established([poolsOf(makeFlows(flows, {}), 11)]);
  const { buffer, capacity } = pool.engine.fabric.tables[0]!;
  const copies: number[] = [];
  const times: number[] = [];
  let digest = '';
  for (let round = 0; round < (quick ? 1 : 3); round++) {
    let started = process.hrtime.bigint();
    const copy = new SharedArrayBuffer(buffer.byteLength);
    new Uint8Array(copy).set(new Uint8Array(buffer));
    copies.push(Number(process.hrtime.bigint() - started) / flows);
    const table = new ConnectionTable({ buffer: copy, capacity });
    const accounting = new FlowAccounting(table, new RecordsRing(RecordsRing.allocate(8)));
    started = process.hrtime.bigint();
    const report = recoverTable({ accounting, shard: 0, shards: 1, nowNs: Date.now() * 1e6, kept: () => {} });
    times.push(Number(process.hrtime.bigint() - started) / flows);
    if (report.connections !== flows || report.mended > 0 || report.dropped > 0)
      throw new Error(`of ${flows} connections: ${JSON.stringify(report)}`);
    digest = `${report.connections} connections kept, ${report.mended} mended, ${report.dropped} dropped`;
  }
  await pool.close();
  const value = median(times);
  const baseline = median(copies);
  return {
    row,
    value: rounded(value),
    unit: 'ns/connection',
    baseline: 'a copy of the memory',
    baselineValue: rounded(baseline),
    ratio: rounded(value / baseline),
    target: '≤ 1000 ns',
    met: quick || value <= 1000,
    digest,
  };
}
