/** `seine load` against a running service, over all transports: nothing is lost, and the service counted what was sent. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'seine-load-'));
let service: ChildProcess;
let page = '';

function load(...words: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [MAIN, 'load', '--config', 'seine.yaml', '-o', 'json', ...words],
    { cwd: folder, encoding: 'utf8', timeout: 60_000 },
  );
  return { status, stdout, stderr };
}
// A connection that is kept would be closed by the service while `load` runs and this process waits for it.
const listed = async (what: string): Promise<Record<string, number | string>[]> =>
  (await (await fetch(`${page}/api/v1/${what}`, { headers: { connection: 'close' } })).json()) as Record<
    string,
    number | string
  >[];
const judged = async (): Promise<number> =>
  (await listed('workers')).reduce((sum, { packets }) => sum + Number(packets), 0);

before(async () => {
  writeFileSync(
    join(folder, 'seine.yaml'),
    'listen: {unix: s.sock, memif: m.sock, grpc: ["unix:g.sock"], http: "127.0.0.1:0"}\nworkers: 1\nconntrack: {max: 65536}\n',
  );
  service = spawn(process.execPath, [MAIN, 'serve', '--example', '--config', 'seine.yaml'], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  page = await new Promise<string>((resolve, reject) => {
    let told = '';
    service.stdout!.on('data', (text) => {
      told += text;
      const found = /listens on (http:\S+)/.exec(told)?.[1];
      if (found !== undefined) resolve(found);
    });
    service.once('exit', (code) => reject(new Error(`exit ${code}: ${told}`)));
  });
});
after(() => {
  service.kill('SIGKILL');
  rmSync(folder, { recursive: true });
});

for (const words of [
  ['--transport', 'unix', '--flows', '1000', '--batch', '64'],
  ['--transport', 'grpc', '--flows', '500', '--size', 'imix'],
  ['--transport', 'memif', '--flows', '1000', '--batch', '64'],
  ['--server', 'unix:s.sock', '--rate', '20000', '--batch', '100'],
]) {
  test(`load ${words.join(' ')}: all is answered, the sums fit, none is spoofed`, async () => {
    const before = await judged();
    const { status, stdout, stderr } = load('--duration', '1', ...words);
    assert.equal(status, 0, stderr);
    const result = JSON.parse(stdout);
    assert.deepEqual(Object.keys(result), [
      'transport',
      'flows',
      'size',
      'batch',
      'seconds',
      'offered',
      'answered',
      'lost',
      'packetsPerSecond',
      'verdicts',
      'latencyUs',
    ]);
    assert.deepEqual(Object.keys(result.latencyUs), ['p50', 'p90', 'p99', 'p999']);
    assert.deepEqual([result.lost, result.offered], [0, result.answered]);
    assert.ok(result.answered > 0 && result.seconds >= 1);
    const sum = Object.values<number>(result.verdicts).reduce((a, b) => a + b, 0);
    assert.equal(sum, result.answered);
    // memif: one packet of each kind (12 pods) was sent beforehand.
    assert.equal((await judged()) - before, result.answered + (words.includes('memif') ? 12 : 0));
    assert.ok(result.verdicts.forward > 0);
    const reasons = (await listed('drops')).map(({ reason }) => reason);
    for (const reason of ['spoofed', 'unknown-port', 'ip-bad-checksum']) assert.ok(!reasons.includes(reason), reason);
    if (words.includes('--rate')) assert.ok(Math.abs(result.packetsPerSecond - 20_000) < 4000, stdout);
  });
}

test('load --flows 1000: that many connections are in the table, those that policy admits and those that it denies', async () => {
  assert.equal(load('--duration', '0.5', '--flows', '1000', '--batch', '32').status, 0);
  const flows = new Set(
    (await listed('connections'))
      .filter(({ dstPort }) => Number(dstPort) >= 8080)
      .map(({ src, dst, srcPort, dstPort }) => `${src} ${srcPort} ${dst} ${dstPort}`),
  );
  assert.ok(flows.size >= 1000, `${flows.size} connections`);
});

test('load: wrong words are one line and exit 2; no service is exit 1', () => {
  for (const words of [
    ['--transport', 'tcp'],
    ['--transport', 'memif', '--batch', '4096', '--window', '5'],
    ['--size', '13'],
    ['--batch', '4097'],
    ['--batch', '4096', '--size', '1500'],
    ['--rate', 'fast'],
    ['--server', '127.0.0.1:1'],
  ]) {
    const { status, stdout, stderr } = load(...words);
    assert.deepEqual([status, stdout], [2, ''], words.join(' '));
    assert.match(stderr, /^seine: [^\n]+\n$/);
  }
  const { status, stderr } = load('--server', 'unix:nothing.sock');
  assert.equal(status, 1);
  assert.match(stderr, /start one with `seine serve`\n$/);
});
