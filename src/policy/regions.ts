/**
 * ipBlocks: the prefixes that blocks name cut the addresses into regions, one a prefix: an address belongs to the longest prefix
 * that holds it. A region knows the blocks that begin and the excepts that cut at its prefix, and the region around it; the
 * blocks that hold an address are read by going outwards, so that n blocks around n prefixes take n entries, not n².
 */
import { AddressMap, AddressMapBuilder } from '../flow/address-map.js';
import { type IpPrefix, maskWord, parseCidr } from '../flow/ip-address.js';
import { SeineError } from '../errors.js';
import type { IpBlock } from '../objects/model.js';

export interface Region {
  family: 4 | 6;
  words: number[];
  prefixLength: number;
  /** Index of the region around it; 0 = none. */
  parent: number;
  /** Blocks whose cidr this is; blocks one of whose excepts this is. */
  begins: number[];
  cuts: number[];
}

const OUTSIDE: Region = { family: 4, words: [0, 0, 0, 0], prefixLength: 0, parent: 0, begins: [], cuts: [] };

const prefixOf = (text: string): IpPrefix => {
  const prefix = parseCidr(text);
  if (prefix === null) {
    throw new SeineError(
      'SEINE_ERR_POLICY_INVALID',
      `ipBlock: "${text}" is no CIDR; write one such as 10.0.0.0/8 or fd00::/8`,
    );
  }
  return prefix;
};

/** Regions by index, 0 = in no block; and the region of an address. */
export function regionsOf(blocks: readonly IpBlock[]): {
  regions: Region[];
  regionOf: (family: 4 | 6, words: readonly number[]) => number;
} {
  const regions: Region[] = [OUTSIDE];
  const byKey = new Map<string, number>();
  const keyOf = (family: number, words: readonly number[], length: number): string =>
    `${family}/${length}/${words.map((word, i) => (word & maskWord(length, i)) >>> 0).join('.')}`;
  const regionAt = ({ family, words, prefixLength }: IpPrefix): Region => {
    const key = keyOf(family, words, prefixLength);
    let index = byKey.get(key);
    if (index === undefined) {
      index = regions.push({ family, words, prefixLength, parent: 0, begins: [], cuts: [] }) - 1;
      byKey.set(key, index);
    }
    return regions[index]!;
  };
  blocks.forEach(({ cidr, except }, block) => {
    regionAt(prefixOf(cidr)).begins.push(block);
    for (const text of except) regionAt(prefixOf(text)).cuts.push(block);
  });

  const lengths = { 4: new Set<number>(), 6: new Set<number>() };
  const builder = new AddressMapBuilder();
  regions.forEach(({ family, words, prefixLength }, index) => {
    if (index === 0) return;
    lengths[family].add(prefixLength);
    builder.add(family, words, prefixLength, index);
  });
  const longestFirst = { 4: [...lengths[4]].sort((a, b) => b - a), 6: [...lengths[6]].sort((a, b) => b - a) };
  for (const region of regions.slice(1)) {
    for (const length of longestFirst[region.family]) {
      const around = length < region.prefixLength ? byKey.get(keyOf(region.family, region.words, length)) : undefined;
      if (around === undefined) continue;
      region.parent = around;
      break;
    }
  }
  const map = new AddressMap(builder.build());
  const scratch = new Uint32Array(4);
  return {
    regions,
    regionOf: (family, words) => {
      scratch.set(words);
      return map.lookup(scratch, 0, family);
    },
  };
}
