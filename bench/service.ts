/** Rows of the service under `seine load`: the Unix socket, and the same while autocannon scrapes /metrics. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import autocannon from 'autocannon';
import { interleaved, type Row, type RowGroup, rounded } from './harness.js';

const MAIN = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));

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
  verdicts: Record<string, number>;
  answered: number;
}

export const service: RowGroup = {
  rows: ['Unix socket, end to end, 256 × 64 octets', 'the same, /metrics scraped without pause'],
  async run(quick): Promise<Row[]> {
    const folder = mkdtempSync(join(tmpdir(), 'seine-bench-'));
    const http = await freePort();
    writeFileSync(
      join(folder, 'c.yaml'),
      `listen: {unix: ${folder}/b.sock, grpc: ['unix:${folder}/g.sock'], http: '127.0.0.1:${http}'}\n`,
    );
    const serve = spawn(process.execPath, [MAIN, 'serve', '--example', '--config', join(folder, 'c.yaml')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = new Promise((resolve) => serve.once('exit', resolve));
    try {
      await new Promise<void>((resolve, reject) => {
        serve.stdout.once('data', () => resolve());
        serve.once('exit', () => reject(new Error('the service did not start')));
      });
      const seconds = quick ? 0.5 : 3;
      let lost = 0;
      const load = async (): Promise<number> => {
        const child = spawn(
          process.execPath,
          [MAIN, 'load', '--config', join(folder, 'c.yaml'), '--duration', String(seconds), '-o', 'json'],
          { stdio: ['ignore', 'pipe', 'inherit'] },
        );
        let out = '';
        child.stdout.on('data', (text) => {
          out += text;
        });
        await new Promise((resolve) => child.on('close', resolve));
        const result = JSON.parse(out) as LoadResult;
        lost += result.lost;
        return result.packetsPerSecond;
      };
      let scrapes = 0;
      const scraped = async (): Promise<number> => {
        const cannon = autocannon({
          url: `http://127.0.0.1:${http}/metrics`,
          connections: 1,
          duration: Math.ceil(seconds) + 2,
        });
        const rate = await load();
        (cannon as unknown as { stop(): void }).stop();
        const result = await cannon;
        if (result.non2xx > 0 || result.errors > 0) throw new Error(`${result.errors} scrapes failed`);
        scrapes += result.requests.total;
        return rate;
      };
      const { a, b, ratio } = await interleaved(quick ? 1 : 3, scraped, load);
      if (lost !== 0) throw new Error(`${lost} packets were lost`);
      if (scrapes === 0) throw new Error('nothing was scraped');
      return [
        {
          row: this.rows[0]!,
          value: rounded(b),
          unit: 'packets/s',
          baseline: null,
          baselineValue: null,
          ratio: null,
          target: '≥ 3 million',
          met: b >= 3e6,
          digest: null,
        },
        {
          row: this.rows[1]!,
          value: rounded(a),
          unit: 'packets/s',
          baseline: 'the same load unscraped',
          baselineValue: rounded(b),
          ratio: rounded(ratio),
          target: 'told beside it',
          met: true,
          digest: null,
        },
      ];
    } finally {
      serve.kill('SIGTERM');
      await ended;
      rmSync(folder, { recursive: true, force: true });
    }
  },
};
