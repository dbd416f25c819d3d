/**
 * Pods and Namespaces as the compiler keeps them: which label set a pod is of, whose each address is, which identity a label set has,
 * and which pods are local endpoints.
 */
import { MutableAddressMap } from '../flow/address-map.js';
import { parseAddress } from '../flow/ip-address.js';
import type { Labels, NamedPort, Namespace, Pod } from '../objects/model.js';
import { type Asked, traitsOf } from './asked.js';
import { Digest, Sum } from './digest.js';
import type { Groups } from './groups.js';
import type { Identities, Identity } from './identities.js';
import type { Selection } from './selections.js';

export interface NamespaceState {
  readonly name: string;
  labels: Labels;
  hasObject: boolean;
  readonly labelSets: Set<LabelSet>;
}
export interface PodState {
  readonly key: string;
  pod: Pod;
  /** In order of coming: of pods with one address the last counts. */
  readonly order: number;
  labelSet: LabelSet;
  /** Local pods; 0 = none. */
  port: number;
}
/** Pods with the same namespace, labels and named ports. */
export interface LabelSet {
  readonly key: string;
  readonly namespace: string;
  readonly labels: Labels;
  readonly namedPorts: readonly NamedPort[];
  readonly pods: Set<PodState>;
  readonly locals: Set<PodState>;
  /** Of its pods' addresses, as far as no later pod has them. */
  readonly addresses: Sum;
  addressCount: number;
  /** null while it has no address. */
  identity: Identity | null;
  /** null while it has no local pod. */
  selection: Selection | null;
}
/** A pod on the host's network is its node: only ipBlocks match it. Finished ones have no address. */
const isPeer = ({ hostNetwork, phase }: Pod): boolean => !hostNetwork && phase !== 'Succeeded' && phase !== 'Failed';
const labelSetKey = ({ namespace, labels, namedPorts }: Pod): string =>
  JSON.stringify(namedPorts.length === 0 ? [namespace, labels] : [namespace, labels, namedPorts]);
const podKey = ({ namespace, name }: Pod): string => `${namespace}/${name}`;
const defaultLabels = (name: string): Labels => ({ 'kubernetes.io/metadata.name': name });

const NOBODY: readonly PodState[] = [];

/** Of local endpoints. */
export interface PodEvents {
  portChanged(port: number): void;
  firstLocalCame(labelSet: LabelSet): void;
  lastLocalWent(labelSet: LabelSet): void;
}

export class Pods {
  readonly hosts = new MutableAddressMap();
  readonly byPort = new Map<number, PodState>();
  private readonly pods = new Map<string, PodState>();
  private nextOrder = 0;
  /** Address → the pod that has it; several: in order of coming. */
  private readonly owners = new Map<string, PodState | PodState[]>();
  private readonly labelSets = new Map<string, LabelSet>();
  private readonly byTrait = new Map<string, Set<LabelSet>>();

  constructor(
    private readonly namespaces: Map<string, NamespaceState>,
    private readonly asked: Asked,
    private readonly identities: Identities,
    private readonly groups: Groups,
    private readonly events: PodEvents,
  ) {}

  /** Label sets that have one of the traits (asked.ts). */
  having(traits: Iterable<string>): Set<LabelSet> {
    return new Set([...traits].flatMap((trait) => [...(this.byTrait.get(trait) ?? [])]));
  }

  // --- namespaces ---

  private namespaceOf(name: string): NamespaceState {
    let state = this.namespaces.get(name);
    if (state === undefined) {
      state = { name, labels: defaultLabels(name), hasObject: false, labelSets: new Set() };
      this.namespaces.set(name, state);
      this.groups.namespaceCame(name, state.labels);
    }
    return state;
  }
  private leaveNamespace(state: NamespaceState): void {
    if (state.hasObject || state.labelSets.size > 0) return;
    this.namespaces.delete(state.name);
    this.groups.namespaceWent(state.name);
  }
  changeNamespace(name: string, after: Namespace | undefined): void {
    const state = this.namespaceOf(name);
    const labels = after?.labels ?? defaultLabels(name);
    state.hasObject = after !== undefined;
    if (this.groups.distinguishes(state.labels, labels)) {
      // Everybody moves out, and in again as somebody else: what is remembered of an identity stays true.
      for (const labelSet of state.labelSets) this.assign(labelSet, null);
      this.groups.namespaceChanged(name, labels);
      state.labels = labels;
      for (const labelSet of state.labelSets) this.identify(labelSet);
    } else state.labels = labels;
    this.leaveNamespace(state);
  }

