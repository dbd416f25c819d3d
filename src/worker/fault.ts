/**
 * Faults for tests, `SEINE_FAULT`: an engine slowed, a worker crashed. Refused unless NODE_ENV=test. Read once, on the main
 * thread; each worker gets what is meant for it with its task, so that a service without a fault pays nothing.
 *
 * `slow:N`: a batch takes N times as long, by blocking its worker for N − 1 times the processor's time that the worker spent
 * on it (reading, judging and answering alike). The worker sleeps rather than spins: spinning would slow the clients that share its
 * processors just as much, and nothing would be overloaded.
 * `worker-throw[:N]`, `worker-exit[:N]`: each shard's first worker throws, or calls process.exit, half-way through the Nth
 * batch that it judges. The worker that replaces it runs on, so that every shard crashes once.
 */
import type { PacketBatch } from '../batch/packet-batch.js';
import { SeineError } from '../errors.js';
import { threadCpuNs } from '../native/kernels.js';

export type Fault =
  | { kind: 'slow'; factor: number }
  | { kind: 'worker-throw' | 'worker-exit' /** Counted from 1, per worker. */; batch: number };

const FACTOR_MAX = 1000;
/** The batch in which a worker crashes unless it is said: soon, but after connections were made. */
const CRASH_BATCH = 10;
const FORMS = 'slow:N (N from 2 to 1000), worker-throw[:N], worker-exit[:N] (N from 1)';

/** The fault that the environment asks for, null = none. Throws SEINE_ERR_USAGE. */
export function readFault(env: NodeJS.ProcessEnv): Fault | null {
  const text = env.SEINE_FAULT ?? '';
  if (text === '') return null;
  if (env.NODE_ENV !== 'test')
    throw new SeineError(
      'SEINE_ERR_USAGE',
      `SEINE_FAULT=${text} injects faults for tests, and is refused unless NODE_ENV=test: unset it`,
    );
  const [, kind, number] = /^([a-z-]+)(?::([1-9]\d{0,8}))?$/.exec(text) ?? [];
  const value = number === undefined ? null : Number(number);
  if (kind === 'slow' && value !== null && value >= 2 && value <= FACTOR_MAX) return { kind, factor: value };
  if (kind === 'worker-throw' || kind === 'worker-exit') return { kind, batch: value ?? CRASH_BATCH };
  throw new SeineError('SEINE_ERR_USAGE', `SEINE_FAULT=${text}: no such fault; one of ${FORMS} belongs here`);
}

type Judge = (batch: PacketBatch, rows: Int32Array, count: number, low: number, high: number, tried?: boolean) => void;

/** `judge` with the fault in it; `judge` itself where there is none, or a replaced worker runs on. */
export function withFault(judge: Judge, fault: Fault | null, incarnation: number): Judge {
  if (fault === null) return judge;
  if (fault.kind === 'slow') return slowed(judge, fault.factor);
  return incarnation === 0 ? crashing(judge, fault.kind, fault.batch) : judge;
}

function crashing(judge: Judge, kind: 'worker-throw' | 'worker-exit', last: number): Judge {
  let batches = 0;
  return (batch, rows, count, low, high) => {
    if (++batches < last) {
      judge(batch, rows, count, low, high);
      return;
    }
    const half = count >> 1;
    if (half > 0) judge(batch, rows.subarray(0, half), half, low, high);
    if (kind === 'worker-exit') process.exit(1);
    throw new Error(`SEINE_FAULT: thrown in batch ${batches}`);
  };
}

/** Timers are some 50 µs late: shorter sleeps are put off and made together, and what a sleep took too long is paid back. */
const LEAST_SLEEP_NS = 5e5;

function slowed(judge: Judge, factor: number): Judge {
  const never = new Int32Array(new SharedArrayBuffer(4));
  let owedNs = 0;
  let before = threadCpuNs();
  return (batch, rows, count, low, high) => {
    judge(batch, rows, count, low, high);
    const spent = threadCpuNs();
    owedNs += (factor - 1) * (spent - before);
    before = spent;
    if (owedNs < LEAST_SLEEP_NS) return;
    const started = process.hrtime.bigint();
    Atomics.wait(never, 0, 0, owedNs / 1e6);
    owedNs -= Number(process.hrtime.bigint() - started);
  };
}
