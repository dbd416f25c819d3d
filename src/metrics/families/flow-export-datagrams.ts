/** Datagrams given to the network. Targets are the configured ones. */
import { Counter, type Registry } from 'prom-client';
import type { MetricsSource } from '../source.js';
export function flowExportDatagrams(registry: Registry, { exporters }: MetricsSource): void {
  new Counter({
    name: 'seine_flow_export_datagrams_total',
    help: 'Datagrams sent, by format and collector.',
    labelNames: ['format', 'target'] as const,
    registers: [registry],
    collect() {
      this.reset();
      for (const totals of exporters()) {
        for (const { format, target, datagrams } of totals.datagrams) this.inc({ format, target }, datagrams);
      }
    },
  });
}
