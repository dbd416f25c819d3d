/** NetworkPolicy v1, fact by fact, through compile and classifier. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NetworkPolicyRule } from '../../../src/objects/model.js';
import { endpointAt } from '../../../src/policy/tables.js';
import { Cluster, objectsOf, pod, policy } from './cluster.js';

const WEB = pod('web', '10.0.0.1', { namedPorts: [{ name: 'http', protocol: 'TCP', port: 8080 }] });
const CLIENT = pod('client', '10.0.0.2', { namedPorts: [{ name: 'http', protocol: 'TCP', port: 9090 }] });
const OTHER = pod('other', '10.0.1.1', { namespace: 'other', labels: { app: 'client' } });
const OUTSIDE = '192.0.2.1';
const ANY: NetworkPolicyRule = { peers: [], ports: [] };
const from = (app: string): NetworkPolicyRule => ({ peers: [{ podSelector: { matchLabels: { app } } }], ports: [] });
const cluster = (...policies: Parameters<typeof policy>[1][]) =>
  new Cluster(
    objectsOf(
      [WEB, CLIENT, OTHER],
      policies.map((more, i) => policy(`p${i}`, more)),
    ),
  );
const webOnly = { podSelector: { matchLabels: { app: 'web' } } };

test('classifier: a pod that no policy selects in a direction is open in it', () => {
  const c = cluster({ ...webOnly, ingress: [] });
  assert.equal(c.decide('egress', 'web', OUTSIDE), 'open');
  assert.equal(c.decide('ingress', 'client', OUTSIDE), 'open');
  assert.equal(c.decide('ingress', 'web', OUTSIDE), 'deny p0');
});

test('classifier: a policy selects pods of its own namespace only', () => {
  assert.equal(cluster({ ingress: [] }).decide('ingress', 'other/other', OUTSIDE), 'open');
});

test('classifier: no rule denies, an empty rule allows all, external addresses and any protocol too', () => {
  assert.equal(cluster({ ingress: [] }).decide('ingress', 'web', '10.0.0.2'), 'deny p0');
  const c = cluster({ ingress: [ANY] });
  assert.equal(c.decide('ingress', 'web', OUTSIDE), 'allow p0 0');
  assert.equal(c.decide('ingress', 'web', OUTSIDE, 1, -1), 'allow p0 0');
  assert.equal(c.decide('ingress', 'web', OUTSIDE, 47, -1), 'allow p0 0');
});

test('classifier: podSelector alone is the namespace of the policy, with namespaceSelector both must hold', () => {
  const alone = cluster({ ...webOnly, ingress: [from('client')] });
  assert.equal(alone.decide('ingress', 'web', '10.0.0.2'), 'allow p0 0');
  assert.equal(alone.decide('ingress', 'web', '10.0.1.1'), 'deny p0');
  const both = cluster({
    ...webOnly,
    ingress: [
      {
        peers: [
          {
            namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'other' } },
            podSelector: { matchLabels: { app: 'client' } },
          },
        ],
        ports: [],
      },
    ],
  });
  assert.equal(both.decide('ingress', 'web', '10.0.1.1'), 'allow p0 0');
  assert.equal(both.decide('ingress', 'web', '10.0.0.2'), 'deny p0');
});

test('classifier: NotIn and DoesNotExist match where the key is absent, but no address that is no pod', () => {
  for (const expression of [
    { key: 'tier', operator: 'NotIn' as const, values: ['x'] },
    { key: 'tier', operator: 'DoesNotExist' as const },
  ]) {
    const c = cluster({
      ...webOnly,
      ingress: [{ peers: [{ podSelector: { matchExpressions: [expression] } }], ports: [] }],
    });
    assert.equal(c.decide('ingress', 'web', '10.0.0.2'), 'allow p0 0');
    assert.equal(c.decide('ingress', 'web', OUTSIDE), 'deny p0');
  }
});

test('classifier: an except takes away from its own block only', () => {
  const c = cluster({
    ...webOnly,
    ingress: [
      { peers: [{ ipBlock: { cidr: '192.0.2.0/24', except: ['192.0.2.0/25', '192.0.2.200/32'] } }], ports: [] },
      { peers: [{ ipBlock: { cidr: '192.0.2.64/26', except: ['192.0.2.65/32'] } }], ports: [] },
    ],
  });
  assert.equal(c.decide('ingress', 'web', '192.0.2.1'), 'deny p0');
  assert.equal(c.decide('ingress', 'web', '192.0.2.64'), 'allow p0 1');
  assert.equal(c.decide('ingress', 'web', '192.0.2.65'), 'deny p0');
  assert.equal(c.decide('ingress', 'web', '192.0.2.129'), 'allow p0 0');
  assert.equal(c.decide('ingress', 'web', '192.0.2.200'), 'deny p0');
});

test('classifier: a block matches pods too, and is of one family', () => {
  const c = cluster({ ...webOnly, ingress: [{ peers: [{ ipBlock: { cidr: '0.0.0.0/0', except: [] } }], ports: [] }] });
  assert.equal(c.decide('ingress', 'web', '10.0.0.2'), 'allow p0 0');
  assert.equal(c.decide('ingress', 'web', '::a00:2'), 'deny p0');
});

test('classifier: a named port is the destination pod’s: the endpoint’s for ingress, the peer’s for egress', () => {
  const rule: NetworkPolicyRule = { peers: [], ports: [{ protocol: 'TCP', port: 'http' }] };
  const c = cluster({ ingress: [rule], egress: [rule] });
  assert.equal(c.decide('ingress', 'web', '10.0.0.2', 6, 8080), 'allow p0 0');
  assert.equal(c.decide('ingress', 'web', '10.0.0.2', 6, 9090), 'deny p0');
  assert.equal(c.decide('ingress', 'client', '10.0.0.1', 6, 9090), 'allow p0 0');
  assert.equal(c.decide('egress', 'web', '10.0.0.2', 6, 9090), 'allow p0 0');
  assert.equal(c.decide('egress', 'web', '10.0.0.2', 6, 8080), 'deny p0');
  assert.equal(c.decide('egress', 'web', OUTSIDE, 6, 8080), 'deny p0');
  assert.equal(c.decide('egress', 'web', '10.0.0.2', 17, 9090), 'deny p0');
});

test('classifier: endPort is inclusive, and 65535 is a port', () => {
  const c = cluster({
    ingress: [
      { peers: [], ports: [{ protocol: 'TCP', port: 80, endPort: 90 }] },
      { peers: [], ports: [{ protocol: 'TCP', port: 65000, endPort: 65535 }] },
    ],
  });
  const got = [79, 80, 90, 91, 64999, 65000, 65535].map((port) => c.decide('ingress', 'web', OUTSIDE, 6, port));
  assert.deepEqual(got, ['deny p0', 'allow p0 0', 'allow p0 0', 'deny p0', 'deny p0', 'allow p0 1', 'allow p0 1']);
});

test('classifier: without ports in the packet, only rules without port numbers match', () => {
  const c = cluster({
    ingress: [
      { peers: [], ports: [{ protocol: 'TCP', port: 80 }] },
      { peers: [], ports: [{ protocol: 'UDP' }] },
    ],
  });
  assert.equal(c.decide('ingress', 'web', OUTSIDE, 6, -1), 'deny p0');
  assert.equal(c.decide('ingress', 'web', OUTSIDE, 17, -1), 'allow p0 1');
  assert.equal(c.decide('ingress', 'web', OUTSIDE, 17, 53), 'allow p0 1');
  assert.equal(c.decide('ingress', 'web', OUTSIDE, 1, -1), 'deny p0');
});

test('classifier: policies add up; the first allow by name and rule is told, a denial by the first policy', () => {
  const c = cluster(
    { ingress: [from('nobody')] },
    { ingress: [from('nobody'), from('client'), ANY] },
    { ingress: [ANY] },
  );
  assert.equal(c.decide('ingress', 'web', '10.0.0.2'), 'allow p1 1');
  assert.equal(c.decide('ingress', 'web', OUTSIDE), 'allow p1 2');
  assert.equal(
    cluster({ egress: [ANY] }, { ingress: [] }, { ingress: [] }).decide('ingress', 'web', OUTSIDE),
    'deny p1',
  );
});

test('classifier: names are ordered by their octets', () => {
  const named = (...names: string[]) =>
    new Cluster(
      objectsOf(
        [WEB],
        names.map((name) => policy(name, { ingress: [ANY] })),
      ),
    ).decide('ingress', 'web', OUTSIDE);
  assert.equal(named('p.1', 'p-1', 'p1'), 'allow p-1 0');
  // UTF-16 would put the second first: octets ef bf bd stand before f0 90 80 80.
  assert.equal(named('\ufffd', '\u{10000}'), 'allow \ufffd 0');
});

test('classifier: host-network pods and finished ones are matched by no selector, but by blocks', () => {
  for (const more of [{ hostNetwork: true }, { phase: 'Succeeded' }, { phase: 'Failed' }]) {
    const objects = objectsOf(
      [WEB, pod('gone', '10.0.0.9', more)],
      [
        policy('p0', {
          ...webOnly,
          ingress: [
            { peers: [{ podSelector: {} }], ports: [{ protocol: 'TCP' }] },
            { peers: [{ ipBlock: { cidr: '10.0.0.9/32', except: [] } }], ports: [{ protocol: 'UDP' }] },
          ],
        }),
      ],
    );
    const c = new Cluster(objects);
    assert.equal(c.decide('ingress', 'web', '10.0.0.9', 6), 'deny p0');
    assert.equal(c.decide('ingress', 'web', '10.0.0.9', 17), 'allow p0 1');
    assert.equal(c.decide('ingress', 'web', '10.0.0.1', 6), 'allow p0 0');
  }
});

test('classifier: all addresses of a pod are its, of both families', () => {
  const c = new Cluster(
    objectsOf([WEB, pod('dual', ['10.0.0.5', 'fd00::5'])], [policy('p0', { ...webOnly, ingress: [from('dual')] })]),
  );
  assert.equal(c.decide('ingress', 'web', '10.0.0.5'), 'allow p0 0');
  assert.equal(c.decide('ingress', 'web', 'fd00::5'), 'allow p0 0');
  assert.equal(c.decide('ingress', 'web', 'fd00::6'), 'deny p0');
});

test('classifier: a port number above 65535 has no policies', () => {
  const c = cluster({ ingress: [] });
  assert.equal(c.compiled.tables.endpoints[endpointAt(c.portOf('web'), 0)] !== 0, true);
  const none = new Uint32Array(8);
  assert.equal(c.raw(0, 65536 + c.portOf('web'), none), 0);
  assert.equal(c.raw(1, 0xffffffff, none), 0);
});

test('classifier: groups kept as bits and groups kept as members decide alike', () => {
  // 200 pods, all with distinct labels in use: "all but one" is dense, "one" is sparse.
  const pods = Array.from({ length: 200 }, (_, i) => pod(`n${i}`, `10.1.0.${i}`));
  const c = new Cluster(
    objectsOf(
      [WEB, ...pods],
      [
        policy('p0', {
          ...webOnly,
          ingress: [
            { ...from('n7'), ports: [{ protocol: 'TCP', port: 7 }] },
            {
              peers: [{ podSelector: { matchExpressions: [{ key: 'app', operator: 'NotIn', values: ['n9'] }] } }],
              ports: [{ protocol: 'TCP', port: 9 }],
            },
            // Asks for each of them, so that no two are one identity.
            {
              peers: [
                {
                  podSelector: {
                    matchExpressions: [{ key: 'app', operator: 'In', values: pods.map(({ name }) => name) }],
                  },
                },
              ],
              ports: [{ protocol: 'UDP' }],
            },
          ],
        }),
      ],
    ),
  );
  const bits = [...c.compiled.tables.denseGroups].map((at) => at > 0);
  assert.deepEqual(bits.slice(0, 3), [false, true, true]);
  assert.equal(c.compiled.counts.identities, 201);
  for (let i = 0; i < 200; i++) {
    assert.equal(c.decide('ingress', 'web', `10.1.0.${i}`, 6, 7), i === 7 ? 'allow p0 0' : 'deny p0');
    assert.equal(c.decide('ingress', 'web', `10.1.0.${i}`, 6, 9), i === 9 ? 'deny p0' : 'allow p0 1');
  }
});
