/** Exported: of records handed to exporters, those that are not lost. */
import { Counter, type Registry } from 'prom-client';
import type { MetricsSource } from '../source.js';
export function flowRecords(registry: Registry, { exporters }: MetricsSource): void {
  new Counter({
    name: 'seine_flow_records_total',
    help: 'Flow records exported to at least one collector, by format.',
    labelNames: ['format'] as const,
    registers: [registry],
    collect() {
      this.reset();
      for (const totals of exporters()) for (const { format, records } of totals.records) this.inc({ format }, records);
    },
  });
}
