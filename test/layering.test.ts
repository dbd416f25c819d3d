/**
 * Imports point upward only, in the order of LAYERS: a module imports from its own folder and from those before it.
 * Whatever departs from that stands in ALLOWED, one by one, with its reason; one that is no longer used must go.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

const LAYERS = [
  'errors.ts',
  'wire',
  'flow',
  'batch',
  'metrics/shared-counters.ts', // a leaf that every counting module needs
  'native',
  'objects',
  'config',
  'policy',
  'services',
  'conntrack',
  'pipeline',
  'worker',
  'engine',
  'capture',
  'export',
  'metrics',
  'api',
  'server',
  'client',
  'cli',
  'web',
  'index.ts',
] as const;

/** importing file or folder, imported file, why. `type`: types only, which are gone at run time. */
const ALLOWED: readonly { from: string; to: string; types?: true; why: string }[] = [
  { from: 'native/kernels.ts', to: 'conntrack/entry.ts', why: 'the layout of an entry, which native code shares' },
  { from: 'native/kernels.ts', to: 'conntrack/plan-table.ts', why: 'the layout of a plan, which native code shares' },
  { from: 'native/kernels.ts', to: 'conntrack/replay.ts', why: 'the reference of the native replay' },
  { from: 'native/kernels.ts', to: 'capture/link.ts', why: 'the kinds of link headers, which native code shares' },
  { from: 'native/kernels.ts', to: 'capture/scan.ts', why: 'the reference of the native scan of captures' },
  { from: 'native/kernels.ts', to: 'export/netflow5-records.ts', why: 'the reference of the native encoder' },
  { from: 'native/kernels.ts', to: 'export/record-sort.ts', why: 'the reference of the native order of records' },
  { from: 'native/kernels.ts', to: 'conntrack/timeouts.ts', why: 'the timeouts that the native replay is handed' },
  { from: 'native/kernels.ts', to: 'policy/classifier.ts', types: true, why: 'the memory that native decisions read' },
  { from: 'native/kernels.ts', to: 'policy/memory.ts', why: 'the layout of that memory' },
  { from: 'native/kernels.ts', to: 'policy/questions.ts', why: 'the reference of the native decision' },
  { from: 'native/kernels.ts', to: 'policy/tables.ts', why: 'the layout of the tables that it reads' },
  { from: 'native/kernels.ts', to: 'policy/rule-tree/classify.ts', why: 'the reference of the native rule tree' },
  { from: 'native/kernels.ts', to: 'policy/rule-tree/layout.ts', why: 'the layout of a rule tree' },
  { from: 'objects', to: 'engine/engine-view.ts', types: true, why: 'what get and apply answer with' },
  { from: 'policy', to: 'engine/engine-view.ts', types: true, why: 'what get and apply answer with' },
  { from: 'config/config.ts', to: 'conntrack/timeouts.ts', types: true, why: 'the names of timeouts are settings' },
  { from: 'config/read.ts', to: 'conntrack/timeouts.ts', why: 'the names of timeouts are settings' },
  { from: 'worker/worker.ts', to: 'engine/dispatcher.ts', why: 'a worker dispatches its own batches' },
  {
    from: 'worker/shard-runner.ts',
    to: 'engine/dispatcher.ts',
    types: true,
    why: 'what a dispatcher asks of a shard of its own thread',
  },
  {
    from: 'worker/shard-runner.ts',
    to: 'engine/fabric.ts',
    types: true,
    why: 'the memory that a shard shares with the others',
  },
  { from: 'worker/worker.ts', to: 'engine/fabric.ts', why: 'the memory that a shard shares with the others' },
  { from: 'worker/worker.ts', to: 'engine/ring.ts', why: 'the ring that it takes work from' },
  { from: 'capture/replay.ts', to: 'export/record-order.ts', why: 'replay writes records in the order of export' },
  { from: 'server/grpc.ts', to: 'client/control.ts', why: 'the loader of seine.proto, which both sides need' },
];

interface Import {
  from: string;
  /** As written. */
  specifier: string;
  /** File under src, of a relative one. */
  to: string | null;
  types: boolean;
}

const read = (path: string): string => readFileSync(join(ROOT, 'src', path), 'utf8');
const files = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
  .map((path) => path.replaceAll('\\', '/'))
  .filter((path) => path.endsWith('.ts') && !path.endsWith('.d.ts'))
  .sort();

