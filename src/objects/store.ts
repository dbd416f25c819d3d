/** Changes to a set of objects: planned first, then taken up in place by whoever owns the set, or as a new set. */
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

/** One object's change: undefined where it is not there. */
export interface ObjectDelta {
  kind: KnownKind;
  key: string;
  before: unknown;
  after: unknown;
}
/** What an apply or a delete would do. Nothing is changed yet. */
export interface PlannedChange {
  changes: ObjectChange[];
  deltas: ObjectDelta[];
}
type MutableObjects = { [Field in keyof ClusterObjects]: Map<string, unknown> };

const named = (kind: string, key: string): { namespace: string | null; name: string } => {
  const slash = key.indexOf('/');
  return slash < 0 || kind === 'Namespace' || kind === 'Node'
    ? { namespace: null, name: key }
    : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
};

/** `prune`: objects that the manifest doesn't hold are deleted. Costs what the manifest holds, but for a prune. */
export function planApply(
  current: ClusterObjects,
  inputs: readonly ObjectInput[],
  { prune = false }: { prune?: boolean } = {},
): PlannedChange {
  const changes: ObjectChange[] = [];
  const deltas = new Map<string, ObjectDelta>();
  for (const { kind, key, value } of inputs) {
    const id = `${kind} ${key}`;
    const known = deltas.get(id);
    const before = known === undefined ? current[MAP_OF[kind]].get(key) : known.after;
    const change = before === undefined ? 'created' : isDeepStrictEqual(before, value) ? 'unchanged' : 'configured';
    if (known === undefined) deltas.set(id, { kind, key, before, after: change === 'unchanged' ? before : value });
    else if (change !== 'unchanged') known.after = value;
    changes.push({ kind, ...named(kind, key), change });
  }
  if (prune) {
    for (const [kind, field] of Object.entries(MAP_OF) as [KnownKind, keyof ClusterObjects][]) {
      for (const [key, before] of current[field]) {
        const id = `${kind} ${key}`;
        if (deltas.has(id)) continue;
        deltas.set(id, { kind, key, before, after: undefined });
        changes.push({ kind, ...named(kind, key), change: 'deleted' });
      }
    }
  }
  return { changes, deltas: [...deltas.values()].filter(({ before, after }) => before !== after) };
}

export function planDelete(
  current: ClusterObjects,
  kind: string,
  namespace: string | null,
  name: string,
): PlannedChange {
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
  const before: unknown = current[MAP_OF[match]].get(key);
  if (before === undefined) throw new SeineError('SEINE_ERR_NOT_FOUND', `${match} ${key} does not exist`);
  return {
    changes: [{ kind: match, ...named(match, key), change: 'deleted' }],
    deltas: [{ kind: match, key, before, after: undefined }],
  };
}

/** Takes a plan up in place: whoever holds the objects sees it. An object that is changed keeps its place among the others. */
export function commit(objects: ClusterObjects, deltas: readonly ObjectDelta[]): void {
  for (const { kind, key, after } of deltas) {
    const map = (objects as MutableObjects)[MAP_OF[kind]];
    if (after === undefined) map.delete(key);
    else map.set(key, after);
  }
}
/** A set of one's own with the same objects. */
export const copyOf = (objects: ClusterObjects): ClusterObjects => ({
  namespaces: new Map(objects.namespaces),
  pods: new Map(objects.pods),
  nodes: new Map(objects.nodes),
  services: new Map(objects.services),
  endpointSlices: new Map(objects.endpointSlices),
  networkPolicies: new Map(objects.networkPolicies),
});

const asNewSet = (current: ClusterObjects, { changes, deltas }: PlannedChange) => {
  const objects = copyOf(current);
  commit(objects, deltas);
  return { objects, changes };
};
/** planApply's outcome as a new set. */
export function applyObjects(
  current: ClusterObjects,
  inputs: readonly ObjectInput[],
  options: { prune?: boolean } = {},
): { objects: ClusterObjects; changes: ObjectChange[] } {
  return asNewSet(current, planApply(current, inputs, options));
}
