/**
 * Objects to the tables that the classifier reads (policy/README.md tells the idea). Peers are identities and regions, never
 * single pods; selectors are evaluated once each, through an index; endpoints that the same policies select share a policy set.
 * Everything large lies flat in shared memory, so that posting the tables to workers copies next to nothing.
 */
import type { PolicyInfo } from '../engine/engine-view.js';
import { AddressMapBuilder } from '../flow/address-map.js';
import { type IpAddress, parseAddress } from '../flow/ip-address.js';
import { sharedWords } from '../flow/twin-words.js';
import type {
  ClusterObjects,
  IpBlock,
  LabelSelector,
  NetworkPolicy,
  NetworkPolicyPeer,
  NetworkPolicyPort,
  NetworkPolicyRule,
  Pod,
} from '../objects/model.js';
import { Arena } from './arena.js';
import { Digest } from './digest.js';
import { Identities, type Identity, LabelIndex, usedBy } from './identities.js';
import { regionsOf } from './regions.js';
import type { RuleRegistry } from './rule-registry.js';
import { matches } from './selectors.js';
import {
  ANY_PEER,
  Direction,
  ENDPOINT,
  EndpointFlag,
  endpointAt,
  namedPortsRecord,
  type PolicyTables,
  portsRecord,
  setRecord,
} from './tables.js';

export interface CompiledPolicy {
  tables: PolicyTables;
  /** Local port → digest of all that its decisions rest on: the same digest, the same decisions. */
  endpointDigest: Map<number, number>;
  policies: PolicyInfo[];
  counts: { identities: number; sets: number };
}
export interface CompileInput {
  objects: ClusterObjects;
  /** Local pods with their OpenFlow ports. */
  endpoints: readonly { port: number; pod: Pod }[];
  registry: RuleRegistry;
}

let bases = 0;
const shared = (words: ArrayLike<number>): Uint32Array => {
  const copy = sharedWords(words.length);
  copy.set(words);
  return copy;
};

