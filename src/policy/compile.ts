/**
 * Objects to what the classifier looks up. Pods that no policy can tell apart (namespace, labels, named ports) share an
 * identity; an address has a class: its pod's identity and the ipBlocks that hold it. A decision depends on (endpoint's
 * identity, peer's class) alone, and then on protocol and port. The result can be posted to workers: see policy/README.md.
 */
import type { PolicyInfo } from '../engine/engine-view.js';
import { AddressMap, AddressMapBuilder, type AddressMapData } from '../flow/address-map.js';
import { parseAddress, parseCidr, maskWord } from '../flow/ip-address.js';
import { crc32c } from '../wire/crc32c.js';
import type {
  ClusterObjects,
  LabelSelector,
  Labels,
  NamedPort,
  NetworkPolicyPeer,
  NetworkPolicyPort,
  NetworkPolicyRule,
  Pod,
} from '../objects/model.js';
import type { RuleRegistry } from './rule-registry.js';
import { matches } from './selectors.js';

export const Direction = { Ingress: 0, Egress: 1 } as const;

export interface CompiledRule {
  id: number;
  /** Any peer, external addresses too. */
  anyPeer: boolean;
  /** Bit sets over identities (indices into `identitySets`). */
  identitySets: number[];
  /** ipBlocks. */
  blocks: number[];
  /** null: any protocol and port. */
  ports: NetworkPolicyPort[] | null;
}
export interface CompiledPolicy {
  /** Peer address → class + 1; 0: class 0, an address of no pod in no block. */
  peers: AddressMapData;
  /** Of each class: its pod's identity (0 = none) and the blocks that hold it. */
  classIdentity: Uint32Array;
  classBlocks: number[][];
  /** Named ports of each identity. */
  namedPorts: NamedPort[][];
  identitySets: Uint32Array[];
  /** Local port → identity. */
  endpoints: Map<number, number>;
  /** [direction] identity → its rules in order of (namespace, name, index), and its default deny; absent: not isolated. */
  sets: [Map<number, PolicySet>, Map<number, PolicySet>];
  /** Local port → digest of all that its decisions rest on. */
  endpointDigest: Map<number, number>;
  policies: PolicyInfo[];
}
export interface PolicySet {
  rules: CompiledRule[];
  defaultDeny: number;
}

export interface CompileInput {
  objects: ClusterObjects;
  endpoints: readonly { port: number; pod: Pod }[];
  registry: RuleRegistry;
}

interface Identity {
  id: number;
  namespace: string;
  labels: Labels;
  namedPorts: NamedPort[];
  digest: number;
}

const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));
const sortedEntries = (labels: Labels): [string, string][] =>
  Object.entries(labels).sort((a, b) => (a[0] < b[0] ? -1 : 1));
const digestText = (text: string): number => {
  const octets = Buffer.from(text);
  return crc32c(octets, 0, octets.length);
};
const mix = (a: number, b: number): number => (Math.imul(a ^ (a >>> 15), 0x2c1b3c6d) + b) >>> 0;

