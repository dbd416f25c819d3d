/** Connections in the tables now. States: RFC 9293's names for TCP; else new, established, denied. */
import { Gauge, type Registry } from 'prom-client';
import type { MetricsSource } from '../source.js';
export function connections(registry: Registry, { engine }: MetricsSource): void {
  new Gauge({
    name: 'seine_connections',
    help: 'Connections in the tables now, by protocol and state.',
    labelNames: ['protocol', 'state'] as const,
    registers: [registry],
    collect() {
      this.reset();
      for (const { protocol, state, count } of engine.connectionTotals()) this.inc({ protocol, state }, count);
    },
  });
}
