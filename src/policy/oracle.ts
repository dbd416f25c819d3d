/**
 * The plain evaluator of NetworkPolicy v1 that tests hold the classifier against: reads objects as they are, knows nothing of
 * the rest of policy/ on purpose, and writes selectors, named ports and CIDRs a second time, as plainly as can be.
 */
import type {
  ClusterObjects,
  Labels,
  LabelSelector,
  NetworkPolicyPeer,
  NetworkPolicyPort,
  NetworkPolicyRule,
  Pod,
} from '../objects/model.js';

export interface Query {
  direction: 'ingress' | 'egress';
  /** The pod whose policies are asked. */
  pod: Pod;
  /** The other end, as text. */
  peer: string;
  protocol: number;
  /** null: the packet has no ports. */
  dstPort: number | null;
}
export interface Answer {
  allowed: boolean;
  /** What decided; null where no policy selects the pod in that direction. */
  policy: { namespace: string; name: string; rule: number | null } | null;
}

const PROTOCOL_NUMBERS = { TCP: 6, UDP: 17, SCTP: 132 } as const;

function bits(address: string): string {
  if (!address.includes(':'))
    return address
      .split('.')
      .map((part) => Number(part).toString(2).padStart(8, '0'))
      .join('');
  let text = address;
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text);
  if (dotted) {
    const hex = (a: string, b: string) => ((Number(a) << 8) | Number(b)).toString(16);
    text = `${dotted[1]}${hex(dotted[2]!, dotted[3]!)}:${hex(dotted[4]!, dotted[5]!)}`;
  }
  const [head = '', tail] = text.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? [] : new Array<string>(8 - left.length - right.length).fill('0');
  return [...left, ...zeros, ...right]
    .map((group) => Number.parseInt(group, 16).toString(2).padStart(16, '0'))
    .join('');
}
function inCidr(address: string, cidr: string): boolean {
  const [network = '', length = '0'] = cidr.split('/');
  if (network.includes(':') !== address.includes(':')) return false;
  return bits(address).slice(0, Number(length)) === bits(network).slice(0, Number(length));
}

function selects(selector: LabelSelector, labels: Labels): boolean {
  const has = (key: string) => Object.hasOwn(labels, key); // a label may be called "constructor"
  const equal = Object.entries(selector.matchLabels ?? {}).every(([key, value]) => has(key) && labels[key] === value);
  const expressions = (selector.matchExpressions ?? []).every(({ key, operator, values }) => {
    if (operator === 'In') return has(key) && values!.includes(labels[key]!);
    if (operator === 'NotIn') return !has(key) || !values!.includes(labels[key]!);
    if (operator === 'Exists') return has(key);
    return !has(key);
  });
  return equal && expressions;
}

export function evaluate(objects: ClusterObjects, query: Query): Answer {
  const running = (pod: Pod) => !pod.hostNetwork && pod.phase !== 'Succeeded' && pod.phase !== 'Failed';
  const peerPod = [...objects.pods.values()]
    .filter((pod) => running(pod) && pod.ips.some((ip) => bits(ip) === bits(query.peer)))
    .at(-1);
  const destination = query.direction === 'ingress' ? query.pod : peerPod;

  const policies = [...objects.networkPolicies.values()]
    .filter((policy) => policy.namespace === query.pod.namespace && selects(policy.podSelector, query.pod.labels))
    .filter((policy) => policy[query.direction] !== null)
    .sort(
      (a, b) =>
        Buffer.compare(Buffer.from(a.namespace), Buffer.from(b.namespace)) ||
        Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)),
    );
  if (policies.length === 0) return { allowed: true, policy: null };

  const peerMatches = (peer: NetworkPolicyPeer, namespace: string): boolean => {
    if (peer.ipBlock) {
      return inCidr(query.peer, peer.ipBlock.cidr) && !peer.ipBlock.except.some((except) => inCidr(query.peer, except));
    }
    if (!peerPod) return false;
    const labels = objects.namespaces.get(peerPod.namespace)?.labels ?? {
      'kubernetes.io/metadata.name': peerPod.namespace,
    };
    const namespaceFits = peer.namespaceSelector
      ? selects(peer.namespaceSelector, labels)
      : peerPod.namespace === namespace;
    return namespaceFits && selects(peer.podSelector ?? {}, peerPod.labels);
  };
  const portMatches = (port: NetworkPolicyPort): boolean => {
    if (PROTOCOL_NUMBERS[port.protocol] !== query.protocol) return false;
    if (port.port === undefined) return true;
    if (query.dstPort === null) return false;
    if (typeof port.port === 'string') {
      return (destination?.namedPorts ?? []).some(
        (named) => named.name === port.port && named.protocol === port.protocol && named.port === query.dstPort,
      );
    }
    return query.dstPort >= port.port && query.dstPort <= (port.endPort ?? port.port);
  };
  const ruleMatches = (rule: NetworkPolicyRule, namespace: string): boolean =>
    (rule.peers.length === 0 || rule.peers.some((peer) => peerMatches(peer, namespace))) &&
    (rule.ports.length === 0 || rule.ports.some(portMatches));

  for (const policy of policies) {
    const rule = policy[query.direction]!.findIndex((candidate) => ruleMatches(candidate, policy.namespace));
    if (rule >= 0) return { allowed: true, policy: { namespace: policy.namespace, name: policy.name, rule } };
  }
  return { allowed: false, policy: { namespace: policies[0]!.namespace, name: policies[0]!.name, rule: null } };
}
