/**
 * Longest-prefix map from addresses to a value above 0, in shared typed arrays: whole addresses in one open-addressing hash,
 * prefixes in one each of the lengths that occur, looked at from the longest. Built off the path; look-ups allocate nothing.
 */
import { maskWord } from './ip-address.js';

interface PrefixTable {
  length: number;
  slots: Uint32Array; // 5 words a slot: four of the address, the value (0 = free)
  mask: number;
}
interface FamilyTables {
  tables: PrefixTable[]; // longest first
}
export interface AddressMapData {
  four: FamilyTables;
  six: FamilyTables;
}

const SLOT = 5;
const hashWords = (a: number, b: number, c: number, d: number): number => {
  let h = Math.imul(a ^ 0x9e3779b9, 0x85ebca6b);
  h = Math.imul((h ^ (h >>> 15)) + b, 0xc2b2ae35);
  h = Math.imul((h ^ (h >>> 13)) + c, 0x27d4eb2f);
  h = Math.imul((h ^ (h >>> 16)) + d, 0x165667b1);
  return (h ^ (h >>> 15)) >>> 0;
};

export class AddressMapBuilder {
  private readonly lists = { 4: new Map<number, number[]>(), 6: new Map<number, number[]>() };

  /** The last of several values for one prefix wins. */
  add(family: 4 | 6, words: readonly number[], prefixLength: number, value: number): void {
    const lists = this.lists[family];
    let list = lists.get(prefixLength);
    if (list === undefined) {
      list = [];
      lists.set(prefixLength, list);
    }
    for (let i = 0; i < 4; i++) {
      const mask = family === 4 && i > 0 ? 0 : maskWord(prefixLength, i);
      list.push(((words[i] ?? 0) & mask) >>> 0);
    }
    list.push(value);
  }

  build(): AddressMapData {
    return { four: this.family(4), six: this.family(6) };
  }

  private family(family: 4 | 6): FamilyTables {
    const tables: PrefixTable[] = [];
    for (const [length, list] of [...this.lists[family]].sort((a, b) => b[0] - a[0])) {
      const size = 2 ** Math.ceil(Math.log2(Math.max(4, (list.length / SLOT) * 2)));
      const slots = new Uint32Array(new SharedArrayBuffer(size * SLOT * 4));
      for (let i = 0; i < list.length; i += SLOT) {
        const [a, b, c, d, value] = [list[i]!, list[i + 1]!, list[i + 2]!, list[i + 3]!, list[i + 4]!];
        let slot = hashWords(a, b, c, d) & (size - 1);
        for (; slots[slot * SLOT + 4] !== 0; slot = (slot + 1) & (size - 1)) {
          const at = slot * SLOT;
          if (slots[at] === a && slots[at + 1] === b && slots[at + 2] === c && slots[at + 3] === d) break;
        }
        slots.set([a, b, c, d, value], slot * SLOT);
      }
      tables.push({ length, slots, mask: size - 1 });
    }
    return { tables };
  }
}

export class AddressMap {
  constructor(private readonly data: AddressMapData) {}

  /** The value of the longest prefix that holds the address whose words begin at `at`; 0 = none. */
  lookup(address: Uint32Array, at: number, family: 4 | 6): number {
    const { tables } = family === 6 ? this.data.six : this.data.four;
    for (let i = 0; i < tables.length; i++) {
      const { length, slots, mask } = tables[i]!;
      const a = address[at]! & maskWord(length, 0);
      const b = family === 4 ? 0 : address[at + 1]! & maskWord(length, 1);
      const c = family === 4 ? 0 : address[at + 2]! & maskWord(length, 2);
      const d = family === 4 ? 0 : address[at + 3]! & maskWord(length, 3);
      for (let slot = hashWords(a >>> 0, b >>> 0, c >>> 0, d >>> 0) & mask; ; slot = (slot + 1) & mask) {
        const s = slot * SLOT;
        const value = slots[s + 4]!;
        if (value === 0) break;
        if (slots[s] === a >>> 0 && slots[s + 1] === b >>> 0 && slots[s + 2] === c >>> 0 && slots[s + 3] === d >>> 0) {
          return value;
        }
      }
    }
    return 0;
  }
}
