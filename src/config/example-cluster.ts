/**
 * The built-in example cluster, as a manifest: two nodes, twelve pods in three namespaces on the first and two on the second,
 * services with their endpoint slices, and a handful of NetworkPolicies. `seine serve --example` runs it; serving real
 * objects needs nothing of it. Addresses are from 10.10.0.0/16 and fd00:10:10::/48; the outside is RFC 5737's 203.0.113.0/24.
 */

/** The node that the example is seen from: its pods are the local ones. */
export const EXAMPLE_NODE = 'node-1';

interface ExamplePod {
  namespace: string;
  name: string;
  labels: Record<string, string>;
  /** 10.10.NODE.HOST and fd00:10:10:NODE::HOST; the MAC ends in the same two numbers. */
  node: 0 | 1;
  host: number;
  /** name, protocol, number. */
  ports: [name: string, protocol: 'TCP' | 'UDP', port: number][];
}

const PODS: readonly ExamplePod[] = [
  { namespace: 'data', name: 'backup', labels: { app: 'backup' }, node: 0, host: 2, ports: [] },
  {
    namespace: 'data',
    name: 'postgres',
    labels: { app: 'postgres', tier: 'database' },
    node: 0,
    host: 3,
    ports: [
      ['postgres', 'TCP', 5432],
      ['metrics', 'TCP', 9187],
    ],
  },
  {
    namespace: 'data',
    name: 'redis',
    labels: { app: 'redis', tier: 'database' },
    node: 0,
    host: 4,
    ports: [
      ['redis', 'TCP', 6379],
      ['metrics', 'TCP', 9121],
    ],
  },
  {
    namespace: 'platform',
    name: 'coredns-1',
    labels: { 'k8s-app': 'kube-dns' },
    node: 0,
    host: 10,
    ports: [
      ['dns', 'UDP', 53],
      ['dns-tcp', 'TCP', 53],
    ],
  },
  {
    namespace: 'platform',
    name: 'coredns-2',
    labels: { 'k8s-app': 'kube-dns' },
    node: 0,
    host: 11,
    ports: [
      ['dns', 'UDP', 53],
      ['dns-tcp', 'TCP', 53],
    ],
  },
  { namespace: 'platform', name: 'debug', labels: { app: 'debug' }, node: 0, host: 12, ports: [] },
  {
    namespace: 'platform',
    name: 'ingress',
    labels: { app: 'ingress' },
    node: 0,
    host: 13,
    ports: [['https', 'TCP', 8443]],
  },
  {
    namespace: 'platform',
    name: 'prometheus',
    labels: { app: 'prometheus' },
    node: 0,
    host: 14,
    ports: [['web', 'TCP', 9090]],
  },
  {
    namespace: 'shop',
    name: 'cart',
    labels: { app: 'cart', tier: 'backend' },
    node: 0,
    host: 20,
    ports: [['http', 'TCP', 8080]],
  },
  {
    namespace: 'shop',
    name: 'checkout',
    labels: { app: 'checkout', tier: 'backend' },
    node: 0,
    host: 21,
    ports: [['http', 'TCP', 8081]],
  },
  {
    namespace: 'shop',
    name: 'web-1',
    labels: { app: 'web', tier: 'frontend' },
    node: 0,
    host: 22,
    ports: [['http', 'TCP', 8000]],
  },
  {
    namespace: 'shop',
    name: 'web-2',
    labels: { app: 'web', tier: 'frontend' },
    node: 0,
    host: 23,
    ports: [['http', 'TCP', 8000]],
  },
  {
    namespace: 'data',
    name: 'postgres-replica',
    labels: { app: 'postgres', tier: 'database' },
    node: 1,
    host: 2,
    ports: [
      ['postgres', 'TCP', 5432],
      ['metrics', 'TCP', 9187],
    ],
  },
  {
    namespace: 'shop',
    name: 'web-3',
    labels: { app: 'web', tier: 'frontend' },
    node: 1,
    host: 3,
    ports: [['http', 'TCP', 8000]],
  },
];

/** namespace, name, cluster IP, label that selects its pods, ports. */
const SERVICES: readonly [string, string, string, [key: string, value: string], ExamplePod['ports']][] = [
  [
    'platform',
    'kube-dns',
    '10.96.0.10',
    ['k8s-app', 'kube-dns'],
    [
      ['dns', 'UDP', 53],
      ['dns-tcp', 'TCP', 53],
    ],
  ],
  ['shop', 'web', '10.96.1.1', ['app', 'web'], [['http', 'TCP', 8000]]],
  ['shop', 'cart', '10.96.1.2', ['app', 'cart'], [['http', 'TCP', 8080]]],
  ['data', 'postgres', '10.96.2.1', ['app', 'postgres'], [['postgres', 'TCP', 5432]]],
  ['data', 'redis', '10.96.2.2', ['app', 'redis'], [['redis', 'TCP', 6379]]],
];

const hex = (value: number): string => value.toString(16).padStart(2, '0');
const address = ({ node, host }: ExamplePod): string => `10.10.${node}.${host}`;
const flow = (map: Record<string, string>): string =>
  `{${Object.entries(map)
    .map(([key, value]) => `${key}: ${value}`)
    .join(', ')}}`;

