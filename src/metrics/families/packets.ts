/** Packets judged: as many as were handed in. */
import { Counter, type Registry } from 'prom-client';
import { VERDICTS } from '../../batch/drop-reason.js';
import { counterIndex } from '../shared-counters.js';
import { type MetricsSource, total } from '../source.js';
export function packets(registry: Registry, { engine }: MetricsSource): void {
  new Counter({
    name: 'seine_packets_total',
    help: 'Packets judged, by verdict.',
    labelNames: ['verdict'] as const,
    registers: [registry],
    collect() {
      this.reset();
      const blocks = engine.counters();
      // Code 0 is no verdict.
      for (let code = 1; code < VERDICTS.length; code++) {
        this.inc({ verdict: VERDICTS[code]! }, total(blocks, counterIndex.packets(code)));
      }
    },
  });
}
