/** An engine with a memif socket, two workers and two pods, and what should leave it for what comes in. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parseConfig } from '../../src/config/read.js';
import { Engine } from '../../src/engine/engine.js';
import type { BatchOutput } from '../../src/engine/engine-view.js';
import { type CounterName, counterIndex } from '../../src/metrics/shared-counters.js';
import { readManifest } from '../../src/objects/read.js';
import { applyObjects, emptyObjects } from '../../src/objects/store.js';
import { listenMemif } from '../../src/server/memif-listener.js';

const SCENARIOS = fileURLToPath(new URL('../../../test/interop/memif_scenarios.py', import.meta.url));

export const A = { port: 3, ip: '10.0.0.3', mac: '02:00:00:00:00:03' };
export const B = { port: 4, ip: '10.0.0.4', mac: '02:00:00:00:00:04' };
/** Only hostile clients have it. */
export const C = { port: 5, ip: '10.0.0.5', mac: '02:00:00:00:00:05' };
const pod = ({ port, ip, mac }: typeof A): string => `apiVersion: v1
kind: Pod
metadata: {name: p${port}, namespace: default, annotations: {seine.dev/port: "${port}", seine.dev/mac: "${mac}"}}
spec: {nodeName: n1}
status: {phase: Running, podIP: ${ip}, podIPs: [{ip: ${ip}}]}
`;

async function startEngine(workers: number, pods = true): Promise<Engine> {
  const { config } = parseConfig({ node: 'n1', workers }, 'test');
  const { objects } = applyObjects(
    emptyObjects(),
    !pods ? [] : readManifest([A, B, C].map(pod).join('---\n'), 'test').inputs,
  );
  return Engine.start({
    config,
    objects,
    workerEntry: new URL('../../src/server/worker-entry.cjs', import.meta.url),
  });
}

export interface MemifService {
  engine: Engine;
  socket: string;
  folder: string;
  counter(name: CounterName): number;
  /** Clients connected, as workers tell. */
  clients(): number;
}

/** `fault`: as SEINE_FAULT names it. */
export async function startMemif(t: TestContext, workers = 2, fault?: string, pods = true): Promise<MemifService> {
  const folder = mkdtempSync(join(tmpdir(), 'seine-memif-'));
  const { NODE_ENV, SEINE_FAULT } = process.env;
  if (fault !== undefined) Object.assign(process.env, { NODE_ENV: 'test', SEINE_FAULT: fault });
  const engine = await startEngine(workers, pods);
  for (const [name, value] of Object.entries({ NODE_ENV, SEINE_FAULT })) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
  const socket = join(folder, 'm.sock');
  const listener = await listenMemif(socket, (fd, hub) => engine.adoptDescriptor(fd, hub));
  t.after(async () => {
    await listener.close();
    await engine.close();
    rmSync(folder, { recursive: true });
  });
  return {
    engine,
    socket,
    folder,
    counter: (name) => engine.counters().reduce((sum, block) => sum + Number(block.read(counterIndex.single(name))), 0),
    clients: () => engine.workers().reduce((sum, { clients }) => sum + clients, 0),
  };
}

/** Each row's frame as it leaves, by another front end of another engine; empty where it is not forwarded. */
export async function expectedOut(
  frames: readonly Uint8Array[],
  inPort: readonly number[],
): Promise<{ frames: string[]; output: BatchOutput }> {
  const engine = await startEngine(1);
  try {
    const output = await engine.process({
      data: Buffer.concat(frames),
      length: Uint32Array.from(frames, ({ length }) => length),
      inPort: Uint32Array.from(inPort),
      returnPackets: true,
    });
    const out: string[] = [];
    let at = 0;
    for (const size of output.dataLength!) {
      out.push(Buffer.from(output.data!.subarray(at, at + size)).toString('hex'));
      at += size;
    }
    return { frames: out, output };
  } finally {
    await engine.close();
  }
}

const python = ['/usr/bin/python3', 'python3'].find(
  (program) => spawnSync(program, ['-c', 'import os; os.eventfd(0)']).status === 0,
);
/** Is there a Python that knows eventfd (3.10)? Else the test is skipped, or in CI fails. */
export function havePython(t: TestContext): boolean {
  if (python !== undefined) return true;
  if (process.env.CI === 'true') throw new Error('python3 ≥ 3.10 is missing');
  t.skip("NOT TESTED: Debian's python3 (3.10 or later) not found");
  return false;
}

/** Runs a Python script of a client; its last line is JSON. `onReady`: called when it says "ready". */
export function runPython(
  script: string,
  args: readonly string[],
  input: unknown,
  onReady: () => void = () => {},
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const child = spawn(python!, [script, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
    let out = '';
    let err = '';
    child.stdout.on('data', (text: Buffer) => {
      out += text;
      if (text.includes('ready')) onReady();
    });
    child.stderr.on('data', (text: Buffer) => {
      err += text;
    });
    child.on('close', (code) => {
      if (code !== 0) reject(new Error(`${script} ${args.join(' ')}: exit ${code}: ${err}`));
      else resolve(JSON.parse(out.trim().split('\n').at(-1)!));
    });
    child.stdin.end(JSON.stringify(input));
  });
}
export const runScenario = (socket: string, scenario: string, input: unknown, onReady?: () => void): Promise<unknown> =>
  runPython(SCENARIOS, [socket, scenario], input, onReady);

export async function until(what: string, condition: () => boolean, seconds = 10): Promise<void> {
  const end = Date.now() + seconds * 1000;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
