/** Batches judged, by how they came. */
import { Counter, type Registry } from 'prom-client';
import { counterIndex, TRANSPORTS } from '../shared-counters.js';
import { type MetricsSource, total } from '../source.js';
export function batches(registry: Registry, { engine }: MetricsSource): void {
  new Counter({
    name: 'seine_batches_total',
    help: 'Batches judged, by transport.',
    labelNames: ['transport'] as const,
    registers: [registry],
    collect() {
      this.reset();
      const blocks = engine.counters();
      TRANSPORTS.forEach((transport, code) => {
        this.inc({ transport }, total(blocks, counterIndex.batches(code)));
      });
    },
  });
}
