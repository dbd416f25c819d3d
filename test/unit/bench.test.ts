/** The benchmark runs, small and quick, so that it does not rot. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../bench/main.js', import.meta.url));

test('bench: every row is made, with a value and a target', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'seine-bench-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'rows.json');
  execFileSync(process.execPath, [MAIN, '--quick', '--json', file], { stdio: ['ignore', 'pipe', 'pipe'] });
  const rows = JSON.parse(readFileSync(file, 'utf8')) as { row: string; value: number; target: string }[];
  assert.ok(rows.length >= 5, `${rows.length} rows`);
  for (const { row, value, target } of rows) {
    assert.ok(value > 0, row);
    assert.ok(target.length > 0, row);
  }
});
