/** Row of `seine replay`: a generated capture of TCP and UDP flows, reading included, on one worker. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { median, type Row, type RowGroup, rounded } from './harness.js';

const MAIN = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const GENERATE = fileURLToPath(new URL('./generate-capture.js', import.meta.url));

export const replay: RowGroup = {
  rows: ['seine replay, one worker, 5 M packets, 265 k flows, reading included'],
  async run(quick): Promise<Row[]> {
    const folder = mkdtempSync(join(tmpdir(), 'seine-bench-'));
    try {
      const capture = join(folder, 'c.pcap');
      writeFileSync(join(folder, 'c.yaml'), 'workers: 1\n');
      const [packets, flows] = quick ? [50_000, 2650] : [5_000_000, 265_000];
      execFileSync(process.execPath, [GENERATE, '--packets', String(packets), '--flows', String(flows), capture], {
        stdio: 'ignore',
      });
      const times: number[] = [];
      let records = 0;
      for (let round = 0; round < (quick ? 1 : 3); round++) {
        const out = execFileSync(process.execPath, [
          MAIN,
          'replay',
          '--config',
          join(folder, 'c.yaml'),
          '--summary',
          '-',
          capture,
        ]).toString();
        const summary = JSON.parse(out) as { packets: number; seconds: number; flowRecords: number };
        if (summary.packets !== packets) throw new Error(`${summary.packets} of ${packets} packets were judged`);
        if (round > 0 && summary.flowRecords !== records) throw new Error('two runs made different numbers of records');
        records = summary.flowRecords;
        times.push((summary.seconds / packets) * 1e9);
      }
      const value = median(times);
      return [
        {
          row: this.rows[0]!,
          value: rounded(value),
          unit: 'ns/packet',
          baseline: null,
          baselineValue: null,
          ratio: null,
          target: '≤ 400',
          met: quick || value <= 400,
          digest: `${records} records`,
        },
      ];
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
};
