/** How lists are printed: aligned table, JSON or YAML, on standard output. 64-bit integers keep their full precision in all. */
import { stringify } from 'yaml';
import { SeineError } from '../errors.js';

export type Format = 'table' | 'json' | 'yaml';

export function parseFormat(text: string): Format {
  if (text === 'table' || text === 'json' || text === 'yaml') return text;
  throw new SeineError('SEINE_ERR_USAGE', `-o ${text}: table, json or yaml belongs here`);
}

/** JSON whose bigints are plain integers: JSON.stringify refuses them, so they travel through it between marks. */
export function toJson(value: unknown): string {
  const marked = JSON.stringify(value, (_, entry) => (typeof entry === 'bigint' ? `\u0001${entry}\u0001` : entry), 2);
  return marked.replace(/"\\u0001(-?\d+)\\u0001"/g, '$1');
}

export const toYaml = (value: unknown): string => stringify(value, { lineWidth: 0, aliasDuplicateObjects: false });

export function print(format: Format, rows: readonly object[], columns: readonly string[]): void {
  if (format === 'json') process.stdout.write(`${toJson(rows)}\n`);
  else if (format === 'yaml') process.stdout.write(toYaml(rows));
  else process.stdout.write(table(rows, columns));
}

function cell(value: unknown): string {
  if (value === null || value === undefined || value === '') return '-';
  if (Array.isArray(value)) return value.map(cell).join(',') || '-';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** `columns` are keys of the rows, in order; `ingressRules` is headed INGRESS RULES. Columns of numbers are aligned right. */
export function table(rows: readonly object[], columns: readonly string[]): string {
  const header = columns.map((column) => column.replace(/([a-z])([A-Z])/g, '$1 $2').toUpperCase());
  const values = rows.map((row) => columns.map((column) => (row as Record<string, unknown>)[column]));
  const body = values.map((line) => line.map(cell));
  const widths = header.map((name, i) => body.reduce((width, line) => Math.max(width, line[i]!.length), name.length));
  const numeric = columns.map(
    (_, i) => rows.length > 0 && values.every((line) => ['number', 'bigint'].includes(typeof line[i])),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((text, i) => (numeric[i] ? text.padStart(widths[i]!) : text.padEnd(widths[i]!)))
      .join('  ')
      .trimEnd();
  return `${[header, ...body].map(line).join('\n')}\n`;
}
