/**
 * A compiler that takes up one change after another says what one says that is given the objects at once, and what the plain
 * evaluator says; and it names the same endpoints as touched. Ids of rules stay while the rule exists and are never given twice.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAddress } from '../../src/flow/ip-address.js';
import { nativeKernels } from '../../src/native/kernels.js';
import type { ClusterObjects, Pod } from '../../src/objects/model.js';
import { Classifier, NOT_MEMOISED } from '../../src/policy/classifier.js';
import { compilePolicies, wholeDelta } from '../../src/policy/compile.js';
import { type ObjectDelta, PolicyCompiler, type PolicyDelta } from '../../src/policy/compiler.js';
import { evaluate } from '../../src/policy/oracle.js';
import { QUESTION } from '../../src/policy/questions.js';
import { RuleRegistry } from '../../src/policy/rule-registry.js';
import { ADDRESSES4, ADDRESSES6, cluster, endpointsOf, PACKETS } from './policy-clusters.js';

const RUNS = process.env.SEINE_SLOW === '1' ? 400 : 40;
const PEERS = [...ADDRESSES4, ...ADDRESSES6].map((text) => ({ text, ...parseAddress(text)! }));
const native = nativeKernels();
/** Fewer than there are: many changes are to be seen. */
const SOME_PACKETS = PACKETS.filter((_, i) => i % 4 === 0 || PACKETS.length - i < 5);

type Kind = 'namespaces' | 'pods' | 'networkPolicies';
const KINDS: readonly Kind[] = ['namespaces', 'pods', 'networkPolicies'];

/** What makes `after` of `before`; as a store does it, an object that is changed keeps its place and a new one comes last. */
function between(before: ClusterObjects, after: ClusterObjects): { objects: ClusterObjects; delta: PolicyDelta } {
  const maps = {} as Record<Kind, Map<string, unknown>>;
  const deltas = {} as Record<Kind, ObjectDelta<unknown>[]>;
  for (const kind of KINDS) {
    const map = new Map<string, unknown>(before[kind]);
    deltas[kind] = [];
    for (const [key, value] of before[kind]) {
      if (after[kind].has(key)) continue;
      map.delete(key);
      deltas[kind].push({ key, before: value, after: undefined });
    }
    for (const [key, value] of after[kind]) {
      if (before[kind].get(key) === value) continue;
      deltas[kind].push({ key, before: before[kind].get(key), after: value });
      map.set(key, value);
    }
    maps[kind] = map;
  }
  const objects = { ...after, ...maps } as ClusterObjects;
  const { namespaces, pods, networkPolicies: policies } = deltas;
  return { objects, delta: { namespaces, pods, policies, endpoints: portsOf(objects) } as PolicyDelta };
}

const NAMESPACES = ['a', 'b', 'b-c', 'ü'];
/** Ports that stay a pod's while it lives: by its name. */
const portsOf = (objects: ClusterObjects): { port: number; pod: Pod }[] =>
  endpointsOf(objects).map(({ pod }) => ({
    port: 3 + NAMESPACES.indexOf(pod.namespace) * 16 + Number(pod.name.slice(3)),
    pod,
  }));

/** A few objects of `other` in, a few of the current out. */
const mix = (current: ClusterObjects, other: ClusterObjects, picks: readonly number[]): ClusterObjects => {
  const next = Object.fromEntries(KINDS.map((kind) => [kind, new Map<string, unknown>(current[kind])])) as Record<
    Kind,
    Map<string, unknown>
  >;
  for (const pick of picks) {
    const kind = KINDS[pick % 3]!;
    const given = [...other[kind].entries()];
    const there = [...next[kind].keys()];
    if ((pick >> 2) % 3 !== 0 && given.length > 0) {
      const [key, value] = given[(pick >> 4) % given.length]!;
      next[kind].set(key, value);
    } else if (there.length > 0) next[kind].delete(there[(pick >> 4) % there.length]!);
  }
  return { ...current, ...next } as ClusterObjects;
};

