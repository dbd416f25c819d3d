/**
 * The tables that decisions are read from, by classifier.ts and native/policy.h: words in shared memory that the compiler
 * changes while workers read what was published before (flow/twin-words.ts, policy/arena.ts).
 */
import type { AddressMapData } from '../flow/address-map.js';
import type { NamedPort, NetworkPolicyPort, Protocol } from '../objects/model.js';

export const Direction = { Ingress: 0, Egress: 1 } as const;
export type DirectionCode = 0 | 1;

export interface PolicyTables {
  /** Of tables with another number no id means the same: what is remembered by ids is void. */
  base: number;
  /** Address of a pod → id of its identity. */
  hosts: AddressMapData;
  /** Prefixes of ipBlocks → id of their region. */
  regions: AddressMapData;
  /** By endpointAt(port, direction): ENDPOINT's words. Ports past the end are not isolated. */
  endpoints: Uint32Array;
  /** Index of an identity → its record; of a region → its record; of a dense group → its bits over indices of identities. */
  identities: Uint32Array;
  regionRecords: Uint32Array;
  denseGroups: Uint32Array;
  arena: Uint32Array;
}

/** Ids of identities and regions: an index, and above it how often the index was given before. 0 = none. */
export const INDEX_BITS = 22;
export const indexOf = (id: number): number => id & (2 ** INDEX_BITS - 1);

/** Words of an endpoint in one direction; `set` is the policy set's record, 0 = not isolated. */
export const ENDPOINT = { set: 0, setId: 1, defaultDeny: 2, flags: 3, words: 4 } as const;
export const EndpointFlag = { Blocks: 1 } as const;
export const endpointAt = (port: number, direction: DirectionCode): number => (port * 2 + direction) * ENDPOINT.words;

/** A policy set's record: its head, rules (id, ports), then lists; each list ends where the next begins. */
export const SET = {
  /** The endpoints' own named ports (ingress), for rules that name one. */
  namedPorts: 0,
  flags: 1,
  /** Where, from the record's begin: positions of rules for any peer; pairs (group or block, where its positions begin). */
  any: 2,
  groups: 3,
  dense: 4,
  blocks: 5,
  positions: 6,
  rules: 8,
} as const;
/** Egress: some rule names a port, which means what the peer says. */
export const SetFlag = { NamesPeerPorts: 1 } as const;

/** An identity's record: its named ports' record, how many groups, the groups in ascending order. */
export const IDENTITY = { namedPorts: 0, count: 1, groups: 2 } as const;
/** A region's record: id of the region around it; how many blocks begin and are cut there; those blocks, ascending. */
export const REGION = { parent: 0, begins: 1, cuts: 2, lists: 3 } as const;

export const PROTOCOLS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP'];
/** A port entry's `low` where there is no number: any port; or the port of that name. */
export const ANY_PORT = 0xffffffff;
export const NAMED_PORT = 0xfffffffe;

/** Lists of ports: how many, then protocol, low, high each (NAMED_PORT: high is the name's number). */
export function portsRecord(ports: readonly NetworkPolicyPort[], nameId: (name: string) => number): number[] {
  const record = [ports.length];
  for (const { protocol, port, endPort } of ports) {
    record.push(PROTOCOLS.indexOf(protocol));
    if (port === undefined) record.push(ANY_PORT, 0);
    else if (typeof port === 'string') record.push(NAMED_PORT, nameId(port));
    else record.push(port, endPort ?? port);
  }
  return record;
}
/** Named ports: how many, then the name's number, protocol, port each. */
export function namedPortsRecord(ports: readonly NamedPort[], nameId: (name: string) => number): number[] {
  return [
    ports.length,
    ...ports.flatMap(({ name, protocol, port }) => [nameId(name), PROTOCOLS.indexOf(protocol), port]),
  ];
}

/** A rule's peer: any; or twice a group, or twice a block plus one. */
export const ANY_PEER = -1;
export interface SetRule {
  id: number;
  /** Record of its ports; 0: any protocol and port. */
  ports: number;
  peers: readonly number[];
}

/** What a set's rules ask of a peer, turned round: from group and block to the rules' positions. */
export function setRecord(
  rules: readonly SetRule[],
  namedPorts: number,
  namesPeerPorts: boolean,
  isDense: (group: number) => boolean,
): { record: Uint32Array; usesBlocks: boolean } {
  const any: number[] = [];
  // Each key as kind, number, position in one sortable number: kinds are sparse groups, dense groups, blocks.
  const entries: number[] = [];
  rules.forEach(({ peers }, position) => {
    for (const peer of peers) {
      if (peer === ANY_PEER) any.push(position);
      else {
        const number = peer >>> 1;
        const kind = (peer & 1) === 1 ? 2 : isDense(number) ? 1 : 0;
        entries.push((kind * 2 ** 26 + number) * 2 ** 20 + position);
      }
    }
  });
  const sorted = Float64Array.from(entries).sort();
  const starts: { kind: number; key: number; at: number }[] = [];
  const positions: number[] = [];
  let last = -1;
  for (const entry of sorted) {
    const position = entry % 2 ** 20;
    const key = (entry - position) / 2 ** 20;
    if (key !== last) starts.push({ kind: Math.floor(key / 2 ** 26), key: key % 2 ** 26, at: positions.length });
    last = key;
    positions.push(position);
  }
  const counts = [0, 0, 0];
  for (const { kind } of starts) counts[kind]!++;
  const anyAt = SET.rules + rules.length * 2;
  const groupsAt = anyAt + any.length;
  const denseAt = groupsAt + counts[0]! * 2;
  const blocksAt = denseAt + counts[1]! * 2;
  const positionsAt = blocksAt + counts[2]! * 2;
  const record = new Uint32Array(positionsAt + positions.length);
  record[SET.namedPorts] = namedPorts;
  record[SET.flags] = namesPeerPorts ? SetFlag.NamesPeerPorts : 0;
  record[SET.any] = anyAt;
  record[SET.groups] = groupsAt;
  record[SET.dense] = denseAt;
  record[SET.blocks] = blocksAt;
  record[SET.positions] = positionsAt;
  record[SET.positions + 1] = record.length;
  rules.forEach(({ id, ports }, position) => {
    record[SET.rules + position * 2] = id;
    record[SET.rules + position * 2 + 1] = ports;
  });
  record.set(any, anyAt);
  starts.forEach(({ key, at }, i) => {
    record[groupsAt + i * 2] = key;
    record[groupsAt + i * 2 + 1] = positionsAt + at;
  });
  record.set(positions, positionsAt);
  return { record, usesBlocks: counts[2]! > 0 };
}

/** Rules of the policies that isolate the endpoint at `port` in that direction; null: it is not isolated. */
export function isolatingRules(
  { endpoints, arena }: PolicyTables,
  direction: DirectionCode,
  port: number,
): number | null {
  const set = endpoints[endpointAt(port, direction) + ENDPOINT.set] ?? 0;
  return set === 0 ? null : (arena[set + SET.any]! - SET.rules) >>> 1;
}
