/** OpenFlow port numbers of pods (contract: Ports). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { ClusterObjects, Pod } from '../../../src/objects/model.js';
import { assignPorts, type PortTable } from '../../../src/objects/ports.js';
import { emptyObjects } from '../../../src/objects/store.js';

const pod = (key: string, rest: Partial<Pod> = {}): Pod => ({
  namespace: key.split('/')[0]!,
  name: key.split('/')[1]!,
  labels: {},
  annotations: {},
  nodeName: 'node-1',
  hostNetwork: false,
  phase: 'Running',
  ips: ['10.0.0.1'],
  namedPorts: [],
  serviceAccount: null,
  ...rest,
});
const cluster = (...pods: Pod[]): ClusterObjects => ({
  ...emptyObjects(),
  pods: new Map(pods.map((each) => [`${each.namespace}/${each.name}`, each])),
});
const fixed = (port: number) => ({ annotations: { 'seine.dev/port': String(port) } });
const assign = (objects: ClusterObjects, previous: PortTable | null = null, node: string | null = null) =>
  assignPorts(objects, node, 'gw0', previous);
const numbers = (table: PortTable): Record<string, number> =>
  Object.fromEntries(table.ports.filter(({ kind }) => kind === 'pod').map(({ name, port }) => [name, port]));

test('ports: 1 is the tunnel, 2 the host gateway by its configured name', () => {
  const { ports } = assignPorts(emptyObjects(), null, 'antrea-gw0', null);
  assert.deepEqual(
    ports.map(({ port, name, kind }) => [port, name, kind]),
    [
      [1, 'tun0', 'tunnel'],
      [2, 'antrea-gw0', 'gateway'],
    ],
  );
});

test('ports: pods from 3 up by namespace, then name, in byte order', () => {
  const objects = cluster(pod('b/a'), pod('a/z'), pod('a/b'), pod('a-b/c'));
  assert.deepEqual(numbers(assign(objects)), { 'a/b': 3, 'a/z': 4, 'a-b/c': 5, 'b/a': 6 });
});

test('ports: pods without address, hostNetwork, ended, and of other nodes have none', () => {
  const objects = cluster(
    pod('a/here'),
    pod('a/no-address', { ips: [] }),
    pod('a/host', { hostNetwork: true }),
    pod('a/done', { phase: 'Succeeded' }),
    pod('a/failed', { phase: 'Failed' }),
    pod('a/pending', { phase: 'Pending' }),
    pod('a/there', { nodeName: 'node-2' }),
  );
  assert.deepEqual(numbers(assign(objects, null, 'node-1')), { 'a/here': 3, 'a/pending': 4 });
  assert.deepEqual(Object.keys(numbers(assign(objects))), ['a/here', 'a/pending', 'a/there']);
});

test('ports: annotated numbers first, the others take the lowest free one', () => {
  const objects = cluster(pod('a/a'), pod('a/b', fixed(3)), pod('a/c'), pod('a/d', fixed(5)));
  assert.deepEqual(numbers(assign(objects)), { 'a/b': 3, 'a/a': 4, 'a/d': 5, 'a/c': 6 });
});

test('ports: a number never changes while its pod exists; a later pod takes the lowest free one', () => {
  const first = assign(cluster(pod('a/b'), pod('a/c'), pod('a/d')));
  const second = assign(cluster(pod('a/c'), pod('a/d')), first);
  assert.deepEqual(numbers(second), { 'a/c': 4, 'a/d': 5 });
  assert.deepEqual(numbers(assign(cluster(pod('a/a'), pod('a/c'), pod('a/d'), pod('a/e')), second)), {
    'a/a': 3,
    'a/c': 4,
    'a/d': 5,
    'a/e': 6,
  });
});

test('ports: two pods annotated with one number are refused, both named', () => {
  assert.throws(() => assign(cluster(pod('a/a', fixed(9)), pod('a/b', fixed(9)))), {
    code: 'SEINE_ERR_OBJECT_INVALID',
    message: /^Pod a\/b: .*seine\.dev\/port: 9 is also Pod a\/a's/,
  });
});

test('ports: whatever comes and goes, numbers are unique and kept', () => {
  const set = fc.uniqueArray(fc.integer({ min: 0, max: 30 }), { maxLength: 20 });
  fc.assert(
    fc.property(fc.array(set, { minLength: 1, maxLength: 6 }), (rounds) => {
      let before: PortTable | null = null;
      for (const round of rounds) {
        const table: PortTable = assign(cluster(...round.map((i) => pod(`ns/p${i}`))), before);
        const now = numbers(table);
        assert.equal(Object.keys(now).length, round.length);
        assert.equal(new Set(Object.values(now)).size, round.length);
        const previous = before === null ? {} : numbers(before);
        for (const [name, port] of Object.entries(now)) if (name in previous) assert.equal(port, previous[name]);
        for (const port of Object.values(now)) assert.ok(port >= 3 && table.podByPort.has(port));
        before = table;
      }
    }),
    { numRuns: 200 },
  );
});
