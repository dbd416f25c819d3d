/**
 * A start on an earlier process's state. The state of a crash is a copy of the file while its engine runs: what a killed
 * process leaves is its pages as they are.
 */
import assert from 'node:assert/strict';
import {
  copyFileSync,
  mkdtempSync,
  openSync,
  closeSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { parseConfig } from '../../../src/config/read.js';
import { Engine } from '../../../src/engine/engine.js';
import { readManifest } from '../../../src/objects/read.js';
import { applyObjects, emptyObjects } from '../../../src/objects/store.js';
import { fuzzSeed, Random } from '../../fuzz/mutate.js';
import { tcp4 } from '../frames.js';

const pod = (name: string, address: string, labels = {}) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { namespace: 'default', name, labels },
  spec: { containers: [] },
  status: { phase: 'Running', podIP: address, podIPs: [{ ip: address }] },
});
const policy = (name: string, port: number, select = {}) => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { namespace: 'default', name },
  spec: { podSelector: select, policyTypes: ['Ingress'], ingress: [{ ports: [{ protocol: 'TCP', port }] }] },
});
const A = pod('a', '10.0.0.1');
const B = pod('b', '10.0.0.2', { app: 'b' });
const C = pod('c', '10.0.0.3');
const WEB = policy('web', 80);

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'seine-restart-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
async function start(t: TestContext, path: string, objects: object[], config: object = {}): Promise<Engine> {
  const parsed = parseConfig(
    { workers: 2, conntrack: { max: 2000, tcpLoose: false }, stateFile: path, ...config },
    'test',
  ).config;
  const read = applyObjects(emptyObjects(), readManifest(JSON.stringify(objects), 'test').inputs).objects;
  const engine = await Engine.start({ config: parsed, objects: read });
  t.after(() => engine.close());
  return engine;
}
const CONNECTIONS = 100;
type Step = [reply: boolean, flags: string, seq: number, ack: number];
const HANDSHAKE: Step[] = [
  [false, 'S', 1000, 0],
  [true, 'SA', 5000, 1001],
  [false, 'A', 1001, 5001],
];
async function send(engine: Engine, [reply, flags, seq, ack]: Step) {
  const port = (name: string) => engine.ports().find((each) => each.name === `default/${name}`)!.port;
  const frames = Array.from({ length: CONNECTIONS }, (_, i) =>
    tcp4(
      reply
        ? { src: '10.0.0.2', dst: '10.0.0.1', sport: 80, dport: 2000 + i, flags, seq, ack }
        : { src: '10.0.0.1', dst: '10.0.0.2', sport: 2000 + i, dport: 80, flags, seq, ack },
    ),
  );
  return engine.process({
    data: Buffer.concat(frames),
    length: Uint32Array.from(frames, ({ length }) => length),
    inPort: port(reply ? 'b' : 'a'),
  });
}
const all = (column: Uint8Array, value: number): boolean => column.every((each) => each === value);
const names = (engine: Engine) => engine.ports().map(({ port, name }) => `${port} ${name}`);

test('restart: connections go on after a crash, on the fast path where nothing changed', async (t) => {
  const path = folder(t);
  const engine = await start(t, join(path, 'one'), [A, B, C, WEB]);
  assert.equal(engine.state()!.restored, false);
  for (const step of HANDSHAKE) assert.ok(all((await send(engine, step)).verdict, 1));
  await send(engine, [true, 'A', 5001, 1001]);
  copyFileSync(join(path, 'one'), join(path, 'two'));
  const next = await start(t, join(path, 'two'), [A, B, C, WEB]);
  assert.deepEqual(
    { ...next.state()!, path: '' },
    {
      path: '',
      restored: true,
      connections: CONNECTIONS,
      entriesMended: 0,
      entriesDropped: 0,
      batchesLost: 0,
      recordsWaiting: 0,
      recordsInDoubt: 0,
      recordsLost: 0,
    },
  );
  const { verdict, ct } = await send(next, [false, 'A', 1001, 5001]);
  assert.ok(all(verdict, 1));
  assert.ok(ct.every((bits) => (bits & 2) !== 0));
  const index = (await import('../../../src/metrics/shared-counters.js')).counterIndex.single('rowsByFastPath');
  assert.equal(
    next.counters().reduce((sum, block) => sum + Number(block.read(index)), 0),
    CONNECTIONS,
  );
});

