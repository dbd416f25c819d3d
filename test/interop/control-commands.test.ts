/** get, apply and delete against a running service: what a user of kubectl and antctl would try. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'seine-control-'));
const CONFIG = join(folder, 'seine.yaml');
const STARTED_WITHIN_MS = 30_000;
let service: ChildProcess;
let told = '';

const policy = (name: string, rest: string): string =>
  `apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: platform, name: ${name}}\nspec: {podSelector: {}, ${rest}}\n`;
function seine(...words: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...words, '--config', CONFIG], {
    cwd: folder,
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status, stdout, stderr };
}
const rows = (what: string, ...words: string[]): Record<string, unknown>[] => {
  const { status, stdout, stderr } = seine('get', what, '-o', 'json', ...words);
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout);
};

before(async () => {
  writeFileSync(
    CONFIG,
    'listen: {unix: s.sock, grpc: ["unix:g.sock"], http: null}\nworkers: 1\nconntrack: {max: 4096}\n',
  );
  service = spawn(process.execPath, [MAIN, 'serve', '--example', '--config', CONFIG], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  service.stderr!.on('data', (text) => (told += text));
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no start: ${told}`)), STARTED_WITHIN_MS);
    service.stdout!.on('data', () => {
      clearTimeout(timer);
      resolve();
    });
    service.once('exit', (code) => reject(new Error(`exit ${code}: ${told}`)));
  });
});
after(() => {
  service.kill('SIGKILL');
  rmSync(folder, { recursive: true });
});

test('get: ports, policies, rules and workers of the running service', () => {
  const ports = rows('ports');
  assert.deepEqual(ports[0], { port: 1, name: 'tun0', kind: 'tunnel', ips: [], mac: null });
  assert.equal(ports.length, 14);
  assert.equal(rows('policies').length, 6);
  const rules = rows('rules');
  assert.equal(rules.length, 17);
  assert.ok(rules.some(({ rule, policy: name }) => rule === 0 && name === 'payments'));
  assert.ok(rules.some(({ rule }) => rule === null));
  assert.equal(rows('workers')[0]!.state, 'serving');
  assert.deepEqual(rows('connections'), []);
  assert.deepEqual(rows('drops'), []);
  assert.deepEqual(rows('exporters'), []);
  assert.deepEqual(rows('flows', '--duration', '0.2'), []);
});

test('apply: a folder with folders, created, then unchanged, then configured', () => {
  mkdirSync(join(folder, 'm', 'sub'), { recursive: true });
  writeFileSync(join(folder, 'm', 'a.yaml'), policy('one', 'policyTypes: [Ingress]'));
  writeFileSync(
    join(folder, 'm', 'sub', 'b.json'),
    JSON.stringify({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'extra' } }, null, '\t'),
  );
  assert.equal(seine('apply', 'm').stdout, 'NetworkPolicy platform/one created\nNamespace extra created\n');
  assert.equal(seine('apply', 'm').stdout, 'NetworkPolicy platform/one unchanged\nNamespace extra unchanged\n');
  writeFileSync(join(folder, 'm', 'a.yaml'), policy('one', 'policyTypes: [Egress]'));
  assert.equal(seine('apply', 'm/a.yaml').stdout, 'NetworkPolicy platform/one configured\n');
  const one = rows('policies').find(({ name }) => name === 'one');
  assert.deepEqual([one?.ingressRules, one?.egressRules], [null, 0]);
});

test('apply --dry-run says what would change, and changes nothing', () => {
  writeFileSync(join(folder, 'two.yaml'), policy('two', 'policyTypes: [Ingress]'));
  assert.equal(seine('apply', '--dry-run', 'two.yaml').stdout, 'NetworkPolicy platform/two created (dry run)\n');
  assert.ok(!rows('policies').some(({ name }) => name === 'two'));
});

test('apply: a wrong object among right ones is named, and nothing takes effect', () => {
  writeFileSync(
    join(folder, 'mixed.yaml'),
    `${policy('three', 'policyTypes: [Ingress]')}---\n${policy('four', 'policyTypes: [Both]')}`,
  );
  const { status, stdout, stderr } = seine('apply', 'mixed.yaml');
  assert.deepEqual([status, stdout], [2, '']);
  assert.match(stderr, /^seine: mixed\.yaml:9: NetworkPolicy platform\/four: policyTypes\[0\]: .*\n$/);
  assert.ok(!rows('policies').some(({ name }) => name === 'three'));
});

test('apply: warnings have the name of their file', () => {
  writeFileSync(join(folder, 'other.yaml'), 'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n');
  const { status, stderr } = seine('apply', 'other.yaml');
  assert.equal(status, 0);
  assert.equal(stderr, 'seine: warning: other.yaml:1: Deployment.apps: kind ignored, not used (1 object)\n');
});

test('delete: the object goes; once more it is not found, exit 1', () => {
  assert.deepEqual(seine('delete', 'NetworkPolicy', 'one', '-n', 'platform'), {
    status: 0,
    stdout: 'NetworkPolicy platform/one deleted\n',
    stderr: '',
  });
  assert.deepEqual(seine('delete', 'NetworkPolicy', 'one', '-n', 'platform'), {
    status: 1,
    stdout: '',
    stderr: 'seine: NetworkPolicy platform/one does not exist\n',
  });
  assert.deepEqual(seine('delete', 'Namespace', 'extra').stdout, 'Namespace extra deleted\n');
});

test('get: a table has a header and one line a row', () => {
  const { stdout } = seine('get', 'policies');
  assert.match(stdout, /^KIND +NAMESPACE +NAME +PODS +INGRESS RULES +EGRESS RULES\n/);
  assert.equal(stdout.split('\n').length, 8);
});

test('serve: SIGTERM drains, exit 0, sockets unlinked', async () => {
  service.removeAllListeners('exit');
  const exited = new Promise((resolve) => service.once('exit', resolve));
  service.kill('SIGTERM');
  assert.equal(await exited, 0, told);
  assert.ok(!existsSync(join(folder, 's.sock')) && !existsSync(join(folder, 'g.sock')));
});