const decisions = (classifier: Classifier, ports: Iterable<number>): Map<number, string> => {
  const words = new Uint32Array(8);
  const result = new Map<number, string>();
  for (const port of ports) {
    const list: number[] = [];
    for (const direction of [0, 1] as const)
      for (const { family, words: address } of PEERS) {
        words.set(address);
        for (const { protocol, dstPort } of SOME_PACKETS)
          list.push(classifier.decide(direction, port, words, 0, words, 4, family, protocol, dstPort ?? -1));
      }
    result.set(port, list.join());
  }
  return result;
};

const POD: Pod = {
  namespace: 'a',
  name: '',
  labels: {},
  annotations: {},
  nodeName: 'here',
  hostNetwork: false,
  phase: null,
  ips: ['10.0.0.1'],
  namedPorts: [],
  serviceAccount: null,
};

test('policy: change by change, decisions, touched endpoints and ids are those of compiling all at once', (t) => {
  const seed = Date.now() >>> 0;
  t.diagnostic(`seed ${seed}`);
  let sameDigest = 0;
  let touchedPorts = 0;
  fc.assert(
    fc.property(
      cluster,
      fc.array(fc.tuple(cluster, fc.array(fc.nat(1 << 12), { minLength: 1, maxLength: 3 })), {
        minLength: 1,
        maxLength: 6,
      }),
      fc.constantFrom(1, 3, undefined),
      (first, others, denseMin) => {
        const registry = new RuleRegistry();
        const fresh = new RuleRegistry();
        const compiler = new PolicyCompiler(registry, denseMin);
        let objects = first;
        let { tables } = compiler.update(wholeDelta(objects, portsOf(objects)));
        let whole = compilePolicies({ objects, endpoints: portsOf(objects), registry: fresh });
        const classifier = new Classifier(tables);
        const everGone = new Set<number>();
        for (const [other, picks] of others) {
          const before = {
            digests: new Map(compiler.endpointDigest),
            ids: new Set(registry.list().map(({ id }) => id)),
          };
          const wholeBefore = whole;
          const stillRead = new Classifier(tables);
          const ports = portsOf(objects).map(({ port }) => port);
          const saidBefore = decisions(new Classifier(wholeBefore.tables), ports);
          const change = between(objects, mix(objects, other, picks));
          objects = change.objects;
          const update = compiler.update(change.delta);
          assert.deepEqual(
            decisions(stillRead, ports),
            saidBefore,
            'who still reads the old tables sees none of the change',
          );

          whole = compilePolicies({ objects, endpoints: portsOf(objects), registry: fresh });
          ({ tables } = update);
          classifier.swap(tables);
          const now = portsOf(objects).map(({ port }) => port);
          const said = decisions(classifier, [...now, 1, 2, 65_535]);
          assert.deepEqual(said, decisions(new Classifier(whole.tables), [...now, 1, 2, 65_535]));
          assert.deepEqual(
            decisions(new Classifier(tables), now),
            decisions(classifier, now),
            'with nothing remembered',
          );
          assert.deepEqual(new Map([...compiler.endpointDigest].sort()), new Map([...whole.endpointDigest].sort()));
          assert.deepEqual(compiler.policyInfos(), whole.policies);
          assert.deepEqual(registry.list(), fresh.list());

          // Touched: exactly where the digest is another.
          const all = new Set([...before.digests.keys(), ...compiler.endpointDigest.keys()]);
          const differing = [...all].filter((port) => before.digests.get(port) !== compiler.endpointDigest.get(port));
          assert.deepEqual([...update.touched].sort(), differing.sort());
          touchedPorts += differing.length;
          sameDigest += all.size - differing.length;

          const ids = new Set(registry.list().map(({ id }) => id));
          for (const id of ids) assert.ok(!everGone.has(id), `rule ${id} was given twice`);
          for (const id of before.ids) if (!ids.has(id)) everGone.add(id);
        }
        // In the end: the plain evaluator, and native code on the same memory.
        const question = new Uint32Array(QUESTION.words);
        const rule = new Int32Array(1);
        for (const { port, pod } of portsOf(objects)) {
          for (const direction of [0, 1] as const) {
            for (const peer of PEERS) {
              for (const packet of SOME_PACKETS) {
                const expected = evaluate(objects, {
                  direction: direction === 0 ? 'ingress' : 'egress',
                  pod,
                  peer: peer.text,
                  ...packet,
                });
                question.set([direction, port, peer.family, packet.protocol, (packet.dstPort ?? -1) >>> 0]);
                question.set(peer.words, QUESTION.peer);
                native.policyDecide(classifier, question, 1, rule);
                assert.notEqual(rule[0], NOT_MEMOISED, 'asked before');
                const info = rule[0] === 0 ? null : registry.get(Math.abs(rule[0]!))!;
                assert.deepEqual(
                  {
                    allowed: rule[0]! >= 0,
                    policy: info === null ? null : { namespace: info.namespace, name: info.policy, rule: info.rule },
                  },
                  expected,
                );
              }
            }
          }
        }
      },
    ),
    { seed, numRuns: RUNS },
  );
  assert.ok(touchedPorts > 0 && sameDigest > touchedPorts / 5, `${touchedPorts} touched, ${sameDigest} not`);
});

