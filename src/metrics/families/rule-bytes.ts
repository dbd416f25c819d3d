/** Octets of the frames of packets that a rule decided. Existing rules only; a default deny has the rule label "default-deny". */
import type { Registry } from 'prom-client';
import { RuleCounter } from '../rule-counter.js';
import { RULE_COUNTERS } from '../shared-counters.js';
import type { MetricsSource } from '../source.js';

export function ruleBytes(registry: Registry, source: MetricsSource): void {
  const counter = RULE_COUNTERS.indexOf('octets');
  new RuleCounter({
    name: 'seine_rule_bytes_total',
    help: 'Octets of the frames of packets that a rule decided.',
    counter,
    registry,
    source,
  });
}
