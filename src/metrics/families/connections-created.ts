/** Entries made, denied connections included. */
import { Counter, type Registry } from 'prom-client';
import { counterIndex } from '../shared-counters.js';
import { type MetricsSource, total } from '../source.js';
export function connectionsCreated(registry: Registry, { engine }: MetricsSource): void {
  new Counter({
    name: 'seine_connections_created_total',
    help: 'Connections entered into the tables.',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(total(engine.counters(), counterIndex.single('connectionsCreated')));
    },
  });
}
