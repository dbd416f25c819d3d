/** How lists are printed: aligned table, JSON or YAML, on standard output. */
import { stringify } from 'yaml';
import { SeineError } from '../errors.js';

export type Format = 'table' | 'json' | 'yaml';

export function parseFormat(text: string): Format {
  if (text === 'table' || text === 'json' || text === 'yaml') return text;
  throw new SeineError('SEINE_ERR_USAGE', `-o ${text}: table, json or yaml belongs here`);
}

/** JSON with 64-bit integers at full precision. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_, entry) => (typeof entry === 'bigint' ? JSON.rawJSON?.(entry.toString()) ?? bigintMark(entry) : entry), 2).replace(
    /"\u0001(-?\d+)\u0001"/g,
    '$1',
  );
}
const bigintMark = (value: bigint): string => `\u0001${value}\u0001`;

export function print(format: Format, rows: readonly object[], columns: readonly string[]): void {
  if (format === 'json') process.stdout.write(`${toJson(rows)}\n`);
  else if (format === 'yaml') process.stdout.write(rows.length === 0 ? '[]\n' : stringify(JSON.parse(toJson(rows)), { lineWidth: 0 }));
  else process.stdout.write(table(rows, columns));
}

const cell = (value: unknown): string =>
  value === null || value === undefined || value === '' ? '-' : Array.isArray(value) ? value.map(cell).join(',') || '-' : typeof value === 'object' ? JSON.stringify(value) : String(value);

export function table(rows: readonly object[], columns: readonly string[]): string {
  const header = columns.map((column) => column.replace(/([A-Z])/g, ' $1').toUpperCase());
  const body = rows.map((row) => columns.map((column) => cell((row as Record<string, unknown>)[column])));
  const widths = header.map((name, i) => Math.max(name.length, ...body.map((line) => line[i]!.length)));
  const line = (cells: readonly string[]) => cells.map((text, i) => text.padEnd(widths[i]!)).join('  ').trimEnd();
  return `${[header, ...body].map(line).join('\n')}\n`;
}

declare global {
  interface JSON {
    rawJSON?(text: string): unknown;
  }
}