export function compilePolicies({ objects, endpoints, registry }: CompileInput): CompiledPolicy {
  const ordered = [...objects.networkPolicies.values()]
    .map((policy) => ({ policy, key: Buffer.from(`${policy.namespace}\0${policy.name}`) }))
    .sort((a, b) => Buffer.compare(a.key, b.key))
    .map(({ policy }) => policy);
  const { labelKeys, portNames } = usedBy(ordered);
  const identities = new Identities(labelKeys, portNames);
  const addresses = peerAddresses(objects, identities);
  const peers = new Peers(objects, identities, labelKeys);
  const locals = new Locals(endpoints, identities, labelKeys);

  const rules = { id: [] as number[], peers: [] as number[][], ports: [] as number[] };
  const portLists: NetworkPolicyPort[][] = [[]];
  const portsByKey = new Map<string, number>();
  const sections = { rules: [0], deny: [] as number[], digest: [] as Digest[], usesNames: [] as boolean[] };
  const sets = [new SetTree(), new SetTree()] as const;
  const setOf = [new Map<number, number>(), new Map<number, number>()] as const; // local identity → node of its set
  const policies: PolicyInfo[] = [];

  const addRule = (
    policy: NetworkPolicy,
    rule: NetworkPolicyRule,
    id: number,
    egress: boolean,
    digest: Digest,
  ): boolean => {
    const key = JSON.stringify(rule.ports);
    let ports = rule.ports.length === 0 ? 0 : portsByKey.get(key);
    if (ports === undefined) {
      ports = portLists.push(rule.ports) - 1;
      portsByKey.set(key, ports);
    }
    const names = rule.ports.map(({ port }) => port).filter((port) => typeof port === 'string');
    digest.word(id).text(key);
    const list: number[] = rule.peers.length === 0 ? [ANY_PEER] : [];
    for (const peer of rule.peers) {
      if (peer.ipBlock !== undefined) {
        list.push(peers.block(peer.ipBlock) * 2 + 1);
        digest.text(JSON.stringify([peer.ipBlock.cidr, peer.ipBlock.except]));
        continue;
      }
      const group = peers.group(policy.namespace, peer);
      list.push(group * 2);
      digest.join(peers.groupDigest[group]!);
      if (egress) for (const name of names) digest.join(peers.namedDigest(group, name));
    }
    // A block, or any peer, may be any pod: what its named ports are is then part of the decision too.
    if (egress && (list.length === 0 || list.some((entry) => entry === ANY_PEER || (entry & 1) === 1))) {
      for (const name of names) digest.join(peers.namedDigest(null, name));
    }
    rules.id.push(id);
    rules.peers.push(list);
    rules.ports.push(ports);
    return names.length > 0;
  };

  registry.begin();
  for (const policy of ordered) {
    const { namespace, name, podSelector } = policy;
    const { selected, pods } = locals.select(namespace, podSelector);
    policies.push({
      kind: 'NetworkPolicy',
      namespace,
      name,
      pods,
      ingressRules: policy.ingress?.length ?? null,
      egressRules: policy.egress?.length ?? null,
    });
    for (const direction of ['ingress', 'egress'] as const) {
      const given = policy[direction];
      if (given === null) continue;
      const common = { kind: 'NetworkPolicy', namespace, policy: name, direction } as const;
      const deny = registry.id({ ...common, rule: null, action: 'drop' });
      const ids = given.map((_, index) => registry.id({ ...common, rule: index, action: 'allow' }));
      if (selected.length === 0) continue;
      const digest = new Digest().word(deny);
      let usesNames = false;
      given.forEach((rule, index) => {
        if (addRule(policy, rule, ids[index]!, direction === 'egress', digest)) usesNames = true;
      });
      const section = sections.deny.push(deny) - 1;
      sections.rules.push(rules.id.length);
      sections.digest.push(digest);
      sections.usesNames.push(usesNames);
      const at = direction === 'ingress' ? Direction.Ingress : Direction.Egress;
      for (const { id } of selected) setOf[at].set(id, sets[at].grow(setOf[at].get(id) ?? 0, section));
    }
  }
  registry.end();

  const arena = new Arena();
  const nameIds = new Map<string, number>();
  const nameId = (name: string): number => {
    let id = nameIds.get(name);
    if (id === undefined) nameIds.set(name, (id = nameIds.size));
    return id;
  };
  const namedPortsRef = identities.namedPorts.map((list) =>
    list.length === 0 ? 0 : arena.put(namedPortsRecord(list, nameId)),
  );
  const portsRef = portLists.map((list) => (list.length === 0 ? 0 : arena.put(portsRecord(list, nameId))));
  const groups = peers.groupTables(arena, identities, namedPortsRef);

  // Policy sets: of endpoints with the same sections and, where an ingress rule names a port, the same named ports.
  const setByKey = new Map<string, { id: number; ref: number; deny: number; flags: number; digest: Digest }>();
  const highest = locals.endpoints.reduce((max, { port }) => Math.max(max, port), 0);
  const endpointWords = sharedWords((highest + 1) * 2 * ENDPOINT.words);
  const endpointDigest = new Map<number, number>();
  const noSet = new Digest();
  const setFor = (direction: 0 | 1, identity: Identity) => {
    const node = setOf[direction].get(identity.id);
    if (node === undefined) return null;
    const usesNames = sets[direction].some(node, (section) => sections.usesNames[section]!);
    const namedPorts = direction === Direction.Ingress && usesNames ? identity.namedPorts : 0;
    const key = `${direction} ${node} ${namedPorts}`;
    let set = setByKey.get(key);
    if (set === undefined) {
      const list = sets[direction].list(node);
      const digest = new Digest().word(direction);
      for (const section of list) digest.join(sections.digest[section]!);
      for (const { name, protocol, port } of identities.namedPorts[namedPorts]!)
        digest.text(name).text(protocol).word(port);
      const setRules = list.flatMap((section) =>
        Array.from({ length: sections.rules[section + 1]! - sections.rules[section]! }, (_, i) => {
          const rule = sections.rules[section]! + i;
          return { id: rules.id[rule]!, ports: portsRef[rules.ports[rule]!]!, peers: rules.peers[rule]! };
        }),
      );
      const { record, usesBlocks } = setRecord(
        setRules,
        namedPortsRef[namedPorts]!,
        direction === Direction.Egress && usesNames,
        (group) => groups.denseGroups[group] !== 0,
      );
      set = {
        id: setByKey.size + 1,
        ref: arena.put(record),
        deny: sections.deny[list[0]!]!,
        flags: usesBlocks ? EndpointFlag.Blocks : 0,
        digest,
      };
      setByKey.set(key, set);
    }
    return set;
  };
  for (const { port, identity } of locals.endpoints) {
    const digest = new Digest();
    for (const direction of [Direction.Ingress, Direction.Egress]) {
      const set = setFor(direction, identity);
      if (set !== null) endpointWords.set([set.ref, set.id, set.deny, set.flags], endpointAt(port, direction));
      digest.join(set?.digest ?? noSet);
    }
    endpointDigest.set(port, digest.value());
  }

  const { regions } = regionsOf(peers.blocks);
  const regionMap = new AddressMapBuilder();
  regions.forEach(({ family, words, prefixLength }, index) => {
    if (index > 0) regionMap.add(family, words, prefixLength, index);
  });
  const hosts = new AddressMapBuilder();
  for (const { family, words, identity } of addresses) hosts.add(family, words, family === 4 ? 32 : 128, identity.id);
  return {
    tables: {
      base: ++bases,
      hosts: hosts.build(),
      regions: regionMap.build(),
      endpoints: endpointWords,
      ...groups,
      regionRecords: shared(
        regions.map(({ parent, begins, cuts }, i) =>
          i === 0 ? 0 : arena.put([parent, begins.length, cuts.length, ...begins, ...cuts]),
        ),
      ),
      arena: arena.words,
    },
    endpointDigest,
    policies,
    counts: { identities: identities.list.length - 1, sets: setByKey.size },
  };
}

