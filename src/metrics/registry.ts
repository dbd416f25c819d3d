/**
 * Every metric: ours, summed from shared memory at a scrape, and prom-client's of the process. To add one: a file in families/,
 * and a line in FAMILIES. A service collects FAMILIES in a thread of their own (metrics-thread.ts).
 */
import { collectDefaultMetrics, Registry } from 'prom-client';
import type { ExportTotals } from '../export/exporter.js';
import { batchDuration } from './families/batch-duration.js';
import { batchesRefused } from './families/batches-refused.js';
import { batches } from './families/batches.js';
import { bytes } from './families/bytes.js';
import { connectionsCreated } from './families/connections-created.js';
import { connectionsEvicted } from './families/connections-evicted.js';
import { connectionsLimit } from './families/connections-limit.js';
import { connections } from './families/connections.js';
import { droppedPackets } from './families/dropped-packets.js';
import { emissionsLost } from './families/emissions-lost.js';
import { emittedPackets } from './families/emitted-packets.js';
import { fastPathPackets } from './families/fast-path-packets.js';
import { flowExportDatagrams } from './families/flow-export-datagrams.js';
import { flowExportMissed } from './families/flow-export-missed.js';
import { flowRecordsLost } from './families/flow-records-lost.js';
import { flowRecordsMade } from './families/flow-records-made.js';
import { flowRecords } from './families/flow-records.js';
import { icmpErrorsSuppressed } from './families/icmp-errors-suppressed.js';
import { memifPackets } from './families/memif-packets.js';
import { nativePackets } from './families/native-packets.js';
import { packets } from './families/packets.js';
import { policyApplyDuration } from './families/policy-apply-duration.js';
import { policyRules } from './families/policy-rules.js';
import { ruleBytes } from './families/rule-bytes.js';
import { ruleConnections } from './families/rule-connections.js';
import { rulePackets } from './families/rule-packets.js';
import { state } from './families/state.js';
import { stagePackets } from './families/stage-packets.js';
import { workerBusy } from './families/worker-busy.js';
import { workerPackets } from './families/worker-packets.js';
import { workerRestarts } from './families/worker-restarts.js';
import { OPENMETRICS_CONTENT_TYPE, OPENMETRICS_END, openMetricsFamily, wantsOpenMetrics } from './openmetrics.js';
import { EVERYTHING, type Selection, selected } from './selection.js';
import type { MetricsEngine, MetricsSource } from './source.js';

const FAMILIES: readonly ((registry: Registry, source: MetricsSource) => void)[] = [
  batchDuration,
  batchesRefused,
  batches,
  bytes,
  connectionsCreated,
  connectionsEvicted,
  connectionsLimit,
  connections,
  droppedPackets,
  emissionsLost,
  emittedPackets,
  fastPathPackets,
  flowExportDatagrams,
  flowExportMissed,
  flowRecordsLost,
  flowRecordsMade,
  flowRecords,
  icmpErrorsSuppressed,
  memifPackets,
  nativePackets,
  packets,
  policyRules,
  ruleBytes,
  ruleConnections,
  rulePackets,
  stagePackets,
  workerBusy,
  workerPackets,
  workerRestarts,
];

/** Gauges whose names end in _total, which is a counter's: promtool refuses them. */
const REFUSED = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total'];

export interface Metrics {
  /** One scrape. `accept`: the request's Accept header; Prometheus's text format unless it prefers OpenMetrics. */
  metrics(
    accept?: string,
    selection?: Selection,
  ): Promise<{ contentType: string; body: string | readonly Uint8Array[] }>;
}
export interface SingleThreadMetrics extends Metrics {
  registry: Registry;
  metrics(accept?: string, selection?: Selection): Promise<{ contentType: string; body: string }>;
}

/** Families of what shards, exporters and rules count. */
export function engineRegistry(source: MetricsSource): Registry {
  const registry = new Registry();
  for (const family of FAMILIES) family(registry, source);
  return registry;
}
/** Families of the process, its main thread and what happens there. */
export function processRegistry(engine: Pick<MetricsEngine, 'onApply' | 'state'>): Registry {
  const registry = new Registry();
  policyApplyDuration(registry, engine);
  state(registry, engine);
  collectDefaultMetrics({ register: registry });
  for (const name of REFUSED) registry.removeSingleMetric(name);
  return registry;
}

/**
 * A registry's text, without the line that ends OpenMetrics'. `between` families others may have their turn: gathering what a
 * process says of itself takes most of a millisecond.
 */
export async function registryText(
  registry: Registry,
  openMetrics: boolean,
  selection: Selection,
  between?: () => Promise<void>,
): Promise<string> {
  let text = '';
  for (const metric of selected(registry, selection)) {
    await between?.();
    text += openMetrics
      ? await openMetricsFamily(metric)
      : `${await registry.getSingleMetricAsString(metric.name)}\n\n`;
  }
  return text;
}

/** All families in this thread. `exporters`: what each exporter has sent and lost so far; none by default. */
export function createRegistry(
  engine: MetricsEngine,
  options: { exporters?: () => readonly ExportTotals[] } = {},
): SingleThreadMetrics {
  const source: MetricsSource = { engine, exporters: options.exporters ?? (() => []) };
  const registry = Registry.merge([engineRegistry(source), processRegistry(engine)]);
  return {
    registry,
    metrics: async (accept, selection = EVERYTHING) => {
      const openMetrics = wantsOpenMetrics(accept);
      const text = await registryText(registry, openMetrics, selection);
      return {
        contentType: openMetrics ? OPENMETRICS_CONTENT_TYPE : registry.contentType,
        body: openMetrics ? text + OPENMETRICS_END : text,
      };
    },
  };
}
