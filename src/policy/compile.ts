/**
 * Objects to the tables that the classifier reads (policy/README.md tells the idea). Peers are identities and regions, never
 * single pods; selectors are evaluated once each, through an index; endpoints that the same policies select share a policy set.
 * Everything large lies flat in shared memory, so that posting the tables to workers copies next to nothing.
 */
import type { PolicyInfo } from '../engine/engine-view.js';
import { AddressMapBuilder, type AddressMapData } from '../flow/address-map.js';
import { type IpAddress, parseAddress } from '../flow/ip-address.js';
import type {
  ClusterObjects,
  IpBlock,
  LabelSelector,
  NamedPort,
  NetworkPolicy,
  NetworkPolicyPeer,
  NetworkPolicyPort,
  NetworkPolicyRule,
  Pod,
} from '../objects/model.js';
import { Digest } from './digest.js';
import { Identities, type Identity, LabelIndex, usedBy } from './identities.js';
import { regionsOf } from './regions.js';
import type { RuleRegistry } from './rule-registry.js';
import { matches } from './selectors.js';

export const Direction = { Ingress: 0, Egress: 1 } as const;
/** An entry of `rulePeers`: any peer; else twice a group, or twice a block plus one. */
export const ANY_PEER = 0xffffffff;
export const PORTS = 65_536;

/** Lists of numbers, flattened: list i is `items` from start[i] up to start[i + 1]. */
export interface Lists {
  start: Uint32Array;
  items: Uint32Array;
}

/** What workers look up. Groups are what peers' selectors select; sections are one direction of one policy, in order. */
export interface PolicyTables {
  /** Peer address → class; 0: a peer of no pod and in no block. */
  peers: AddressMapData;
  classIdentity: Uint32Array;
  classRegion: Uint32Array;
  regionParent: Uint32Array;
  regionBegins: Lists;
  regionCuts: Lists;
  /** Identity → groups that hold it, but for those that are bit sets. */
  identityGroups: Lists;
  /** Group → first word in `groupBits` of its bits over identities; −1: in `identityGroups`. */
  groupBitsAt: Int32Array;
  groupBits: Uint32Array;
  identityNamedPorts: Uint32Array;
  namedPorts: NamedPort[][];
  ruleId: Uint32Array;
  rulePeers: Lists;
  /** Index in portLists; 0: any protocol and port. */
  rulePorts: Uint32Array;
  portLists: NetworkPolicyPort[][];
  /** Section → its first rule, up to the next one's; and the id of its default deny. */
  sectionRules: Uint32Array;
  sectionDeny: Uint32Array;
  /** Policy set (from 1) → sections in order of namespace and name. */
  setSections: Lists;
  /** Ingress sets: the endpoint's own named ports, for rules that name one. */
  setNamedPorts: Uint32Array;
  /** direction × PORTS + port → policy set; 0: not isolated. */
  endpointSets: Uint32Array;
}
export interface CompiledPolicy {
  tables: PolicyTables;
  /** Local port → digest of all that its decisions rest on: the same digest, the same decisions. */
  endpointDigest: Map<number, number>;
  policies: PolicyInfo[];
}
export interface CompileInput {
  objects: ClusterObjects;
  /** Local pods with their OpenFlow ports. */
  endpoints: readonly { port: number; pod: Pod }[];
  registry: RuleRegistry;
}

const sharedWords = (length: number): Uint32Array => new Uint32Array(new SharedArrayBuffer(length * 4));
const shared = (words: ArrayLike<number>): Uint32Array => {
  const copy = sharedWords(words.length);
  copy.set(words);
  return copy;
};
function flatten(lists: readonly (readonly number[])[]): Lists {
  const start = sharedWords(lists.length + 1);
  let total = 0;
  lists.forEach((list, i) => {
    start[i] = total;
    total += list.length;
  });
  start[lists.length] = total;
  const items = sharedWords(total);
  lists.forEach((list, i) => {
    items.set(list, start[i]);
  });
  return { start, items };
}