interface PeerAddress extends IpAddress {
  identity: Identity;
}

/** Pods as peers. A pod on the host's network is its node: only ipBlocks match it. Of pods with one address the last counts. */
function peerAddresses(objects: ClusterObjects, identities: Identities): Iterable<PeerAddress> {
  const byText = new Map<string, PeerAddress>();
  for (const pod of objects.pods.values()) {
    if (pod.hostNetwork || pod.phase === 'Succeeded' || pod.phase === 'Failed') continue;
    const identity = identities.of(pod);
    for (const ip of pod.ips) {
      const address = parseAddress(ip);
      if (address !== null) byText.set(ip, { ...address, identity });
    }
  }
  for (const [text, { identity }] of byText) identity.addresses.add(new Digest().text(text));
  return byText.values();
}

/** Distinct peers of rules: groups of identities, and blocks. */
class Peers {
  readonly groups: number[][] = [];
  readonly groupDigest: Digest[] = [];
  readonly blocks: IpBlock[] = [];
  private readonly groupByKey = new Map<string, number>();
  private readonly blockByKey = new Map<string, number>();
  private readonly namedByKey = new Map<string, Digest>();
  private readonly namespacesByKey = new Map<string, Set<string>>();
  private readonly index: LabelIndex;
  private readonly namespaces: ReadonlySet<string>;

  constructor(
    private readonly objects: ClusterObjects,
    private readonly identities: Identities,
    labelKeys: readonly string[],
  ) {
    const pods = identities.list.slice(1);
    this.index = new LabelIndex(pods, labelKeys);
    this.namespaces = new Set(pods.map(({ namespace }) => namespace));
  }

  group(namespace: string, peer: NetworkPolicyPeer): number {
    const { namespaceSelector, podSelector = {} } = peer;
    const key = JSON.stringify([namespaceSelector === undefined ? namespace : null, namespaceSelector, podSelector]);
    let group = this.groupByKey.get(key);
    if (group === undefined) {
      const members =
        namespaceSelector === undefined
          ? this.index.select(namespace, podSelector)
          : this.across(namespaceSelector, podSelector);
      const digest = new Digest();
      for (const { addresses } of members) digest.add(addresses);
      this.groupDigest.push(digest);
      group = this.groups.push(members.map(({ id }) => id)) - 1;
      this.groupByKey.set(key, group);
    }
    return group;
  }

  private across(namespaceSelector: LabelSelector, podSelector: LabelSelector): Identity[] {
    const key = JSON.stringify(namespaceSelector);
    let chosen = this.namespacesByKey.get(key);
    if (chosen === undefined) {
      const labelsOf = (name: string) =>
        this.objects.namespaces.get(name)?.labels ?? { 'kubernetes.io/metadata.name': name };
      chosen = new Set([...this.namespaces].filter((name) => matches(namespaceSelector, labelsOf(name))));
      this.namespacesByKey.set(key, chosen);
    }
    const within = chosen;
    if (within.size === this.namespaces.size) return this.index.select('', podSelector);
    // Few namespaces: look into each; many: look at all who may match, and ask where they live.
    if (within.size * 8 < this.index.candidates('', podSelector).length) {
      return [...within].flatMap((name) => this.index.select(name, podSelector));
    }
    return this.index.select('', podSelector).filter(({ namespace }) => within.has(namespace));
  }

  block(block: IpBlock): number {
    const key = JSON.stringify([block.cidr, block.except]);
    let index = this.blockByKey.get(key);
    if (index === undefined) {
      index = this.blocks.push(block) - 1;
      this.blockByKey.set(key, index);
    }
    return index;
  }

