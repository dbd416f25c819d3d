/** Frames over memif rings, and those that were not delivered. */
import { Counter, type Registry } from 'prom-client';
import { type CounterName, counterIndex } from '../shared-counters.js';
import { type MetricsSource, total } from '../source.js';

const DIRECTIONS = [
  ['received', 'memifReceived'],
  ['sent', 'memifSent'],
] as const satisfies readonly (readonly [string, CounterName])[];
const REASONS = [
  ['no-interface', 'memifLostNoInterface'],
  ['ring-full', 'memifLostRingFull'],
  ['size', 'memifLostSize'],
  ['worker-lost', 'memifLostWorker'],
] as const satisfies readonly (readonly [string, CounterName])[];

export function memifPackets(registry: Registry, { engine }: MetricsSource): void {
  const sum = (name: CounterName): number => total(engine.counters(), counterIndex.single(name));
  new Counter({
    name: 'seine_memif_packets_total',
    help: 'Packets taken from and written to the rings of memif clients.',
    labelNames: ['direction'] as const,
    registers: [registry],
    collect() {
      this.reset();
      for (const [direction, name] of DIRECTIONS) this.inc({ direction }, sum(name));
    },
  });
  new Counter({
    name: 'seine_memif_lost_packets_total',
    help: 'Packets that came or were to leave over memif and were not delivered, by reason.',
    labelNames: ['reason'] as const,
    registers: [registry],
    collect() {
      this.reset();
      for (const [reason, name] of REASONS) this.inc({ reason }, sum(name));
    },
  });
  new Counter({
    name: 'seine_memif_violations_total',
    help: 'memif clients disconnected since they broke the protocol.',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(sum('memifViolations'));
    },
  });
}
