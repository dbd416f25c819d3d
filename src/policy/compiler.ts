/**
 * Objects to the tables that decisions are read from (policy/README.md tells the idea), kept between changes: a change costs what
 * it touches. What comes out is the same, whatever the way by which the objects came to be what they are.
 */
import { isDeepStrictEqual } from 'node:util';
import type { PolicyInfo } from '../engine/engine-view.js';
import { TwinWords } from '../flow/twin-words.js';
import type { Namespace, NetworkPolicy, Pod } from '../objects/model.js';
import { Arena } from './arena.js';
import { Asked } from './asked.js';
import { Groups } from './groups.js';
import { Identities } from './identities.js';
import { LabelIndex } from './label-index.js';
import { compareOctets } from './octet-order.js';
import { type LabelSet, type NamespaceState, Pods } from './pods.js';
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

export interface PolicyState {
  policy: NetworkPolicy;
  /** By direction; null: it says nothing about that one. */
  sections: [Section | null, Section | null];
  subject: Subject;
}

let bases = 0;
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
  private readonly pods: Pods;
  private readonly localIndex = new LabelIndex<LabelSet>();
  private readonly policies = new Map<string, PolicyState>();
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
    this.pods = new Pods(this.namespaces, this.asked, this.identities, this.groups, {
      portChanged: (port) => {
        this.dirtyPorts.add(port);
      },
      firstLocalCame: (labelSet) => {
        this.localIndex.add(labelSet);
        this.stale.add(labelSet);
      },
      lastLocalWent: (labelSet) => {
        this.localIndex.delete(labelSet);
        this.selections.leave(labelSet);
        this.stale.delete(labelSet);
      },
    });
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
    for (const twin of [this.identities, this.groups, this.regions, this.pods.hosts, this.endpointWords]) twin.begin();
    this.arena.settle();

    const found = new Set<string>();
    for (const { after } of changed) {
      if (after !== undefined) this.asked.ask(after, found);
      if (++step % STRIDE === 0) yield;
    }
    for (const labelSet of this.pods.having(found)) {
      this.pods.identify(labelSet);
      if (labelSet.locals.size > 0) this.stale.add(labelSet); // rules may ask for its ports by name
      if (++step % STRIDE === 0) yield;
    }
    for (const { key, after } of delta.namespaces) this.pods.changeNamespace(key, after);
    for (const { key, after } of delta.pods) {
      this.pods.changePod(key, after);
      if (++step % STRIDE === 0) yield;
    }
    if (delta.endpoints !== null) this.pods.changeEndpoints(delta.endpoints);
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

  // --- local endpoints ---

  /** Pods that have the address as theirs, in order of coming. */
  podsAt(ip: string): Pod[] {
    return this.pods.at(ip);
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
      const digest = this.pods.byPort.get(port)?.labelSet.selection?.digest;
      if (digest === this.digests.get(port)) continue;
      touched.add(port);
      if (digest === undefined) this.digests.delete(port);
      else this.digests.set(port, digest);
    }
    for (const port of this.dirtyPorts) this.writeEndpoint(port);
    this.dirtyPorts = new Set();
    const tables: PolicyTables = {
      base: this.base,
      hosts: this.pods.hosts.publish(),
      ...this.regions.publish(),
      endpoints: this.endpointWords.publish(),
      identities: this.identities.publish(),
      denseGroups: this.groups.publish(),
      arena: this.arena.words,
    };
    return { tables, touched };
  }
  private writeEndpoint(port: number): void {
    const selection = this.pods.byPort.get(port)?.labelSet.selection;
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
