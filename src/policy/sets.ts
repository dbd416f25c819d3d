/**
 * Policy sets: the sections that isolate an endpoint in one direction, in order of namespace and name; endpoints with the same ones
 * (and, where an ingress rule names a port, the same named ports) share a set. A set never changes: another list is another set.
 */
import type { NamedPort } from '../objects/model.js';
import type { Arena } from './arena.js';
import { Digest } from './digest.js';
import type { Groups } from './groups.js';
import type { InternedRecord } from './interned.js';
import { compareSections, type Section, type Sections } from './sections.js';
import type { Selection } from './selections.js';
import { Direction, type DirectionCode, EndpointFlag, setRecord } from './tables.js';

/** Named ports of an endpoint, as far as rules may ask for them. */
export interface OwnPorts {
  readonly list: readonly NamedPort[];
  readonly record: InternedRecord;
}
export interface PolicySet {
  /** Never given twice. */
  readonly id: number;
  readonly direction: DirectionCode;
  readonly sections: readonly Section[];
  readonly ports: OwnPorts | null;
  readonly hash: number;
  readonly at: number;
  readonly length: number;
  readonly flags: number;
  digest: Digest;
  readonly users: Set<Selection>;
}

export class PolicySets {
  private readonly byHash = new Map<number, PolicySet[]>();
  private nextId = 1;
  count = 0;

  constructor(
    private readonly arena: Arena,
    private readonly sections: Sections,
    private readonly groups: Groups,
  ) {}

  /** The set of these sections, in order; null: of none. */
  hold(user: Selection, direction: DirectionCode, list: readonly Section[], own: OwnPorts): PolicySet | null {
    if (list.length === 0) return null;
    for (const section of list) this.sections.open(section, this.groups);
    const usesNames = list.some(({ body }) => body!.names.length > 0);
    const ports = direction === Direction.Ingress && usesNames ? own : null;
    const key = new Digest().word(direction).text(ports?.record.key ?? '');
    for (const { deny } of list) key.word(deny);
    const hash = key.value();
    let bucket = this.byHash.get(hash);
    if (bucket === undefined) this.byHash.set(hash, (bucket = []));
    let set = bucket.find(
      (each) =>
        each.direction === direction &&
        each.ports?.record === ports?.record &&
        each.sections.length === list.length &&
        each.sections.every((section, i) => section === list[i]),
    );
    if (set === undefined) {
      set = this.make(direction, list, ports, hash, direction === Direction.Egress && usesNames);
      bucket.push(set);
    }
    set.users.add(user);
    return set;
  }
  private make(
    direction: DirectionCode,
    list: readonly Section[],
    ports: OwnPorts | null,
    hash: number,
    namesPeerPorts: boolean,
  ): PolicySet {
    const rules = list.flatMap(({ body }) => body!.rules);
    const { record, usesBlocks } = setRecord(rules, ports?.record.at ?? 0, namesPeerPorts, this.groups.isDense);
    if (ports !== null) ports.record.holders++;
    const set: PolicySet = {
      id: this.nextId++,
      direction,
      sections: list,
      ports,
      hash,
      at: this.arena.put(record),
      length: record.length,
      flags: usesBlocks ? EndpointFlag.Blocks : 0,
      digest: new Digest(),
      users: new Set(),
    };
    set.digest = digestOf(set);
    for (const { body } of list) body!.sets.add(set);
    this.count++;
    return set;
  }
  release(user: Selection, set: PolicySet | null): void {
    if (set === null) return;
    set.users.delete(user);
    if (set.users.size > 0) return;
    const bucket = this.byHash.get(set.hash)!.filter((each) => each !== set);
    if (bucket.length === 0) this.byHash.delete(set.hash);
    else this.byHash.set(set.hash, bucket);
    this.arena.release(set.at, set.length);
    if (set.ports !== null) this.sections.namedPorts.release(set.ports.record);
    for (const section of set.sections) {
      section.body!.sets.delete(set);
      if (section.body!.sets.size === 0) this.sections.close(section, this.groups);
    }
    this.count--;
  }
  /** Its digest anew, after one of its sections' changed. True: it is another. */
  redigest(set: PolicySet): boolean {
    const before = set.digest;
    set.digest = digestOf(set);
    return before.a !== set.digest.a || before.b !== set.digest.b;
  }
}

function digestOf({ direction, sections, ports }: PolicySet): Digest {
  const digest = new Digest().word(direction);
  for (const { body } of sections) digest.join(body!.digest);
  if (ports === null) return digest;
  // Those that these rules ask for: what others ask for, or once asked for, is nothing to them.
  const names = new Set(sections.flatMap(({ body }) => body!.names));
  for (const { name, protocol, port } of ports.list) if (names.has(name)) digest.text(name).text(protocol).word(port);
  return digest;
}

/** Sections without some and with others, in order. */
export function changedSections(
  list: readonly Section[],
  without: ReadonlySet<Section>,
  additions: readonly Section[],
): Section[] {
  const result = without.size === 0 ? [...list] : list.filter((section) => !without.has(section));
  if (additions.length > 8) return result.concat(additions).sort(compareSections);
  for (const section of additions) {
    let low = 0;
    let high = result.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareSections(result[middle]!, section) < 0) low = middle + 1;
      else high = middle;
    }
    result.splice(low, 0, section);
  }
  return result;
}