export function compilePolicies({ objects, endpoints, registry }: CompileInput): CompiledPolicy {
  registry.begin();
  const identities: Identity[] = [{ id: 0, namespace: '', labels: {}, namedPorts: [], digest: 0 }];
  const identityByKey = new Map<string, Identity>();
  const identityOf = (pod: Pod): Identity => {
    const key = JSON.stringify([pod.namespace, sortedEntries(pod.labels), pod.namedPorts]);
    let identity = identityByKey.get(key);
    if (identity === undefined) {
      identity = {
        id: identities.length,
        namespace: pod.namespace,
        labels: pod.labels,
        namedPorts: pod.namedPorts,
        digest: digestText(key),
      };
      identityByKey.set(key, identity);
      identities.push(identity);
    }
    return identity;
  };

  // Pods as peers. A pod on the host's network is its node: only ipBlocks match it.
  const addresses: { family: 4 | 6; words: number[]; identity: number }[] = [];
  for (const pod of objects.pods.values()) {
    if (pod.hostNetwork || pod.phase === 'Succeeded' || pod.phase === 'Failed') continue;
    const identity = identityOf(pod);
    for (const ip of pod.ips) {
      const parsed = parseAddress(ip);
      if (parsed === null) continue;
      addresses.push({ ...parsed, identity: identity.id });
      identity.digest = mix(identity.digest, digestText(ip));
    }
  }
  const byNamespace = new Map<string, Identity[]>();
  for (const identity of identities.slice(1)) {
    const list = byNamespace.get(identity.namespace);
    if (list === undefined) byNamespace.set(identity.namespace, [identity]);
    else list.push(identity);
  }
  const namespaceLabels = (name: string): Labels =>
    objects.namespaces.get(name)?.labels ?? { 'kubernetes.io/metadata.name': name };

  // Distinct peer selectors → bit sets over identities, each evaluated once.
  const identitySets: Uint32Array[] = [];
  const setDigests: number[] = [];
  const setByKey = new Map<string, number>();
  const selectorSet = (namespace: string, peer: NetworkPolicyPeer): number => {
    const key = JSON.stringify([
      peer.namespaceSelector === undefined ? namespace : null,
      peer.namespaceSelector,
      peer.podSelector,
    ]);
    const known = setByKey.get(key);
    if (known !== undefined) return known;
    const bits = new Uint32Array(new SharedArrayBuffer(Math.ceil(identities.length / 32) * 4));
    let digest = 0;
    const namespaces =
      peer.namespaceSelector === undefined
        ? [namespace]
        : [...byNamespace.keys()].filter((name) => matches(peer.namespaceSelector!, namespaceLabels(name)));
    const podSelector: LabelSelector = peer.podSelector ?? {};
    for (const name of namespaces) {
      for (const identity of byNamespace.get(name) ?? []) {
        if (!matches(podSelector, identity.labels)) continue;
        bits[identity.id >>> 5] = bits[identity.id >>> 5]! | (1 << (identity.id & 31));
        digest = (digest + Math.imul(identity.digest, 0x9e3779b1)) >>> 0;
      }
    }
    identitySets.push(bits);
    setDigests.push(digest);
    setByKey.set(key, identitySets.length - 1);
    return identitySets.length - 1;
  };

  // Distinct ipBlocks.
  const blocks: {
    cidr: NonNullable<ReturnType<typeof parseCidr>>;
    except: NonNullable<ReturnType<typeof parseCidr>>[];
    text: string;
  }[] = [];
  const blockByKey = new Map<string, number>();
  const blockOf = (peer: NetworkPolicyPeer): number => {
    const text = JSON.stringify([peer.ipBlock!.cidr, peer.ipBlock!.except]);
    const known = blockByKey.get(text);
    if (known !== undefined) return known;
    blocks.push({
      cidr: parseCidr(peer.ipBlock!.cidr)!,
      except: peer.ipBlock!.except.map((cidr) => parseCidr(cidr)!),
      text,
    });
    blockByKey.set(text, blocks.length - 1);
    return blocks.length - 1;
  };

  // Policies in order, and which local identities each selects.
  const localIdentities = new Map<number, Identity>();
  const endpointIdentity = new Map<number, number>();
  for (const { port, pod } of endpoints) {
    const identity = identityOf(pod);
    localIdentities.set(identity.id, identity);
    endpointIdentity.set(port, identity.id);
  }
  const localByNamespace = new Map<string, Identity[]>();
  for (const identity of localIdentities.values()) {
    const list = localByNamespace.get(identity.namespace);
    if (list === undefined) localByNamespace.set(identity.namespace, [identity]);
    else list.push(identity);
  }
  const sets: CompiledPolicy['sets'] = [new Map(), new Map()];
  const digests = new Map<number, number>();
  const infos: PolicyInfo[] = [];
  const ordered = [...objects.networkPolicies.values()]
    .map((policy) => ({ policy, key: Buffer.from(`${policy.namespace}\0${policy.name}`) }))
    .sort((a, b) => Buffer.compare(a.key, b.key))
    .map(({ policy }) => policy);
  for (const policy of ordered) {
    const selected = (localByNamespace.get(policy.namespace) ?? []).filter((identity) =>
      matches(policy.podSelector, identity.labels),
    );
    const chosen = new Set(selected.map((identity) => identity.id));
    infos.push({
      kind: 'NetworkPolicy',
      namespace: policy.namespace,
      name: policy.name,
      pods: endpoints
        .filter(({ port }) => chosen.size > 0 && chosen.has(endpointIdentity.get(port)!))
        .map(({ pod }) => `${pod.namespace}/${pod.name}`)
        .sort(byBytes),
      ingressRules: policy.ingress?.length ?? null,
      egressRules: policy.egress?.length ?? null,
    });
    for (const [direction, name, rules] of [
      [0, 'ingress', policy.ingress],
      [1, 'egress', policy.egress],
    ] as const) {
      if (rules === null) continue;
      const common = {
        kind: 'NetworkPolicy',
        namespace: policy.namespace,
        policy: policy.name,
        direction: name,
      } as const;
      const deny = registry.id({ ...common, rule: null, action: 'drop' });
      const ids = rules.map((_, index) => registry.id({ ...common, rule: index, action: 'allow' }));
      if (selected.length === 0) continue;
      let digest = digestText(JSON.stringify([common, deny, ids]));
      const compiled = rules.map((rule, index): CompiledRule => {
        const result = compileRule(policy.namespace, rule, ids[index]!);
        digest = mix(digest, digestText(JSON.stringify(rule.ports)));
        for (const set of result.identitySets) digest = mix(digest, setDigests[set]!);
        for (const block of result.blocks) digest = mix(digest, digestText(blocks[block]!.text));
        return result;
      });
      for (const identity of selected) {
        let set = sets[direction].get(identity.id);
        if (set === undefined) {
          set = { rules: [], defaultDeny: deny };
          sets[direction].set(identity.id, set);
        }
        set.rules.push(...compiled);
        digests.set(identity.id, mix(digests.get(identity.id) ?? 0, digest));
      }
    }
  }
  registry.end();

  function compileRule(namespace: string, rule: NetworkPolicyRule, id: number): CompiledRule {
    const result: CompiledRule = {
      id,
      anyPeer: rule.peers.length === 0,
      identitySets: [],
      blocks: [],
      ports: rule.ports.length === 0 ? null : rule.ports,
    };
    for (const peer of rule.peers) {
      if (peer.ipBlock !== undefined) result.blocks.push(blockOf(peer));
      else result.identitySets.push(selectorSet(namespace, peer));
    }
    return result;
  }

  // Classes: of every prefix that a block names, the blocks that hold it; of every pod address, also its identity.
  const classIdentity: number[] = [0];
  const classBlocks: number[][] = [[]];
  const classByKey = new Map<string, number>([['0|', 0]]);
  const classOf = (identity: number, held: number[]): number => {
    const key = `${identity}|${held.join(',')}`;
    let found = classByKey.get(key);
    if (found === undefined) {
      found = classIdentity.length;
      classIdentity.push(identity);
      classBlocks.push(held);
      classByKey.set(key, found);
    }
    return found;
  };
  const regions = regionsOf(blocks);
  const peers = new AddressMapBuilder();
  for (const region of regions.list)
    peers.add(region.family, region.words, region.prefixLength, classOf(0, region.held) + 1);
  const regionIndex = new AddressMap(regions.map);
  const scratch = new Uint32Array(4);
  for (const { family, words, identity } of addresses) {
    scratch.set(words);
    const region = regionIndex.lookup(scratch, 0, family);
    peers.add(
      family,
      words,
      family === 4 ? 32 : 128,
      classOf(identity, region === 0 ? [] : regions.list[region - 1]!.held) + 1,
    );
  }
  const endpointDigest = new Map<number, number>();
  for (const [port, identity] of endpointIdentity) {
    endpointDigest.set(
      port,
      mix(digests.get(identity) ?? 0, digestText(JSON.stringify(identities[identity]!.namedPorts))),
    );
  }
  return {
    peers: peers.build(),
    classIdentity: Uint32Array.from(classIdentity),
    classBlocks,
    namedPorts: identities.map((identity) => identity.namedPorts),
    identitySets,
    endpoints: endpointIdentity,
    sets,
    endpointDigest,
    policies: infos,
  };
}

