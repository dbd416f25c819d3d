/** Packets that met no stage. */
import { Counter, type Registry } from 'prom-client';
import { counterIndex } from '../shared-counters.js';
import { type MetricsSource, total } from '../source.js';
export function fastPathPackets(registry: Registry, { engine }: MetricsSource): void {
  new Counter({
    name: 'seine_fast_path_packets_total',
    help: "Packets finished by replaying a connection's plan.",
    registers: [registry],
    collect() {
      this.reset();
      this.inc(total(engine.counters(), counterIndex.single('rowsByFastPath')));
    },
  });
}
