/**
 * New connections through the whole engine in process, each a SYN of its own tuple that a policy allows: the cost of the
 * decision, the forwarding and the commit, with ten and with ten thousand NetworkPolicies loaded.
 */
import { tcpFrame } from '../src/flow/build-frame.js';
import type { ClusterObjects, Pod } from '../src/objects/model.js';
import { cluster, NAMESPACES } from './classifier.js';
import { interleaved, type Row, type RowGroup, rounded } from './harness.js';
import { makePool, type PoolMemory } from './pool.js';
import { PoolEngine } from './pool-engine.js';

const BATCH = 256;
const GATEWAY = 2;
const APPS = 20;
const MEASURED = 0;
const SAMPLE = 1;

/** Of each policy that selects a local pod: that pod, and addresses that it lets in and out (bench/classifier.ts). */
function policyPeers(objects: ClusterObjects, policies: number) {
  const pods = [...objects.pods.values()];
  const remote = new Map<string, Pod[]>();
  for (const pod of pods) {
    if (pod.nodeName === 'here') continue;
    const key = `${pod.namespace} ${pod.labels.app}`;
    const list = remote.get(key);
    if (list === undefined) remote.set(key, [pod]);
    else list.push(pod);
  }
  const local = pods.filter(({ nodeName }) => nodeName === 'here');
  const order = (pod: Pod) => `${pod.namespace}\0${pod.name}`;
  const ports = [...local].sort((a, b) => (order(a) < order(b) ? -1 : 1));
  const found = [];
  for (let i = 0; i < policies; i++) {
    const n = i % NAMESPACES;
    if (policies > NAMESPACES && Math.floor(i / NAMESPACES) % APPS !== 0) continue;
    const pod = local.find(({ namespace }) => namespace === `n${n}`)!;
    const own = remote.get(`n${n} a${(i + 3) % APPS}`) ?? [];
    const team = Array.from(
      { length: NAMESPACES / 10 },
      (_, k) => remote.get(`n${k * 10 + (i % 10)} a${(i + 7) % APPS}`) ?? [],
    );
    found.push({
      pod,
      inPort: 3 + ports.indexOf(pod),
      peers: [...own, ...team.flat()],
      block: `172.${16 + (i % 16)}.${i & 0xff}`,
      port: 1000 + (i % 5000),
      egress: i % 2 === 0,
    });
  }
  return found;
}

/** `count` SYNs of distinct tuples: half from local pods to others, half from outside to local pods, all allowed. */
export function syns(objects: ClusterObjects, policies: number, count: number, seed: number): PoolMemory {
  const peers = policyPeers(objects, policies);
  const leaving = peers.filter(({ egress, peers: list }) => egress && list.length > 0);
  const zero = new Uint8Array(6);
  const seen = new Set<string>();
  let state = seed;
  const random = (below: number): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
  return makePool(count, BATCH, 54, (row) => {
    for (;;) {
      const outwards = row % 2 === 0;
      const from = outwards ? leaving[random(leaving.length)]! : peers[random(peers.length)]!;
      const src = outwards ? from.pod.ips[0]! : `${from.block}.${random(256)}`;
      const dst = outwards ? from.peers[random(from.peers.length)]!.ips[0]! : from.pod.ips[0]!;
      const dstPort = random(2) === 0 ? 8080 : from.port;
      const srcPort = 1024 + random(64_000);
      const tuple = `${src} ${dst} ${srcPort} ${dstPort}`;
      if (seen.has(tuple)) continue;
      seen.add(tuple);
      const octets = tcpFrame({
        srcMac: zero,
        dstMac: zero,
        src,
        dst,
        srcPort,
        dstPort,
        payload: 0,
        seq: row,
        ack: 0,
        flags: 2,
      });
      return { octets, inPort: outwards ? from.inPort : GATEWAY };
    }
  });
}

export const newConnections: RowGroup = {
  rows: [
    'new connections, 10,000 NetworkPolicies / 100,000 pods loaded',
    'new connections, 10,000 policies against 10',
  ],
  async run(quick): Promise<Row[]> {
    const pods = quick ? 2000 : 100_000;
    const rounds = quick ? 1 : 9;
    const perRound = quick ? 2048 : 65_536;
    const start = async (policies: number, environment: Record<string, string> = {}) => {
      const objects = cluster(policies, pods);
      // Pool and engine know the same objects; the sample is of other tuples than most of the measured ones.
      const pools = [[syns(objects, policies, perRound * (rounds + 1), 5), syns(objects, policies, 4096, 6)]];
      return PoolEngine.start({ objects, pools, environment });
    };
    const most = quick ? 500 : 10_000;
    const digests: string[] = [];
    for (const environment of [{ SEINE_FASTPATH: 'off' }, { SEINE_NATIVE: 'off' }]) {
      const engine = await start(most, environment as unknown as Record<string, string>);
      digests.push(await sampleDigest(engine));
      await engine.close();
    }
    const many = await start(most);
    const few = await start(10);
    digests.push(await sampleDigest(many));
    await sampleDigest(few);
    if (new Set(digests).size !== 1) throw new Error(`digests differ: ${digests.join(' / ')}`);
    const round = (engine: PoolEngine) => {
      let next = 0;
      return async (): Promise<number> => {
        const first = (next++ * perRound) / BATCH;
        const before = engine.engine.summary().created;
        const { cpuNs } = await engine.run({ pool: MEASURED, first, end: first + perRound / BATCH });
        const made = Number(engine.engine.summary().created - before);
        // The sample may have made a few of them.
        if (made < perRound - 8) throw new Error(`${made} connections of ${perRound} packets`);
        return cpuNs / made;
      };
    };
    const timeMany = round(many);
    const timeFew = round(few);
    // The first round builds what is built on first use.
    await timeMany();
    await timeFew();
    const { a, b, ratio } = await interleaved(rounds, timeMany, timeFew);
    await many.close();
    await few.close();
    const row = {
      value: rounded(a),
      unit: 'ns',
      baseline: 'the same with 10 policies',
      baselineValue: rounded(b),
      ratio: rounded(ratio),
      digest: digests[0]!,
    };
    return [
      { ...row, row: this.rows[0]!, target: '≤ 1000', met: quick || a <= 1000 },
      { ...row, row: this.rows[1]!, value: row.ratio, unit: '×', target: 'ratio ≤ 1.3', met: quick || ratio <= 1.3 },
    ];
  },
};

async function sampleDigest(engine: PoolEngine): Promise<string> {
  const { digest, forwarded, packets } = await engine.run({ pool: SAMPLE, digest: true });
  if (forwarded !== packets) throw new Error(`${forwarded} of ${packets} new connections were forwarded`);
  return `${digest} ${engine.connectionsDigest()}`;
}
