/** The symmetric tuple hash. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { shardOf, TUPLE_HASH_SEED, tupleHash } from '../../../src/flow/tuple-hash.js';
import { crc32cWord } from '../../../src/wire/crc32c.js';

const word = fc.oneof(fc.nat(0xffffffff), fc.constantFrom(0, 1, 0xffffffff));
const endpoint = fc.tuple(word, word, word, word, fc.nat(0xffff));

test('tuple-hash: both directions of a connection have the same hash', () => {
  fc.assert(
    fc.property(endpoint, endpoint, fc.constantFrom(4 as const, 6 as const), fc.nat(255), (a, b, family, protocol) => {
      const there = Uint32Array.from([...a.slice(0, 4), ...b.slice(0, 4)]);
      const back = Uint32Array.from([...b.slice(0, 4), ...a.slice(0, 4)]);
      const hash = tupleHash(there, 0, family, protocol, a[4], b[4]);
      assert.equal(hash, tupleHash(back, 0, family, protocol, b[4], a[4]));
      assert.ok(Number.isInteger(hash) && hash >= 0 && hash <= 0xffffffff);
    }),
  );
});

test('tuple-hash: the words go in as the file says: lower address, higher, ports, protocol', () => {
  const address = Uint32Array.of(0x0a000002, 0, 0, 0, 0x0a000001, 0, 0, 0);
  let crc = TUPLE_HASH_SEED;
  for (const fed of [0x0a000001, 0x0a000002, 80 | (40_000 << 16), 6]) crc = crc32cWord(crc, fed >>> 0);
  crc = Math.imul(crc ^ (crc >>> 16), 0x85ebca6b);
  assert.equal(tupleHash(address, 0, 4, 6, 40_000, 80), (crc ^ (crc >>> 13)) >>> 0);
});

test('tuple-hash: shards get even shares of connections that differ in one port', () => {
  const address = Uint32Array.of(0x0a000001, 0, 0, 0, 0x0a000002, 0, 0, 0);
  for (const shards of [1, 2, 3, 4, 7, 64]) {
    const shares = new Array<number>(shards).fill(0);
    const connections = 60_000;
    for (let port = 0; port < connections; port++) {
      const shard = shardOf(tupleHash(address, 0, 4, 6, port, 80), shards);
      shares[shard] = shares[shard]! + 1;
    }
    const even = connections / shards;
    for (const share of shares) assert.ok(Math.abs(share - even) < even * 0.2, `${shards} shards: ${share} of ${even}`);
  }
});
