/** Programs that rows run: what they cost, and whether they are there. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** True where it is on the path; otherwise says loudly that what needs it is not measured. */
export function isInstalled(program: string, debianPackage: string): boolean {
  if (spawnSync('sh', ['-c', `command -v ${program}`]).status === 0) return true;
  process.stderr.write(`bench: NOT MEASURED: ${program} not found; install Debian's ${debianPackage}\n`);
  return false;
}

export interface Cost {
  /** Processor time, user and system, of all its threads. */
  cpuSeconds: number;
  stdout: string;
}

/** Runs a program to its end; processor time as the shell's `time` has it from wait4(2). Throws where it fails. */
export async function costOf(program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Cost> {
  // A program that waits for ever fails its row, and not the run.
  const script = 'TIMEFORMAT="CPU %3U %3S"; time timeout 300 "$@"';
  const child = spawn('bash', ['-c', script, 'bash', program, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  const [stdout, stderr] = await outputs(child);
  const match = /CPU ([\d.]+) ([\d.]+)\s*$/.exec(stderr);
  if (child.exitCode !== 0 || match === null)
    throw new Error(`${program}: exit ${child.exitCode}: ${stderr.slice(-300)}`);
  return { cpuSeconds: Number(match[1]) + Number(match[2]), stdout };
}

/** The most anonymous memory (RssAnon of /proc, so Linux) that a program had, looked at every few milliseconds. */
export async function anonymousPeak(program: string, args: readonly string[]): Promise<number> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let peak = 0;
  const timer = setInterval(() => {
    try {
      const found = /^RssAnon:\s+(\d+) kB/m.exec(readFileSync(`/proc/${child.pid}/status`, 'latin1'));
      peak = Math.max(peak, Number(found?.[1] ?? 0) * 1024);
    } catch {
      // It has ended, or this is no Linux.
    }
  }, 5);
  const [, stderr] = await outputs(child);
  clearInterval(timer);
  if (child.exitCode !== 0) throw new Error(`${program}: exit ${child.exitCode}: ${stderr.slice(-300)}`);
  return peak;
}

async function outputs(child: ChildProcess): Promise<[string, string]> {
  const text = ['', ''] as [string, string];
  child.stdout!.setEncoding('utf8').on('data', (part: string) => {
    text[0] += part;
  });
  child.stderr!.setEncoding('utf8').on('data', (part: string) => {
    text[1] += part;
  });
  await new Promise<void>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', () => resolve());
  });
  return text;
}