interface Prefix {
  family: 4 | 6;
  words: number[];
  prefixLength: number;
}
interface Block {
  cidr: Prefix;
  except: Prefix[];
}

/**
 * The regions that the blocks' prefixes cut the address space into: an address belongs to the longest prefix that holds
 * it, and that prefix alone tells which blocks hold the address.
 */
function regionsOf(blocks: readonly Block[]): { list: (Prefix & { held: number[] })[]; map: AddressMapData } {
  const keyOf = (family: number, words: readonly number[], length: number): string =>
    `${family}/${length}/${words.map((word, i) => (word & maskWord(length, i)) >>> 0).join('.')}`;
  const prefixes = new Map<string, Prefix>();
  const includes = new Map<string, number[]>();
  const excludes = new Map<string, number[]>();
  const note = (into: Map<string, number[]>, prefix: Prefix, block: number) => {
    const key = keyOf(prefix.family, prefix.words, prefix.prefixLength);
    prefixes.set(key, prefix);
    const list = into.get(key);
    if (list === undefined) into.set(key, [block]);
    else list.push(block);
  };
  blocks.forEach((block, index) => {
    note(includes, block.cidr, index);
    for (const except of block.except) note(excludes, except, index);
  });
  const lengths = { 4: new Set<number>(), 6: new Set<number>() };
  for (const prefix of prefixes.values()) lengths[prefix.family].add(prefix.prefixLength);
  const list: (Prefix & { held: number[] })[] = [];
  const builder = new AddressMapBuilder();
  for (const prefix of prefixes.values()) {
    const held = new Set<number>();
    const away = new Set<number>();
    for (const length of lengths[prefix.family]) {
      if (length > prefix.prefixLength) continue;
      const key = keyOf(prefix.family, prefix.words, length);
      for (const block of includes.get(key) ?? []) held.add(block);
      for (const block of excludes.get(key) ?? []) away.add(block);
    }
    for (const block of away) held.delete(block);
    list.push({ ...prefix, held: [...held].sort((a, b) => a - b) });
    builder.add(prefix.family, prefix.words, prefix.prefixLength, list.length);
  }
  return { list, map: builder.build() };
}
