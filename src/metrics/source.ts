/** What metric families read at a scrape: the engine, its threads' counters, and what exporters sent. */
import type { EngineView } from '../engine/engine-view.js';
import type { ExportTotals } from '../export/exporter.js';
import { RULE_COUNTERS, type SharedCounters } from './shared-counters.js';

/** What families ask of an engine, or of what another thread knows of one. */
export type MetricsEngine = Pick<
  EngineView,
  'counters' | 'rules' | 'workers' | 'connectionTotals' | 'connectionsLimit' | 'onApply' | 'state'
>;
export interface MetricsSource {
  engine: Omit<MetricsEngine, 'state'>;
  exporters(): readonly ExportTotals[];
}

const WORD = 0x1_0000_0000;

/**
 * Sum of one counter over threads, as Prometheus has numbers: floating point, exact to 2^53. Without BigInt, because a
 * scrape reads hundreds of thousands of these beside the packets.
 */
export function total(blocks: readonly SharedCounters[], index: number): number {
  let sum = 0;
  for (const { words } of blocks) sum += words[index * 2 + 1]! * WORD + words[index * 2]!;
  return sum;
}

/** `counter`: index in RULE_COUNTERS. */
export function ruleTotal(blocks: readonly SharedCounters[], rule: number, counter: number): number {
  const at = (rule * RULE_COUNTERS.length + counter) * 2;
  let sum = 0;
  for (const { rules } of blocks) sum += rules[at + 1]! * WORD + rules[at]!;
  return sum;
}
