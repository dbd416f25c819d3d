/**
 * `/metrics` of a service: collected in a thread of its own, so that neither the front ends in the main thread nor the shards are
 * held up by it. The main thread adds what only it knows: states of workers, what exporters sent, the process's own families.
 */
import { setImmediate } from 'node:timers/promises';
import { Piscina } from 'piscina';
import type { TableMemory } from '../conntrack/table.js';
import type { RuleInfo } from '../engine/engine-view.js';
import type { ExportTotals } from '../export/exporter.js';
import { OPENMETRICS_CONTENT_TYPE, OPENMETRICS_END, wantsOpenMetrics } from './openmetrics.js';
import { type Metrics, processRegistry, registryText } from './registry.js';
import type { ScrapeTask, ScrapeThreadData, Scraped } from './scrape.js';
import { EVERYTHING, type Selection } from './selection.js';
import type { CounterMemory } from './shared-counters.js';
import type { MetricsEngine } from './source.js';

export interface ScrapedEngine extends MetricsEngine {
  metricsMemory(): { counters: CounterMemory[]; tables: TableMemory[] };
}

/** Rules handed over in one message: their copying holds the main thread up for a fraction of a millisecond. */
const RULES_A_MESSAGE = 250;

export class MetricsThread implements Metrics {
  private readonly pool: Piscina;
  private readonly own;
  /** Rules that the thread knows: the list as the engine gave it, and ids; and which thread that was. */
  private told: readonly RuleInfo[] = [];
  private readonly known = new Set<number>();
  private thread: string | null = null;
  private turn: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly engine: ScrapedEngine,
    private readonly exporters: () => readonly ExportTotals[] = () => [],
  ) {
    this.own = processRegistry(engine);
    const data: ScrapeThreadData = { ...engine.metricsMemory(), connectionsLimit: engine.connectionsLimit() };
    this.pool = new Piscina({
      filename: new URL('./scrape-entry.cjs', import.meta.url).href,
      workerData: data,
      minThreads: 1,
      maxThreads: 1,
      concurrentTasksPerWorker: 1,
      idleTimeout: Number.POSITIVE_INFINITY,
      atomics: 'disabled',
    });
    this.pool.on('error', () => {}); // the scrape that was lost is rejected too
    this.turn = this.tellRules().catch(() => {}); // so that the first scrape is as quick as the others
  }

  /** One after another: what the thread knows of rules is told in order. */
  metrics(accept?: string, selection: Selection = EVERYTHING): ReturnType<Metrics['metrics']> {
    const result = this.turn.then(() => this.scrape(wantsOpenMetrics(accept), selection));
    this.turn = result.catch(() => {});
    return result;
  }

  private async scrape(openMetrics: boolean, selection: Selection): ReturnType<Metrics['metrics']> {
    const { engine } = this;
    for (;;) {
      await this.tellRules();
      const { thread, rules, text } = await this.run({
        type: 'scrape',
        openMetrics,
        selection,
        workers: engine.workers(),
        exporters: this.exporters(),
      });
      if (thread !== this.thread && rules !== this.known.size) {
        // Another thread than the one that was told.
        this.thread = thread;
        this.told = [];
        this.known.clear();
        continue;
      }
      this.thread = thread;
      const own = await registryText(this.own, openMetrics, selection, setImmediate);
      return {
        contentType: openMetrics ? OPENMETRICS_CONTENT_TYPE : this.own.contentType,
        body: [text, Buffer.from(openMetrics ? own + OPENMETRICS_END : own)],
      };
    }
  }

  /** What came and went since the last time, in small messages. */
  private async tellRules(): Promise<void> {
    const rules = this.engine.rules();
    if (rules === this.told) return;
    const now = new Set<number>();
    const added: RuleInfo[] = [];
    for (const rule of rules) {
      now.add(rule.id);
      if (!this.known.has(rule.id)) added.push(rule);
    }
    const removed: number[] = [];
    for (const id of this.known) if (!now.has(id)) removed.push(id);
    for (const id of removed) this.known.delete(id);
    for (let at = 0; at < added.length || at === 0; at += RULES_A_MESSAGE) {
      const part = added.slice(at, at + RULES_A_MESSAGE);
      for (const { id } of part) this.known.add(id);
      const { thread } = await this.run({ type: 'rules', added: part, removed: at === 0 ? removed : [] });
      if (at === 0) this.thread ??= thread;
      await setImmediate();
    }
    this.told = rules;
  }
  private run(task: ScrapeTask): Promise<Scraped> {
    return this.pool.run(task) as Promise<Scraped>;
  }

  async close(): Promise<void> {
    await this.turn;
    await this.pool.destroy();
  }
}
