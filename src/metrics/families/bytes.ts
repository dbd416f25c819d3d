/** Frame octets on the wire, as received: what the engine encapsulates or makes itself is not in it. */
import { Counter, type Registry } from 'prom-client';
import { VERDICTS } from '../../batch/drop-reason.js';
import { counterIndex } from '../shared-counters.js';
import { type MetricsSource, total } from '../source.js';
export function bytes(registry: Registry, { engine }: MetricsSource): void {
  new Counter({
    name: 'seine_bytes_total',
    help: 'Octets of the frames judged, as received, by verdict.',
    labelNames: ['verdict'] as const,
    registers: [registry],
    collect() {
      this.reset();
      const blocks = engine.counters();
      for (let code = 1; code < VERDICTS.length; code++) {
        this.inc({ verdict: VERDICTS[code]! }, total(blocks, counterIndex.octets(code)));
      }
    },
  });
}
