/**
 * One policy changed among many, in a running engine whose worker judges packets all the while: how long until it is in force,
 * and how long no batch came out. And what policies take of memory, as they come in by manifests.
 */
import { Verdict } from '../src/batch/drop-reason.js';
import { tcpFrame } from '../src/flow/build-frame.js';
import type { ClusterObjects, NetworkPolicy, NetworkPolicyRule } from '../src/objects/model.js';
import { compilePolicies } from '../src/policy/compile.js';
import { RuleRegistry } from '../src/policy/rule-registry.js';
import { cluster } from './classifier.js';
import { median, type Row, type RowGroup, rounded } from './harness.js';
import { residentOctets } from './memory.js';
import { syns } from './new-connections.js';
import { PoolEngine } from './pool-engine.js';

const GATEWAY = 2;
/** Ports that no policy has at first. */
const PROBED = [7001, 7002] as const;

const manifestOf = ({ namespace, name, podSelector, ingress, egress }: NetworkPolicy, ports?: number): object => {
  const rules = (given: NetworkPolicyRule[], side: 'from' | 'to') =>
    given.map(({ peers, ports: own }) => ({
      [side]: peers,
      ports: ports === undefined ? own : [{ protocol: 'TCP', port: ports }],
    }));
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { namespace, name },
    spec: {
      podSelector,
      policyTypes: ['Ingress', ...(egress === null ? [] : ['Egress'])],
      ingress: rules(ingress!, 'from'),
      ...(egress === null ? {} : { egress: rules(egress, 'to') }),
    },
  };
};

/** The lowest tenth's end. */
const calm = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) / 10)]!;

export const policyChange: RowGroup = {
  rows: [
    'one policy changed among 10,000 (100,000 pods), in force',
    'one policy changed among 10,000 (100,000 pods), packets held up',
  ],
  async run(quick): Promise<Row[]> {
    const policies = quick ? 500 : 10_000;
    const objects = cluster(policies, quick ? 2000 : 100_000);
    const pools = [[syns(objects, policies, 16_384, 31)]];
    const pool = await PoolEngine.start({ objects, pools });
    const { engine } = pool;
    await pool.run({ pool: 0, passes: 2 });

    // The policies that select a local pod each: one after the other is given another port, and another one again.
    const local = [...objects.pods.values()].filter(({ nodeName }) => nodeName === 'here');
    const chosen = [...objects.networkPolicies.values()].filter(
      ({ podSelector }) => podSelector.matchLabels === undefined || podSelector.matchLabels.app === 'a0',
    );
    let turn = 0;
    let sourcePort = 1024;
    const probe = async (policy: NetworkPolicy, dstPort: number): Promise<boolean> => {
      const { ipBlock } = policy.ingress![0]!.peers.find((peer) => peer.ipBlock !== undefined)!;
      const zero = new Uint8Array(6);
      const data = tcpFrame({
        srcMac: zero,
        dstMac: zero,
        src: ipBlock!.cidr.replace('.0/24', '.77'),
        dst: local.find(({ namespace }) => namespace === policy.namespace)!.ips[0]!,
        srcPort: sourcePort++,
        dstPort,
        payload: 0,
        seq: 1,
        ack: 0,
        flags: 2,
      });
      const { verdict } = await engine.process({ data, length: Uint32Array.of(data.length), inPort: GATEWAY });
      return verdict[0] === Verdict.Forward;
    };
    /** ms until one changed policy is in force, which packets then tell. */
    const change = async (isProbed: boolean): Promise<number> => {
      const policy = chosen[turn % chosen.length]!;
      const port = PROBED[turn++ % 2]!;
      const manifest = JSON.stringify(manifestOf(policy, port));
      const started = process.hrtime.bigint();
      const { changes } = await engine.apply(manifest, { origin: 'bench' });
      const ms = Number(process.hrtime.bigint() - started) / 1e6;
      if (changes[0]!.change !== 'configured') throw new Error(`${policy.name}: ${changes[0]!.change}`);
      if (isProbed && !(await probe(policy, port))) throw new Error(`${policy.name} is not in force`);
      return ms;
    };
    const whole = (): number => {
      const endpoints = local.map((pod, i) => ({ port: 3 + i, pod }));
      const started = process.hrtime.bigint();
      compilePolicies({ objects, endpoints, registry: new RuleRegistry() });
      return Number(process.hrtime.bigint() - started) / 1e6;
    };
    const { namespace, name } = chosen[0]!;
    if (await probe(chosen[0]!, PROBED[0])) throw new Error('allowed before the change');
    const idle: number[] = [];
    for (let i = 0; i < (quick ? 4 : 100); i++) idle.push(await change(true));
    await engine.apply(JSON.stringify(manifestOf({ ...objects.networkPolicies.get(`${namespace}/${name}`)! })), {
      origin: 'bench',
    });
    if (await probe(chosen[0]!, PROBED[0])) throw new Error('allowed after the change was taken back');

    // A worker that judges batch after batch, with a change in their midst and without. Every change holds it up, the machine's
    // other work now and then: the rounds that were disturbed least tell one from the other.
    const busy: number[] = [];
    const longest = async (isChanged: boolean): Promise<number> => {
      for (;;) {
        let hasEnded = false;
        const run = pool.run({ pool: 0, passes: 12, gaps: true }).finally(() => {
          hasEnded = true;
        });
        if (isChanged) busy.push(await change(false));
        const isWithin = !isChanged || !hasEnded;
        const { longestGapNs } = await run;
        if (isWithin || quick) return longestGapNs / 1e6;
      }
    };
    const rounds: { changed: number; unchanged: number }[] = [];
    for (let i = 0; i < (quick ? 1 : 60); i++)
      rounds.push({ changed: await longest(true), unchanged: await longest(false) });
    const held = { a: calm(rounds.map(({ changed }) => changed)), b: calm(rounds.map(({ unchanged }) => unchanged)) };
    const compiled = quick ? [whole()] : [whole(), whole(), whole()];
    await pool.close();
    const inForce = median([...idle, ...busy]);
    const slowest = Math.max(...idle, ...busy);
    return [
      {
        row: this.rows[0]!,
        value: rounded(inForce),
        unit: 'ms',
        baseline: 'compiling all policies at once',
        baselineValue: rounded(median(compiled)),
        ratio: rounded(inForce / median(compiled)),
        target: '≤ 10 ms',
        met: quick || inForce <= 10,
        digest: `each probed by a packet; slowest of ${idle.length + busy.length}: ${rounded(slowest)} ms`,
      },
      {
        row: this.rows[1]!,
        value: rounded(held.a),
        unit: 'ms',
        baseline: 'longest time without a batch where nothing changes',
        baselineValue: rounded(held.b),
        ratio: rounded(held.a / held.b),
        target: '≤ +1 ms',
        met: quick || held.a - held.b <= 1,
        digest: `in force while busy: ${rounded(median(busy))} ms`,
      },
    ];
  },
};

