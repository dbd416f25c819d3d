/** `seine serve` as a process of its own, with faults if wanted; ended by its id when the test is over. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

export class ServiceProcess {
  private constructor(
    readonly child: ChildProcess,
    /** Path of the batch socket. */
    readonly socket: string,
    readonly page: string,
    readonly stderr: () => string,
  ) {}

  static async start(
    t: TestContext,
    options: { workers: number; fault?: string; example?: boolean; conntrackMax?: number },
  ): Promise<ServiceProcess> {
    const folder = mkdtempSync(join(tmpdir(), 'seine-sim-'));
    const socket = join(folder, 's.sock');
    writeFileSync(
      join(folder, 'seine.yaml'),
      `listen: {unix: ${socket}, grpc: ["unix:${folder}/g.sock"], http: "127.0.0.1:0"}\nworkers: ${options.workers}\n` +
        `conntrack: {max: ${options.conntrackMax ?? 65536}}\n`,
    );
    const child = spawn(
      process.execPath,
      [MAIN, 'serve', ...(options.example ? ['--example'] : []), '--config', join(folder, 'seine.yaml')],
      {
        cwd: folder,
        stdio: ['ignore', 'pipe', 'pipe'],
        env: {
          ...process.env,
          NODE_ENV: 'test',
          ...(options.fault === undefined ? {} : { SEINE_FAULT: options.fault }),
        },
      },
    );
    t.after(async () => {
      if (child.exitCode === null && child.signalCode === null) {
        const gone = new Promise((resolve) => child.once('exit', resolve));
        child.kill('SIGKILL');
        await gone;
      }
      rmSync(folder, { recursive: true });
    });
    let stderr = '';
    child.stderr!.on('data', (text) => {
      stderr += text;
    });
    const page = await new Promise<string>((resolve, reject) => {
      let told = '';
      child.stdout!.on('data', (text) => {
        told += text;
        const found = /listens on (http:\S+)/.exec(told)?.[1];
        if (found !== undefined) resolve(found);
      });
      child.once('exit', (code) => reject(new Error(`exit ${code}: ${told}${stderr}`)));
    });
    return new ServiceProcess(child, socket, page, () => stderr);
  }

  /** A family of /metrics: its samples by their labels as written, `''` without any. */
  async metric(name: string): Promise<Map<string, number>> {
    const text = await (await fetch(`${this.page}/metrics`)).text();
    const samples = new Map<string, number>();
    for (const line of text.split('\n')) {
      const [, found, labels, value] = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
      if (found === name) samples.set(labels ?? '', Number(value));
    }
    return samples;
  }
  async total(name: string): Promise<number> {
    let sum = 0;
    for (const value of (await this.metric(name)).values()) sum += value;
    return sum;
  }
  async ready(): Promise<boolean> {
    return (await fetch(`${this.page}/readyz`)).ok;
  }
  /** Processor time that it has used, its own and the kernel's for it. */
  cpuSeconds(): number {
    const fields = readFileSync(`/proc/${this.child.pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    return (Number(fields[11]) + Number(fields[12])) / 100;
  }
  /** Octets of anonymous memory that are resident now. */
  anonymousOctets(): number {
    return anonymousOctets(this.child.pid!);
  }
}

/** RssAnon of a process, or of this one. */
export function anonymousOctets(pid: number | 'self' = 'self'): number {
  const found = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  if (found === undefined) throw new Error('the kernel does not tell RssAnon');
  return Number(found) * 1024;
}