  // --- pods as peers ---

  changePod(key: string, after: Pod | undefined): void {
    const state = this.pods.get(key);
    if (after === undefined) {
      if (state === undefined) return;
      this.detach(state);
      this.setPort(state, 0);
      this.pods.delete(key);
      this.leaveLabelSet(state);
      return;
    }
    if (state === undefined) {
      const labelSet = this.labelSetOf(after);
      const made: PodState = { key, pod: after, order: this.nextOrder++, labelSet, port: 0 };
      labelSet.pods.add(made);
      this.pods.set(key, made);
      this.attach(made);
      return;
    }
    const { pod } = state;
    const isSame = labelSetKey(after) === state.labelSet.key;
    if (isSame && isPeer(pod) === isPeer(after) && pod.ips.join() === after.ips.join()) {
      state.pod = after;
      return;
    }
    this.detach(state);
    state.pod = after;
    if (!isSame) {
      const { port } = state;
      this.setPort(state, 0);
      const labelSet = this.labelSetOf(after);
      this.leaveLabelSet(state);
      state.labelSet = labelSet;
      labelSet.pods.add(state);
      this.setPort(state, port);
    }
    this.attach(state);
  }

  private labelSetOf(pod: Pod): LabelSet {
    const key = labelSetKey(pod);
    let labelSet = this.labelSets.get(key);
    if (labelSet === undefined) {
      labelSet = {
        key,
        namespace: pod.namespace,
        labels: pod.labels,
        namedPorts: pod.namedPorts,
        pods: new Set(),
        locals: new Set(),
        addresses: new Sum(),
        addressCount: 0,
        identity: null,
        selection: null,
      };
      this.labelSets.set(key, labelSet);
      this.namespaceOf(pod.namespace).labelSets.add(labelSet);
      for (const trait of traitsOf(pod.labels, pod.namedPorts)) {
        const list = this.byTrait.get(trait);
        if (list === undefined) this.byTrait.set(trait, new Set([labelSet]));
        else list.add(labelSet);
      }
    }
    return labelSet;
  }
  private leaveLabelSet(state: PodState): void {
    const { labelSet } = state;
    labelSet.pods.delete(state);
    if (labelSet.pods.size > 0) return;
    this.labelSets.delete(labelSet.key);
    for (const trait of traitsOf(labelSet.labels, labelSet.namedPorts)) {
      const list = this.byTrait.get(trait);
      if (list?.delete(labelSet) && list.size === 0) this.byTrait.delete(trait);
    }
    const namespace = this.namespaceOf(labelSet.namespace);
    namespace.labelSets.delete(labelSet);
    this.leaveNamespace(namespace);
  }