test('policy: an update that is refused changes nothing', () => {
  const registry = new RuleRegistry(6);
  const compiler = new PolicyCompiler(registry);
  const pod = { ...POD, name: 'pod0' };
  const policy = (name: string, cidr: string, rules: number) => ({
    namespace: 'a',
    name,
    annotations: {},
    podSelector: {},
    ingress: Array.from({ length: rules }, () => ({ peers: [{ ipBlock: { cidr, except: [] } }], ports: [] })),
    egress: null,
  });
  const delta = (key: string, after: ReturnType<typeof policy>): PolicyDelta => ({
    namespaces: [],
    pods: [],
    policies: [{ key, before: undefined, after }],
    endpoints: null,
  });
  compiler.update({
    ...delta('a/p', policy('p', '10.0.0.0/8', 1)),
    pods: [{ key: 'a/pod0', before: undefined, after: pod }],
    endpoints: [{ port: 3, pod }],
  });
  const before = { digests: new Map(compiler.endpointDigest), rules: registry.list(), infos: compiler.policyInfos() };
  assert.throws(() => compiler.update(delta('a/q', policy('q', '10.0.0.0', 1))), /no CIDR/);
  assert.throws(() => compiler.update(delta('a/q', policy('q', '10.0.0.0/8', 5))), /more than 5 rules/);
  assert.deepEqual(
    { digests: new Map(compiler.endpointDigest), rules: registry.list(), infos: compiler.policyInfos() },
    before,
  );
  const { tables } = compiler.update(delta('a/q', policy('q', '10.0.0.0/8', 1)));
  const peer = Uint32Array.of(0x0a000009, 0, 0, 0);
  assert.equal(new Classifier(tables).decide(0, 3, peer, 0, peer, 0, 4, 6, 80), 2);
});

test('policy: an endpoint that no policy isolates any more has the digest of one that never was isolated', () => {
  const pod = { ...POD, name: 'pod0', ips: [] };
  const policy = { namespace: 'a', name: 'p', annotations: {}, podSelector: {}, ingress: null, egress: [] };
  const speechless = { ...policy, egress: null };
  const none = { namespaces: [], pods: [], policies: [], endpoints: null };
  const start = { ...none, pods: [{ key: 'a/pod0', before: undefined, after: pod }], endpoints: [{ port: 3, pod }] };
  const compiler = new PolicyCompiler(new RuleRegistry());
  compiler.update({ ...start, policies: [{ key: 'a/p', before: undefined, after: policy }] });
  const isolated = compiler.endpointDigest.get(3);
  const { touched } = compiler.update({ ...none, policies: [{ key: 'a/p', before: policy, after: speechless }] });
  assert.deepEqual([...touched], [3]);
  for (const policies of [[], [{ key: 'a/p', before: undefined, after: speechless }]]) {
    const other = new PolicyCompiler(new RuleRegistry());
    other.update({ ...start, policies });
    assert.equal(compiler.endpointDigest.get(3), other.endpointDigest.get(3));
    assert.notEqual(isolated, other.endpointDigest.get(3));
  }
});
