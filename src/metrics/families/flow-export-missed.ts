/** What one collector missed, whether others got it or not. */
import { Counter, type Registry } from 'prom-client';
import type { MetricsSource } from '../source.js';
export function flowExportMissed(registry: Registry, { exporters }: MetricsSource): void {
  new Counter({
    name: 'seine_flow_export_records_missed_total',
    help: 'Flow records that a collector did not get, by format and collector.',
    labelNames: ['format', 'target'] as const,
    registers: [registry],
    collect() {
      this.reset();
      for (const totals of exporters()) {
        for (const { format, target, records } of totals.missed) this.inc({ format, target }, records);
      }
    },
  });
}
