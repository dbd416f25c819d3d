/**
 * Sections: one direction of one policy, its rules and its default deny. Only those that some local endpoint is selected by have a
 * body: peers as groups and blocks, ports as records, and a digest of all that decisions rest on.
 */
import type { NamedPort, NetworkPolicy, NetworkPolicyPort, NetworkPolicyRule } from '../objects/model.js';
import type { Arena } from './arena.js';
import { Digest, type Sum } from './digest.js';
import type { Group, Groups } from './groups.js';
import { type InternedRecord, InternedRecords } from './interned.js';
import { compareOctets } from './octet-order.js';
import type { Block, Regions } from './regions.js';
import type { PolicySet } from './sets.js';
import { ANY_PEER, Direction, type DirectionCode, namedPortsRecord, portsRecord, type SetRule } from './tables.js';

export interface Section {
  readonly policy: NetworkPolicy;
  readonly direction: DirectionCode;
  /** Id of the default deny; ids of the rules lie in `ids` from `first` on. */
  readonly deny: number;
  readonly ids: readonly number[];
  readonly first: number;
  body: SectionBody | null;
}
interface SectionBody {
  /** Policy sets that hold the section. */
  sets: Set<PolicySet>;
  rules: SetRule[];
  groups: Group[];
  blocks: Block[];
  ports: InternedRecord[];
  /** Names of ports that rules give. */
  names: readonly string[];
  digest: Digest;
}

export const compareSections = (a: Section, b: Section): number =>
  compareOctets(a.policy.namespace, b.policy.namespace) || compareOctets(a.policy.name, b.policy.name);
const rulesOf = ({ policy, direction }: Section): readonly NetworkPolicyRule[] =>
  (direction === Direction.Ingress ? policy.ingress : policy.egress)!;

const NO_PORTS_KEY = '[]';

export class Sections {
  /** Lists of ports, and lists of named ports. */
  readonly ports: InternedRecords<readonly NetworkPolicyPort[]>;
  readonly namedPorts: InternedRecords<readonly NamedPort[]>;
  private readonly nameIds = new Map<string, number>();

  constructor(
    arena: Arena,
    private readonly regions: Regions,
  ) {
    const nameId = (name: string): number => {
      let id = this.nameIds.get(name);
      if (id === undefined) this.nameIds.set(name, (id = this.nameIds.size));
      return id;
    };
    this.ports = new InternedRecords(arena, (list) => portsRecord(list, nameId));
    this.namedPorts = new InternedRecords(arena, (list) => namedPortsRecord(list, nameId));
  }

  /** Its body, made if it has none. */
  open(section: Section, groups: Groups): SectionBody {
    if (section.body !== null) return section.body;
    const rules = rulesOf(section);
    const body: SectionBody = {
      sets: new Set(),
      rules: [],
      groups: [],
      blocks: [],
      ports: [],
      names: rules.flatMap(({ ports }) => namesOf(ports)),
      digest: new Digest(),
    };
    rules.forEach(({ peers, ports }, index) => {
      const key = JSON.stringify(ports);
      const record = this.ports.hold(key, ports, key === NO_PORTS_KEY);
      body.ports.push(record);
      const list: number[] = peers.length === 0 ? [ANY_PEER] : [];
      for (const peer of peers) {
        if (peer.ipBlock !== undefined) {
          const block = this.regions.hold(peer.ipBlock);
          body.blocks.push(block);
          list.push(block.index * 2 + 1);
        } else {
          const group = groups.hold(section.policy.namespace, peer);
          body.groups.push(group);
          group.users.add(section);
          list.push(group.index * 2);
        }
      }
      body.rules.push({ id: section.ids[section.first + index]!, ports: record.at, peers: list });
    });
    section.body = body;
    body.digest = this.digest(section, groups);
    return body;
  }
  /** Takes the body away when no set holds the section. */
  close(section: Section, groups: Groups): void {
    const { body } = section;
    if (body === null) return;
    section.body = null;
    groups.everyone.users.delete(section);
    for (const group of body.groups) group.users.delete(section);
    for (const group of body.groups) groups.release(group);
    for (const block of body.blocks) this.regions.release(block);
    for (const record of body.ports) this.ports.release(record);
  }

  /** Of all that the section's decisions rest on. */
  digest(section: Section, groups: Groups): Digest {
    const body = section.body!;
    const digest = new Digest().word(section.deny);
    const isEgress = section.direction === Direction.Egress;
    const joinNames = (names: readonly string[], group: Group) => {
      for (const name of names) digest.join(groups.named(group, name) satisfies Sum);
    };
    let nextGroup = 0;
    let nextBlock = 0;
    rulesOf(section).forEach(({ ports }, index) => {
      const names = isEgress ? namesOf(ports) : [];
      digest.word(body.rules[index]!.id).text(body.ports[index]!.key);
      let anyPod = false;
      for (const peer of body.rules[index]!.peers) {
        if (peer === ANY_PEER) anyPod = true;
        else if ((peer & 1) === 1) {
          digest.text(body.blocks[nextBlock++]!.key);
          anyPod = true;
        } else {
          const group = body.groups[nextGroup++]!;
          digest.join(group.addresses);
          joinNames(names, group);
        }
      }
      // A block, or any peer, may be any pod: what its named ports are is then part of the decision too.
      if (anyPod && names.length > 0) {
        groups.everyone.users.add(section);
        joinNames(names, groups.everyone);
      }
    });
    return digest;
  }
}

const namesOf = (ports: readonly NetworkPolicyPort[]): string[] =>
  ports.map(({ port }) => port).filter((port) => typeof port === 'string');
