/** Questions to the classifier in flat words, for native code, tests and benchmarks: the reference of native/policy.cc. */
import { AddressMap } from '../flow/address-map.js';
import { type Classifier, NOT_MEMOISED } from './classifier.js';

/** Words of a question; `dstPort` −1 (all bits) where the packet has no ports; `peer`: four words. */
export const QUESTION = { direction: 0, port: 1, family: 2, protocol: 3, dstPort: 4, peer: 8, words: 12 } as const;

/** Answers questions from what is memoised (classifier.ts); returns how many of `rules` are NOT_MEMOISED. */
export function decideAll(classifier: Classifier, questions: Uint32Array, count: number, rules: Int32Array): number {
  let missing = 0;
  for (let i = 0; i < count; i++) {
    const at = i * QUESTION.words;
    rules[i] = classifier.decideMemoised(
      questions[at + QUESTION.direction] === 0 ? 0 : 1,
      questions[at + QUESTION.port]!,
      questions,
      at + QUESTION.peer,
      questions[at + QUESTION.family] === 6 ? 6 : 4,
      questions[at + QUESTION.protocol]!,
      questions[at + QUESTION.dstPort]! | 0,
    );
    if (rules[i] === NOT_MEMOISED) missing++;
  }
  return missing;
}

/** Looks `count` addresses of four words up in a map; `values` takes what AddressMap.lookup says. */
export function lookupAddresses(
  map: Uint32Array,
  addresses: Uint32Array,
  family: 4 | 6,
  count: number,
  values: Uint32Array,
): void {
  const reader = new AddressMap(map);
  for (let i = 0; i < count; i++) values[i] = reader.lookup(addresses, i * 4, family);
}
