/** Changes to a set of objects: what an apply and a delete say they did, and that they touch nothing else. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ClusterObjects } from '../../../src/objects/model.js';
import { readManifest } from '../../../src/objects/read.js';
import { applyObjects, deleteObject, emptyObjects } from '../../../src/objects/store.js';

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

test('store: delete takes a kind in any case, and default as namespace', () => {
  const text = 'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {}}\n';
  const { objects } = apply(emptyObjects(), [text]);
  const { changes, objects: after } = deleteObject(objects, 'networkpolicy', null, 'p');
  assert.deepEqual(said(changes), ['NetworkPolicy default/p deleted']);
  assert.equal(after.networkPolicies.size, 0);
});

test('store: deleting what is not there is SEINE_ERR_NOT_FOUND, a kind that is not known SEINE_ERR_USAGE', () => {
  assert.throws(() => deleteObject(emptyObjects(), 'Pod', 'a', 'p'), {
    code: 'SEINE_ERR_NOT_FOUND',
    message: /Pod a\/p does not exist/,
  });
  assert.throws(() => deleteObject(emptyObjects(), 'Deployment', 'a', 'p'), {
    code: 'SEINE_ERR_USAGE',
    message: /"Deployment" is not known/,
  });
});
