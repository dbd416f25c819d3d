/**
 * ipBlocks: the prefixes that blocks name cut the addresses into regions, one a prefix: an address belongs to the longest prefix
 * that holds it. A region knows the blocks that begin and the excepts that cut at its prefix, and the region around it; the
 * blocks that hold an address are read by going outwards, so that n blocks around n prefixes take n entries, not n².
 */
import { MutableAddressMap } from '../flow/address-map.js';
import { type IpPrefix, maskWord, parseCidr } from '../flow/ip-address.js';
import { SeineError } from '../errors.js';
import type { IpBlock } from '../objects/model.js';
import type { Arena } from './arena.js';
import { Ids, PlaceTable } from './identities.js';
import { indexOf } from './tables.js';

interface Region {
  readonly id: number;
  readonly index: number;
  readonly family: 4 | 6;
  readonly words: readonly number[];
  readonly length: number;
  /** The region around it; null: none. */
  parent: Region | null;
  readonly children: Set<Region>;
  /** Blocks whose cidr this is; blocks one of whose excepts this is. Ascending. */
  readonly begins: number[];
  readonly cuts: number[];
  record: number;
  recordLength: number;
}
export interface Block {
  readonly index: number;
  readonly key: string;
  readonly block: IpBlock;
  holders: number;
}

export const prefixOf = (text: string): IpPrefix => {
  const prefix = parseCidr(text);
  if (prefix === null) {
    throw new SeineError(
      'SEINE_ERR_POLICY_INVALID',
      `ipBlock: "${text}" is no CIDR; write one such as 10.0.0.0/8 or fd00::/8`,
    );
  }
  return prefix;
};

const insert = (list: number[], value: number): void => {
  let at = list.length;
  while (at > 0 && list[at - 1]! > value) at--;
  list.splice(at, 0, value);
};
const contains = (outer: Region, { family, words, length }: Region): boolean =>
  outer.family === family &&
  outer.length < length &&
  outer.words.every((word, i) => word === ((words[i] ?? 0) & maskWord(outer.length, i)) >>> 0);

export class Regions {
  readonly map = new MutableAddressMap();
  readonly places = new PlaceTable();
  private readonly ids = new Ids();
  private readonly byIndex: (Region | undefined)[] = [];
  private readonly roots = { 4: new Set<Region>(), 6: new Set<Region>() };
  private readonly lengths = { 4: new Uint32Array(33), 6: new Uint32Array(129) };
  private readonly blocks = new Map<string, Block>();
  private readonly blockIndices: number[] = [];
  private blockCount = 0;
  private readonly dirty = new Set<Region>();

  constructor(private readonly arena: Arena) {}

  begin(): void {
    this.map.begin();
    this.places.twin.begin();
    this.ids.settle();
  }
  publish(): { regions: Uint32Array; regionRecords: Uint32Array } {
    for (const region of this.dirty) {
      if (region.record !== 0) this.arena.release(region.record, region.recordLength);
      region.record = 0;
      if (this.byIndex[region.index] === region) {
        const { parent, begins, cuts } = region;
        const record = [parent?.id ?? 0, begins.length, cuts.length, ...begins, ...cuts];
        region.record = this.arena.put(record);
        region.recordLength = record.length;
        this.places.set(region.index, region.record);
      } else if (this.byIndex[region.index] === undefined) this.places.set(region.index, 0);
    }
    this.dirty.clear();
    return { regions: this.map.publish(), regionRecords: this.places.twin.publish() };
  }

  hold(block: IpBlock): Block {
    const key = JSON.stringify([block.cidr, block.except]);
    let found = this.blocks.get(key);
    if (found === undefined) {
      const index = this.blockIndices.pop() ?? this.blockCount++;
      found = { index, key, block, holders: 0 };
      this.blocks.set(key, found);
      insert(this.regionAt(prefixOf(block.cidr)).begins, index);
      for (const except of block.except) insert(this.regionAt(prefixOf(except)).cuts, index);
    }
    found.holders++;
    return found;
  }
  release(found: Block): void {
    if (--found.holders > 0) return;
    this.blocks.delete(found.key);
    this.blockIndices.push(found.index);
    const { cidr, except } = found.block;
    for (const text of new Set([cidr, ...except])) {
      const region = this.known(prefixOf(text));
      if (region === undefined) continue; // two texts of one prefix
      for (const list of [region.begins, region.cuts])
        for (let at = list.indexOf(found.index); at >= 0; at = list.indexOf(found.index)) list.splice(at, 1);
      this.dirty.add(region);
      if (region.begins.length === 0 && region.cuts.length === 0) this.remove(region);
    }
  }

  private known({ family, words, prefixLength }: IpPrefix): Region | undefined {
    const id = this.map.get(family, words, prefixLength);
    return id === 0 ? undefined : this.byIndex[indexOf(id)];
  }
  private siblings({ family, parent }: Region): Set<Region> {
    return parent?.children ?? this.roots[family];
  }
  private regionAt(prefix: IpPrefix): Region {
    let region = this.known(prefix);
    if (region === undefined) {
      const { family, words, prefixLength: length } = prefix;
      region = {
        ...this.ids.take(),
        family,
        words: words.slice(0, family === 4 ? 1 : 4),
        length,
        parent: this.around(prefix),
        children: new Set(),
        begins: [],
        cuts: [],
        record: 0,
        recordLength: 0,
      };
      this.byIndex[region.index] = region;
      const siblings = this.siblings(region);
      for (const sibling of siblings) {
        if (!contains(region, sibling)) continue;
        siblings.delete(sibling);
        sibling.parent = region;
        region.children.add(sibling);
        this.dirty.add(sibling);
      }
      siblings.add(region);
      this.lengths[family][length]!++;
      this.map.set(family, words, length, region.id);
    }
    this.dirty.add(region);
    return region;
  }
  private around({ family, words, prefixLength }: IpPrefix): Region | null {
    for (let length = prefixLength - 1; length >= 0; length--) {
      if (this.lengths[family][length] === 0) continue;
      const id = this.map.get(family, words, length);
      if (id !== 0) return this.byIndex[indexOf(id)]!;
    }
    return null;
  }
  private remove(region: Region): void {
    const siblings = this.siblings(region);
    siblings.delete(region);
    for (const child of region.children) {
      child.parent = region.parent;
      siblings.add(child);
      this.dirty.add(child);
    }
    this.byIndex[region.index] = undefined;
    this.ids.give(region.index);
    this.lengths[region.family][region.length]!--;
    this.map.delete(region.family, region.words, region.length);
  }
}
