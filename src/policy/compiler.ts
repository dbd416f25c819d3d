/**
 * Objects to the tables that decisions are read from (policy/README.md tells the idea), kept between changes: a change costs what
 * it touches. What comes out is the same, whatever the way by which the objects came to be what they are.
 */
import { isDeepStrictEqual } from 'node:util';
import type { PolicyInfo } from '../engine/engine-view.js';
import { MutableAddressMap } from '../flow/address-map.js';
import { parseAddress } from '../flow/ip-address.js';
import { TwinWords } from '../flow/twin-words.js';
import type { Labels, NamedPort, Namespace, NetworkPolicy, Pod } from '../objects/model.js';
import { Arena } from './arena.js';
import { Asked, traitsOf } from './asked.js';
import { Digest, Sum } from './digest.js';
import { Groups } from './groups.js';
import { Identities, type Identity } from './identities.js';
import { LabelIndex } from './label-index.js';
import { compareOctets } from './octet-order.js';
import { prefixOf, Regions } from './regions.js';
import type { Rule, RuleRegistry } from './rule-registry.js';
import { type Section, Sections } from './sections.js';
import { type Selection, Selections, type Subject } from './selections.js';
import { PolicySets } from './sets.js';
import { Direction, type DirectionCode, ENDPOINT, endpointAt, type PolicyTables } from './tables.js';

export interface ObjectDelta<T> {
  key: string;
  before: T | undefined;
  after: T | undefined;
}
export interface PolicyDelta {
  namespaces: readonly ObjectDelta<Namespace>[];
  pods: readonly ObjectDelta<Pod>[];
  policies: readonly ObjectDelta<NetworkPolicy>[];
  /** Local pods with their OpenFlow ports, all of them; null: as before. */
  endpoints: Iterable<{ port: number; pod: Pod }> | null;
}
export interface PolicyUpdate {
  tables: PolicyTables;
  /** Ports where something that decisions rest on is no longer what it was. */
  touched: Set<number>;
}

interface NamespaceState {
  readonly name: string;
  labels: Labels;
  hasObject: boolean;
  readonly labelSets: Set<LabelSet>;
}
interface PodState {
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
export interface PolicyState {
  policy: NetworkPolicy;
  /** By direction; null: it says nothing about that one. */
  sections: [Section | null, Section | null];
  subject: Subject;
}

let bases = 0;
/** A pod on the host's network is its node: only ipBlocks match it. Finished ones have no address. */
const isPeer = ({ hostNetwork, phase }: Pod): boolean => !hostNetwork && phase !== 'Succeeded' && phase !== 'Failed';
const labelSetKey = ({ namespace, labels, namedPorts }: Pod): string =>
  JSON.stringify(namedPorts.length === 0 ? [namespace, labels] : [namespace, labels, namedPorts]);
const podKey = ({ namespace, name }: Pod): string => `${namespace}/${name}`;
const defaultLabels = (name: string): Labels => ({ 'kubernetes.io/metadata.name': name });

/** Rules of a policy as the registry knows them: for each direction it speaks of, the default deny, then the rules. */
function rulesOf({ namespace, name, ingress, egress }: NetworkPolicy): Rule[] {
  const rules: Rule[] = [];
  for (const [direction, given] of [
    ['ingress', ingress],
    ['egress', egress],
  ] as const) {
    if (given === null) continue;
    const common = { kind: 'NetworkPolicy', namespace, policy: name, direction } as const;
    rules.push({ ...common, rule: null, action: 'drop' });
    for (let rule = 0; rule < given.length; rule++) rules.push({ ...common, rule, action: 'allow' });
  }
  return rules;
}

const NOBODY: readonly PodState[] = [];
/** How many steps of an update there are about between two chances to pause. */
const STRIDE = 32;

export class PolicyCompiler {
  private readonly base = ++bases;
  private readonly arena = new Arena();
  private readonly asked = new Asked();
  private readonly regions = new Regions(this.arena);
  private readonly sections = new Sections(this.arena, this.regions);
  private readonly namespaces = new Map<string, NamespaceState>();
  private readonly identities: Identities;
  private readonly groups: Groups;
  private readonly sets: PolicySets;
  private readonly selections: Selections;
  private readonly pods = new Map<string, PodState>();
  private nextOrder = 0;
  /** Address → the pod that has it; several: in order of coming. */
  private readonly owners = new Map<string, PodState | PodState[]>();
  private readonly hosts = new MutableAddressMap();
  private readonly labelSets = new Map<string, LabelSet>();
  private readonly byTrait = new Map<string, Set<LabelSet>>();
  private readonly localIndex = new LabelIndex<LabelSet>();
  private readonly policies = new Map<string, PolicyState>();
  private readonly ports = new Map<number, PodState>();
  private readonly digests = new Map<number, number>();
  private readonly endpointWords = new TwinWords(16 * 2 * ENDPOINT.words);
  /** Label sets with local pods whose selection is to be found out anew; ports whose words are to be written. */
  private stale = new Set<LabelSet>();
  private dirtyPorts = new Set<number>();
  private infos: PolicyInfo[] | null = null;
  private loaded = false;

