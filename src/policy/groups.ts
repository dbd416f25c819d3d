/**
 * What peers' selectors select: groups of identities, one for each distinct selector in use. A small group is kept at its members,
 * a large one as bits over indices of identities, where that takes less.
 */
import type { Labels, LabelSelector, NetworkPolicyPeer } from '../objects/model.js';
import { TwinWords } from '../flow/twin-words.js';
import type { Arena } from './arena.js';
import { factorOf, Sum } from './digest.js';
import type { Identities, Identity } from './identities.js';
import { SelectorIndex } from './label-index.js';
import { matches } from './selectors.js';
import type { Section } from './sections.js';

/** Namespaces by their labels; shared by groups that ask the same. */
interface NamespaceSelector {
  readonly key: string;
  readonly selector: LabelSelector;
  readonly chosen: Set<string>;
  holders: number;
}
export interface Group {
  readonly index: number;
  readonly key: string;
  /** '' = of namespaces that `across` chooses. */
  readonly scope: string;
  readonly across: NamespaceSelector | null;
  readonly selector: LabelSelector;
  /** null: kept as bits. */
  readonly members: Set<Identity> | null;
  /** Of its members' addresses; of what ports' names mean at them, by name. */
  readonly addresses: Sum;
  readonly named: Map<string, Sum>;
  /** Sections whose rules ask for it. */
  readonly users: Set<Section>;
  holders: number;
  bits: number;
  bitsLength: number;
}

/** At least so many members are kept as bits, and more than one in 32 of the room for identities. */
export const DENSE_MIN = 24;

export class Groups {
  private readonly byKey = new Map<string, Group>();
  private readonly byIndex: (Group | undefined)[] = [];
  private readonly free: number[] = [];
  private readonly dense = new Set<Group>();
  private readonly selectors = new SelectorIndex<Group>();
  private readonly namespaceSelectors = new Map<string, NamespaceSelector>();
  private readonly bitsAt = new TwinWords(64);
  /** Room of the bits of dense groups, in identities. */
  private room = 0;
  /** Those whose addresses, or whose ports' names' meanings, changed since `takeDirty`. */
  private dirty = new Set<Group>();
  /** What ports' names mean at any pod. No group of its own: its index is −1. */
  readonly everyone: Group;

  constructor(
    private readonly arena: Arena,
    private readonly identities: Identities,
    private readonly namespaces: ReadonlyMap<string, { readonly labels: Labels }>,
    private readonly denseMin = DENSE_MIN,
  ) {
    this.everyone = this.make(-1, '', '', null, {}, null);
  }
  private make(
    index: number,
    key: string,
    scope: string,
    across: NamespaceSelector | null,
    selector: LabelSelector,
    members: Set<Identity> | null,
  ): Group {
    return {
      index,
      key,
      scope,
      across,
      selector,
      members,
      addresses: new Sum(),
      named: new Map(),
      users: new Set(),
      holders: 0,
      bits: 0,
      bitsLength: 0,
    };
  }

  begin(): void {
    this.bitsAt.begin();
  }
  publish(): Uint32Array {
    return this.bitsAt.publish();
  }
  takeDirty(): Set<Group> {
    const { dirty } = this;
    this.dirty = new Set();
    return dirty;
  }
  isDense = (index: number): boolean => this.byIndex[index]!.members === null;

  hold(namespace: string, { namespaceSelector, podSelector = {} }: NetworkPolicyPeer): Group {
    const scope = namespaceSelector === undefined ? namespace : '';
    const key = JSON.stringify([scope, namespaceSelector, podSelector]);
    let group = this.byKey.get(key);
    if (group === undefined) {
      const across = namespaceSelector === undefined ? null : this.holdNamespaces(namespaceSelector);
      const found = this.select(scope, across, podSelector);
      const index = this.free.pop() ?? this.byIndex.push(undefined) - 1;
      const isDense = found.length >= this.denseMin && found.length > this.identities.places.capacity >>> 5;
      group = this.make(index, key, scope, across, podSelector, isDense ? null : new Set(found));
      this.byKey.set(key, group);
      this.byIndex[index] = group;
      this.selectors.add(group);
      if (index >= this.bitsAt.words.length) this.bitsAt.grow(this.bitsAt.words.length * 2);
      for (const { addresses } of found) group.addresses.add(addresses);
      if (isDense) {
        this.dense.add(group);
        const bits = new Uint32Array(this.bitRoom() >>> 5);
        for (const identity of found) bits[identity.index >>> 5]! |= 1 << (identity.index & 31);
        this.place(group, bits);
      } else for (const identity of found) this.identities.joined(identity, index);
    }
    group.holders++;
    return group;
  }
  release(group: Group): void {
    if (--group.holders > 0) return;
    this.byKey.delete(group.key);
    this.selectors.delete(group);
    this.byIndex[group.index] = undefined;
    this.free.push(group.index);
    if (group.members !== null) for (const identity of group.members) this.identities.left(identity, group.index);
    else {
      this.dense.delete(group);
      this.arena.release(group.bits, group.bitsLength);
      this.bitsAt.set(group.index, 0);
    }
    if (group.across !== null) this.releaseNamespaces(group.across);
  }
  private select(scope: string, across: NamespaceSelector | null, selector: LabelSelector): Identity[] {
    const { index } = this.identities;
    if (across === null) return index.select(scope, selector);
    const { chosen } = across;
    if (chosen.size === this.namespaces.size) return index.select('', selector);
    // Few namespaces: look into each; many: look at all who may match, and ask where they live.
    if (chosen.size * 8 < index.candidates('', selector).size) {
      return [...chosen].flatMap((name) => index.select(name, selector));
    }
    return index.select('', selector).filter(({ namespace }) => chosen.has(namespace));
  }

