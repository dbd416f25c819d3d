/**
 * Longest-prefix map from addresses to a value above 0, in one block of shared words that TypeScript and native/address_map.h
 * read alike: whole addresses in a hash of their own, shorter prefixes in another, in which only those lengths are looked for
 * that occur (IPv4: under the address's first octet), from the longest. Look-ups allocate nothing; changes are made in place.
 */
import { maskWord } from './ip-address.js';
import { sharedWords, TwinWords } from './twin-words.js';

/** A map as readers hold it. */
export type AddressMapData = Uint32Array;

/** Words of the head: where each table begins and its mask; lengths of IPv6 prefixes, of IPv4 prefixes by first octet. */
export const MAP = { tables: 0, lengths6: 8, lengths4: 16, head: 272 } as const;
interface Table {
  /** Word of the head; the mask is in the next. */
  at: number;
  /** Words a slot: the address, the length in tables of prefixes, the value (0 = free). */
  stride: number;
  words: number;
  length: boolean;
  value: number;
}
const HOSTS4: Table = { at: 0, stride: 2, words: 1, length: false, value: 1 };
const PREFIXES4: Table = { at: 2, stride: 4, words: 1, length: true, value: 2 };
const HOSTS6: Table = { at: 4, stride: 8, words: 4, length: false, value: 4 };
const PREFIXES6: Table = { at: 6, stride: 8, words: 4, length: true, value: 5 };
const TABLES = [HOSTS4, PREFIXES4, HOSTS6, PREFIXES6] as const;
const SMALLEST = 4;

