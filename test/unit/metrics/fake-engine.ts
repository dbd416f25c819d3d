/** As much of an engine as metrics read. */
import type { EngineView, RuleInfo, WorkerInfo } from '../../../src/engine/engine-view.js';
import type { ExportTotals } from '../../../src/export/exporter.js';
import { RULE_COUNTERS, SharedCounters } from '../../../src/metrics/shared-counters.js';

export interface FakeEngine {
  engine: EngineView;
  blocks: SharedCounters[];
  rules: RuleInfo[];
  workers: WorkerInfo[];
  applied(seconds: number): void;
  addRule(block: number, rule: number, counter: (typeof RULE_COUNTERS)[number], value: number): void;
}

export function fakeEngine(): FakeEngine {
  const blocks = [new SharedCounters(), new SharedCounters()];
  const listeners: ((seconds: number) => void)[] = [];
  const rules: RuleInfo[] = [
    {
      id: 1,
      kind: 'NetworkPolicy',
      namespace: 'default',
      policy: 'web',
      rule: 0,
      direction: 'ingress',
      action: 'allow',
    },
    {
      id: 2,
      kind: 'NetworkPolicy',
      namespace: 'default',
      policy: 'web',
      rule: null,
      direction: 'ingress',
      action: 'drop',
    },
    {
      id: 7,
      kind: 'AntreaClusterNetworkPolicy',
      namespace: null,
      policy: 'a"b\\c',
      rule: 'no-dns',
      direction: 'egress',
      action: 'reject',
    },
  ];
  const workers: WorkerInfo[] = [0, 1].map((worker) => ({
    worker,
    threadId: worker + 1,
    state: 'serving',
    restarts: worker,
    clients: 0,
    packets: BigInt(100 * (worker + 1)),
    connections: 1,
    busySeconds: 0.5,
  }));
  const engine: Partial<EngineView> = {
    counters: () => blocks,
    rules: () => rules,
    workers: () => workers,
    state: () => null,
    connectionTotals: () => [
      { protocol: 'tcp', state: 'ESTABLISHED', count: 3 },
      { protocol: 'udp', state: 'new', count: 2 },
    ],
    connectionsLimit: () => 1_048_576,
    onApply: (listener) => void listeners.push(listener),
  };
  return {
    engine: engine as EngineView,
    blocks,
    rules,
    workers,
    applied: (seconds) => {
      for (const listener of listeners) listener(seconds);
    },
    addRule: (block, rule, counter, value) => {
      blocks[block]!.rules[(rule * RULE_COUNTERS.length + RULE_COUNTERS.indexOf(counter)) * 2]! += value;
    },
  };
}

export const EXPORT_TOTALS: ExportTotals = {
  records: [{ format: 'netflow5', records: 90 }],
  lost: [
    { format: 'netflow5', reason: 'ipv6', records: 4 },
    { format: 'netflow5', reason: 'refused', records: 0 },
  ],
  datagrams: [
    { format: 'netflow5', target: '127.0.0.1:2055', datagrams: 3 },
    { format: 'netflow5', target: '[::1]:2055', datagrams: 2 },
  ],
  missed: [
    { format: 'netflow5', target: '127.0.0.1:2055', records: 0 },
    { format: 'netflow5', target: '[::1]:2055', records: 30 },
  ],
};
