/** Random small clusters and questions about them for the policy properties: few names and values, so that much matches. */
import fc from 'fast-check';
import type {
  ClusterObjects,
  LabelSelector,
  NamedPort,
  NetworkPolicy,
  NetworkPolicyPeer,
  NetworkPolicyPort,
  NetworkPolicyRule,
  Pod,
  Protocol,
} from '../../src/objects/model.js';
import { emptyObjects } from '../../src/objects/store.js';

const NAMESPACES = ['a', 'b', 'b-c', 'ü'];
const KEYS = ['app', 'tier', 'constructor'];
const VALUES = ['', 'x', 'y', 'z'];
const PORTS = [1, 79, 80, 81, 443, 8080, 65535];
const NAMES = ['http', 'dns'];
const PROTOCOLS: Protocol[] = ['TCP', 'UDP', 'SCTP'];
/** Pods' addresses and others: near each other, so that blocks cut between them. */
export const ADDRESSES4 = [
  '10.0.0.1',
  '10.0.0.2',
  '10.0.0.128',
  '10.0.1.1',
  '10.1.0.1',
  '192.0.2.1',
  '255.255.255.255',
  '0.0.0.0',
];
export const ADDRESSES6 = [
  'fd00::1',
  'fd00::2',
  'fd00::1:0:0:1',
  'fd00:0:0:1::1',
  'fd01::1',
  '2001:db8::1',
  '::ffff:10.0.0.1',
];
/** A block's CIDRs from wide to narrow, one family. */
const NESTED = [
  ['0.0.0.0/0', '10.0.0.0/8', '10.0.0.0/16', '10.0.0.0/24', '10.0.0.0/25', '10.0.0.2/32'],
  ['0.0.0.0/0', '128.0.0.0/1', '192.0.2.0/24', '192.0.2.1/32'],
  ['::/0', 'fd00::/8', 'fd00::/16', 'fd00::/63', 'fd00::/64', 'fd00::/96', 'fd00::2/128'],
  ['::/0', '::ffff:0:0/96', '::ffff:10.0.0.0/104'],
];

const labels = fc.dictionary(fc.constantFrom(...KEYS), fc.constantFrom(...VALUES), {
  maxKeys: 3,
  noNullPrototype: true,
});
const selector: fc.Arbitrary<LabelSelector> = fc.record(
  {
    matchLabels: fc.dictionary(fc.constantFrom(...KEYS), fc.constantFrom(...VALUES), {
      maxKeys: 2,
      noNullPrototype: true,
    }),
    matchExpressions: fc.array(
      fc.oneof(
        fc.record({
          key: fc.constantFrom(...KEYS),
          operator: fc.constantFrom('In' as const, 'NotIn' as const),
          values: fc.array(fc.constantFrom(...VALUES), { minLength: 1, maxLength: 3 }),
        }),
        fc.record({
          key: fc.constantFrom(...KEYS),
          operator: fc.constantFrom('Exists' as const, 'DoesNotExist' as const),
        }),
      ),
      { maxLength: 2 },
    ),
  },
  { requiredKeys: [] },
);
const namespaceSelector: fc.Arbitrary<LabelSelector> = fc.oneof(
  selector,
  fc.constantFrom(...NAMESPACES).map((name) => ({ matchLabels: { 'kubernetes.io/metadata.name': name } })),
);
const block = fc
  .tuple(fc.constantFrom(...NESTED), fc.nat(), fc.array(fc.nat(), { maxLength: 2 }))
  .map(([cidrs, at, excepts]) => {
    const outer = at % cidrs.length;
    const inner = cidrs.slice(outer + 1);
    return { cidr: cidrs[outer]!, except: inner.length === 0 ? [] : excepts.map((i) => inner[i % inner.length]!) };
  });