/** Comments are cut away first, strings that are not specifiers are not: code that quotes an import is not expected. */
function importsOf(path: string): Import[] {
  const text = read(path)
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/^\s*\/\/.*$/gm, '');
  const found: Import[] = [];
  const add = (specifier: string, types: boolean) =>
    found.push({
      from: path,
      specifier,
      to: specifier.startsWith('.') ? posix.join(posix.dirname(path), specifier).replace(/\.js$/, '.ts') : null,
      types,
    });
  for (const [, clause, specifier] of text.matchAll(/^(?:import|export)\s+([^'";]*?)\s*from\s+'([^']+)'/gm)) {
    const braces = /^\{([\s\S]*)\}$/.exec(clause!)?.[1];
    const names = braces
      ?.split(',')
      .map((name) => name.trim())
      .filter((name) => name !== '');
    add(specifier!, clause!.startsWith('type ') || (names?.every((name) => name.startsWith('type ')) ?? false));
  }
  for (const [, specifier] of text.matchAll(/^import\s+'([^']+)'/gm)) add(specifier!, false);
  for (const [, specifier] of text.matchAll(/\bimport\(\s*'([^']+)'\s*\)(?!\.)/g)) add(specifier!, false);
  for (const [, specifier] of text.matchAll(/\bimport\(\s*'([^']+)'\s*\)\./g)) add(specifier!, true);
  for (const [, specifier] of text.matchAll(/new URL\(\s*'(\.[^']+\.js)'/g)) add(specifier!, false);
  return found;
}
const imports = files.flatMap(importsOf);

const layerOf = (path: string): number => {
  const whole = (LAYERS as readonly string[]).indexOf(path);
  return whole >= 0 ? whole : (LAYERS as readonly string[]).indexOf(path.split('/')[0]!);
};
const isIn = (path: string, where: string): boolean => path === where || path.startsWith(`${where}/`);
const told = (list: readonly Import[]): string[] =>
  list.map(({ from, to, specifier, types }) => `src/${from} imports ${types ? 'types of ' : ''}${to ?? specifier}`);

test('layering: every module lies in a known layer', () => {
  assert.deepEqual(
    files.filter((path) => layerOf(path) < 0),
    [],
  );
});
test('layering: relative imports name an existing file, and end in .js', () => {
  const wrong = imports.filter(
    ({ specifier, to }) => to !== null && !(/\.(js|json)$/.test(specifier) && existsSync(join(ROOT, 'src', to))),
  );
  assert.deepEqual(told(wrong), []);
});

const used = new Set<number>();
test('layering: imports point upward only', () => {
  const wrong = imports.filter(({ from, to, types }) => {
    if (to === null || layerOf(to) <= layerOf(from)) return false;
    const index = ALLOWED.findIndex(
      (allowed) => isIn(from, allowed.from) && to === allowed.to && (types || allowed.types !== true),
    );
    if (index >= 0) used.add(index);
    return index < 0;
  });
  assert.deepEqual(told(wrong), []);
});
test('layering: every exception is in use', () => {
  assert.deepEqual(
    ALLOWED.filter((_, index) => !used.has(index)),
    [],
  );
});

test('layering: shared counters know of nothing but the closed lists', () => {
  const wrong = imports.filter(
    ({ from, to }) => from === 'metrics/shared-counters.ts' && to !== 'batch/drop-reason.ts',
  );
  assert.deepEqual(told(wrong), []);
});
test('layering: the policy oracle imports types of objects only, nothing that it is held against', () => {
  const wrong = imports.filter(
    ({ from, to, types }) => from === 'policy/oracle.ts' && !(to === 'objects/model.ts' && types),
  );
  assert.deepEqual(told(wrong), []);
});

test('layering: stages know of no socket, file, process, thread or package', () => {
  const wrong = imports.filter(({ from, to }) => isIn(from, 'pipeline/stages') && to === null);
  assert.deepEqual(told(wrong), []);
});
test('layering: stages read no clock, and no randomness', () => {
  const wrong = files.filter(
    (path) =>
      isIn(path, 'pipeline/stages') &&
      /\bDate\.now\b|\bnew Date\b|\bperformance\.|\bhrtime\b|\bMath\.random\b|\bsetTimeout\b|\bsetImmediate\b/.test(
        read(path),
      ),
  );
  assert.deepEqual(wrong, []);
});
test('layering: knowledge (wire, flow, batch, policy, conntrack, pipeline) opens no socket, file or thread', () => {
  const io =
    /^(node:)?(fs|fs\/promises|net|dgram|http|https|tls|child_process|cluster|worker_threads|dns|dns\/promises)$/;
  const wrong = imports.filter(
    ({ from, specifier }) =>
      ['wire', 'flow', 'batch', 'policy', 'services', 'conntrack', 'pipeline'].some((layer) => isIn(from, layer)) &&
      io.test(specifier),
  );
  assert.deepEqual(told(wrong), []);
});
test('layering: encoders know of no socket', () => {
  const wrong = imports.filter(
    ({ from, to, types }) =>
      /^export\/(netflow5|netflow9|ipfix|sflow|engine-id|record-order|record-sort|netflow5-records)\.ts$/.test(from) &&
      (to === null || (!types && isIn(to, 'export') && /exporter|collector/.test(to))),
  );
  assert.deepEqual(told(wrong), []);
});

test('layering: the native addon is loaded in native/kernels.ts only', () => {
  const loads = /\bcreateRequire\b|\bprocess\.dlopen\b|\.node['"`]|build\/Release/;
  assert.deepEqual(
    files.filter((path) => loads.test(read(path))),
    ['native/kernels.ts', 'objects/packages.ts'], // the latter: yaml and zod, late
  );
});

test('layering: no folder or module is named for being useful', () => {
  const names = /(^|\/)(utils?|helpers?|common|misc|types)(\.ts|\/)/;
  assert.deepEqual(
    files.filter((path) => names.test(path)),
    [],
  );
});
test('layering: there is no barrel: only the package entry points re-export', () => {
  const wrong = files.filter(
    (path) => /(^|\/)index\.ts$/.test(path) && !['index.ts', 'client/index.ts'].includes(path),
  );
  assert.deepEqual(wrong, []);
});
test('layering: every module opens with a comment that says what it is', () => {
  const wrong = files.filter((path) => !/^(#!.*\n)?\/\*\*/.test(read(path)));
  assert.deepEqual(wrong, []);
});
test('layering: the test sees this very file', () => {
  assert.ok(existsSync(join(dirname(join(ROOT, 'src')), 'test', 'layering.test.ts')));
  assert.ok(imports.length > 100, 'imports are found');
});
