/**
 * A histogram whose buckets are counted elsewhere: prom-client's own can only observe values one by one.
 * It answers `get` and `getForPromString` as prom-client's does, which is all that a registry asks of it.
 */
import { Histogram, type Registry } from 'prom-client';

export interface HistogramReading {
  /** Of the label. */
  value: string;
  /** Observations per bucket, not cumulated; the last is of what is above every bound. */
  counts: readonly number[];
  sum: number;
}

export class SharedHistogram extends Histogram<string> {
  readonly #label: string;
  readonly #buckets: readonly number[];
  readonly #read: () => HistogramReading[];
  readonly #about: { name: string; help: string };

  constructor(options: {
    name: string;
    help: string;
    label: string;
    buckets: readonly number[];
    registry: Registry;
    read(): HistogramReading[];
  }) {
    const { name, help, label, buckets, registry, read } = options;
    super({ name, help, labelNames: [label], buckets: [...buckets], registers: [registry] });
    this.#label = label;
    this.#buckets = buckets;
    this.#read = read;
    this.#about = { name, help };
  }

  override async get(): ReturnType<Histogram['get']> {
    const { name, help } = this.#about;
    const values = this.#read().flatMap(({ value, counts, sum }) => {
      const labels = { [this.#label]: value };
      let count = 0;
      const buckets = this.#buckets.map((bound, index) => {
        count += counts[index]!;
        return { metricName: `${name}_bucket`, labels: { le: bound, ...labels }, value: count };
      });
      // Read while it is being counted: the total is of these very buckets, so that they never disagree.
      count += counts[this.#buckets.length]!;
      return [
        ...buckets,
        { metricName: `${name}_bucket`, labels: { le: '+Inf', ...labels }, value: count },
        { metricName: `${name}_sum`, labels, value: sum },
        { metricName: `${name}_count`, labels, value: count },
      ];
    });
    return { name, help, type: 'histogram', aggregator: 'sum', values } as unknown as Awaited<
      ReturnType<Histogram['get']>
    >;
  }

  /** What a registry asks first, where it is there; prom-client's declarations leave it out. */
  getForPromString(): ReturnType<Histogram['get']> {
    return this.get();
  }
}
