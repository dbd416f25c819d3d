/**
 * Which families a scrape asks for: `/metrics?name[]=FAMILY` only those, `/metrics?exclude[]=FAMILY` all but those; each as often
 * as need be, a `*` at the end standing for any rest. `exclude[]=seine_rule_*` leaves out what grows with the number of rules.
 */
import type { Metric, Registry } from 'prom-client';

export interface Selection {
  /** Empty: all. */
  readonly names: readonly string[];
  readonly exclude: readonly string[];
}
export const EVERYTHING: Selection = { names: [], exclude: [] };

/** Of a request's query, "a=b&c=d". */
export function readSelection(query: string): Selection {
  const parameters = new URLSearchParams(query);
  return { names: parameters.getAll('name[]'), exclude: parameters.getAll('exclude[]') };
}

const matches = (name: string, pattern: string): boolean =>
  pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern;

/** Is the family asked for? Counters have `_total` in their names, in OpenMetrics too. */
export const wanted = (name: string, { names, exclude }: Selection): boolean =>
  (names.length === 0 || names.some((pattern) => matches(name, pattern))) &&
  !exclude.some((pattern) => matches(name, pattern));

export const selected = (registry: Registry, selection: Selection): (Metric & { name: string })[] =>
  (registry.getMetricsAsArray() as unknown as (Metric & { name: string })[]).filter(({ name }) =>
    wanted(name, selection),
  );
