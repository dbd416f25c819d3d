/** 0 with SEINE_NATIVE=off. */
import { Counter, type Registry } from 'prom-client';
import { counterIndex } from '../shared-counters.js';
import { type MetricsSource, total } from '../source.js';
export function nativePackets(registry: Registry, { engine }: MetricsSource): void {
  new Counter({
    name: 'seine_native_packets_total',
    help: 'Packets parsed by the native kernels.',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(total(engine.counters(), counterIndex.single('rowsByNative')));
    },
  });
}