  /** `denseMin`: members from which on a group may be kept as bits; small for tests. */
  constructor(
    private readonly registry: RuleRegistry,
    denseMin?: number,
  ) {
    this.identities = new Identities(this.arena, this.sections.namedPorts, {
      came: (identity) => this.groups.came(identity),
      went: (identity) => this.groups.went(identity),
    });
    this.groups = new Groups(this.arena, this.identities, this.namespaces, denseMin);
    this.sets = new PolicySets(this.arena, this.sections, this.groups);
    this.selections = new Selections(this.sets);
  }

  /**
   * Takes a change up at once. Throws SEINE_ERR_POLICY_INVALID before anything has changed. Readers of earlier tables go on reading
   * them until the next update; then all must hold the last one.
   */
  update(delta: PolicyDelta): PolicyUpdate {
    const steps = this.steps(delta);
    for (;;) {
      const { done, value } = steps.next();
      if (done) return value;
    }
  }

  /** The same in steps, for a caller that has other work to do between them; `policies` is not to be asked meanwhile. */
  *steps(delta: PolicyDelta): Generator<void, PolicyUpdate> {
    const changed = delta.policies.filter(
      ({ before, after }) =>
        before === undefined ||
        after === undefined ||
        !isDeepStrictEqual(
          [before.podSelector, before.ingress, before.egress],
          [after.podSelector, after.ingress, after.egress],
        ),
    );
    for (const { key, after } of delta.policies) {
      const state = this.policies.get(key);
      if (state !== undefined && after !== undefined) state.policy = after;
    }
    const ids = this.admit(changed);
    this.infos = null;
    let step = 0;
    for (const twin of [this.identities, this.groups, this.regions, this.hosts, this.endpointWords]) twin.begin();
    this.arena.settle();

    const found = new Set<string>();
    for (const { after } of changed) {
      if (after !== undefined) this.asked.ask(after, found);
      if (++step % STRIDE === 0) yield;
    }
    for (const labelSet of new Set([...found].flatMap((trait) => [...(this.byTrait.get(trait) ?? [])]))) {
      this.identify(labelSet);
      if (labelSet.locals.size > 0) this.stale.add(labelSet); // rules may ask for its ports by name
      if (++step % STRIDE === 0) yield;
    }
    for (const { key, after } of delta.namespaces) this.changeNamespace(key, after);
    for (const { key, after } of delta.pods) {
      this.changePod(key, after);
      if (++step % STRIDE === 0) yield;
    }
    if (delta.endpoints !== null) this.changeEndpoints(delta.endpoints);
    for (const { key, after } of changed) {
      this.changePolicy(key, after, ids.get(key) ?? []);
      if (++step % STRIDE === 0) yield;
    }
    for (const labelSet of this.stale) {
      this.place(labelSet);
      if (++step % STRIDE === 0) yield;
    }
    this.stale = new Set();
    return yield* this.finish();
  }