/** Rules of the policies that isolate the endpoint at `port` in that direction; null: it is not isolated. */
export function isolatingRules(tables: PolicyTables, direction: 0 | 1, port: number): number | null {
  const set = tables.endpointSets[direction * PORTS + port]!;
  if (set === 0) return null;
  const { start, items } = tables.setSections;
  let count = 0;
  for (let i = start[set]!; i < start[set + 1]!; i++) {
    count += tables.sectionRules[items[i]! + 1]! - tables.sectionRules[items[i]!]!;
  }
  return count;
}

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

  // Policy sets: of endpoints with the same sections and, where an ingress rule names a port, the same named ports.
  const setLists: number[][] = [[]];
  const setNamedPorts = [0];
  const setDigest = [new Digest()];
  const setByKey = new Map<string, number>();
  const endpointSets = sharedWords(2 * PORTS);
  const endpointDigest = new Map<number, number>();
  const setFor = (direction: 0 | 1, identity: Identity): number => {
    const node = setOf[direction].get(identity.id);
    if (node === undefined) return 0;
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
      set = setLists.push(list) - 1;
      setNamedPorts.push(namedPorts);
      setDigest.push(digest);
      setByKey.set(key, set);
    }
    return set;
  };
  for (const { port, identity } of locals.endpoints) {
    const digest = new Digest();
    for (const direction of [Direction.Ingress, Direction.Egress]) {
      const set = setFor(direction, identity);
      endpointSets[direction * PORTS + port] = set;
      digest.join(setDigest[set]!);
    }
    endpointDigest.set(port, digest.value());
  }

  const { regions, regionOf } = regionsOf(peers.blocks);
  const classes = classesOf(addresses, regions, regionOf);
  return {
    tables: {
      ...classes,
      regionParent: shared(regions.map(({ parent }) => parent)),
      regionBegins: flatten(regions.map(({ begins }) => begins)),
      regionCuts: flatten(regions.map(({ cuts }) => cuts)),
      ...peers.groupTables(),
      identityNamedPorts: shared(identities.list.map(({ namedPorts }) => namedPorts)),
      namedPorts: identities.namedPorts,
      ruleId: shared(rules.id),
      rulePeers: flatten(rules.peers),
      rulePorts: shared(rules.ports),
      portLists,
      sectionRules: shared(sections.rules),
      sectionDeny: shared(sections.deny),
      setSections: flatten(setLists),
      setNamedPorts: shared(setNamedPorts),
      endpointSets,
    },
    endpointDigest,
    policies,
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
  groupTables(): Pick<PolicyTables, 'identityGroups' | 'groupBitsAt' | 'groupBits'> {
    const count = this.identities.list.length;
    const words = Math.ceil(count / 32);
    const byIdentity: number[][] = Array.from({ length: count }, () => []);
    const groupBitsAt = new Int32Array(new SharedArrayBuffer(this.groups.length * 4));
    const dense: number[] = [];
    this.groups.forEach((members, group) => {
      if (members.length > words) groupBitsAt[group] = (dense.push(group) - 1) * words;
      else {
        groupBitsAt[group] = -1;
        for (const id of members) byIdentity[id]!.push(group);
      }
    });
    const groupBits = sharedWords(dense.length * words);
    for (const group of dense) {
      const at = groupBitsAt[group]!;
      for (const id of this.groups[group]!) groupBits[at + (id >>> 5)] = groupBits[at + (id >>> 5)]! | (1 << (id & 31));
    }
    return { identityGroups: flatten(byIdentity), groupBitsAt, groupBits };
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

/** Classes of peers: pairs of identity and region. Class 0 is neither. */
function classesOf(
  addresses: Iterable<PeerAddress>,
  regions: ReturnType<typeof regionsOf>['regions'],
  regionOf: ReturnType<typeof regionsOf>['regionOf'],
): Pick<PolicyTables, 'peers' | 'classIdentity' | 'classRegion'> {
  // Class of a region alone: the region's own number.
  const identity = regions.map(() => 0);
  const region = regions.map((_, index) => index);
  const byKey = new Map<number, number>();
  const peers = new AddressMapBuilder();
  regions.forEach(({ family, words, prefixLength }, index) => {
    if (index > 0) peers.add(family, words, prefixLength, index);
  });
  for (const { family, words, identity: own } of addresses) {
    const around = regionOf(family, words);
    const key = own.id * regions.length + around;
    let found = byKey.get(key);
    if (found === undefined) {
      found = identity.push(own.id) - 1;
      region.push(around);
      byKey.set(key, found);
    }
    peers.add(family, words, family === 4 ? 32 : 128, found);
  }
  return { peers: peers.build(), classIdentity: shared(identity), classRegion: shared(region) };
}
