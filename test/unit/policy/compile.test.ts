/** What compiling gives besides decisions: digests that say whom a change touches, shared structure, refusals. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeineError } from '../../../src/errors.js';
import type { ClusterObjects, NetworkPolicyRule, Pod } from '../../../src/objects/model.js';
import { RuleRegistry } from '../../../src/policy/rule-registry.js';
import { isolatingRules } from '../../../src/policy/tables.js';
import { Cluster, objectsOf, pod, policy } from './cluster.js';

const WEB = pod('web', '10.0.0.1');
const DB = pod('db', '10.0.0.2');
const PEER = pod('peer', '10.0.1.1', { namespace: 'other' });
const webOnly = { podSelector: { matchLabels: { app: 'web' } } };
const dbOnly = { podSelector: { matchLabels: { app: 'db' } } };
const fromOthers: NetworkPolicyRule = { peers: [{ namespaceSelector: { matchLabels: { team: 'x' } } }], ports: [] };

/** Local pods whose digest differs between two states. */
function touched(before: ClusterObjects, after: ClusterObjects): string[] {
  const registry = new RuleRegistry();
  const first = new Cluster(before, registry);
  const second = new Cluster(after, registry);
  return [...after.pods.values()]
    .map(({ namespace, name }) => `${namespace}/${name}`)
    .filter((name) => before.pods.has(name))
    .filter(
      (name) =>
        first.compiled.endpointDigest.get(first.portOf(name)) !==
        second.compiled.endpointDigest.get(second.portOf(name)),
    );
}

test('compile: a changed rule touches the endpoints that its policy selects, and no other', () => {
  const before = objectsOf(
    [WEB, DB],
    [policy('a', { ...webOnly, ingress: [] }), policy('b', { ...dbOnly, ingress: [] })],
  );
  const after = objectsOf(
    [WEB, DB],
    [
      policy('a', { ...webOnly, ingress: [{ peers: [], ports: [{ protocol: 'TCP', port: 80 }] }] }),
      policy('b', { ...dbOnly, ingress: [] }),
    ],
  );
  assert.deepEqual(touched(before, after), ['default/web']);
});

test('compile: a changed block, except, port, peer or rule order touches, an unchanged policy does not', () => {
  const block = (cidr: string, ...except: string[]): NetworkPolicyRule => ({
    peers: [{ ipBlock: { cidr, except } }],
    ports: [{ protocol: 'TCP', port: 80 }],
  });
  const state = (...ingress: NetworkPolicyRule[]) => objectsOf([WEB, DB], [policy('a', { ...webOnly, ingress })]);
  const first = block('10.0.0.0/8');
  assert.deepEqual(touched(state(first), state(block('10.0.0.0/8'))), []);
  for (const other of [
    block('10.0.0.0/9'),
    block('10.0.0.0/8', '10.1.0.0/16'),
    { ...first, ports: [{ protocol: 'UDP' as const, port: 80 }] },
    { ...first, ports: [{ protocol: 'TCP' as const, port: 80, endPort: 81 }] },
    { ...first, ports: [] },
    { ...first, peers: [] },
    fromOthers,
  ]) {
    assert.deepEqual(touched(state(first), state(other)), ['default/web'], JSON.stringify(other));
  }
  assert.deepEqual(touched(state(first, fromOthers), state(fromOthers, first)), ['default/web']);
});

test('compile: a pod that comes, moves or changes its labels touches those whose rules find it, and no other', () => {
  const policies = [
    policy('a', {
      ...webOnly,
      ingress: [{ peers: [{ namespaceSelector: {}, podSelector: { matchLabels: { app: 'peer' } } }], ports: [] }],
    }),
    policy('b', { ...dbOnly, ingress: [] }),
  ];
  const state = (...pods: Pod[]) => objectsOf([WEB, DB, ...pods], policies);
  assert.deepEqual(touched(state(), state(PEER)), ['default/web']);
  assert.deepEqual(touched(state(PEER), state({ ...PEER, ips: ['10.0.1.2'] })), ['default/web']);
  assert.deepEqual(touched(state(PEER), state({ ...PEER, labels: { app: 'none' } })), ['default/web']);
  assert.deepEqual(touched(state(PEER), state({ ...PEER, labels: { app: 'peer', 'pod-template-hash': '1' } })), []);
});

