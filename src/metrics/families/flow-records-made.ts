/** With collectors configured, made = exported + lost, but for those in hand. */
import { Counter, type Registry } from 'prom-client';
import { counterIndex } from '../shared-counters.js';
import { type MetricsSource, total } from '../source.js';
export function flowRecordsMade(registry: Registry, { engine }: MetricsSource): void {
  new Counter({
    name: 'seine_flow_records_made_total',
    help: 'Flow records that ended, whether exported or not.',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(total(engine.counters(), counterIndex.single('recordsMade')));
    },
  });
}