const nodeText = (node: 0 | 1): string => `apiVersion: v1
kind: Node
metadata:
  name: node-${node + 1}
  annotations: {seine.dev/mac: "02:00:00:00:01:${hex(node + 1)}"}
spec:
  podCIDRs: [10.10.${node}.0/24, "fd00:10:10:${node}::/64"]
status:
  addresses: [{type: InternalIP, address: 192.168.77.${100 + node}}]
`;

const namespaceText = (name: string): string => `apiVersion: v1
kind: Namespace
metadata: {name: ${name}, labels: {team: ${name}}}
`;

const podText = (pod: ExamplePod): string => `apiVersion: v1
kind: Pod
metadata:
  namespace: ${pod.namespace}
  name: ${pod.name}
  labels: ${flow(pod.labels)}
  annotations: {seine.dev/mac: "02:00:0a:0a:${hex(pod.node)}:${hex(pod.host)}"}
spec:
  nodeName: node-${pod.node + 1}
  containers:
    - name: main
      ports: [${pod.ports.map(([name, protocol, port]) => `{name: ${name}, containerPort: ${port}, protocol: ${protocol}}`).join(', ')}]
status:
  phase: Running
  podIP: ${address(pod)}
  podIPs: [{ip: ${address(pod)}}, {ip: "fd00:10:10:${pod.node}::${pod.host.toString(16)}"}]
`;

function serviceText([namespace, name, clusterIP, [key, value], ports]: (typeof SERVICES)[number]): string {
  const selected = PODS.filter((pod) => pod.namespace === namespace && pod.labels[key] === value);
  return `apiVersion: v1
kind: Service
metadata: {namespace: ${namespace}, name: ${name}}
spec:
  clusterIP: ${clusterIP}
  selector: {${key}: ${value}}
  ports: [${ports.map(([port, protocol, number]) => `{name: ${port}, protocol: ${protocol}, port: ${number}, targetPort: ${port}}`).join(', ')}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: ${namespace}, name: ${name}-1, labels: {kubernetes.io/service-name: ${name}}}
addressType: IPv4
ports: [${ports.map(([port, protocol, number]) => `{name: ${port}, protocol: ${protocol}, port: ${number}}`).join(', ')}]
endpoints:
${selected.map((pod) => `  - {addresses: [${address(pod)}], conditions: {ready: true}, nodeName: node-${pod.node + 1}, targetRef: {kind: Pod, namespace: ${namespace}, name: ${pod.name}}}`).join('\n')}
`;
}

const POLICIES = `# Nothing enters or leaves a pod of the shop, but for what the next policies allow.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: default-deny}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
---
# Every pod of the shop may ask the cluster's DNS servers.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: dns}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
    - to:
        - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: platform}}
          podSelector: {matchLabels: {k8s-app: kube-dns}}
      ports: [{protocol: UDP, port: dns}, {protocol: TCP, port: dns-tcp}]
---
# The front end is reached by the ingress alone, on its named port, and calls the back ends.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - namespaceSelector: {matchLabels: {team: platform}}
          podSelector: {matchLabels: {app: ingress}}
      ports: [{port: http}]
  egress:
    - to: [{podSelector: {matchLabels: {tier: backend}}}]
      ports: [{port: http}]
---
# The back ends are called by the front end, and call the databases; checkout also a payment provider, but not its test systems.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: backend}
spec:
  podSelector: {matchExpressions: [{key: tier, operator: In, values: [backend]}]}
  policyTypes: [Ingress, Egress]
  ingress:
    - from: [{podSelector: {matchLabels: {tier: frontend}}}]
      ports: [{protocol: TCP, port: 8080, endPort: 8089}]
  egress:
    - to:
        - namespaceSelector: {matchLabels: {team: data}}
          podSelector: {matchLabels: {tier: database}}
      ports: [{port: postgres}, {port: redis}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: payments}
spec:
  podSelector: {matchLabels: {app: checkout}}
  policyTypes: [Egress]
  egress:
    - to: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.128/25]}}]
      ports: [{protocol: TCP, port: 443}]
---
# The databases answer the shop's back ends and the backup; Prometheus reads their metrics.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: data, name: databases}
spec:
  podSelector: {matchLabels: {tier: database}}
  policyTypes: [Ingress]
  ingress:
    - from:
        - namespaceSelector: {matchLabels: {team: shop}}
          podSelector: {matchLabels: {tier: backend}}
        - podSelector: {matchLabels: {app: backup}}
      ports: [{port: postgres}, {port: redis}]
    - from:
        - namespaceSelector: {matchLabels: {team: platform}}
          podSelector: {matchLabels: {app: prometheus}}
      ports: [{port: metrics}]
`;

/** YAML, several documents: what `seine apply` and `--objects` take. */
export const EXAMPLE_CLUSTER: string = [
  nodeText(0),
  nodeText(1),
  ...['data', 'platform', 'shop'].map(namespaceText),
  ...PODS.map(podText),
  ...SERVICES.map(serviceText),
  POLICIES,
].join('---\n');