test('restart: pods keep their ports and rules their ids, in whatever order objects come', async (t) => {
  const path = folder(t);
  const engine = await start(t, join(path, 'one'), [A, B, C, WEB, policy('db', 5432)]);
  await engine.delete('Pod', 'default', 'a');
  await engine.apply(JSON.stringify(pod('z', '10.0.0.9')), { origin: 'test' });
  await engine.delete('NetworkPolicy', 'default', 'web');
  await engine.apply(JSON.stringify(policy('zoo', 443)), { origin: 'test' });
  const before = [names(engine), engine.rules()];
  copyFileSync(join(path, 'one'), join(path, 'two'));
  const next = await start(t, join(path, 'two'), [policy('zoo', 443), policy('db', 5432), pod('z', '10.0.0.9'), C, B]);
  assert.deepEqual([names(next), next.rules()], before);
  await next.apply(JSON.stringify(policy('new', 25)), { origin: 'test' });
  const ids = new Set(engine.rules().map(({ id }) => id));
  const given = next.rules().filter(({ policy: name }) => name === 'new');
  assert.ok(given.length > 0 && given.every(({ id }) => !ids.has(id) && id > Math.max(...ids)), 'ids are not reused');
});

for (const [mode, verdict] of [
  ['recheck', 2],
  ['keep', 1],
  ['reset', 3],
] as const) {
  test(`restart: a policy that changed meanwhile: existing connections follow ${mode}`, async (t) => {
    const path = folder(t);
    const engine = await start(t, join(path, 'one'), [A, B, C, WEB]);
    for (const step of HANDSHAKE) await send(engine, step);
    copyFileSync(join(path, 'one'), join(path, 'two'));
    const next = await start(t, join(path, 'two'), [A, B, C, policy('web', 81)], {
      policy: { existingConnections: mode },
    });
    const answer = await send(next, [false, 'A', 1001, 5001]);
    assert.ok(
      mode === 'reset' ? answer.verdict.every((code) => code === 2 || code === 3) : all(answer.verdict, verdict),
      `verdicts ${[...new Set(answer.verdict)]}`,
    );
  });
}

test('restart: an apply that a crash cuts off is made up for', async (t) => {
  const path = folder(t);
  const engine = await start(t, join(path, 'one'), [A, B, C, WEB]);
  for (const step of HANDSHAKE) await send(engine, step);
  // Copies at every turn while the policy goes back and forth: whichever objects the next process has, it decides by them.
  for (let i = 0; i < 4; i++) {
    const port = i % 2 === 0 ? 81 : 80;
    const applied = engine.apply(JSON.stringify(policy('web', port)), { origin: 'test' });
    copyFileSync(join(path, 'one'), join(path, 'cut'));
    await applied;
    if (i % 2 === 1) continue;
    const next = await start(t, join(path, 'cut'), [A, B, C, policy('web', 81)]);
    assert.ok(all((await send(next, [false, 'A', 1001, 5001])).verdict, 2), 'no longer admitted');
    await next.close();
  }
});

test('restart: whatever the regions hold, the service starts and judges', async (t) => {
  const seed = fuzzSeed();
  t.diagnostic(`seed ${seed}`);
  const rng = new Random(seed);
  const path = folder(t);
  const engine = await start(t, join(path, 'one'), [A, B, C, WEB]);
  for (const step of HANDSHAKE) await send(engine, step);
  copyFileSync(join(path, 'one'), join(path, 'two'));
  const octets = readFileSync(join(path, 'two'));
  for (let round = 0; round < 6; round++) {
    const damaged = Buffer.from(octets);
    for (let n = 0; n < 40_000; n++) {
      const at = 4096 + rng.below(damaged.length - 4096);
      damaged[at] = rng.oneIn(2) ? rng.below(256) : damaged[at]! ^ (1 << rng.below(8));
    }
    if (round === 5) for (let at = 4096; at < damaged.length; at += 4) damaged.writeUInt32LE(rng.next(), at);
    writeFileSync(join(path, 'two'), damaged, { mode: 0o600 });
    const next = await start(t, join(path, 'two'), [A, B, C, WEB]);
    assert.equal(next.state()!.restored, true);
    for (const step of HANDSHAKE) await send(next, step);
    assert.ok([...next.connections()].length >= 0);
    await next.close();
  }
});

test('restart: damage to the header is refused with one line that names stateFile', async (t) => {
  const path = folder(t);
  const engine = await start(t, join(path, 'one'), [A, B, C, WEB]);
  await engine.close();
  const fd = openSync(join(path, 'one'), 'r+');
  writeSync(fd, Buffer.from([1, 2, 3]), 0, 3, 40);
  closeSync(fd);
  const lines: string[] = [];
  const write = process.stderr.write.bind(process.stderr);
  process.stderr.write = ((text: string) => {
    lines.push(text);
    return true;
  }) as typeof process.stderr.write;
  const next = await start(t, join(path, 'one'), [A, B, C, WEB]).finally(() => {
    process.stderr.write = write;
  });
  assert.equal(next.state()!.restored, false);
  assert.equal(lines.length, 1);
  assert.match(lines[0]!, /^seine: stateFile: .*one: the checksum of its header is wrong; it is started afresh\n$/);
});
