/** `/metrics` collected in a thread of its own: the same families and numbers as in one thread, of the rules that exist now. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MetricsThread } from '../../../src/metrics/metrics-thread.js';
import { createRegistry } from '../../../src/metrics/registry.js';
import type { Selection } from '../../../src/metrics/selection.js';
import { udp4 } from '../frames.js';
import { startEngine } from '../server/service.js';
import { EXPORT_TOTALS } from './fake-engine.js';

const OPEN = 'application/openmetrics-text';
const textOf = (body: string | readonly Uint8Array[]): string =>
  typeof body === 'string' ? body : Buffer.concat(body).toString();
const frame = udp4({ src: '10.0.0.1', dst: '10.0.0.2', sport: 1, dport: 2 });
const policy = (name: string, rules: number): string =>
  JSON.stringify({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name, namespace: 'default' },
    spec: {
      podSelector: {},
      ingress: Array.from({ length: rules }, (_, i) => ({ ports: [{ protocol: 'TCP', port: 1 + i }] })),
    },
  });

test('metrics-thread: the same text as in one thread, in both formats', async (t) => {
  const { engine, closeAfter } = await startEngine(t, { example: true, workers: 2 });
  const exporters = () => [EXPORT_TOTALS];
  const thread = new MetricsThread(engine, exporters);
  closeAfter(thread);
  const single = createRegistry(engine, { exporters });
  const lengths = new Uint32Array(20).fill(frame.length);
  await engine.process({ data: Buffer.concat(new Array(20).fill(frame)), length: lengths, inPort: 3 });
  // What the process and the clock tell changes from scrape to scrape.
  const selection: Selection = { names: [], exclude: ['process_*', 'nodejs_*', 'seine_worker_busy_seconds_total'] };
  for (const accept of [undefined, OPEN]) {
    const a = await single.metrics(accept, selection);
    const b = await thread.metrics(accept, selection);
    assert.equal(b.contentType, a.contentType);
    const lines = (body: string | readonly Uint8Array[]) => textOf(body).split('\n').sort();
    assert.deepEqual(lines(b.body), lines(a.body));
    const whole = textOf((await thread.metrics(accept)).body);
    for (const name of ['seine_packets', 'seine_connections', 'process_cpu_seconds', 'nodejs_heap_size_used_bytes'])
      assert.match(whole, new RegExp(`^# TYPE ${name}(_total)? `, 'm'));
    assert.equal(/# EOF\n$/.test(whole), accept === OPEN);
    assert.equal(whole.match(/# EOF/g)?.length ?? 0, accept === OPEN ? 1 : 0);
  }
});

test('metrics-thread: what was answered before a scrape is in it; rules come and go with applies', async (t) => {
  const { engine, closeAfter } = await startEngine(t, { example: true });
  const thread = new MetricsThread(engine);
  closeAfter(thread);
  const value = async (name: string): Promise<number> => {
    const text = textOf((await thread.metrics(undefined, { names: [name], exclude: [] })).body);
    return text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
  };
  const before = await value('seine_packets_total');
  for (let n = 1; n <= 5; n++) {
    await engine.process({ data: frame, length: Uint32Array.of(frame.length), inPort: 3 });
    assert.equal(await value('seine_packets_total'), before + n);
  }
  const rules = async (): Promise<number> => {
    const text = textOf((await thread.metrics(undefined, { names: ['seine_rule_packets_total'], exclude: [] })).body);
    return text.match(/^seine_rule_packets_total\{/gm)?.length ?? 0;
  };
  const first = await rules();
  assert.equal(first, engine.rules().length);
  await engine.apply(policy('many', 700), { origin: 'test' }); // more than one message holds
  assert.equal(await rules(), engine.rules().length);
  assert.ok(engine.rules().length >= first + 700);
  await engine.apply(policy('many', 3), { origin: 'test' });
  assert.equal(await rules(), engine.rules().length);
  await engine.delete('NetworkPolicy', 'default', 'many');
  assert.equal(await rules(), first);
  assert.equal(await value('seine_policy_rules'), first);
});

test('metrics: families are chosen by name[] and exclude[], a * standing for any rest', async (t) => {
  const { engine, closeAfter } = await startEngine(t, { example: true });
  const thread = new MetricsThread(engine);
  closeAfter(thread);
  const families = async (names: string[], exclude: string[]): Promise<string[]> =>
    (textOf((await thread.metrics(undefined, { names, exclude })).body).match(/^# TYPE \S+/gm) ?? []).map((line) =>
      line.slice(7),
    );
  assert.deepEqual(await families(['seine_connections', 'process_open_fds'], []), [
    'seine_connections',
    'process_open_fds',
  ]);
  const all = await families([], []);
  const without = await families([], ['seine_rule_*']);
  assert.deepEqual(
    without,
    all.filter((name) => !name.startsWith('seine_rule_')),
  );
  assert.equal(all.length, without.length + 3);
  assert.deepEqual(await families(['nothing'], []), []);
});