const peer: fc.Arbitrary<NetworkPolicyPeer> = fc.oneof(
  fc.record({ podSelector: selector }),
  fc.record({ namespaceSelector }),
  fc.record({ podSelector: selector, namespaceSelector }),
  fc.record({ ipBlock: block }),
);
const port: fc.Arbitrary<NetworkPolicyPort> = fc.oneof(
  fc.record({ protocol: fc.constantFrom(...PROTOCOLS) }),
  fc.record({ protocol: fc.constantFrom(...PROTOCOLS), port: fc.constantFrom(...PORTS, ...NAMES) }),
  fc
    .tuple(fc.constantFrom(...PROTOCOLS), fc.constantFrom(...PORTS), fc.constantFrom(...PORTS))
    .map(([protocol, a, b]) => ({ protocol, port: Math.min(a, b), endPort: Math.max(a, b) })),
);
const rule: fc.Arbitrary<NetworkPolicyRule> = fc.record({
  peers: fc.array(peer, { maxLength: 3 }),
  ports: fc.array(port, { maxLength: 3 }),
});
const rules = fc.option(fc.array(rule, { maxLength: 3 }), { nil: null });
const policy: fc.Arbitrary<NetworkPolicy> = fc.record({
  namespace: fc.constantFrom(...NAMESPACES),
  name: fc.constantFrom('p', 'p-1', 'p.1', 'q', 'é'),
  annotations: fc.constant({}),
  podSelector: fc.oneof(fc.constant({}), selector),
  ingress: rules,
  egress: rules,
});
const namedPort: fc.Arbitrary<NamedPort> = fc.record({
  name: fc.constantFrom(...NAMES),
  protocol: fc.constantFrom(...PROTOCOLS),
  port: fc.constantFrom(...PORTS),
});
const pod: fc.Arbitrary<Omit<Pod, 'name'>> = fc.record({
  namespace: fc.constantFrom(...NAMESPACES),
  labels,
  annotations: fc.constant({}),
  nodeName: fc.constantFrom('here', 'there'),
  hostNetwork: fc.constantFrom(false, false, false, true),
  phase: fc.constantFrom('Running', 'Running', 'Succeeded', 'Failed', null),
  ips: fc
    .tuple(fc.subarray(ADDRESSES4, { maxLength: 1 }), fc.subarray(ADDRESSES6, { maxLength: 2 }))
    .map((ips) => ips.flat()),
  namedPorts: fc.array(namedPort, { maxLength: 2 }),
  serviceAccount: fc.constant(null),
});

export const cluster: fc.Arbitrary<ClusterObjects> = fc
  .record({
    namespaces: fc.dictionary(fc.constantFrom(...NAMESPACES), labels, { noNullPrototype: true }),
    pods: fc.array(pod, { minLength: 1, maxLength: 8 }),
    policies: fc.array(policy, { maxLength: 7 }),
  })
  .map(({ namespaces, pods, policies }) => ({
    ...emptyObjects(),
    namespaces: new Map(
      Object.entries(namespaces).map(([name, given]) => [
        name,
        { name, labels: { ...given, 'kubernetes.io/metadata.name': name } },
      ]),
    ),
    pods: new Map(pods.map((given, i) => [`${given.namespace}/pod${i}`, { ...given, name: `pod${i}` }])),
    networkPolicies: new Map(policies.map((given) => [`${given.namespace}/${given.name}`, given])),
  }));

/** The local pods that have a port, numbered from 3. */
export function endpointsOf(objects: ClusterObjects): { port: number; pod: Pod }[] {
  return [...objects.pods.values()]
    .filter((pod) => pod.nodeName === 'here' && !pod.hostNetwork && pod.phase !== 'Succeeded' && pod.phase !== 'Failed')
    .map((pod, i) => ({ port: 3 + i, pod }));
}

export interface Packet {
  protocol: number;
  dstPort: number | null;
}
export const PACKETS: readonly Packet[] = [
  ...[6, 17, 132].flatMap((protocol) =>
    [0, 1, 2, 79, 80, 81, 82, 443, 8079, 8080, 8081, 65534, 65535, null].map((dstPort) => ({ protocol, dstPort })),
  ),
  { protocol: 1, dstPort: null },
  { protocol: 58, dstPort: null },
  { protocol: 47, dstPort: null },
  { protocol: 1, dstPort: 0x0800 },
];
