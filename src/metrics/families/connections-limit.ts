/** What seine_connections is to be held against. */
import { Gauge, type Registry } from 'prom-client';
import type { MetricsSource } from '../source.js';
export function connectionsLimit(registry: Registry, { engine }: MetricsSource): void {
  new Gauge({
    name: 'seine_connections_limit',
    help: 'Connections that the tables can hold (conntrack.max).',
    registers: [registry],
    collect() {
      this.set(engine.connectionsLimit());
    },
  });
}
