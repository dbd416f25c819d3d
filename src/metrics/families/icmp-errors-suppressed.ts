/** The rate limit of RFC 1812 section 4.3.2.8. */
import { Counter, type Registry } from 'prom-client';
import { counterIndex } from '../shared-counters.js';
import { type MetricsSource, total } from '../source.js';
export function icmpErrorsSuppressed(registry: Registry, { engine }: MetricsSource): void {
  new Counter({
    name: 'seine_icmp_errors_suppressed_total',
    help: 'ICMP errors not sent: more than 10 a second for one source.',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(total(engine.counters(), counterIndex.single('icmpErrorsSuppressed')));
    },
  });
}