  /** Ids of the changed policies' rules, by policy. All that can be refused is refused here. */
  private admit(changed: readonly ObjectDelta<NetworkPolicy>[]): Map<string, number[]> {
    for (const { after } of changed) {
      for (const { peers } of [...(after?.ingress ?? []), ...(after?.egress ?? [])]) {
        for (const { ipBlock } of peers) {
          if (ipBlock === undefined) continue;
          prefixOf(ipBlock.cidr);
          ipBlock.except.forEach(prefixOf);
        }
      }
    }
    const coming = changed
      .filter(({ after }) => after !== undefined)
      .sort(
        (a, b) => compareOctets(a.after!.namespace, b.after!.namespace) || compareOctets(a.after!.name, b.after!.name),
      )
      .map(({ key, after }) => ({ key, rules: rulesOf(after!) }));
    const gone = changed.flatMap(({ before }) => (before === undefined ? [] : rulesOf(before)));
    const ids = this.registry.exchange(
      this.loaded ? gone : 'all',
      coming.flatMap(({ rules }) => rules),
    );
    this.loaded = true;
    let at = 0;
    return new Map(coming.map(({ key, rules }) => [key, ids.slice(at, (at += rules.length))]));
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
  private changeNamespace(name: string, after: Namespace | undefined): void {
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

  private changePod(key: string, after: Pod | undefined): void {
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
  podsAt(ip: string): Pod[] {
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
  private identify(labelSet: LabelSet): void {
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

  private changeEndpoints(endpoints: Iterable<{ port: number; pod: Pod }>): void {
    const next = new Map<PodState, number>();
    for (const { port, pod } of endpoints) next.set(this.pods.get(podKey(pod))!, port);
    for (const state of [...this.ports.values()]) if (next.get(state) !== state.port) this.setPort(state, 0);
    for (const [state, port] of next) if (state.port !== port) this.setPort(state, port);
  }
  private setPort(state: PodState, port: number): void {
    const { labelSet } = state;
    if (state.port !== 0) {
      this.ports.delete(state.port);
      this.dirtyPorts.add(state.port);
      labelSet.locals.delete(state);
      if (labelSet.locals.size === 0) {
        this.localIndex.delete(labelSet);
        this.selections.leave(labelSet);
        this.stale.delete(labelSet);
      }
    }
    state.port = port;
    if (port === 0) return;
    this.ports.set(port, state);
    this.dirtyPorts.add(port);
    labelSet.locals.add(state);
    if (labelSet.locals.size === 1) {
      this.localIndex.add(labelSet);
      this.stale.add(labelSet);
    }
  }
  private place(labelSet: LabelSet): void {
    const list = this.asked.ports(labelSet.namedPorts);
    const key = JSON.stringify(list.map(({ name, protocol, port }) => [name, protocol, port]));
    const record = this.sections.namedPorts.hold(key, list, list.length === 0);
    if (this.selections.place(labelSet, labelSet.namespace, { list, record })) {
      for (const { port } of labelSet.locals) this.dirtyPorts.add(port);
    }
    this.sections.namedPorts.release(record);
  }

  // --- policies ---

  private changePolicy(key: string, after: NetworkPolicy | undefined, ids: readonly number[]): void {
    const before = this.policies.get(key);
    let state: PolicyState | undefined;
    if (after !== undefined) {
      const { namespace, podSelector, ingress, egress } = after;
      // `ids`: the ingress deny, the ingress rules, the egress deny, the egress rules, as far as there are any.
      const section = (direction: DirectionCode, at: number): Section => ({
        policy: after,
        direction,
        deny: ids[at]!,
        ids,
        first: at + 1,
        body: null,
      });
      state = {
        policy: after,
        sections: [
          ingress && section(Direction.Ingress, 0),
          egress && section(Direction.Egress, ingress === null ? 0 : ingress.length + 1),
        ],
        subject: undefined as unknown as Subject,
      };
      const { subject, isNew } = this.selections.add(state, namespace, podSelector);
      state.subject = subject;
      if (isNew) for (const labelSet of this.localIndex.select(namespace, podSelector)) this.stale.add(labelSet);
      this.policies.set(key, state);
    } else this.policies.delete(key);
    if (before !== undefined && this.selections.remove(before, before.subject)) {
      for (const { labelSets } of before.subject.selections) for (const labelSet of labelSets) this.stale.add(labelSet);
    }
  }

  // --- the outcome ---

  private *finish(): Generator<void, PolicyUpdate> {
    const selections = yield* this.selections.settle(({ ports }) => this.sections.namedPorts.release(ports.record));
    for (const { labelSets } of selections)
      for (const { locals } of labelSets) for (const { port } of locals) this.dirtyPorts.add(port);

    const asking = new Set<Section>();
    for (const group of this.groups.takeDirty()) for (const section of group.users) asking.add(section);
    const sets = new Set<PolicySetOf>();
    for (const section of asking) {
      const { body } = section;
      if (body === null) continue;
      const digest = this.sections.digest(section, this.groups);
      if (digest.a === body.digest.a && digest.b === body.digest.b) continue;
      body.digest = digest;
      for (const set of body.sets) sets.add(set);
    }
    for (const set of sets) if (this.sets.redigest(set)) for (const user of set.users) selections.add(user);
    const redigested = new Set<number>();
    for (const selection of selections) {
      this.selections.redigest(selection);
      for (const { locals } of selection.labelSets) for (const { port } of locals) redigested.add(port);
    }

    const touched = new Set<number>();
    for (const port of new Set([...redigested, ...this.dirtyPorts])) {
      const digest = this.ports.get(port)?.labelSet.selection?.digest;
      if (digest === this.digests.get(port)) continue;
      touched.add(port);
      if (digest === undefined) this.digests.delete(port);
      else this.digests.set(port, digest);
    }
    for (const port of this.dirtyPorts) this.writeEndpoint(port);
    this.dirtyPorts = new Set();
    const tables: PolicyTables = {
      base: this.base,
      hosts: this.hosts.publish(),
      ...this.regions.publish(),
      endpoints: this.endpointWords.publish(),
      identities: this.identities.publish(),
      denseGroups: this.groups.publish(),
      arena: this.arena.words,
    };
    return { tables, touched };
  }
  private writeEndpoint(port: number): void {
    const selection = this.ports.get(port)?.labelSet.selection;
    const end = endpointAt(port + 1, Direction.Ingress);
    if (end > this.endpointWords.words.length) {
      if (selection === undefined) return;
      this.endpointWords.grow(Math.max(end, this.endpointWords.words.length * 2));
    }
    for (const direction of [Direction.Ingress, Direction.Egress]) {
      const set = selection?.sets[direction] ?? null;
      const at = endpointAt(port, direction);
      this.endpointWords.set(at + ENDPOINT.set, set?.at ?? 0);
      this.endpointWords.set(at + ENDPOINT.setId, set?.id ?? 0);
      this.endpointWords.set(at + ENDPOINT.defaultDeny, set === null ? 0 : set.sections[0]!.deny);
      this.endpointWords.set(at + ENDPOINT.flags, set?.flags ?? 0);
    }
  }

  /** Port → digest of all that decisions there rest on: the same digest, the same decisions. */
  get endpointDigest(): ReadonlyMap<number, number> {
    return this.digests;
  }
  get counts(): { identities: number; sets: number } {
    return { identities: this.identities.size, sets: this.sets.count };
  }
  /** What policies there are, in order, with the local pods that each selects. */
  policyInfos(): PolicyInfo[] {
    if (this.infos !== null) return this.infos;
    const podsOf = new Map<Subject, string[]>();
    this.infos = [...this.policies.values()]
      .map(({ policy, subject }): PolicyInfo => {
        const { namespace, name, ingress, egress } = policy;
        let pods = podsOf.get(subject);
        if (pods === undefined) {
          pods = [...subject.selections]
            .flatMap(({ labelSets }) => [...labelSets])
            .flatMap(({ locals }) => [...locals].map(({ key }) => key))
            .sort(compareOctets);
          podsOf.set(subject, pods);
        }
        return {
          kind: 'NetworkPolicy',
          namespace,
          name,
          pods,
          ingressRules: ingress?.length ?? null,
          egressRules: egress?.length ?? null,
        };
      })
      .sort((a, b) => compareOctets(a.namespace!, b.namespace!) || compareOctets(a.name, b.name));
    return this.infos;
  }
}
type PolicySetOf = NonNullable<Selection['sets'][0]>;
