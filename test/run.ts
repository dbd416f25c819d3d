/**
 * Runs tests by layer: `node dist/test/run.js [--slow] [LAYER | PATH]…`. Without a layer: all of QUICK, and with --slow
 * the slow layers and the long forms of the others (SEINE_SLOW=1) too. Node 20's runner takes no patterns, so that files
 * are listed here, from the sources: a compiled test whose source is gone is not run.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const QUICK = ['layering', 'unit', 'property', 'golden', 'interop', 'sim', 'fuzz'];
const SLOW = ['soak'];
/** Files at a time: interop tests measure nothing, but wait for other programs. */
const CONCURRENCY = 2;

const usage = (message: string): never => {
  process.stderr.write(
    `run: ${message}; write any of ${[...QUICK, ...SLOW].join(', ')}, a path under test/, or nothing for all\n`,
  );
  process.exit(2);
};

const sources = readdirSync(join(ROOT, 'test'), { recursive: true, encoding: 'utf8' })
  .map((path) => path.replaceAll('\\', '/'))
  .filter((path) => path.endsWith('.test.ts'))
  .sort();
const layerOf = (path: string): string => path.split('/')[0]!.replace(/\.test\.ts$/, '');

const args = process.argv.slice(2);
const slow = args.includes('--slow');
const option = args.find((arg) => arg.startsWith('-') && arg !== '--slow');
if (option !== undefined) usage(`there is no option ${option}`);
const unknown = sources.find((path) => ![...QUICK, ...SLOW].includes(layerOf(path)));
if (unknown !== undefined) usage(`test/${unknown} lies in no layer`);

const wanted = args
  .filter((arg) => arg !== '--slow')
  .map((arg) => relative(join(ROOT, 'test'), join(ROOT, 'test', arg.replace(/^(\.\/)?test\//, ''))));
const chosen = new Set<string>();
for (const want of wanted.length > 0 ? wanted : slow ? [...QUICK, ...SLOW] : QUICK) {
  const found = sources.filter((path) => layerOf(path) === want || path === want || path.startsWith(`${want}/`));
  if (found.length === 0 && ![...QUICK, ...SLOW].includes(want)) usage(`there is no test ${want}`);
  for (const path of found) chosen.add(path);
}
const compiled = [...chosen].map((path) => join(ROOT, 'dist', 'test', path.replace(/\.ts$/, '.js')));
const missing = compiled.find((path) => !existsSync(path));
if (missing !== undefined) usage(`${relative(ROOT, missing)} is not compiled: npm run build first`);
if (compiled.length === 0) usage('there is no test in these layers');

const child = spawn(
  process.execPath,
  ['--test', `--test-concurrency=${CONCURRENCY}`, '--test-reporter=spec', ...compiled],
  { cwd: ROOT, stdio: 'inherit', env: slow ? { ...process.env, SEINE_SLOW: '1' } : process.env },
);
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
child.on('exit', (code) => process.exit(code ?? 1));
