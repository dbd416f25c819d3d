/** The command's manners: exit codes, one line on wrong usage, no stack unless asked, and what check prints. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { EXAMPLE_CLUSTER } from '../../../src/config/example-cluster.js';

const MAIN = fileURLToPath(new URL('../../../src/cli/main.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'seine-cli-'));
after(() => rmSync(folder, { recursive: true }));
const file = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};
function seine(...words: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...words], {
    cwd: folder,
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status, stdout, stderr };
}

/** Words, and what the line says. */
const WRONG: readonly [string[], RegExp][] = [
  [[], /a command belongs here/],
  [['fly'], /unknown command 'fly'/],
  [['get'], /missing required argument/],
  [['get', 'everything'], /one of ports, connections, flows/],
  [['get', 'ports', '-o', 'xml'], /table, json or yaml/],
  [['get', 'connections', '--protocol', 'quic'], /--protocol quic: a number from 0 to 255/],
  [['check', '--fast'], /unknown option '--fast'/],
  [['check', '--objects'], /argument missing/],
  [['check', '--objects', 'nowhere'], /nowhere: can't be read/],
  [['apply'], /missing required argument/],
  [['apply', 'nowhere.yaml'], /nowhere\.yaml: can't be read/],
  [['delete', 'Pod'], /missing required argument/],
];
for (const [words, message] of WRONG) {
  test(`seine ${words.join(' ')}: exit 2 and one line`, () => {
    const { status, stdout, stderr } = seine(...words);
    assert.equal(status, 2, stderr);
    assert.equal(stdout, '');
    assert.match(stderr, /^seine: .*\n$/);
    assert.match(stderr, message);
  });
}

test('seine --help and every command --help: exit 0, on standard output', () => {
  for (const words of [[], ['check'], ['get'], ['apply'], ['delete'], ['serve'], ['replay'], ['load']]) {
    const { status, stdout, stderr } = seine(...words, '--help');
    assert.equal(status, 0);
    assert.match(stdout, /^Usage: seine/);
    assert.equal(stderr, '');
  }
});

test('seine --version is the package version', () => {
  assert.match(seine('--version').stdout, /^\d+\.\d+\.\d+\n$/);
});

test('seine get: no service there is exit 1, with what to do', () => {
  const { status, stderr } = seine('get', 'ports', '--server', 'unix:none.sock');
  assert.equal(status, 1);
  assert.match(stderr, /^seine: no service answers at unix:none\.sock: start one with `seine serve`.*\n$/);
});

test('seine check: a wrong manifest is exit 2, named by file, line, object and field; a stack only with --debug', () => {
  const path = file(
    'bad.yaml',
    'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web}\nspec:\n  podSelector: {}\n  policyTypes: [Both]\n',
  );
  const { status, stdout, stderr } = seine('check', '--objects', path);
  assert.equal(status, 2);
  assert.equal(stdout, '');
  assert.equal(
    stderr,
    `seine: ${path}:6: NetworkPolicy default/web: policyTypes[0]: found "Both"; Ingress or Egress belongs here\n`,
  );
  assert.match(seine('check', '--debug', '--objects', path).stderr, /\n {4}at /);
});

test('seine check: a wrong setting is exit 2, named by file, line and nearest name', () => {
  const path = file('seine.yaml', 'node: node-1\nlisten:\n  htttp: 127.0.0.1:9464\n');
  assert.deepEqual(seine('check', '--config', path), {
    status: 2,
    stdout: '',
    stderr: `seine: ${path}:3: unknown setting "listen.htttp"; did you mean http?\n`,
  });
});

test('seine check: prints ports, isolation and policies; warnings on standard error', () => {
  const objects = file('cluster.yaml', EXAMPLE_CLUSTER);
  const config = file('node.yaml', 'node: node-1\nsflow: {targets: ["10.0.0.1:6343"]}\n');
  const { status, stdout, stderr } = seine('check', '--config', config, '--objects', objects);
  assert.equal(status, 0);
  assert.match(stdout, /^ +3 +data\/backup +10\.10\.0\.2,fd00:10:10::2 +open +open$/m);
  assert.match(stdout, /^NetworkPolicy +shop +payments +1 +- +1$/m);
  assert.match(stdout, /12 local of 14 pods, 6 policies with 17 rules/);
  assert.match(stderr, /seine: warning: .*node\.yaml:2: sflow\.targets: has no effect/);
  assert.match(stderr, /seine: warning: 5 Services: listed, but not load-balanced/);
});

test('seine check -o json and -o yaml: the same, for programs', () => {
  const objects = file('cluster.yaml', EXAMPLE_CLUSTER);
  const json = JSON.parse(seine('check', '--objects', objects, '-o', 'json').stdout);
  assert.equal(json.summary.localPods, 14);
  assert.equal(json.pods[0].pod, 'data/backup');
  assert.deepEqual(json.policies.find(({ name }: { name: string }) => name === 'payments').pods, ['shop/checkout']);
  assert.equal(json.rules.length, 17);
  assert.deepEqual(parse(seine('check', '--objects', objects, '-o', 'yaml').stdout), json);
});

test('seine check: without a Pod it says that the engine only meters', () => {
  assert.match(seine('check').stdout, /no Pod among the objects: the engine would only meter/);
});
