/**
 * What the thread of the metrics does: it maps the counters and tables of all threads, keeps the labels of the rules that it is
 * told of, and writes the text of a scrape. Neither the main thread nor a shard takes part in it.
 */
import { randomUUID } from 'node:crypto';
import { setPriority } from 'node:os';
import { move, Piscina, workerData } from 'piscina';
import { connectionTotals } from '../conntrack/connection-totals.js';
import { ConnectionTable, type TableMemory } from '../conntrack/table.js';
import type { RuleInfo, WorkerInfo } from '../engine/engine-view.js';
import type { ExportTotals } from '../export/exporter.js';
import { engineRegistry, registryText } from './registry.js';
import type { Selection } from './selection.js';
import { type CounterMemory, SharedCounters } from './shared-counters.js';

export interface ScrapeThreadData {
  counters: CounterMemory[];
  tables: TableMemory[];
  connectionsLimit: number;
}
export type ScrapeTask =
  /** Rules that came and went since the thread was told last. */
  | { type: 'rules'; added: RuleInfo[]; removed: number[] }
  | {
      type: 'scrape';
      openMetrics: boolean;
      selection: Selection;
      /** What only the main thread knows. */
      workers: WorkerInfo[];
      exporters: readonly ExportTotals[];
    };
export interface Scraped {
  /** Which thread answered: a new one, after its predecessor was lost, knows of no rules. */
  thread: string;
  rules: number;
  text: Uint8Array;
}

const NICE = 5;
/** Packets come first. Linux gives each thread a priority of its own, elsewhere it would be the process's. */
if (process.platform === 'linux') {
  try {
    setPriority(NICE);
  } catch {} // a hint
}

const { counters, tables, connectionsLimit } = workerData as ScrapeThreadData;
const thread = randomUUID();
const blocks = counters.map((memory) => new SharedCounters(memory));
const connectionTables = tables.map((memory) => new ConnectionTable(memory));
const rules = new Map<number, RuleInfo>();
let sorted: RuleInfo[] | null = null;
let workers: WorkerInfo[] = [];
let exporters: readonly ExportTotals[] = [];
const registry = engineRegistry({
  engine: {
    counters: () => blocks,
    rules: () => (sorted ??= [...rules.values()].sort((a, b) => a.id - b.id)),
    workers: () => workers,
    connectionTotals: () => connectionTotals(connectionTables),
    connectionsLimit: () => connectionsLimit,
    onApply: () => {}, // applies are told where they happen
  },
  exporters: () => exporters,
});
const encoder = new TextEncoder();

export async function scrape(task: ScrapeTask): Promise<Scraped> {
  let text = new Uint8Array(0);
  if (task.type === 'rules') {
    for (const id of task.removed) rules.delete(id);
    for (const rule of task.added) rules.set(rule.id, rule);
    sorted = null;
  } else {
    ({ workers, exporters } = task);
    text = encoder.encode(await registryText(registry, task.openMetrics, task.selection));
  }
  const result: Scraped = { thread, rules: rules.size, text };
  // Its memory changes threads, without a copy.
  return move({
    get [Piscina.transferableSymbol]() {
      return [text.buffer];
    },
    get [Piscina.valueSymbol]() {
      return result;
    },
  } as never) as unknown as Scraped;
}
