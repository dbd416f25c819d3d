/** Counted refusals of a full emission block. */
import { Counter, type Registry } from 'prom-client';
import { counterIndex } from '../shared-counters.js';
import { type MetricsSource, total } from '../source.js';
export function emissionsLost(registry: Registry, { engine }: MetricsSource): void {
  new Counter({
    name: 'seine_emitted_packets_lost_total',
    help: 'Packets that the engine made and a batch had no room for.',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(total(engine.counters(), counterIndex.single('emissionsLost')));
    },
  });
}
