/** Forwarding tables that take up pods change by change route as tables made of the objects at once do. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAddress } from '../../src/flow/ip-address.js';
import type { ClusterObjects, Node, Pod } from '../../src/objects/model.js';
import { assignPorts } from '../../src/objects/ports.js';
import { emptyObjects } from '../../src/objects/store.js';
import { Forwarding } from '../../src/pipeline/forwarding.js';
import { ForwardingTables } from '../../src/pipeline/forwarding-tables.js';

const IPS = [
  '10.0.0.1',
  '10.0.0.2',
  '10.0.0.3',
  '10.0.1.1',
  '10.0.1.2',
  '10.0.2.9',
  '192.0.2.1',
  '192.0.2.2',
  'fd00::1',
  'fd00::2',
];
const CIDRS = ['10.0.0.0/24', '10.0.1.0/24', '10.0.2.9/32', '10.0.0.2/31', 'fd00::/64'];
const NODES = ['here', 'there', 'far'];

const node = (name: string): fc.Arbitrary<Node> =>
  fc.record({
    name: fc.constant(name),
    labels: fc.constant({}),
    annotations: fc.constant({}),
    podCIDRs: fc.subarray(CIDRS),
    internalIPs: fc.subarray(IPS, { maxLength: 2 }),
  });
const pod: fc.Arbitrary<Pod> = fc.record({
  namespace: fc.constant('a'),
  name: fc.constantFrom('p0', 'p1', 'p2', 'p3', 'p4'),
  labels: fc.constant({}),
  annotations: fc.oneof(fc.constant({}), fc.constant({ 'seine.dev/mac': '02:00:00:00:00:01' })),
  nodeName: fc.constantFrom(...NODES, 'unknown', null),
  hostNetwork: fc.constantFrom(false, false, true),
  phase: fc.constantFrom('Running', 'Failed', null),
  ips: fc.subarray(IPS, { maxLength: 3 }),
  namedPorts: fc.constant([]),
  serviceAccount: fc.constant(null),
});

test('forwarding: pod by pod, routes, owners and ports are those of tables made at once', (t) => {
  const seed = Date.now() >>> 0;
  t.diagnostic(`seed ${seed}`);
  let told = 0;
  fc.assert(
    fc.property(
      fc.tuple(...NODES.map((name) => fc.option(node(name), { nil: undefined }))),
      fc.constantFrom('here', null),
      fc.array(pod, { maxLength: 4 }),
      fc.array(fc.array(fc.tuple(pod, fc.boolean()), { maxLength: 3 }), { maxLength: 8 }),
      (given, self, first, changes) => {
        const nodes = new Map(given.filter((each) => each !== undefined).map((each) => [each.name, each]));
        let objects: ClusterObjects = { ...emptyObjects(), nodes };
        for (const each of first) (objects.pods as Map<string, Pod>).set(`a/${each.name}`, each);
        const settings = { node: self, tunnelPort: 4789 };
        let table = assignPorts(objects, self, 'gw0', null);
        const tables = new ForwardingTables(objects, table, settings);
        let forwarding = new Forwarding(tables.data);
        for (const steps of changes) {
          const pods = new Map(objects.pods);
          const moved: (Pod | undefined)[] = [];
          for (const [each, stays] of steps) {
            const key = `a/${each.name}`;
            moved.push(pods.get(key), each);
            if (stays) pods.set(key, each);
            else pods.delete(key);
          }
          objects = { ...objects, pods };
          const next = assignPorts(objects, self, 'gw0', table);
          if (JSON.stringify([...next.podByPort]) !== JSON.stringify([...table.podByPort])) table = next;
          const podsAt = (ip: string) =>
            [...pods.values()].filter(
              ({ ips, hostNetwork, phase }) => ips.includes(ip) && !hostNetwork && phase !== 'Failed',
            );
          const before = lookups(forwarding);
          const news = tables.update(objects, moved, table, podsAt);
          assert.deepEqual(lookups(forwarding), before, 'who has not taken it up sees none of it');
          if (news !== null) {
            told++;
            forwarding = forwarding.changed(structuredClone(news));
          }
          const whole = new Forwarding(new ForwardingTables(objects, table, settings).data);
          assert.deepEqual(lookups(forwarding), lookups(whole));
          assert.deepEqual(lookups(new Forwarding(tables.data)), lookups(whole), 'for a worker that begins now');
          assert.equal(forwarding.metering, whole.metering);
          assert.deepEqual(forwarding.data.ports, whole.data.ports);
          assert.deepEqual(
            [forwarding.portKind, forwarding.portMac, forwarding.podPorts],
            [whole.portKind, whole.portMac, whole.podPorts],
          );
        }
      },
    ),
    { seed, numRuns: process.env.SEINE_SLOW === '1' ? 5000 : 400 },
  );
  assert.ok(told > 0);
});

function lookups(forwarding: Forwarding): number[][] {
  return [...IPS, '10.0.0.9', '10.0.1.9', '9.9.9.9', 'fd00::9'].map((ip) => {
    const { family, words } = parseAddress(ip)!;
    const address = Uint32Array.from([...words, 0, 0, 0]);
    return [
      forwarding.route(address, 0, family),
      forwarding.ownerPort(address, 0, family),
      Number(forwarding.isOwnNode(address, 0, family)),
      forwarding.tunnelPeer(address, 0, family),
    ];
  });
}
