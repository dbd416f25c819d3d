/** Lost to every collector. What one of several missed: seine_flow_export_records_missed_total. */
import { Counter, type Registry } from 'prom-client';
import type { MetricsSource } from '../source.js';
export function flowRecordsLost(registry: Registry, { exporters }: MetricsSource): void {
  new Counter({
    name: 'seine_flow_records_lost_total',
    help: 'Flow records that no collector got, by format and reason.',
    labelNames: ['format', 'reason'] as const,
    registers: [registry],
    collect() {
      this.reset();
      for (const totals of exporters()) {
        for (const { format, reason, records } of totals.lost) this.inc({ format, reason }, records);
      }
    },
  });
}
