/** The classifier against the plain evaluator, and the digests that tell which endpoints a change touches. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAddress } from '../../src/flow/ip-address.js';
import type { ClusterObjects } from '../../src/objects/model.js';
import { Classifier } from '../../src/policy/classifier.js';
import { compilePolicies } from '../../src/policy/compile.js';
import { evaluate } from '../../src/policy/oracle.js';
import { RuleRegistry } from '../../src/policy/rule-registry.js';
import { ADDRESSES4, ADDRESSES6, cluster, endpointsOf, PACKETS } from './policy-clusters.js';

const RUNS = process.env.SEINE_SLOW === '1' ? 6000 : 300;
const PEERS = [...ADDRESSES4, ...ADDRESSES6].map((text) => ({ text, ...parseAddress(text)! }));
const DIRECTIONS = ['ingress', 'egress'] as const;

/** Every decision at every endpoint as text, by port. */
function decisions(
  objects: ClusterObjects,
  registry: RuleRegistry,
): { all: Map<number, string[]>; digests: ReadonlyMap<number, unknown> } {
  const endpoints = endpointsOf(objects);
  const compiled = compilePolicies({ objects, endpoints, registry });
  const classifier = new Classifier(structuredClone(compiled.tables)); // as a worker gets it
  const words = new Uint32Array(12);
  const all = new Map<number, string[]>();
  for (const { port } of endpoints) {
    const list: string[] = [];
    for (const direction of [0, 1] as const) {
      for (const { family, words: address } of PEERS) {
        words.set(address, 4);
        for (const { protocol, dstPort } of PACKETS) {
          const rule = classifier.decide(direction, port, words, 4, words, 8, family, protocol, dstPort ?? -1);
          list.push(String(rule));
        }
      }
    }
    all.set(port, list);
  }
  return { all, digests: compiled.endpointDigest };
}

test('policy: the classifier decides as the plain evaluator does, and names the same policy and rule', (t) => {
  const seed = Date.now() >>> 0;
  t.diagnostic(`seed ${seed}`);
  fc.assert(
    fc.property(cluster, (objects) => {
      const registry = new RuleRegistry();
      const { all } = decisions(objects, registry);
      for (const { port, pod } of endpointsOf(objects)) {
        let at = 0;
        for (const direction of DIRECTIONS) {
          for (const peer of PEERS) {
            for (const packet of PACKETS) {
              const expected = evaluate(objects, { direction, pod, peer: peer.text, ...packet });
              const rule = Number(all.get(port)![at++]);
              const info = rule === 0 ? null : registry.get(Math.abs(rule))!;
              const got = {
                allowed: rule >= 0,
                policy: info === null ? null : { namespace: info.namespace, name: info.policy, rule: info.rule },
              };
              assert.deepEqual(
                got,
                expected,
                `${direction} at ${pod.namespace}/${pod.name}, ${peer.text}, ${JSON.stringify(packet)}`,
              );
              if (info !== null) assert.equal(info.action, rule > 0 ? 'allow' : 'drop');
            }
          }
        }
      }
    }),
    { seed, numRuns: RUNS },
  );
});

/** One object added, changed or taken away; or of one policy's first ingress or egress rule the peers or ports alone. */
function change(
  objects: ClusterObjects,
  other: ClusterObjects,
  kind: 'pods' | 'networkPolicies' | 'namespaces' | 'peers' | 'ports',
  pick: number,
): ['pods' | 'networkPolicies' | 'namespaces', Map<string, unknown>] {
  if (kind === 'peers' || kind === 'ports') {
    const changed = new Map(objects.networkPolicies);
    const direction = pick % 2 === 0 ? 'ingress' : 'egress';
    const donor = [...other.networkPolicies.values()].map((policy) => policy[direction]?.[0]).find(Boolean);
    const found = [...changed].find(([, policy]) => (policy[direction]?.length ?? 0) > 0);
    if (donor !== undefined && found !== undefined) {
      const [key, policy] = found;
      const [first, ...rest] = policy[direction]!;
      changed.set(key, { ...policy, [direction]: [{ ...first!, [kind]: donor[kind] }, ...rest] });
    }
    return ['networkPolicies', changed];
  }
  const changed = new Map<string, unknown>(objects[kind]);
  const given = [...other[kind].entries()];
  if (given.length > 0 && pick % 3 !== 0) {
    const [key, value] = given[pick % given.length]!;
    changed.set(key, value);
  } else {
    const keys = [...changed.keys()];
    if (keys.length > 0) changed.delete(keys[pick % keys.length]!);
  }
  return [kind, changed];
}

test('policy: where a change alters a decision at an endpoint, it alters the digest of that endpoint', (t) => {
  const seed = Date.now() >>> 0;
  t.diagnostic(`seed ${seed}`);
  let untouched = 0;
  let endpointsSeen = 0;
  fc.assert(
    fc.property(
      cluster,
      cluster,
      fc.constantFrom('pods', 'networkPolicies', 'namespaces', 'peers', 'ports'),
      fc.nat(),
      (objects, other, kind, pick) => {
        const [field, changed] = change(objects, other, kind, pick);
        const next: ClusterObjects = { ...objects, [field]: changed };
        const registry = new RuleRegistry();
        const before = decisions(objects, registry);
        const after = decisions(next, registry);
        const podsBefore = new Map(endpointsOf(objects).map(({ port, pod }) => [port, `${pod.namespace}/${pod.name}`]));
        const podsAfter = new Map(endpointsOf(next).map(({ port, pod }) => [port, `${pod.namespace}/${pod.name}`]));
        for (const [port, list] of after.all) {
          if (podsBefore.get(port) !== podsAfter.get(port)) continue; // another pod: its epoch goes up anyway
          endpointsSeen++;
          if (before.digests.get(port) === after.digests.get(port)) {
            untouched++;
            assert.deepEqual(before.all.get(port), list);
          }
        }
      },
    ),
    { seed, numRuns: 5 * RUNS },
  );
  assert.ok(
    untouched > endpointsSeen / 10,
    `${untouched} of ${endpointsSeen} endpoints untouched: digests say too much`,
  );
});

test('policy: digests are the same for the same objects in another order', () => {
  fc.assert(
    fc.property(cluster, (objects) => {
      // Pods that share an address are told apart by their order alone.
      const ips = [...objects.pods.values()].flatMap((pod) => pod.ips);
      fc.pre(new Set(ips).size === ips.length);
      const endpoints = endpointsOf(objects);
      const turned: ClusterObjects = {
        ...objects,
        pods: new Map([...objects.pods].reverse()),
        namespaces: new Map([...objects.namespaces].reverse()),
        networkPolicies: new Map([...objects.networkPolicies].reverse()),
      };
      const registry = new RuleRegistry();
      const first = compilePolicies({ objects, endpoints, registry }).endpointDigest;
      const second = compilePolicies({ objects: turned, endpoints: [...endpoints].reverse(), registry }).endpointDigest;
      assert.deepEqual(new Map([...second].sort()), new Map([...first].sort()));
    }),
    { numRuns: 200 },
  );
});
