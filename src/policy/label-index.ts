/** Finds what a selector matches by label, without looking at each: the shortest list that a positive requirement names. */
import type { Labels, LabelSelector } from '../objects/model.js';
import { matches } from './selectors.js';

export interface Labelled {
  readonly namespace: string;
  readonly labels: Labels;
}

const NOTHING: ReadonlySet<never> = new Set<never>();

/** Keys under which something labelled stands, each in its own namespace and ('') in all. */
function keysOf({ namespace, labels }: Labelled): string[] {
  const keys: string[] = [];
  for (const scope of [namespace, '']) {
    keys.push(scope);
    for (const key in labels)
      if (Object.hasOwn(labels, key)) keys.push(`${scope}\0${key}`, `${scope}\0${key}\0${labels[key]}`);
  }
  return keys;
}

export class LabelIndex<T extends Labelled> {
  private readonly lists = new Map<string, Set<T>>();

  add(item: T): void {
    for (const key of keysOf(item)) {
      const list = this.lists.get(key);
      if (list === undefined) this.lists.set(key, new Set([item]));
      else list.add(item);
    }
  }
  delete(item: T): void {
    for (const key of keysOf(item)) {
      const list = this.lists.get(key);
      if (list?.delete(item) && list.size === 0) this.lists.delete(key);
    }
  }

  /** Those of one namespace or ('') of all, each once. */
  select(namespace: string, selector: LabelSelector): T[] {
    const found: T[] = [];
    for (const item of this.candidates(namespace, selector)) if (matches(selector, item.labels)) found.push(item);
    return found;
  }

  /** Those that may match: a superset that costs little. */
  candidates(namespace: string, { matchLabels = {}, matchExpressions = [] }: LabelSelector): ReadonlySet<T> {
    let best: ReadonlySet<T> = this.lists.get(namespace) ?? NOTHING;
    const consider = (list: ReadonlySet<T> | undefined) => {
      if ((list?.size ?? 0) < best.size) best = list ?? NOTHING;
    };
    for (const key in matchLabels) consider(this.lists.get(`${namespace}\0${key}\0${matchLabels[key]}`));
    for (const { key, operator, values = [] } of matchExpressions) {
      if (operator === 'Exists') consider(this.lists.get(`${namespace}\0${key}`));
      if (operator !== 'In') continue;
      const lists = [...new Set(values)].map((value) => this.lists.get(`${namespace}\0${key}\0${value}`) ?? NOTHING);
      if (lists.length === 1) consider(lists[0]);
      else if (lists.reduce((sum, { size }) => sum + size, 0) < best.size) {
        best = new Set(lists.flatMap((list) => [...list]));
      }
    }
    return best;
  }
}

/**
 * The other way round: selectors by what an item must have to be matched, so that a new item is held against few. Each stands
 * under one requirement, the first that names a value, else under its namespace ('' = any).
 */
export class SelectorIndex<T extends { readonly scope: string; readonly selector: LabelSelector }> {
  private readonly lists = new Map<string, Set<T>>();

  private static anchor({ scope, selector }: { scope: string; selector: LabelSelector }): string {
    for (const key in selector.matchLabels) return `${scope}\0${key}\0${selector.matchLabels[key]}`;
    for (const { key, operator, values = [] } of selector.matchExpressions ?? [])
      if (operator === 'In' && values.length === 1) return `${scope}\0${key}\0${values[0]}`;
    return scope;
  }
  add(item: T): void {
    const key = SelectorIndex.anchor(item);
    const list = this.lists.get(key);
    if (list === undefined) this.lists.set(key, new Set([item]));
    else list.add(item);
  }
  delete(item: T): void {
    const key = SelectorIndex.anchor(item);
    const list = this.lists.get(key);
    if (list?.delete(item) && list.size === 0) this.lists.delete(key);
  }
  /** Selectors that match the item's labels, in its namespace or in any. */
  *matching(item: Labelled): Iterable<T> {
    for (const key of keysOf(item)) {
      for (const each of this.lists.get(key) ?? NOTHING) if (matches(each.selector, item.labels)) yield each;
    }
  }
}
