/** Evictions of a full table: unreplied connections first, then closing ones. */
import { Counter, type Registry } from 'prom-client';
import { counterIndex, EVICTION_REASONS } from '../shared-counters.js';
import { type MetricsSource, total } from '../source.js';
export function connectionsEvicted(registry: Registry, { engine }: MetricsSource): void {
  new Counter({
    name: 'seine_connections_evicted_total',
    help: 'Connections evicted from a full table to make room, by reason.',
    labelNames: ['reason'] as const,
    registers: [registry],
    collect() {
      this.reset();
      const blocks = engine.counters();
      EVICTION_REASONS.forEach((reason, code) => {
        this.inc({ reason }, total(blocks, counterIndex.evicted(code)));
      });
    },
  });
}