  private attach(state: PodState): void {
    if (!isPeer(state.pod)) return;
    const { ips } = state.pod;
    for (const ip of ips.length > 1 ? new Set(ips) : ips) {
      const address = parseAddress(ip);
      if (address === null) continue;
      const others = this.ownersOf(ip);
      if (others.length > 0) {
        const before = others.at(-1)!;
        const all = [...others, state].sort((a, b) => a.order - b.order);
        this.owners.set(ip, all);
        if (all.at(-1) !== state) continue;
        this.lose(before.labelSet, ip);
      } else this.owners.set(ip, state);
      this.gain(state.labelSet, ip, address);
    }
  }
  private detach(state: PodState): void {
    if (!isPeer(state.pod)) return;
    for (const ip of new Set(state.pod.ips)) {
      const all = this.ownersOf(ip);
      if (!all.includes(state)) continue;
      const rest = all.filter((other) => other !== state);
      if (rest.length === 0) this.owners.delete(ip);
      else this.owners.set(ip, rest.length === 1 ? rest[0]! : rest);
      if (all.at(-1) !== state) continue;
      this.lose(state.labelSet, ip);
      const heir = rest.at(-1);
      if (heir !== undefined) this.gain(heir.labelSet, ip);
    }
  }
  /** Pods that have the address as theirs, in order of coming. */
  at(ip: string): Pod[] {
    return this.ownersOf(ip).map(({ pod }) => pod);
  }
  private ownersOf(ip: string): readonly PodState[] {
    const owner = this.owners.get(ip);
    return owner === undefined ? NOBODY : Array.isArray(owner) ? owner : [owner];
  }
  private gain(labelSet: LabelSet, ip: string, { family, words } = parseAddress(ip)!): void {
    const sum = new Sum().add(new Digest().text(ip));
    if (labelSet.addressCount++ === 0) this.identify(labelSet);
    labelSet.addresses.add(sum);
    this.groups.moved(labelSet.identity!, sum, true);
    this.hosts.set(family, words, family === 4 ? 32 : 128, labelSet.identity!.id);
  }
  private lose(labelSet: LabelSet, ip: string): void {
    const sum = new Sum().add(new Digest().text(ip));
    labelSet.addresses.subtract(sum);
    this.groups.moved(labelSet.identity!, sum, false);
    const { family, words } = parseAddress(ip)!;
    this.hosts.delete(family, words, family === 4 ? 32 : 128);
    if (--labelSet.addressCount > 0) return;
    this.identities.release(labelSet.identity!);
    labelSet.identity = null;
  }

  /** Gives a label set that has addresses the identity that it should have by now. */
  identify(labelSet: LabelSet): void {
    if (labelSet.addressCount === 0) return;
    const { namespace, labels, namedPorts } = labelSet;
    this.assign(labelSet, this.identities.hold(namespace, this.asked.labels(labels), this.asked.ports(namedPorts)));
  }
  /** `identity` is held for it. */
  private assign(labelSet: LabelSet, identity: Identity | null): void {
    const before = labelSet.identity;
    labelSet.identity = identity;
    if (before === identity) {
      if (identity !== null) this.identities.release(identity); // held twice
      return;
    }
    if (before !== null) this.groups.moved(before, labelSet.addresses, false);
    if (identity !== null) this.groups.moved(identity, labelSet.addresses, true);
    if (before !== null) this.identities.release(before);
    for (const pod of labelSet.pods) {
      if (!isPeer(pod.pod)) continue;
      for (const ip of pod.pod.ips) {
        if (this.ownersOf(ip).at(-1) !== pod) continue;
        const { family, words } = parseAddress(ip)!;
        if (identity === null) this.hosts.delete(family, words, family === 4 ? 32 : 128);
        else this.hosts.set(family, words, family === 4 ? 32 : 128, identity.id);
      }
    }
  }

  // --- local endpoints ---

  changeEndpoints(endpoints: Iterable<{ port: number; pod: Pod }>): void {
    const next = new Map<PodState, number>();
    for (const { port, pod } of endpoints) next.set(this.pods.get(podKey(pod))!, port);
    for (const state of [...this.byPort.values()]) if (next.get(state) !== state.port) this.setPort(state, 0);
    for (const [state, port] of next) if (state.port !== port) this.setPort(state, port);
  }
  private setPort(state: PodState, port: number): void {
    const { labelSet } = state;
    if (state.port !== 0) {
      this.byPort.delete(state.port);
      this.events.portChanged(state.port);
      labelSet.locals.delete(state);
      if (labelSet.locals.size === 0) this.events.lastLocalWent(labelSet);
    }
    state.port = port;
    if (port === 0) return;
    this.byPort.set(port, state);
    this.events.portChanged(port);
    labelSet.locals.add(state);
    if (labelSet.locals.size === 1) this.events.firstLocalCame(labelSet);
  }
}