const hash4 = (a: number, length: number): number => {
  let h = Math.imul(a ^ Math.imul(length, 0x85ebca6b), 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  return (h ^ (h >>> 13)) >>> 0;
};
const hash6 = (a: number, b: number, c: number, d: number, length: number): number => {
  let h = Math.imul(a ^ Math.imul(length, 0x85ebca6b), 0x9e3779b1);
  h = Math.imul((h ^ (h >>> 15)) + b, 0x85ebca6b);
  h = Math.imul((h ^ (h >>> 13)) + c, 0xc2b2ae35);
  h = Math.imul((h ^ (h >>> 16)) + d, 0x27d4eb2f);
  return (h ^ (h >>> 15)) >>> 0;
};

const tableOf = (family: 4 | 6, length: number): Table =>
  family === 4 ? (length === 32 ? HOSTS4 : PREFIXES4) : length === 128 ? HOSTS6 : PREFIXES6;

/** The map's one writer. Between `publish` and the next `begin` nothing is written (twin-words.ts). */
export class MutableAddressMap {
  private readonly twin: TwinWords;
  private readonly counts = [0, 0, 0, 0];
  /** Prefixes by length: IPv4 by first octet × 32, IPv6. */
  private readonly lengths4 = new Uint32Array(256 * 32);
  private readonly lengths6 = new Uint32Array(128);
  /** The prefix at hand: its words, its length where the table keeps one. */
  private readonly key = new Uint32Array(5);

  constructor() {
    this.twin = new TwinWords(0);
    this.twin.replace(layOut([SMALLEST, SMALLEST, SMALLEST, SMALLEST]));
  }

  begin(): void {
    this.twin.begin();
  }
  publish(): AddressMapData {
    return this.twin.publish();
  }

  /** The last of several values for one prefix wins. Host bits do not matter. */
  set(family: 4 | 6, address: readonly number[] | Uint32Array, length: number, value: number): void {
    const table = this.prepare(family, address, length);
    let slot = this.find(table);
    if (this.twin.words[slot + table.value] === 0) {
      if (this.grow(table)) slot = this.find(table);
      const { key } = this;
      for (let i = 0; i < table.value; i++) this.twin.set(slot + i, key[i]!);
      this.count(table, family, length, 1);
    }
    this.twin.set(slot + table.value, value);
  }
  /** The value of exactly this prefix; 0 = it has none. */
  get(family: 4 | 6, address: readonly number[] | Uint32Array, length: number): number {
    const table = this.prepare(family, address, length);
    return this.twin.words[this.find(table) + table.value]!;
  }
  delete(family: 4 | 6, address: readonly number[] | Uint32Array, length: number): void {
    const table = this.prepare(family, address, length);
    const at = this.find(table);
    const { words } = this.twin;
    if (words[at + table.value] === 0) return;
    // Those behind in the same run move up, so that no look-up stops at the gap too early.
    const base = words[table.at]!;
    const mask = words[table.at + 1]!;
    let gap = (at - base) / table.stride;
    for (let next = (gap + 1) & mask; ; next = (next + 1) & mask) {
      const from = base + next * table.stride;
      if (words[from + table.value] === 0) break;
      const home = hashAt(words, from, table) & mask;
      if (((next - home) & mask) < ((next - gap) & mask)) continue;
      for (let i = 0; i <= table.value; i++) this.twin.set(base + gap * table.stride + i, words[from + i]!);
      gap = next;
    }
    this.twin.set(base + gap * table.stride + table.value, 0);
    this.count(table, family, length, -1);
  }

  private prepare(family: 4 | 6, address: readonly number[] | Uint32Array, length: number): Table {
    const table = tableOf(family, length);
    for (let i = 0; i < table.words; i++) this.key[i] = (address[i] ?? 0) & maskWord(length, i);
    if (table.length) this.key[table.words] = length;
    return table;
  }
  /** Where the key is, or the free slot where it belongs. */
  private find(table: Table): number {
    const { words } = this.twin;
    const { key } = this;
    const base = words[table.at]!;
    const mask = words[table.at + 1]!;
    for (let slot = hashAt(key, 0, table) & mask; ; slot = (slot + 1) & mask) {
      const at = base + slot * table.stride;
      if (words[at + table.value] === 0) return at;
      let same = true;
      for (let i = 0; i < table.value && same; i++) same = words[at + i] === key[i];
      if (same) return at;
    }
  }
  /** Keeps half of the slots free. True: everything has moved. */
  private grow(table: Table): boolean {
    const old = this.twin.words;
    const size = old[table.at + 1]! + 1;
    if ((this.counts[TABLES.indexOf(table)]! + 1) * 2 <= size) return false;
    const words = layOut(TABLES.map((each) => (each === table ? size * 2 : old[each.at + 1]! + 1)));
    words.set(old.subarray(MAP.lengths6, MAP.head), MAP.lengths6);
    for (const each of TABLES) {
      const from = old[each.at]!;
      const to = words[each.at]!;
      const mask = words[each.at + 1]!;
      const slots = old[each.at + 1]! + 1;
      if (each !== table) {
        words.set(old.subarray(from, from + slots * each.stride), to);
        continue;
      }
      for (let at = from; at < from + slots * each.stride; at += each.stride) {
        if (old[at + each.value] === 0) continue;
        let slot = hashAt(old, at, each) & mask;
        while (words[to + slot * each.stride + each.value] !== 0) slot = (slot + 1) & mask;
        for (let i = 0; i <= each.value; i++) words[to + slot * each.stride + i] = old[at + i]!;
      }
    }
    this.twin.replace(words);
    return true;
  }
  private count(table: Table, family: 4 | 6, length: number, change: 1 | -1): void {
    this.counts[TABLES.indexOf(table)]! += change;
    if (!table.length) return;
    if (family === 6) {
      this.lengths6[length]! += change;
      this.mark(MAP.lengths6 + (length >>> 5), length & 31, this.lengths6[length]! > 0);
      return;
    }
    const first = this.key[0]! >>> 24;
    const last = first + (length >= 8 ? 0 : (256 >>> length) - 1);
    for (let octet = first; octet <= last; octet++) {
      this.lengths4[octet * 32 + length]! += change;
      this.mark(MAP.lengths4 + octet, length, this.lengths4[octet * 32 + length]! > 0);
    }
  }
  private mark(at: number, bit: number, on: boolean): void {
    const before = this.twin.words[at]!;
    const after = (on ? before | (1 << bit) : before & ~(1 << bit)) >>> 0;
    if (after !== before) this.twin.set(at, after);
  }
}

function layOut(sizes: readonly number[]): Uint32Array {
  let total: number = MAP.head;
  const starts = TABLES.map(({ stride }, i) => {
    const start = total;
    total += Math.ceil((sizes[i]! * stride) / 16) * 16; // whole cache lines
    return start;
  });
  const words = sharedWords(total);
  TABLES.forEach(({ at }, i) => {
    words[at] = starts[i]!;
    words[at + 1] = sizes[i]! - 1;
  });
  return words;
}
const hashAt = (words: Uint32Array, at: number, { words: count, length }: Table): number =>
  count === 1
    ? hash4(words[at]!, length ? words[at + 1]! : 0)
    : hash6(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!, length ? words[at + 4]! : 0);

/** A map that is built once. */
export class AddressMapBuilder {
  private readonly map = new MutableAddressMap();

  add(family: 4 | 6, words: readonly number[], prefixLength: number, value: number): void {
    this.map.set(family, words, prefixLength, value);
  }
  build(): AddressMapData {
    return this.map.publish();
  }
}

export class AddressMap {
  constructor(private readonly words: AddressMapData) {}

  /** The value of the longest prefix that holds the address whose words begin at `at`; 0 = none. */
  lookup(address: Uint32Array, at: number, family: 4 | 6): number {
    return family === 6
      ? this.lookup6(address[at]!, address[at + 1]!, address[at + 2]!, address[at + 3]!)
      : this.lookup4(address[at]!);
  }
  private lookup4(a: number): number {
    const words = this.words;
    let base = words[HOSTS4.at]!;
    let mask = words[HOSTS4.at + 1]!;
    for (let slot = hash4(a, 0) & mask; ; slot = (slot + 1) & mask) {
      const value = words[base + slot * 2 + 1]!;
      if (value === 0) break;
      if (words[base + slot * 2] === a) return value;
    }
    base = words[PREFIXES4.at]!;
    mask = words[PREFIXES4.at + 1]!;
    for (let lengths = words[MAP.lengths4 + (a >>> 24)]!; lengths !== 0; ) {
      const length = 31 - Math.clz32(lengths);
      lengths &= ~(1 << length);
      const key = (a & maskWord(length, 0)) >>> 0;
      for (let slot = hash4(key, length) & mask; ; slot = (slot + 1) & mask) {
        const s = base + slot * 4;
        const value = words[s + 2]!;
        if (value === 0) break;
        if (words[s] === key && words[s + 1] === length) return value;
      }
    }
    return 0;
  }
  private lookup6(a: number, b: number, c: number, d: number): number {
    const words = this.words;
    let base = words[HOSTS6.at]!;
    let mask = words[HOSTS6.at + 1]!;
    for (let slot = hash6(a, b, c, d, 0) & mask; ; slot = (slot + 1) & mask) {
      const s = base + slot * 8;
      const value = words[s + 4]!;
      if (value === 0) break;
      if (words[s] === a && words[s + 1] === b && words[s + 2] === c && words[s + 3] === d) return value;
    }
    base = words[PREFIXES6.at]!;
    mask = words[PREFIXES6.at + 1]!;
    for (let word = 3; word >= 0; word--) {
      for (let lengths = words[MAP.lengths6 + word]!; lengths !== 0; ) {
        const bit = 31 - Math.clz32(lengths);
        lengths &= ~(1 << bit);
        const length = word * 32 + bit;
        const k = (a & maskWord(length, 0)) >>> 0;
        const l = (b & maskWord(length, 1)) >>> 0;
        const m = (c & maskWord(length, 2)) >>> 0;
        const n = (d & maskWord(length, 3)) >>> 0;
        for (let slot = hash6(k, l, m, n, length) & mask; ; slot = (slot + 1) & mask) {
          const s = base + slot * 8;
          const value = words[s + 5]!;
          if (value === 0) break;
          if (
            words[s] === k &&
            words[s + 1] === l &&
            words[s + 2] === m &&
            words[s + 3] === n &&
            words[s + 4] === length
          )
            return value;
        }
      }
    }
    return 0;
  }
}
