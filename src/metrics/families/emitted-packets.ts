/** Resets, ICMP errors, ARP and ND replies, copies: in no other packet counter. */
import { Counter, type Registry } from 'prom-client';
import { counterIndex, EMISSION_KINDS } from '../shared-counters.js';
import { type MetricsSource, total } from '../source.js';
export function emittedPackets(registry: Registry, { engine }: MetricsSource): void {
  new Counter({
    name: 'seine_emitted_packets_total',
    help: 'Packets that the engine made itself, by kind.',
    labelNames: ['kind'] as const,
    registers: [registry],
    collect() {
      this.reset();
      const blocks = engine.counters();
      EMISSION_KINDS.forEach((kind, code) => {
        this.inc({ kind }, total(blocks, counterIndex.emitted(code)));
      });
    },
  });
}
