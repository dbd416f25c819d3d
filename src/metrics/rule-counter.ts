/**
 * A counter with one series for each existing rule. Thousands of rules are scraped beside packets: labels are made once
 * per rule, and prom-client keeps the text of `sharedLabels` objects that it has seen.
 */
import { Counter, type Registry } from 'prom-client';
import type { RuleInfo } from '../engine/engine-view.js';
import { type MetricsSource, ruleTotal } from './source.js';

const LABELS = ['kind', 'namespace', 'policy', 'rule', 'direction', 'action'] as const;
type Labels = Record<(typeof LABELS)[number], string>;

const labelsOf = ({ kind, namespace, policy, rule, direction, action }: RuleInfo): Labels => ({
  kind,
  namespace: namespace ?? '',
  policy,
  rule: rule === null ? 'default-deny' : String(rule),
  direction,
  action,
});

/** Labels by rule id, and one object for all rules with the same labels: a series may stand only once. */
export class RuleLabels {
  #byId = new Map<number, Labels>();
  #byText = new Map<string, Labels>();

  of(rules: readonly RuleInfo[]): Labels[] {
    const byId = new Map<number, Labels>();
    const byText = new Map<string, Labels>();
    const all = rules.map((rule) => {
      let labels = this.#byId.get(rule.id) ?? labelsOf(rule);
      const text = JSON.stringify(Object.values(labels));
      labels = byText.get(text) ?? this.#byText.get(text) ?? labels;
      byText.set(text, labels);
      byId.set(rule.id, labels);
      return labels;
    });
    // Only rules that exist are kept.
    this.#byId = byId;
    this.#byText = byText;
    return all;
  }
}

export class RuleCounter extends Counter<string> {
  readonly #labels = new RuleLabels();
  readonly #about: { name: string; help: string };

  constructor(
    readonly options: { name: string; help: string; counter: number; registry: Registry; source: MetricsSource },
  ) {
    const { name, help, registry } = options;
    super({ name, help, labelNames: [...LABELS], registers: [registry] });
    this.#about = { name, help };
  }

  #read(): Map<Labels, number> {
    const { counter, source } = this.options;
    const blocks = source.engine.counters();
    const rules = source.engine.rules();
    const labels = this.#labels.of(rules);
    const sums = new Map<Labels, number>();
    rules.forEach(({ id }, index) => {
      sums.set(labels[index]!, (sums.get(labels[index]!) ?? 0) + ruleTotal(blocks, id, counter));
    });
    return sums;
  }

  override async get(): ReturnType<Counter['get']> {
    const values = [...this.#read()].map(([labels, value]) => ({ labels, value }));
    return { ...this.#about, type: 'counter', aggregator: 'sum', values } as unknown as Awaited<
      ReturnType<Counter['get']>
    >;
  }

  /** What a registry asks first, where it is there; prom-client's declarations leave it out. */
  async getForPromString(): ReturnType<Counter['get']> {
    const values = [...this.#read()].map(([sharedLabels, value]) => ({ labels: {}, sharedLabels, value }));
    return { ...this.#about, type: 'counter', aggregator: 'sum', values } as unknown as Awaited<
      ReturnType<Counter['get']>
    >;
  }
}
