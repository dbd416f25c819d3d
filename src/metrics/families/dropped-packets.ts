/** Drops: their sum is the packets with the verdicts drop and reject. */
import { Counter, type Registry } from 'prom-client';
import { DROP_REASONS, STAGES } from '../../batch/drop-reason.js';
import { counterIndex } from '../shared-counters.js';
import { type MetricsSource, total } from '../source.js';
export function droppedPackets(registry: Registry, { engine }: MetricsSource): void {
  new Counter({
    name: 'seine_dropped_packets_total',
    help: 'Packets dropped or rejected, by stage and reason.',
    labelNames: ['stage', 'reason'] as const,
    registers: [registry],
    collect() {
      this.reset();
      const blocks = engine.counters();
      // Pairs that never happened are left out: most of the 480 cannot happen.
      STAGES.forEach((stage, s) => {
        DROP_REASONS.forEach((reason, r) => {
          const dropped = total(blocks, counterIndex.drop(s, r));
          if (dropped > 0) this.inc({ stage, reason }, dropped);
        });
      });
    },
  });
}