  /** What a port's name means at each member of a group (null: at each pod). */
  namedDigest(group: number | null, name: string): Digest {
    const key = `${group} ${name}`;
    let digest = this.namedByKey.get(key);
    if (digest === undefined) {
      const { list, namedPorts } = this.identities;
      const byPort = new Map<string, Digest>();
      for (const identity of group === null ? list : this.groups[group]!.map((id) => list[id]!)) {
        const found = namedPorts[identity.namedPorts]!.filter((port) => port.name === name);
        for (const text of new Set(found.map(({ protocol, port }) => `${protocol} ${port}`))) {
          let sum = byPort.get(text);
          if (sum === undefined) byPort.set(text, (sum = new Digest()));
          sum.add(identity.addresses);
        }
      }
      digest = new Digest();
      for (const text of [...byPort.keys()].sort()) digest.text(text).join(byPort.get(text)!);
      this.namedByKey.set(key, digest);
    }
    return digest;
  }

  /** Groups by member where they are small; as bits where that takes less. */
  groupTables(
    arena: Arena,
    { list }: Identities,
    namedPortsRef: readonly number[],
  ): Pick<PolicyTables, 'identities' | 'denseGroups'> {
    const words = Math.ceil(list.length / 32);
    const byIdentity: number[][] = list.map(() => []);
    const denseGroups = sharedWords(this.groups.length);
    this.groups.forEach((members, group) => {
      if (members.length <= words) {
        for (const id of members) byIdentity[id]!.push(group);
        return;
      }
      const bits = new Uint32Array(words);
      for (const id of members) bits[id >>> 5]! |= 1 << (id & 31);
      denseGroups[group] = arena.put(bits);
    });
    const identities = shared(
      list.map(({ id, namedPorts }) =>
        id === 0 ? 0 : arena.put([namedPortsRef[namedPorts]!, byIdentity[id]!.length, ...byIdentity[id]!]),
      ),
    );
    return { identities, denseGroups };
  }
}

/** Local endpoints, and which of them a policy selects. */
class Locals {
  readonly endpoints: { port: number; identity: Identity }[] = [];
  private readonly podsByIdentity = new Map<number, string[]>();
  private readonly index: LabelIndex;
  private readonly known = new Map<string, { selected: Identity[]; pods: string[] }>();

  constructor(endpoints: CompileInput['endpoints'], identities: Identities, labelKeys: readonly string[]) {
    const local = new Map<number, Identity>();
    for (const { port, pod } of endpoints) {
      const identity = identities.of(pod);
      local.set(identity.id, identity);
      this.endpoints.push({ port, identity });
      const pods = this.podsByIdentity.get(identity.id);
      const name = `${pod.namespace}/${pod.name}`;
      if (pods === undefined) this.podsByIdentity.set(identity.id, [name]);
      else pods.push(name);
    }
    this.index = new LabelIndex(local.values(), labelKeys);
  }

  /** Policies with the same selector share the lists. */
  select(namespace: string, podSelector: LabelSelector): { selected: Identity[]; pods: string[] } {
    const key = JSON.stringify([namespace, podSelector]);
    let found = this.known.get(key);
    if (found === undefined) {
      const selected = this.index.select(namespace, podSelector);
      const pods = selected
        .flatMap(({ id }) => this.podsByIdentity.get(id)!)
        .map((name) => ({ name, octets: Buffer.from(name) }))
        .sort((a, b) => Buffer.compare(a.octets, b.octets))
        .map(({ name }) => name);
      found = { selected, pods };
      this.known.set(key, found);
    }
    return found;
  }
}

/** Lists of sections that grow at their end, each distinct list once: a tree, in which a node is the list that leads to it. */
class SetTree {
  private readonly parent = [0];
  private readonly section = [0];
  private readonly children = new Map<number, number>();
  private readonly tests = new Map<number, boolean>();

  grow(node: number, section: number): number {
    const key = node * 2 ** 21 + section; // sections < RULES_MAX = 2 ** 20: each has a deny of its own
    let child = this.children.get(key);
    if (child === undefined) {
      child = this.parent.push(node) - 1;
      this.section.push(section);
      this.children.set(key, child);
    }
    return child;
  }
  list(node: number): number[] {
    const list: number[] = [];
    for (let at = node; at !== 0; at = this.parent[at]!) list.push(this.section[at]!);
    return list.reverse();
  }
  /** Does the test hold for some section of the list? One test a tree: answers are kept. */
  some(node: number, holds: (section: number) => boolean): boolean {
    let answer = this.tests.get(node);
    if (answer === undefined) {
      answer = this.list(node).some(holds);
      this.tests.set(node, answer);
    }
    return answer;
  }
}