test('compile: changed labels of a namespace touch those whose rules ask for them', () => {
  const policies = [policy('a', { ...webOnly, ingress: [fromOthers] })];
  const before = objectsOf([WEB, DB, PEER], policies, { other: {} });
  assert.deepEqual(touched(before, objectsOf([WEB, DB, PEER], policies, { other: { team: 'x' } })), ['default/web']);
  assert.deepEqual(touched(before, objectsOf([WEB, DB, PEER], policies, { other: { colour: 'x' } })), []);
});

test('compile: another meaning of a port’s name at a peer touches egress rules that name it, whatever finds the peer', () => {
  const named = (port: number): Pod => ({ ...PEER, namedPorts: [{ name: 'http', protocol: 'TCP', port }] });
  for (const peers of [[], [{ ipBlock: { cidr: '10.0.0.0/8', except: [] } }], [{ namespaceSelector: {} }]]) {
    const policies = [
      policy('a', { ...webOnly, egress: [{ peers, ports: [{ protocol: 'TCP', port: 'http' }] }] }),
      policy('b', { ...dbOnly, egress: [{ peers, ports: [{ protocol: 'TCP', port: 80 }] }] }),
    ];
    const state = (port: number) => objectsOf([WEB, DB, named(port)], policies);
    assert.deepEqual(touched(state(80), state(81)), ['default/web'], JSON.stringify(peers));
    assert.equal(new Cluster(state(81)).decide('egress', 'web', '10.0.1.1', 6, 81), 'allow a 0');
  }
});

test('compile: a changed named port of an endpoint touches it where an ingress rule names a port', () => {
  const state = (port: number) =>
    objectsOf(
      [
        { ...WEB, namedPorts: [{ name: 'http', protocol: 'TCP', port }] },
        { ...DB, namedPorts: [{ name: 'http', protocol: 'TCP', port }] },
      ],
      [
        policy('a', { ...webOnly, ingress: [{ peers: [], ports: [{ protocol: 'TCP', port: 'http' }] }] }),
        policy('b', { ...dbOnly, ingress: [] }),
      ],
    );
  assert.deepEqual(touched(state(80), state(81)), ['default/web']);
});

test('compile: endpoints that the same policies select share a policy set', () => {
  const pods = Array.from({ length: 50 }, (_, i) =>
    pod(`w${i}`, `10.2.0.${i}`, { labels: { app: i < 25 ? 'web' : 'db', id: `${i}` } }),
  );
  const { compiled } = new Cluster(
    objectsOf(pods, [policy('a', { ...webOnly, ingress: [], egress: [] }), policy('b', { ingress: [fromOthers] })]),
  );
  // web: ingress, egress; db: ingress.
  assert.equal(compiled.counts.sets, 3);
  assert.equal(compiled.counts.identities, 1, 'as peers all are one, since no rule asks for their labels');
});

test('compile: what policies there are is told with the pods that each selects', () => {
  const cluster = new Cluster(
    objectsOf([DB, WEB], [policy('b', { ingress: [fromOthers, fromOthers] }), policy('a', { ...webOnly, egress: [] })]),
  );
  assert.deepEqual(cluster.compiled.policies, [
    {
      kind: 'NetworkPolicy',
      namespace: 'default',
      name: 'a',
      pods: ['default/web'],
      ingressRules: null,
      egressRules: 0,
    },
    {
      kind: 'NetworkPolicy',
      namespace: 'default',
      name: 'b',
      pods: ['default/db', 'default/web'],
      ingressRules: 2,
      egressRules: null,
    },
  ]);
  assert.equal(isolatingRules(cluster.compiled.tables, 0, cluster.portOf('web')), 2);
  assert.equal(isolatingRules(cluster.compiled.tables, 1, cluster.portOf('web')), 0);
  assert.equal(isolatingRules(cluster.compiled.tables, 1, cluster.portOf('db')), null);
});

test('compile: a CIDR that is none is refused with a code, not a crash', () => {
  const objects = objectsOf(
    [WEB],
    [policy('a', { ingress: [{ peers: [{ ipBlock: { cidr: '10.0.0.0', except: [] } }], ports: [] }] })],
  );
  assert.throws(
    () => new Cluster(objects),
    (error) =>
      error instanceof SeineError &&
      error.code === 'SEINE_ERR_POLICY_INVALID' &&
      /"10\.0\.0\.0" is no CIDR/.test(error.message),
  );
});
