/**
 * Kubernetes objects as the engine uses them: read and validated by objects/read.ts, indexed by key "namespace/name".
 * Object types only; nothing here decides anything.
 */
export type Protocol = 'TCP' | 'UDP' | 'SCTP';
export type Labels = Readonly<Record<string, string>>;

export interface LabelSelectorRequirement {
  key: string;
  operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
  values?: string[];
}
export interface LabelSelector {
  matchLabels?: Record<string, string>;
  matchExpressions?: LabelSelectorRequirement[];
}

/** Where an object came from, for messages: file (or "manifest") and line. */
export interface Origin {
  file: string;
  line: number;
}

export interface Namespace {
  name: string;
  labels: Labels; // kubernetes.io/metadata.name always there
}
export interface NamedPort {
  name: string;
  protocol: Protocol;
  port: number;
}
export interface Pod {
  namespace: string;
  name: string;
  labels: Labels;
  annotations: Labels;
  nodeName: string | null;
  hostNetwork: boolean;
  phase: string | null; // Succeeded and Failed pods have no port
  /** podIPs, canonical text; status.podIP alone counts as one. */
  ips: string[];
  namedPorts: NamedPort[];
  serviceAccount: string | null;
}
export interface Node {
  name: string;
  labels: Labels;
  annotations: Labels;
  podCIDRs: string[];
  internalIPs: string[];
}
export interface ServicePort {
  name: string | null;
  protocol: Protocol;
  port: number;
  targetPort: number | string | null;
  nodePort: number | null;
}
export interface Service {
  namespace: string;
  name: string;
  type: string;
  clusterIPs: string[];
  externalIPs: string[];
  loadBalancerIPs: string[];
  ports: ServicePort[];
  selector: Labels | null;
  spec: Readonly<Record<string, unknown>>;
}
export interface EndpointSlice {
  namespace: string;
  name: string;
  service: string | null;
  addressType: string;
  endpoints: readonly Readonly<Record<string, unknown>>[];
  ports: readonly Readonly<Record<string, unknown>>[];
}

export interface NetworkPolicyPort {
  protocol: Protocol; // default TCP, filled in
  port?: number | string;
  endPort?: number;
}
export interface IpBlock {
  cidr: string;
  except: string[];
}
export interface NetworkPolicyPeer {
  podSelector?: LabelSelector;
  namespaceSelector?: LabelSelector;
  ipBlock?: IpBlock;
}
export interface NetworkPolicyRule {
  /** `from` or `to`; empty = any. */
  peers: NetworkPolicyPeer[];
  ports: NetworkPolicyPort[];
}
/** networking.k8s.io/v1. `ingress` and `egress` are null unless policyTypes (given or by default) name them. */
export interface NetworkPolicy {
  namespace: string;
  name: string;
  annotations: Labels;
  podSelector: LabelSelector;
  ingress: NetworkPolicyRule[] | null;
  egress: NetworkPolicyRule[] | null;
}

/** A kind that this engine does not enforce yet, kept as it was given so that `get` and `delete` know it. */
export interface OtherObject {
  kind: string;
  namespace: string | null;
  name: string;
  raw: unknown;
}

/** All objects of a cluster; maps are keyed by "namespace/name", or "name" for cluster-wide kinds. Immutable once built. */
export interface ClusterObjects {
  namespaces: ReadonlyMap<string, Namespace>;
  pods: ReadonlyMap<string, Pod>;
  nodes: ReadonlyMap<string, Node>;
  services: ReadonlyMap<string, Service>;
  endpointSlices: ReadonlyMap<string, EndpointSlice>;
  networkPolicies: ReadonlyMap<string, NetworkPolicy>;
}
