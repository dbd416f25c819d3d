/** Small clusters for policy tests: objects with only what a test states, and what is decided about them. */
import type { ClusterObjects, NetworkPolicy, Pod } from '../../../src/objects/model.js';
import { emptyObjects } from '../../../src/objects/store.js';
import { parseAddress } from '../../../src/flow/ip-address.js';
import { Classifier } from '../../../src/policy/classifier.js';
import { type CompiledPolicy, compilePolicies } from '../../../src/policy/compile.js';
import { RuleRegistry } from '../../../src/policy/rule-registry.js';

export const pod = (name: string, ip: string | string[], more: Partial<Pod> = {}): Pod => ({
  namespace: 'default',
  name,
  labels: { app: name },
  annotations: {},
  nodeName: 'here',
  hostNetwork: false,
  phase: 'Running',
  ips: typeof ip === 'string' ? [ip] : ip,
  namedPorts: [],
  serviceAccount: null,
  ...more,
});
export const policy = (name: string, more: Partial<NetworkPolicy>): NetworkPolicy => ({
  namespace: 'default',
  name,
  annotations: {},
  podSelector: {},
  ingress: null,
  egress: null,
  ...more,
});
export const objectsOf = (
  pods: readonly Pod[],
  policies: readonly NetworkPolicy[],
  namespaces: Record<string, Record<string, string>> = {},
): ClusterObjects => ({
  ...emptyObjects(),
  namespaces: new Map(
    Object.entries(namespaces).map(([name, labels]) => [
      name,
      { name, labels: { ...labels, 'kubernetes.io/metadata.name': name } },
    ]),
  ),
  pods: new Map(pods.map((given) => [`${given.namespace}/${given.name}`, given])),
  networkPolicies: new Map(policies.map((given) => [`${given.namespace}/${given.name}`, given])),
});

export class Cluster {
  readonly compiled: CompiledPolicy;
  private readonly classifier: Classifier;
  private readonly ports: Map<string, number>;

  /** All pods are local; the first has port 3. */
  constructor(
    objects: ClusterObjects,
    readonly registry = new RuleRegistry(),
  ) {
    const endpoints = [...objects.pods.values()].map((local, i) => ({ port: 3 + i, pod: local }));
    this.ports = new Map(endpoints.map(({ port, pod: local }) => [`${local.namespace}/${local.name}`, port]));
    this.compiled = compilePolicies({ objects, endpoints, registry });
    this.classifier = new Classifier(this.compiled.tables);
  }

  portOf(name: string): number {
    return this.ports.get(name.includes('/') ? name : `default/${name}`)!;
  }
  raw(direction: 0 | 1, port: number, words: Uint32Array): number {
    return this.classifier.decide(direction, port, words, 0, words, 4, 4, 6, 80);
  }
  /** "allow" or "deny" and what decided; "open" where no policy selects the pod. */
  decide(direction: 'ingress' | 'egress', name: string, peer: string, protocol = 6, dstPort = 80): string {
    const address = parseAddress(peer)!;
    const words = Uint32Array.from([...address.words, 0, 0, 0, 0]);
    const at = direction === 'ingress' ? 0 : 1;
    const rule = this.classifier.decide(at, this.portOf(name), words, 0, words, 4, address.family, protocol, dstPort);
    if (rule === 0) return 'open';
    const info = this.registry.get(Math.abs(rule))!;
    return rule > 0 ? `allow ${info.policy} ${info.rule}` : `deny ${info.policy}`;
  }
}
