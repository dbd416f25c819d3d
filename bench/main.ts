/** `npm run bench -- [--rows PATTERN] [--json FILE] [--quick]`: prints a table; --json writes the rows (contract §9). */
import { writeFileSync } from 'node:fs';
import { table } from '../src/cli/output.js';
import { classifier } from './classifier.js';
import type { Row, RowGroup } from './harness.js';
import { againstOpenVSwitch, encapsulation, establishedPackets, twoWorkers } from './engine.js';
import { exportRows } from './export.js';
import { kernels } from './kernels.js';
import { memifRows } from './memif.js';
import { memory } from './memory.js';
import { netflow } from './netflow.js';
import { newConnections } from './new-connections.js';
import { metricsRows } from './metrics.js';
import { policyChange, policyMemory } from './policy-change.js';
import { replay } from './replay.js';
import { ruleSets } from './rule-sets.js';
import { service } from './service.js';
import { stateFile } from './state-file.js';

const GROUPS: readonly RowGroup[] = [
  kernels,
  establishedPackets,
  againstOpenVSwitch,
  encapsulation,
  twoWorkers,
  netflow,
  newConnections,
  memory,
  classifier,
  policyChange,
  policyMemory,
  ruleSets,
  replay,
  exportRows,
  service,
  metricsRows,
  stateFile,
  memifRows,
];

const args = process.argv.slice(2);
const value = (name: string): string | undefined => {
  const at = args.indexOf(name);
  return at < 0 ? undefined : args[at + 1];
};
const pattern = new RegExp(value('--rows') ?? '', 'i');
const quick = args.includes('--quick');

const rows: Row[] = [];
for (const group of GROUPS) {
  if (!group.rows.some((name) => pattern.test(name))) continue;
  process.stderr.write(`bench: ${group.rows.join('; ')}\n`);
  rows.push(...(await group.run(quick)).filter(({ row }) => pattern.test(row)));
}
process.stdout.write(
  table(rows, ['row', 'value', 'unit', 'baseline', 'baselineValue', 'ratio', 'target', 'met', 'digest']),
);
const file = value('--json');
if (file !== undefined) writeFileSync(file, `${JSON.stringify(rows, null, 2)}\n`);
if (rows.length === 0) {
  process.stderr.write(`bench: no row matches ${pattern}\n`);
  process.exitCode = 2;
}
