/** rate() of it is a worker's load, 0 to 1. */
import { Counter, type Registry } from 'prom-client';
import type { MetricsSource } from '../source.js';
export function workerBusy(registry: Registry, { engine }: MetricsSource): void {
  new Counter({
    name: 'seine_worker_busy_seconds_total',
    help: 'Time a worker spent on batches.',
    labelNames: ['worker'] as const,
    registers: [registry],
    collect() {
      this.reset();
      for (const { worker, busySeconds } of engine.workers()) this.inc({ worker: String(worker) }, busySeconds);
    },
  });
}
