/** The native decision and the native address look-up say what their references say, about anything at any time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MutableAddressMap } from '../../src/flow/address-map.js';
import { maskWord, parseAddress } from '../../src/flow/ip-address.js';
import { nativeKernels, references } from '../../src/native/kernels.js';
import { Classifier, NOT_MEMOISED } from '../../src/policy/classifier.js';
import { compilePolicies } from '../../src/policy/compile.js';
import { QUESTION } from '../../src/policy/questions.js';
import { RuleRegistry } from '../../src/policy/rule-registry.js';
import { ADDRESSES4, ADDRESSES6, cluster, endpointsOf, PACKETS } from './policy-clusters.js';

const native = nativeKernels();
const RUNS = process.env.SEINE_SLOW === '1' ? 1000 : 100;
const PEERS = [...ADDRESSES4, ...ADDRESSES6].map((text) => parseAddress(text)!);

/** Every packet of every peer at the ports 0 … `ports` − 1 in both directions. */
function allQuestions(ports: readonly number[]): { words: Uint32Array; count: number } {
  const list: number[] = [];
  for (const port of ports)
    for (const direction of [0, 1])
      for (const { family, words } of PEERS)
        for (const { protocol, dstPort } of PACKETS)
          list.push(
            direction,
            port,
            family,
            protocol,
            (dstPort ?? -1) >>> 0,
            0,
            0,
            0,
            ...words.concat(0, 0, 0).slice(0, 4),
          );
  return { words: Uint32Array.from(list), count: list.length / QUESTION.words };
}

test('policy: the native decision is the reference’s, before and after programs are made', (t) => {
  const seed = Date.now() >>> 0;
  t.diagnostic(`seed ${seed}`);
  let memoised = 0;
  let unknown = 0;
  fc.assert(
    fc.property(cluster, fc.nat(6), (objects, skip) => {
      const endpoints = endpointsOf(objects);
      const { tables } = compilePolicies({ objects, endpoints, registry: new RuleRegistry() });
      const classifier = new Classifier(tables);
      const { words, count } = allQuestions([
        0,
        2,
        ...endpoints.map(({ port }) => port),
        60,
        65_535,
        70_000,
        0xffffffff,
      ]);
      const [expected, got] = [new Int32Array(count), new Int32Array(count)];
      const compare = (): number => {
        const missing = references.policyDecide(classifier, words, count, expected);
        assert.equal(native.policyDecide(classifier, words, count, got), missing);
        assert.deepEqual(got, expected);
        return missing;
      };
      unknown += compare();
      // Some are asked, so that their programs are made; those say what the whole classifier says.
      for (let i = skip; i < count; i += 1 + skip) {
        const at = i * QUESTION.words;
        const [direction, port, family, protocol, dstPort] = words.subarray(at, at + 5) as unknown as number[];
        const rule = classifier.decide(
          direction as 0 | 1,
          port!,
          words,
          at + QUESTION.peer,
          words,
          0,
          family as 4 | 6,
          protocol!,
          dstPort! | 0,
        );
        native.policyDecide(classifier, words.subarray(at), 1, got);
        assert.equal(got[0], rule);
        assert.notEqual(rule, NOT_MEMOISED);
      }
      memoised += count - compare();
    }),
    { seed, numRuns: RUNS },
  );
  assert.ok(memoised > 0 && unknown > 0, `${memoised} memoised, ${unknown} not`);
});

interface Step {
  family: 4 | 6;
  words: number[];
  length: number;
  value: number;
}
const word = fc.constantFrom(0, 1, 0x80000000, 0xffffffff, 0x0a000001, 0x0a010203);
const step: fc.Arbitrary<Step> = fc
  .record({
    family: fc.constantFrom(4 as const, 6 as const),
    words: fc.array(word, { minLength: 4, maxLength: 4 }),
    length: fc.oneof(fc.nat(128), fc.constant(128)),
    value: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 0xffffffff })), // 0: taken away
  })
  .map((given) => ({ ...given, length: given.family === 4 ? Math.min(32, given.length) : given.length }));

test('address-map: after any changes in place, look-ups are a plain search’s, native ones too, and readers see whole changes', (t) => {
  const seed = Date.now() >>> 0;
  t.diagnostic(`seed ${seed}`);
  fc.assert(
    fc.property(fc.array(fc.array(step, { maxLength: 12 }), { maxLength: 12 }), (changes) => {
      const map = new MutableAddressMap();
      const plain = new Map<string, Step>();
      const masked = ({ family, words, length }: Step): number[] =>
        words.map((w, i) => (family === 4 && i > 0 ? 0 : (w & maskWord(length, i)) >>> 0));
      const addresses = changes.flat().map(({ words }) => words);
      addresses.push([0, 0, 0, 0], [0x0a000002, 0, 0, 7]);
      const lookups = (data: Uint32Array, family: 4 | 6): Uint32Array => {
        const values = new Uint32Array(addresses.length);
        references.lookupAddresses(data, Uint32Array.from(addresses.flat()), family, addresses.length, values);
        const natives = new Uint32Array(addresses.length);
        native.lookupAddresses(data, Uint32Array.from(addresses.flat()), family, addresses.length, natives);
        assert.deepEqual(natives, values);
        return values;
      };
      const expected = (family: 4 | 6): number[] =>
        addresses.map((address) => {
          let best: Step | null = null;
          for (const each of plain.values()) {
            if (each.family !== family || (best !== null && each.length <= best.length)) continue;
            if (masked({ ...each, words: address }).join() === masked(each).join()) best = each;
          }
          return best?.value ?? 0;
        });
      let published = map.publish();
      for (const steps of changes) {
        const before = [...expected(4), ...expected(6)];
        map.begin();
        for (const each of steps) {
          const key = `${each.family} ${each.length} ${masked(each).join()}`;
          if (each.value === 0) {
            map.delete(each.family, each.words, each.length);
            plain.delete(key);
          } else {
            map.set(each.family, each.words, each.length, each.value);
            plain.set(key, each);
          }
          assert.equal(map.get(each.family, each.words, each.length), each.value);
        }
        assert.deepEqual([...lookups(published, 4), ...lookups(published, 6)], before, 'readers see the old map still');
        published = map.publish();
        assert.deepEqual([...lookups(published, 4), ...lookups(published, 6)], [...expected(4), ...expected(6)]);
      }
    }),
    { seed, numRuns: 3 * RUNS },
  );
});

test('address-map: a map whose tables would lie outside it is refused', () => {
  const values = new Uint32Array(1);
  const map = new MutableAddressMap();
  map.set(4, [0x0a000001], 32, 1);
  const good = map.publish();
  for (const bad of [
    new Uint32Array(0),
    new Uint32Array(300),
    good.subarray(0, good.length - 1),
    good.map((w, i) => (i === 1 ? w + 1 : w)),
    good.map((w, i) => (i === 6 ? good.length : w)),
    good.map((w, i) => (i === 5 ? 0xffffffff : w)),
  ])
    assert.throws(() => native.lookupAddresses(bad, new Uint32Array(4), 4, 1, values), RangeError);
  native.lookupAddresses(good, Uint32Array.of(0x0a000001, 0, 0, 0), 4, 1, values);
  assert.equal(values[0], 1);
});
