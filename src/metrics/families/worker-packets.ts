/** How evenly packets fall on the shards. */
import { Counter, type Registry } from 'prom-client';
import type { MetricsSource } from '../source.js';
export function workerPackets(registry: Registry, { engine }: MetricsSource): void {
  new Counter({
    name: 'seine_worker_packets_total',
    help: 'Packets judged, by worker.',
    labelNames: ['worker'] as const,
    registers: [registry],
    collect() {
      this.reset();
      for (const { worker, packets } of engine.workers()) this.inc({ worker: String(worker) }, Number(packets));
    },
  });
}
