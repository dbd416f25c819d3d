/** The longest-prefix map against a plain search, and how long a large one takes to build. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AddressMap, AddressMapBuilder } from '../../../src/flow/address-map.js';
import { maskWord, parseAddress, parseCidr } from '../../../src/flow/ip-address.js';

const mapOf = (entries: Record<string, number>): AddressMap => {
  const builder = new AddressMapBuilder();
  for (const [text, value] of Object.entries(entries)) {
    const { family, words, prefixLength } = parseCidr(text)!;
    builder.add(family, words, prefixLength, value);
  }
  return new AddressMap(structuredClone(builder.build())); // as a worker gets it
};
const find = (map: AddressMap, text: string): number => {
  const { family, words } = parseAddress(text)!;
  return map.lookup(Uint32Array.from([9, ...words]), 1, family);
};

test('address-map: the longest prefix that holds an address wins, none is 0', () => {
  const map = mapOf({ '10.0.0.0/8': 1, '10.1.0.0/16': 2, '10.1.2.3/32': 3, 'fd00::/8': 4, 'fd00::1/128': 5 });
  const expected: Record<string, number> = {
    '10.9.9.9': 1,
    '10.1.9.9': 2,
    '10.1.2.3': 3,
    '11.0.0.0': 0,
    'fd00::1': 5,
    'fdff::': 4,
    'fe80::1': 0,
    '::a00:1': 0,
  };
  for (const [text, value] of Object.entries(expected)) assert.equal(find(map, text), value, text);
});

test('address-map: a prefix of length 0 holds its family only', () => {
  const map = mapOf({ '0.0.0.0/0': 1 });
  assert.deepEqual(
    ['0.0.0.0', '255.255.255.255', '::', '::1'].map((text) => find(map, text)),
    [1, 1, 0, 0],
  );
});

test('address-map: of two values for one prefix the later wins', () => {
  const builder = new AddressMapBuilder();
  builder.add(4, [0x0a000000], 8, 1);
  builder.add(4, [0x0a0000ff], 8, 2); // host bits do not matter
  assert.equal(find(new AddressMap(builder.build()), '10.1.1.1'), 2);
});

test('address-map: an empty map finds nothing', () => {
  assert.equal(find(mapOf({}), '10.0.0.1'), 0);
  assert.equal(find(mapOf({}), 'fd00::1'), 0);
});

test('address-map: look-ups are those of a search through all prefixes', () => {
  // Words with few values, so that prefixes nest and hash tables collide.
  const word = fc.constantFrom(0, 1, 0x80000000, 0xffffffff, 0x0a000001);
  const words = fc.tuple(word, word, word, word);
  const prefix = fc.record({
    six: fc.boolean(),
    words,
    length: fc.nat(128),
    value: fc.integer({ min: 1, max: 0xffffffff }),
  });
  fc.assert(
    fc.property(fc.array(prefix, { maxLength: 40 }), fc.array(words, { maxLength: 20 }), (prefixes, addresses) => {
      const builder = new AddressMapBuilder();
      const list = prefixes.map(({ six, words: given, length, value }) => ({
        family: six ? (6 as const) : (4 as const),
        words: six ? given : [given[0], 0, 0, 0],
        length: six ? length : length % 33,
        value,
      }));
      for (const { family, words: given, length, value } of list) builder.add(family, given, length, value);
      const map = new AddressMap(builder.build());
      for (const family of [4, 6] as const) {
        for (const given of [...addresses, ...prefixes.map((p) => p.words)]) {
          const address = family === 6 ? given : [given[0], 0, 0, 0];
          const holding = list.filter(
            (p) => p.family === family && address.every((w, i) => ((w ^ p.words[i]!) & maskWord(p.length, i)) === 0),
          );
          const longest = Math.max(-1, ...holding.map(({ length }) => length));
          const expected = holding.filter(({ length }) => length === longest).at(-1)?.value ?? 0;
          assert.equal(map.lookup(Uint32Array.from(address), 0, family), expected);
        }
      }
    }),
    { numRuns: 500 },
  );
});

test('address-map: 100,000 hosts build in well under a second', () => {
  const builder = new AddressMapBuilder();
  const started = performance.now();
  for (let i = 0; i < 100_000; i++) builder.add(4, [0x0a000000 + i], 32, i + 1);
  const map = new AddressMap(builder.build());
  const ms = performance.now() - started;
  assert.equal(map.lookup(Uint32Array.of(0x0a000000 + 77_777), 0, 4), 77_778);
  assert.ok(ms < 2000, `${ms} ms`); // a bound for a busy machine
});
