/** Compiling a set of objects in one go, from nothing: what `seine check` and tests need. The engine keeps a compiler (compiler.ts). */
import type { PolicyInfo } from '../engine/engine-view.js';
import type { ClusterObjects, Pod } from '../objects/model.js';
import { type ObjectDelta, PolicyCompiler, type PolicyDelta } from './compiler.js';
import type { RuleRegistry } from './rule-registry.js';
import type { PolicyTables } from './tables.js';

export interface CompiledPolicy {
  tables: PolicyTables;
  /** Local port → digest of all that its decisions rest on: the same digest, the same decisions. */
  endpointDigest: ReadonlyMap<number, number>;
  policies: PolicyInfo[];
  counts: { identities: number; sets: number };
}
export interface CompileInput {
  objects: ClusterObjects;
  /** Local pods with their OpenFlow ports. */
  endpoints: Iterable<{ port: number; pod: Pod }>;
  registry: RuleRegistry;
}

/** Objects as the change that makes them of nothing. */
export function wholeDelta(objects: ClusterObjects, endpoints: CompileInput['endpoints']): PolicyDelta {
  const all = <T>(map: ReadonlyMap<string, T>): ObjectDelta<T>[] =>
    [...map].map(([key, after]) => ({ key, before: undefined, after }));
  return {
    namespaces: all(objects.namespaces),
    pods: all(objects.pods),
    policies: all(objects.networkPolicies),
    endpoints,
  };
}

export function compilePolicies({ objects, endpoints, registry }: CompileInput): CompiledPolicy {
  const compiler = new PolicyCompiler(registry);
  const { tables } = compiler.update(wholeDelta(objects, endpoints));
  return {
    tables,
    endpointDigest: compiler.endpointDigest,
    policies: compiler.policyInfos(),
    counts: compiler.counts,
  };
}
