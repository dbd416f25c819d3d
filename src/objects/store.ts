/** Changes to a set of objects: pure functions, each giving a new set. */
import { isDeepStrictEqual } from 'node:util';
import type { ObjectChange } from '../engine/engine-view.js';
import { SeineError } from '../errors.js';
import type { ClusterObjects } from './model.js';
import type { KnownKind, ObjectInput } from './read.js';

const MAP_OF = {
  Namespace: 'namespaces',
  Pod: 'pods',
  Node: 'nodes',
  Service: 'services',
  EndpointSlice: 'endpointSlices',
  NetworkPolicy: 'networkPolicies',
} as const satisfies Record<KnownKind, keyof ClusterObjects>;

export const emptyObjects = (): ClusterObjects => ({
  namespaces: new Map(),
  pods: new Map(),
  nodes: new Map(),
  services: new Map(),
  endpointSlices: new Map(),
  networkPolicies: new Map(),
});

const copy = (objects: ClusterObjects) => ({
  namespaces: new Map(objects.namespaces),
  pods: new Map(objects.pods),
  nodes: new Map(objects.nodes),
  services: new Map(objects.services),
  endpointSlices: new Map(objects.endpointSlices),
  networkPolicies: new Map(objects.networkPolicies),
});

const named = (kind: string, key: string): { namespace: string | null; name: string } => {
  const slash = key.indexOf('/');
  return slash < 0 || kind === 'Namespace' || kind === 'Node'
    ? { namespace: null, name: key }
    : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
};

/** `prune`: objects that the manifest doesn't hold are deleted. */
export function applyObjects(
  current: ClusterObjects,
  inputs: readonly ObjectInput[],
  { prune = false }: { prune?: boolean } = {},
): { objects: ClusterObjects; changes: ObjectChange[] } {
  const next = copy(current);
  const changes: ObjectChange[] = [];
  const given = new Set<string>();
  for (const { kind, key, value } of inputs) {
    const map = next[MAP_OF[kind]] as Map<string, unknown>;
    const before = map.get(key);
    given.add(`${kind} ${key}`);
    const change = before === undefined ? 'created' : isDeepStrictEqual(before, value) ? 'unchanged' : 'configured';
    if (change !== 'unchanged') map.set(key, value);
    changes.push({ kind, ...named(kind, key), change });
  }
  if (prune) {
    for (const [kind, field] of Object.entries(MAP_OF)) {
      for (const key of [...next[field].keys()]) {
        if (given.has(`${kind} ${key}`)) continue;
        next[field].delete(key);
        changes.push({ kind, ...named(kind, key), change: 'deleted' });
      }
    }
  }
  return { objects: next, changes };
}

export function deleteObject(
  current: ClusterObjects,
  kind: string,
  namespace: string | null,
  name: string,
): { objects: ClusterObjects; changes: ObjectChange[] } {
  const match = Object.keys(MAP_OF).find((known) => known.toLowerCase() === kind.toLowerCase()) as
    | KnownKind
    | undefined;
  if (match === undefined) {
    throw new SeineError(
      'SEINE_ERR_USAGE',
      `kind ${JSON.stringify(kind)} is not known; one of ${Object.keys(MAP_OF).join(', ')} is`,
    );
  }
  const clusterWide = match === 'Namespace' || match === 'Node';
  const key = clusterWide ? name : `${namespace ?? 'default'}/${name}`;
  const next = copy(current);
  if (!(next[MAP_OF[match]] as Map<string, unknown>).delete(key)) {
    throw new SeineError('SEINE_ERR_NOT_FOUND', `${match} ${key} does not exist`);
  }
  return { objects: next, changes: [{ kind: match, ...named(match, key), change: 'deleted' }] };
}
