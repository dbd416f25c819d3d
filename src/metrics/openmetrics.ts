/**
 * OpenMetrics 1.0 text of a registry. prom-client's own has one format per registry, and renames its counters for good
 * when it writes this one, so that a scrape in the other format would not find their names again.
 */
import type { Metric } from 'prom-client';

export const OPENMETRICS_END = '# EOF\n';
export const OPENMETRICS_CONTENT_TYPE = 'application/openmetrics-text; version=1.0.0; charset=utf-8';

/** RFC 9110 section 12.5.1: the larger weight is preferred. */
export function wantsOpenMetrics(accept: string | undefined): boolean {
  if (accept === undefined) return false;
  const weights = new Map<string, number>();
  for (const range of accept.split(',')) {
    const [type, ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    const q = parameters.find((parameter) => parameter.startsWith('q='));
    const weight = q === undefined ? 1 : Number(q.slice(2)) || 0;
    weights.set(type!, Math.max(weight, weights.get(type!) ?? 0));
  }
  const open = weights.get('application/openmetrics-text') ?? 0;
  const plain = weights.get('text/plain') ?? 0;
  return open > 0 && open >= plain;
}

interface Sample {
  metricName?: string;
  labels: Record<string, string | number>;
  value: number;
}
interface Family {
  name: string;
  help: string;
  type: string;
  values: Sample[];
}

const escaped = (text: string): string => text.replace(/[\\"\n]/g, (c) => (c === '\n' ? '\\n' : `\\${c}`));
/** Also in text, infinities are +Inf and −Inf here. */
const numberText = (value: number): string =>
  Number.isFinite(value) ? String(value) : Number.isNaN(value) ? 'NaN' : value > 0 ? '+Inf' : '-Inf';

/** The text of one family. OPENMETRICS_END ends that of all. */
export async function openMetricsFamily(metric: Metric): Promise<string> {
  const { name, help, type, values } = (await metric.get()) as unknown as Family;
  // A counter's family has no _total, its samples have.
  const family = type === 'counter' ? name.replace(/_total$/, '') : name;
  let lines = `# HELP ${family} ${escaped(help)}\n# TYPE ${family} ${type}\n`;
  for (const { metricName, labels, value } of values) {
    const sample = metricName ?? (type === 'counter' ? `${family}_total` : family);
    const text = Object.entries(labels).map(([label, of]) => `${label}="${escaped(String(of))}"`);
    lines += `${sample}${text.length > 0 ? `{${text.join(',')}}` : ''} ${numberText(value)}\n`;
  }
  return lines;
}
