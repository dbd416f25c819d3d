/** Connections that a rule decided. Existing rules only; a default deny has the rule label "default-deny". */
import type { Registry } from 'prom-client';
import { RuleCounter } from '../rule-counter.js';
import { RULE_COUNTERS } from '../shared-counters.js';
import type { MetricsSource } from '../source.js';

export function ruleConnections(registry: Registry, source: MetricsSource): void {
  const counter = RULE_COUNTERS.indexOf('connections');
  new RuleCounter({
    name: 'seine_rule_connections_total',
    help: 'Connections that a rule decided.',
    counter,
    registry,
    source,
  });
}
