/** How long batches take, from the buckets that dispatchers count into. */
import type { Registry } from 'prom-client';
import { counterIndex, DURATION_BUCKETS, TRANSPORTS } from '../shared-counters.js';
import { SharedHistogram } from '../shared-histogram.js';
import { type MetricsSource, total } from '../source.js';

export function batchDuration(registry: Registry, { engine }: MetricsSource): void {
  new SharedHistogram({
    name: 'seine_batch_duration_seconds',
    help: 'Time from a batch being handed in to its verdicts, by transport.',
    label: 'transport',
    buckets: DURATION_BUCKETS,
    registry,
    read() {
      const blocks = engine.counters();
      return TRANSPORTS.map((transport, code) => ({
        value: transport,
        counts: Array.from({ length: DURATION_BUCKETS.length + 1 }, (_, bucket) =>
          total(blocks, counterIndex.duration(code, bucket)),
        ),
        sum: total(blocks, counterIndex.durationNs(code)) / 1e9,
      }));
    },
  });
}