  /** Sum of what a port's name means at the members, kept up to date from now on. */
  named(group: Group, name: string): Sum {
    let sum = group.named.get(name);
    if (sum === undefined) {
      sum = new Sum();
      for (const identity of this.membersOf(group)) addMeanings(sum, identity, name, identity.addresses);
      group.named.set(name, sum);
    }
    return sum;
  }
  private *membersOf(group: Group): Iterable<Identity> {
    if (group.members !== null) return yield* group.members;
    const { byIndex } = this.identities;
    for (let index = 1; index < byIndex.length; index++) {
      const identity = byIndex[index];
      if (identity !== undefined && (group === this.everyone || this.holds(group, index))) yield identity;
    }
  }
  private holds(group: Group, index: number): boolean {
    return (this.arena.words[group.bits + (index >>> 5)]! & (1 << (index & 31))) !== 0;
  }

  // --- identities come, go, gain and lose addresses ---

  came(identity: Identity): void {
    if (this.bitRoom() > this.room) this.enlarge();
    const { index } = identity;
    // Its index may have been another's, who left its bits behind for those who still read them.
    for (const { bits } of this.dense) this.arena.words[bits + (index >>> 5)]! &= ~(1 << (index & 31));
    for (const group of this.selectors.matching(identity)) {
      if (group.across !== null && !group.across.chosen.has(identity.namespace)) continue;
      if (group.members === null) this.arena.words[group.bits + (index >>> 5)]! |= 1 << (index & 31);
      else {
        group.members.add(identity);
        this.identities.joined(identity, group.index);
      }
    }
  }
  went(identity: Identity): void {
    for (const index of identity.groups) this.byIndex[index]!.members!.delete(identity);
  }
  /** `addresses` came to the identity (or left it). */
  moved(identity: Identity, addresses: Sum, came: boolean): void {
    const move = (group: Group) => {
      if (came) group.addresses.add(addresses);
      else group.addresses.subtract(addresses);
      for (const [name, sum] of group.named) addMeanings(sum, identity, name, addresses, !came);
      this.dirty.add(group);
    };
    if (came) identity.addresses.add(addresses);
    else identity.addresses.subtract(addresses);
    for (const index of identity.groups) move(this.byIndex[index]!);
    for (const group of this.dense) if (this.holds(group, identity.index)) move(group);
    if (this.everyone.named.size > 0) move(this.everyone);
  }

  private bitRoom(): number {
    return Math.ceil(this.identities.places.capacity / 32) * 32;
  }
  private enlarge(): void {
    this.room = this.bitRoom();
    for (const group of this.dense) {
      const bits = new Uint32Array(this.room >>> 5);
      bits.set(this.arena.words.subarray(group.bits, group.bits + Math.min(group.bitsLength, bits.length)));
      if (group.bitsLength < bits.length) {
        this.arena.release(group.bits, group.bitsLength);
        this.place(group, bits);
      }
    }
  }
  private place(group: Group, bits: Uint32Array): void {
    group.bits = this.arena.put(bits);
    group.bitsLength = bits.length;
    this.bitsAt.set(group.index, group.bits);
  }

  // --- namespaces ---

  private holdNamespaces(selector: LabelSelector): NamespaceSelector {
    const key = JSON.stringify(selector);
    let found = this.namespaceSelectors.get(key);
    if (found === undefined) {
      const chosen = new Set<string>();
      for (const [name, { labels }] of this.namespaces) if (matches(selector, labels)) chosen.add(name);
      found = { key, selector, chosen, holders: 0 };
      this.namespaceSelectors.set(key, found);
    }
    found.holders++;
    return found;
  }
  private releaseNamespaces(found: NamespaceSelector): void {
    if (--found.holders === 0) this.namespaceSelectors.delete(found.key);
  }
  /** A namespace came; nobody lives there yet. */
  namespaceCame(name: string, labels: Labels): void {
    for (const { selector, chosen } of this.namespaceSelectors.values())
      if (matches(selector, labels)) chosen.add(name);
  }
  namespaceWent(name: string): void {
    for (const { chosen } of this.namespaceSelectors.values()) chosen.delete(name);
  }
  /** Does a selector in use tell these labels from those? */
  distinguishes(before: Labels, after: Labels): boolean {
    for (const { selector } of this.namespaceSelectors.values())
      if (matches(selector, before) !== matches(selector, after)) return true;
    return false;
  }
  /** A namespace's labels changed; everybody has moved out. */
  namespaceChanged(name: string, labels: Labels): void {
    this.namespaceWent(name);
    this.namespaceCame(name, labels);
  }
}

/** Adds (or takes away) what `name` means at an identity's addresses: each protocol and port once. */
function addMeanings(sum: Sum, { namedPorts }: Identity, name: string, addresses: Sum, away = false): void {
  const texts = new Set<string>();
  for (const each of namedPorts) if (each.name === name) texts.add(`${each.protocol} ${each.port}`);
  for (const text of texts) {
    const part = addresses.times(factorOf(text));
    if (away) sum.subtract(part);
    else sum.add(part);
  }
}
