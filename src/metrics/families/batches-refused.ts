/** Batches answered with an error instead of verdicts. */
import { Counter, type Registry } from 'prom-client';
import { counterIndex } from '../shared-counters.js';
import { type MetricsSource, total } from '../source.js';
export function batchesRefused(registry: Registry, { engine }: MetricsSource): void {
  new Counter({
    name: 'seine_batches_refused_total',
    help: 'Batches refused as malformed or past a limit.',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(total(engine.counters(), counterIndex.single('batchesRefused')));
    },
  });
}
