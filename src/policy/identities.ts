/**
 * Identities: pods that no policy can tell apart, because namespace, named ports in use and the labels that some selector asks
 * for are the same. Labels that none asks for (a StatefulSet's pod name, a template's hash) make no identity of their own.
 */
import type { Labels, LabelSelector, NamedPort, NetworkPolicy, NetworkPolicyPort, Pod } from '../objects/model.js';
import { Digest } from './digest.js';
import { matches } from './selectors.js';

export interface Identity {
  /** From 1; 0 stands for no pod. */
  id: number;
  namespace: string;
  /** Of one of its pods: all agree on the labels in use. */
  labels: Labels;
  /** Index in Identities.namedPorts. */
  namedPorts: number;
  /** Of its pods' addresses: whom a selector finds is told by the addresses alone, however finely labels part them. */
  addresses: Digest;
}

/** The label keys and port names that some policy asks for. */
export function usedBy(policies: Iterable<NetworkPolicy>): { labelKeys: string[]; portNames: Set<string> } {
  const keys = new Set<string>();
  const portNames = new Set<string>();
  const note = ({ matchLabels = {}, matchExpressions = [] }: LabelSelector) => {
    for (const key in matchLabels) keys.add(key);
    for (const { key } of matchExpressions) keys.add(key);
  };
  const notePort = ({ port }: NetworkPolicyPort) => {
    if (typeof port === 'string') portNames.add(port);
  };
  for (const { podSelector, ingress, egress } of policies) {
    note(podSelector);
    for (const { peers, ports } of [...(ingress ?? []), ...(egress ?? [])]) {
      for (const peer of peers) if (peer.podSelector !== undefined) note(peer.podSelector);
      ports.forEach(notePort);
    }
  }
  return { labelKeys: [...keys].sort(), portNames };
}

export class Identities {
  /** By id; entry 0 is no pod. */
  readonly list: Identity[] = [{ id: 0, namespace: '', labels: {}, namedPorts: 0, addresses: new Digest() }];
  /** Distinct lists of named ports; entry 0 is the empty one. */
  readonly namedPorts: NamedPort[][] = [[]];
  private readonly byKey = new Map<string, Identity>();
  private readonly portsByKey = new Map<string, number>([['[]', 0]]);

  constructor(
    readonly labelKeys: readonly string[],
    private readonly portNames: ReadonlySet<string>,
  ) {}

  of(pod: Pod): Identity {
    const namedPorts = pod.namedPorts.filter(({ name }) => this.portNames.has(name));
    const portsKey = JSON.stringify(namedPorts.map(({ name, protocol, port }) => [name, protocol, port]));
    const key = JSON.stringify([
      pod.namespace,
      portsKey,
      ...this.labelKeys.map((label) => (Object.hasOwn(pod.labels, label) ? pod.labels[label] : null)),
    ]);
    let identity = this.byKey.get(key);
    if (identity === undefined) {
      let ports = this.portsByKey.get(portsKey);
      if (ports === undefined) {
        ports = this.namedPorts.push(namedPorts) - 1;
        this.portsByKey.set(portsKey, ports);
      }
      identity = {
        id: this.list.length,
        namespace: pod.namespace,
        labels: pod.labels,
        namedPorts: ports,
        addresses: new Digest(),
      };
      this.byKey.set(key, identity);
      this.list.push(identity);
    }
    return identity;
  }
}

/** Selects identities by label without looking at each: the shortest list that a positive requirement names is gone through. */
export class LabelIndex {
  private readonly lists = new Map<string, Identity[]>();

  constructor(identities: Iterable<Identity>, labelKeys: readonly string[]) {
    for (const identity of identities) {
      for (const namespace of ['', identity.namespace]) {
        this.push(namespace, identity);
        for (const key of labelKeys) {
          if (!Object.hasOwn(identity.labels, key)) continue;
          this.push(`${namespace}\0${key}`, identity);
          this.push(`${namespace}\0${key}\0${identity.labels[key]}`, identity);
        }
      }
    }
  }
  private push(key: string, identity: Identity): void {
    const list = this.lists.get(key);
    if (list === undefined) this.lists.set(key, [identity]);
    else list.push(identity);
  }

  /** Identities of one namespace or ('') of all, each once. */
  select(namespace: string, selector: LabelSelector): Identity[] {
    return this.candidates(namespace, selector).filter(({ labels }) => matches(selector, labels));
  }

  /** Those that may match: a superset that costs little. */
  candidates(namespace: string, { matchLabels = {}, matchExpressions = [] }: LabelSelector): readonly Identity[] {
    let best = this.lists.get(namespace) ?? [];
    const consider = (list: readonly Identity[] | undefined) => {
      if ((list?.length ?? 0) < best.length) best = list === undefined ? [] : (list as Identity[]);
    };
    for (const key in matchLabels) consider(this.lists.get(`${namespace}\0${key}\0${matchLabels[key]}`));
    for (const { key, operator, values = [] } of matchExpressions) {
      if (operator === 'Exists') consider(this.lists.get(`${namespace}\0${key}`));
      if (operator !== 'In') continue;
      const lists = [...new Set(values)].map((value) => this.lists.get(`${namespace}\0${key}\0${value}`) ?? []);
      if (lists.length === 1) consider(lists[0]);
      else if (lists.reduce((sum, { length }) => sum + length, 0) < best.length) {
        consider(lists.flat());
      }
    }
    return best;
  }
}
