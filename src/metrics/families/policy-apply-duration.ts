/** How long applies take: reading, validating, compiling and handing over to every shard. */
import { Histogram, type Registry } from 'prom-client';
import type { MetricsEngine } from '../source.js';

export function policyApplyDuration(registry: Registry, engine: Pick<MetricsEngine, 'onApply'>): void {
  const histogram = new Histogram({
    name: 'seine_policy_apply_duration_seconds',
    help: 'Time from an apply of objects to its being in force.',
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    registers: [registry],
  });
  engine.onApply((seconds) => histogram.observe(seconds));
}
