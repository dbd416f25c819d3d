/** Should stay 0: a worker is lost by a bug only. */
import { Counter, type Registry } from 'prom-client';
import type { MetricsSource } from '../source.js';
export function workerRestarts(registry: Registry, { engine }: MetricsSource): void {
  new Counter({
    name: 'seine_worker_restarts_total',
    help: 'Worker threads started again after they were lost.',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(engine.workers().reduce((sum, { restarts }) => sum + restarts, 0));
    },
  });
}
