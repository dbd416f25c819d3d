/**
 * What the state file's restart cost, and what lost workers cost since. Zeros without a state file. seine_state_restored tells
 * whether the service went on where another one was.
 */
import { Counter, Gauge, type Registry } from 'prom-client';
import type { StateStatus } from '../../engine/engine-view.js';
import type { MetricsEngine } from '../source.js';

const COUNTERS: readonly [name: string, help: string, value: (state: StateStatus) => number][] = [
  [
    'seine_state_batches_lost_total',
    'Batches in hand when the process before, or a worker since, ended: not answered.',
    ({ batchesLost }) => batchesLost,
  ],
  [
    'seine_state_records_lost_total',
    'Flow records lost when the process before, or a worker since, ended.',
    ({ recordsLost }) => recordsLost,
  ],
  [
    'seine_state_records_in_doubt_total',
    'Flow records that the process before was just sending when it ended: sent, in all likelihood, and not sent again.',
    ({ recordsInDoubt }) => recordsInDoubt,
  ],
  [
    'seine_state_records_resumed_total',
    'Flow records that the process before left, and this one exports.',
    ({ recordsWaiting }) => recordsWaiting,
  ],
  [
    'seine_state_entries_mended_total',
    'Table entries that were torn or damaged at the start, and set right.',
    ({ entriesMended }) => entriesMended,
  ],
  [
    'seine_state_entries_dropped_total',
    'Table entries that could not be kept at the start.',
    ({ entriesDropped }) => entriesDropped,
  ],
];

export function state(registry: Registry, engine: Pick<MetricsEngine, 'state'>): void {
  for (const [name, help, value] of COUNTERS) {
    new Counter({
      name,
      help,
      registers: [registry],
      collect() {
        this.reset();
        const now = engine.state();
        this.inc(now === null ? 0 : value(now));
      },
    });
  }
  const gauge = (name: string, help: string, value: (state: StateStatus) => number) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        const now = engine.state();
        this.set(now === null ? 0 : value(now));
      },
    });
  gauge('seine_state_restored', '1: connections of the process before were taken up.', ({ restored }) =>
    restored ? 1 : 0,
  );
  gauge('seine_state_connections_restored', 'Connections taken up at the start.', ({ connections }) => connections);
}
