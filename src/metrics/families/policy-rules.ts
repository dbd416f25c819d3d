/** Rules in force. */
import { Gauge, type Registry } from 'prom-client';
import type { MetricsSource } from '../source.js';
export function policyRules(registry: Registry, { engine }: MetricsSource): void {
  new Gauge({
    name: 'seine_policy_rules',
    help: 'Rules in force, default denies included.',
    registers: [registry],
    collect() {
      this.set(engine.rules().length);
    },
  });
}
