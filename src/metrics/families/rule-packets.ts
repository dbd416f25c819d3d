/** Packets that a rule decided. Existing rules only; a default deny has the rule label "default-deny". */
import type { Registry } from 'prom-client';
import { RuleCounter } from '../rule-counter.js';
import { RULE_COUNTERS } from '../shared-counters.js';
import type { MetricsSource } from '../source.js';

export function rulePackets(registry: Registry, source: MetricsSource): void {
  const counter = RULE_COUNTERS.indexOf('packets');
  new RuleCounter({
    name: 'seine_rule_packets_total',
    help: 'Packets that a rule decided.',
    counter,
    registry,
    source,
  });
}
