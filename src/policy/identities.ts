/**
 * Pods as peers. Pods with the same namespace, labels and named ports share a *label set*; label sets that differ in nothing that
 * was asked for (asked.ts) share an *identity*. An identity never changes: when something else is asked, or a namespace's labels
 * change, label sets move to new ones. So what workers remember of an identity stays true.
 */
import type { Labels, NamedPort } from '../objects/model.js';
import { TwinWords } from '../flow/twin-words.js';
import type { Arena } from './arena.js';
import { Sum } from './digest.js';
import type { InternedRecord, InternedRecords } from './interned.js';
import { LabelIndex } from './label-index.js';
import { INDEX_BITS } from './tables.js';

export interface Identity {
  readonly id: number;
  readonly index: number;
  readonly key: string;
  readonly namespace: string;
  /** As far as they were asked for when it was made. */
  readonly labels: Labels;
  readonly namedPorts: readonly NamedPort[];
  readonly ports: InternedRecord;
  /** Of its pods' addresses: whom a selector finds is told by the addresses alone, however finely labels part them. */
  readonly addresses: Sum;
  /** Label sets that are it. */
  holders: number;
  /** Groups that hold it, but for the dense ones; by index, ascending. */
  readonly groups: number[];
  record: number;
  recordLength: number;
}

/** Indices given and taken back, with how often: an id is never given twice (tables.ts). */
export class Ids {
  private readonly rounds: number[] = [0];
  private free: number[] = [];
  private limbo: number[] = [];

  take(): { index: number; id: number } {
    const index = this.free.pop() ?? this.rounds.push(0) - 1;
    return { index, id: this.rounds[index]! * 2 ** INDEX_BITS + index };
  }
  give(index: number): void {
    this.rounds[index]!++;
    if (this.rounds[index]! < 2 ** (32 - INDEX_BITS)) this.limbo.push(index);
  }
  /** No reader knows of what was given back before. */
  settle(): void {
    if (this.limbo.length === 0) return;
    this.free.push(...this.limbo.splice(0));
  }
}

/** A table of records' places by index, that grows. */
export class PlaceTable {
  readonly twin = new TwinWords(64);

  get capacity(): number {
    return this.twin.words.length;
  }
  set(index: number, at: number): void {
    if (index >= this.twin.words.length) this.twin.grow(Math.max(index + 1, this.twin.words.length * 2));
    this.twin.set(index, at);
  }
}

export class Identities {
  readonly places = new PlaceTable();
  readonly byIndex: (Identity | undefined)[] = [];
  readonly index = new LabelIndex<Identity>();
  private readonly byKey = new Map<string, Identity>();
  private readonly ids = new Ids();
  private readonly dirty = new Set<Identity>();

  constructor(
    private readonly arena: Arena,
    private readonly ports: InternedRecords<readonly NamedPort[]>,
    /** Told of each that comes, before it has addresses, and of each that goes, when it has none. */
    private readonly events: { came(identity: Identity): void; went(identity: Identity): void },
  ) {}

  get size(): number {
    return this.byKey.size;
  }
  begin(): void {
    this.places.twin.begin();
    this.ids.settle();
  }
  publish(): Uint32Array {
    for (const identity of this.dirty) {
      if (identity.record !== 0) this.arena.release(identity.record, identity.recordLength);
      identity.record = 0;
      if (identity.holders > 0) {
        const { groups, ports } = identity;
        identity.record = this.arena.put([ports.at, groups.length, ...groups]);
        identity.recordLength = groups.length + 2;
      }
      this.places.set(identity.index, identity.record);
    }
    this.dirty.clear();
    return this.places.twin.publish();
  }

  hold(namespace: string, labels: Labels, namedPorts: readonly NamedPort[]): Identity {
    const portsKey = JSON.stringify(namedPorts.map(({ name, protocol, port }) => [name, protocol, port]));
    const key = JSON.stringify([namespace, labels, portsKey]);
    let identity = this.byKey.get(key);
    if (identity === undefined) {
      const { id, index } = this.ids.take();
      identity = {
        id,
        index,
        key,
        namespace,
        labels,
        namedPorts,
        ports: this.ports.hold(portsKey, namedPorts, namedPorts.length === 0),
        addresses: new Sum(),
        holders: 0,
        groups: [],
        record: 0,
        recordLength: 0,
      };
      this.byKey.set(key, identity);
      this.byIndex[index] = identity;
      this.places.set(index, 0); // room for its bit and its record
      this.index.add(identity);
      this.dirty.add(identity);
      this.events.came(identity);
    }
    identity.holders++;
    return identity;
  }
  release(identity: Identity): void {
    if (--identity.holders > 0) return;
    this.events.went(identity);
    this.byKey.delete(identity.key);
    this.byIndex[identity.index] = undefined;
    this.index.delete(identity);
    this.ports.release(identity.ports);
    this.ids.give(identity.index);
    this.dirty.add(identity);
  }

  joined(identity: Identity, group: number): void {
    const { groups } = identity;
    let at = groups.length;
    while (at > 0 && groups[at - 1]! > group) at--;
    groups.splice(at, 0, group);
    this.dirty.add(identity);
  }
  left(identity: Identity, group: number): void {
    const at = identity.groups.indexOf(group);
    if (at >= 0) identity.groups.splice(at, 1);
    this.dirty.add(identity);
  }
}
