/** Ids of rules. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeineError } from '../../../src/errors.js';
import { RuleRegistry } from '../../../src/policy/rule-registry.js';

const rule = (policy: string, index: number | null) =>
  ({
    kind: 'NetworkPolicy',
    namespace: 'default',
    policy,
    rule: index,
    direction: 'ingress',
    action: index === null ? 'drop' : 'allow',
  }) as const;
const round = (registry: RuleRegistry, ...rules: ReturnType<typeof rule>[]): number[] =>
  registry.exchange('all', rules);

test('rule-registry: ids begin at 1 and stay while the rule exists; a default deny is a rule of its own', () => {
  const registry = new RuleRegistry();
  assert.deepEqual(round(registry, rule('a', null), rule('a', 0)), [1, 2]);
  assert.deepEqual(round(registry, rule('b', 0), rule('a', 0), rule('a', null)), [3, 2, 1]);
  assert.equal(registry.get(1)!.action, 'drop');
  assert.deepEqual(
    registry.list().map(({ id }) => id),
    [1, 2, 3],
  );
});

test('rule-registry: an id is not given twice, and one that is gone still has its name', () => {
  const registry = new RuleRegistry();
  round(registry, rule('a', 0));
  round(registry, rule('b', 0));
  assert.deepEqual(
    registry.list().map(({ policy }) => policy),
    ['b'],
  );
  assert.equal(registry.get(1)!.policy, 'a');
  assert.deepEqual(round(registry, rule('a', 0)), [3]);
});

test('rule-registry: an exchange leaves rules of neither side alone', () => {
  const registry = new RuleRegistry();
  round(registry, rule('a', 0), rule('a', 1), rule('b', 0));
  assert.deepEqual(registry.exchange([rule('a', 0), rule('a', 1)], [rule('a', 0), rule('c', 0)]), [1, 4]);
  assert.deepEqual(
    registry.list().map(({ id, policy }) => `${id} ${policy}`),
    ['1 a', '3 b', '4 c'],
  );
});

test('rule-registry: more rules than counters have room for are refused with how to mend it', () => {
  const registry = new RuleRegistry(3);
  round(registry, rule('a', 0));
  assert.throws(
    () => round(registry, rule('a', 0), rule('a', 1), rule('a', 2)),
    (error) =>
      error instanceof SeineError && error.code === 'SEINE_ERR_POLICY_INVALID' && /default\/a/.test(error.message),
  );
  assert.deepEqual(
    registry.list().map(({ id }) => id),
    [1],
  );
  assert.deepEqual(round(registry, rule('a', 0), rule('a', 1)), [1, 2], 'nothing was used up');
});
