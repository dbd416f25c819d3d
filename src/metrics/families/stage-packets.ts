/** Packets that the fast path left: first ones, and anything unusual. */
import { Counter, type Registry } from 'prom-client';
import { counterIndex } from '../shared-counters.js';
import { type MetricsSource, total } from '../source.js';
export function stagePackets(registry: Registry, { engine }: MetricsSource): void {
  new Counter({
    name: 'seine_stage_packets_total',
    help: 'Packets judged by the stages.',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(total(engine.counters(), counterIndex.single('rowsByStages')));
    },
  });
}