const liveOctets = (): number => {
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
};

export const policyMemory: RowGroup = {
  rows: ['memory per policy rule, 10,000 policies and 100,000 pods'],
  async run(quick): Promise<Row[]> {
    const policies = quick ? 500 : 10_000;
    const all = cluster(policies, quick ? 2000 : 100_000);
    const objects: ClusterObjects = { ...all, networkPolicies: new Map() };
    const manifests: string[] = [];
    const list = [...all.networkPolicies.values()];
    for (let i = 0; i < list.length; i += 100)
      manifests.push(JSON.stringify(list.slice(i, i + 100).map((policy) => manifestOf(policy))));
    const pools = [[syns(all, policies, 4096, 33)]];
    const pool = await PoolEngine.start({ objects, pools });
    const { engine } = pool;
    // Once through and back, so that code, worker and room for what reading leaves behind are what they will be.
    for (const manifest of manifests) await engine.apply(manifest, { origin: 'bench' });
    await pool.run({ pool: 0 });
    for (const { namespace, name } of list) await engine.delete('NetworkPolicy', namespace, name);
    const before = { resident: await residentOctets(), live: liveOctets() };
    for (const manifest of manifests) await engine.apply(manifest, { origin: 'bench' });
    await pool.run({ pool: 0 });
    const after = { resident: await residentOctets(), live: liveOctets() };
    // A policy's default deny in a direction is a rule of its own.
    const rules = engine.rules().length;
    const expected = list.reduce(
      (sum, { ingress, egress }) => sum + ingress!.length + 1 + (egress ? egress.length + 1 : 0),
      0,
    );
    if (rules !== expected) throw new Error(`${rules} rules of ${expected}`);
    await pool.close();
    // Resident memory grows by less where it has room from before: what lives counts where it is more.
    const resident = (after.resident - before.resident) / rules;
    const live = (after.live - before.live) / rules;
    const value = Math.max(1, resident, live);
    return [
      {
        row: this.rows[0]!,
        value: rounded(value),
        unit: 'octets',
        baseline: null,
        baselineValue: null,
        ratio: null,
        target: '≤ 1024',
        met: quick || value <= 1024,
        digest: `${rules} rules, default denies among them; resident ${rounded(resident)}, live heap and tables ${rounded(live)}`,
      },
    ];
  },
};
