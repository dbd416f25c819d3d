/** Changes to a set of objects: what an apply and a delete say they did, and that they touch nothing else. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ClusterObjects } from '../../../src/objects/model.js';
import { readManifest } from '../../../src/objects/read.js';
import { applyObjects, commit, copyOf, emptyObjects, planApply, planDelete } from '../../../src/objects/store.js';

const namespace = (name: string, label = 'x'): string =>
  `apiVersion: v1\nkind: Namespace\nmetadata: {name: ${name}, labels: {l: ${label}}}\n`;
const policy = (name: string): string =>
  `apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: a, name: ${name}}\nspec: {podSelector: {}}\n`;
const apply = (current: ClusterObjects, texts: string[], prune = false) =>
  applyObjects(current, readManifest(texts.join('---\n'), 'x.yaml').inputs, { prune });
const said = (changes: readonly { kind: string; namespace: string | null; name: string; change: string }[]): string[] =>
  changes.map(
    (each) => `${each.kind} ${each.namespace === null ? '' : `${each.namespace}/`}${each.name} ${each.change}`,
  );

test('store: created, then unchanged, then configured', () => {
  const first = apply(emptyObjects(), [namespace('a'), policy('p')]);
  assert.deepEqual(said(first.changes), ['Namespace a created', 'NetworkPolicy a/p created']);
  const second = apply(first.objects, [namespace('a'), policy('p')]);
  assert.deepEqual(said(second.changes), ['Namespace a unchanged', 'NetworkPolicy a/p unchanged']);
  const third = apply(second.objects, [namespace('a', 'y')]);
  assert.deepEqual(said(third.changes), ['Namespace a configured']);
  assert.equal(third.objects.networkPolicies.size, 1);
});

test('store: of an object given twice the last one counts', () => {
  const { objects } = apply(emptyObjects(), [namespace('a', 'x'), namespace('a', 'y')]);
  assert.equal(objects.namespaces.get('a')?.labels.l, 'y');
});

test('store: prune deletes what the manifest does not hold', () => {
  const { objects } = apply(emptyObjects(), [namespace('a'), namespace('b'), policy('p')]);
  const pruned = apply(objects, [namespace('b')], true);
  assert.deepEqual(said(pruned.changes), ['Namespace b unchanged', 'Namespace a deleted', 'NetworkPolicy a/p deleted']);
  assert.deepEqual([...pruned.objects.namespaces.keys()], ['b']);
});

test('store: an apply leaves the set that it began from as it was', () => {
  const { objects } = apply(emptyObjects(), [namespace('a')]);
  apply(objects, [namespace('b')], true);
  assert.deepEqual([...objects.namespaces.keys()], ['a']);
});

test('store: a plan tells each object that changes once, from what is there to what will be, and nothing else', () => {
  const { objects } = apply(emptyObjects(), [namespace('a', 'x'), namespace('b'), policy('p')]);
  const plan = (texts: string[], prune = false) =>
    planApply(objects, readManifest(texts.join('---\n'), 'x.yaml').inputs, { prune }).deltas.map(
      ({ kind, key, before, after }) => [kind, key, before !== undefined, after !== undefined],
    );
  assert.deepEqual(plan([namespace('a', 'y'), namespace('b'), namespace('a', 'z')]), [['Namespace', 'a', true, true]]);
  assert.deepEqual(plan([namespace('a', 'y'), namespace('a', 'x')]), [['Namespace', 'a', true, true]]);
  assert.deepEqual(plan([namespace('c', 'y'), namespace('c', 'x')]), [['Namespace', 'c', false, true]]);
  assert.deepEqual(plan([namespace('b')], true), [
    ['Namespace', 'a', true, false],
    ['NetworkPolicy', 'a/p', true, false],
  ]);
});

test('store: a changed object keeps its place, one that is deleted and made again comes last', () => {
  const { objects } = apply(emptyObjects(), [namespace('a'), namespace('b')]);
  const own = copyOf(objects);
  commit(own, planApply(own, readManifest(namespace('a', 'y'), 'x.yaml').inputs).deltas);
  assert.deepEqual([...own.namespaces.keys()], ['a', 'b']);
  commit(own, planDelete(own, 'Namespace', null, 'a').deltas);
  commit(own, planApply(own, readManifest(namespace('a'), 'x.yaml').inputs).deltas);
  assert.deepEqual([...own.namespaces.keys()], ['b', 'a']);
  assert.deepEqual([...objects.namespaces.keys()], ['a', 'b'], 'the first set is another');
});

test('store: delete takes a kind in any case, and default as namespace', () => {
  const text = 'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {}}\n';
  const { objects } = apply(emptyObjects(), [text]);
  const { changes, deltas } = planDelete(objects, 'networkpolicy', null, 'p');
  assert.deepEqual(said(changes), ['NetworkPolicy default/p deleted']);
  assert.equal(objects.networkPolicies.size, 1, 'a plan changes nothing');
  commit(objects, deltas);
  assert.equal(objects.networkPolicies.size, 0);
});

test('store: deleting what is not there is SEINE_ERR_NOT_FOUND, a kind that is not known SEINE_ERR_USAGE', () => {
  assert.throws(() => planDelete(emptyObjects(), 'Pod', 'a', 'p'), {
    code: 'SEINE_ERR_NOT_FOUND',
    message: /Pod a\/p does not exist/,
  });
  assert.throws(() => planDelete(emptyObjects(), 'Deployment', 'a', 'p'), {
    code: 'SEINE_ERR_USAGE',
    message: /"Deployment" is not known/,
  });
});
