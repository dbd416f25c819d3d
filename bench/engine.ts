/**
 * Rows of the whole engine in process: a worker fills batches from a pool, has them judged and forgets them, as a front end
 * would in that thread. Packets of all flows, both directions, in random order, from a pool larger than the second-level
 * cache. What the fast path answered is held against the stages' answers: verdict columns, frames as they leave, and every
 * connection's counters.
 */
import { FrameMaker, type Flows, cluster, makeFlows, shuffled } from './traffic.js';
import { interleaved, median, type Row, type RowGroup, rounded } from './harness.js';
import { makePool, type PoolMemory } from './pool.js';
import { OpenVSwitch, openVSwitchIsThere } from './open-vswitch.js';
import { type Order, type Outcome, PoolEngine } from './pool-engine.js';

const BATCH = 256;
const HANDSHAKES = 4096;
/** Pools of a shard, by their place in its list. */
const Pools = { Open: 0, Run: 1 };

const frameOctets = (flows: Flows): number => (flows.remote ? 110 : flows.family === 6 ? 74 : 60);

/** Handshakes of all flows, then their segments of both directions in random order. */
export function poolsOf(flows: Flows, seed: number): PoolMemory[] {
  const maker = new FrameMaker(flows);
  const { count } = flows;
  // A few thousand flows shake hands together, so that no connection waits long for its next step.
  const handshake = (row: number) => {
    const first = Math.floor(row / 3 / HANDSHAKES) * HANDSHAKES;
    const together = Math.min(HANDSHAKES, count - first);
    const at = row - first * 3;
    return maker.frame(first + (at % together), Math.floor(at / together));
  };
  const order = shuffled(count * 2, seed);
  return [
    makePool(count * 3, BATCH, frameOctets(flows), handshake),
    makePool(count * 2, BATCH, frameOctets(flows), (row) =>
      maker.frame(order[row]! % count, order[row]! < count ? 3 : 4),
    ),
  ];
}

/** Room for the flows; records outlast the run, so that connections' counters don't hang on how long it takes. */
const tableOf = (flows: number) => ({
  conntrack: { max: flows + 65_536, maxPerEndpoint: flows },
  netflow: { idleTimeout: 3600, activeTimeout: 3600 },
});

/** An engine with the flows of its pools established: of every second pool, or of the first where `flows` says how many. */
export async function established(
  pools: PoolMemory[][],
  options: {
    family?: 4 | 6;
    flows?: number;
    environment?: Record<string, string>;
    config?: Record<string, unknown>;
  } = {},
): Promise<PoolEngine> {
  const opening = options.flows === undefined ? pools[0]!.length : 1;
  const flows =
    options.flows ?? pools.flat().reduce((sum, { rows }, i) => (i % 2 === Pools.Open ? sum + rows / 3 : sum), 0);
  const engine = await PoolEngine.start({
    objects: cluster(options.family ?? 4),
    pools,
    config: { ...tableOf(flows), ...options.config },
    ...(options.environment === undefined ? {} : { environment: options.environment }),
  });
  for (let pool = Pools.Open; pool < opening; pool += 2) await engine.run({ pool });
  const { created } = engine.engine.summary();
  if (Number(created) !== flows) throw new Error(`${created} connections were made of ${flows}`);
  return engine;
}

/** Verdicts, frames and connections of one pass over all packets. */
async function digestOf(engine: PoolEngine): Promise<string> {
  const { digest, forwarded, packets } = await engine.run({ pool: Pools.Run, digest: true });
  if (forwarded !== packets) throw new Error(`${forwarded} of ${packets} packets were forwarded`);
  return `${digest} ${engine.connectionsDigest()}`;
}

/**
 * Nanoseconds of the worker's thread for a packet, of `passes` over the pool: processor time, which is the time on a machine of
 * its own, and which neighbours on a shared one don't stretch. Every packet must be forwarded.
 */
async function timed(engine: PoolEngine, passes: number, order: Partial<Order> = {}): Promise<number> {
  const { cpuNs, packets } = await forwardAll(engine, passes, order);
  return cpuNs / packets;
}
/** The same by the clock on the wall: for workers side by side. */
async function timedByClock(engine: PoolEngine, passes: number, order: Partial<Order> = {}): Promise<number> {
  const { elapsedNs, packets } = await forwardAll(engine, passes, order);
  return elapsedNs / packets;
}
async function forwardAll(engine: PoolEngine, passes: number, order: Partial<Order>): Promise<Outcome> {
  const before = engine.forwardedPackets();
  const outcome = await engine.run({ pool: Pools.Run, passes, ...order });
  const forwarded = Number(engine.forwardedPackets() - before);
  if (forwarded !== outcome.packets) throw new Error(`${forwarded} of ${outcome.packets} packets were forwarded`);
  return outcome;
}

const same = (what: string, digests: readonly string[]): string => {
  if (new Set(digests).size !== 1) throw new Error(`${what}: digests differ: ${digests.join(' / ')}`);
  return digests[0]!;
};

/** Fast path, stages and references over a few flows: all must answer the same. */
async function smallDigest(remote: boolean): Promise<string> {
  const pools = [poolsOf(makeFlows(1000, { remote }), 7)];
  const digests: string[] = [];
  const switches: Record<string, string>[] = [{}, { SEINE_FASTPATH: 'off' }, { SEINE_NATIVE: 'off' }];
  for (const environment of switches) {
    const engine = await established(pools, { environment });
    digests.push(await digestOf(engine));
    await engine.close();
  }
  return same('a thousand flows, fast path, stages, references', digests);
}

const SIZES = [
  { name: '64 Ki flows', flows: 65_536, target: 25, passes: 24 },
  { name: '1 Mi flows', flows: 1_048_576, target: 45, passes: 2 },
] as const;
const QUICK_FLOWS = 2048;

export const establishedPackets: RowGroup = {
  rows: SIZES.map(({ name }) => `established packets, whole engine in process, one worker, ${name}`),
  async run(quick): Promise<Row[]> {
    await smallDigest(false);
    const rows: Row[] = [];
    for (const [index, size] of SIZES.entries()) {
      const pools = [poolsOf(makeFlows(quick ? QUICK_FLOWS : size.flows, {}), 11)];
      const fast = await established(pools);
      const stages = await established(pools, { environment: { SEINE_FASTPATH: 'off' } });
      const digest = same(size.name, [await digestOf(fast), await digestOf(stages)]);
      // The stages' time is told over a sixteenth of the packets of the larger pool: it does not depend on how many.
      const batches = Math.ceil(pools[0]![Pools.Run]!.rows / BATCH);
      const { a, b, ratio } = await interleaved(
        quick ? 1 : 9,
        () => timed(fast, quick ? 2 : size.passes),
        () => timed(stages, 1, { end: Math.ceil(batches / (index === 0 ? 1 : 16)) }),
      );
      await fast.close();
      await stages.close();
      rows.push({
        row: this.rows[index]!,
        value: rounded(a),
        unit: 'ns/packet',
        baseline: 'SEINE_FASTPATH=off',
        baselineValue: rounded(b),
        ratio: rounded(ratio),
        target: `≤ ${size.target}`,
        met: quick || a <= size.target,
        digest,
      });
    }
    return rows;
  },
};

export const encapsulation: RowGroup = {
  rows: ['the same + VXLAN encapsulation, 64 Ki flows', 'the same out of VXLAN, decapsulated, 64 Ki flows'],
  async run(quick): Promise<Row[]> {
    const digest = await smallDigest(true);
    const flows = quick ? QUICK_FLOWS : 65_536;
    const remote = makeFlows(flows, { remote: true });
    const [open, both] = poolsOf(remote, 13);
    const maker = new FrameMaker(remote);
    const order = shuffled(flows, 13);
    // Of all flows in random order: requests, which leave encapsulated, and replies, which come so.
    const [requests, replies] = [3, 4].map((step) =>
      makePool(flows, BATCH, frameOctets(remote), (row) => maker.frame(order[row]!, step)),
    );
    const far = await established([[open!, both!, requests!, replies!]], { flows });
    const near = await established([poolsOf(makeFlows(flows, {}), 13)]);
    const rows: Row[] = [];
    const passes = quick ? 2 : 24;
    for (const [index, pool, octets] of [
      [0, 2, 110],
      [1, 3, 60],
    ] as const) {
      const { outOctets } = await far.run({ pool, returnPackets: true });
      if (outOctets !== flows * octets) throw new Error(`${outOctets} octets left`);
      const added: number[] = [];
      const composed = () => timed(far, passes, { pool, returnPackets: true });
      // Requests against themselves with verdicts only; replies against as many packets within the node.
      const bare = () => (index === 0 ? timed(far, passes, { pool }) : timed(near, passes / 2));
      const { a, b, ratio } = await interleaved(
        quick ? 1 : 9,
        async () => {
          added.push(await composed());
          return added.at(-1)!;
        },
        async () => {
          const ns = await bare();
          added.push(added.pop()! - ns);
          return ns;
        },
      );
      rows.push({
        row: this.rows[index]!,
        value: rounded(a),
        unit: 'ns/packet',
        baseline: index === 0 ? 'the same packets, verdicts only' : 'packets within the node, verdicts only',
        baselineValue: rounded(b),
        ratio: rounded(ratio),
        target: index === 0 ? '≤ +10 ns' : 'told beside it',
        met: quick || index === 1 || median(added) <= 10,
        digest,
      });
    }
    await near.close();
    await far.close();
    return rows;
  },
};

export const twoWorkers: RowGroup = {
  rows: ['two workers against one, established packets, 64 Ki flows'],
  async run(quick): Promise<Row[]> {
    const flows = quick ? QUICK_FLOWS : 65_536;
    const half = (shard: number) => poolsOf(makeFlows(flows / 2, { shard, shards: 2 }), 17 + shard);
    const shards = [half(0), half(1)];
    const two = await established(shards);
    // One worker has the packets of both, those of one shard after the other's.
    const one = await established([shards.flat()]);
    const passes = quick ? 2 : 24;
    const connections = async (engine: PoolEngine, pools: number[]) => {
      for (const pool of pools) await engine.run({ pool });
      return engine.connectionsDigest();
    };
    const digest = same('connections of two workers, of one', [
      await connections(two, [Pools.Run]),
      await connections(one, [Pools.Run, Pools.Run + 2]),
    ]);
    const { a, b, ratio } = await interleaved(
      quick ? 1 : 9,
      async () => 1e3 / (await timedByClock(two, passes)),
      async () =>
        2e3 / ((await timedByClock(one, passes)) + (await timedByClock(one, passes, { pool: Pools.Run + 2 }))),
    );
    await Promise.all([two.close(), one.close()]);
    return [
      {
        row: this.rows[0]!,
        value: rounded(a),
        unit: 'M packets/s',
        baseline: 'one worker',
        baselineValue: rounded(b),
        ratio: rounded(ratio),
        target: 'ratio ≥ 1.8',
        met: quick || ratio >= 1.8,
        digest,
      },
    ];
  },
};

export const againstOpenVSwitch: RowGroup = {
  rows: ['established packets against Open vSwitch with DPDK, conntrack, one core each, 64 Ki flows'],
  async run(quick): Promise<Row[]> {
    const skipped = (why: string): Row[] => {
      process.stderr.write(`bench: SKIPPED: ${this.rows[0]}: ${why}\n`);
      return [];
    };
    if (!openVSwitchIsThere()) return skipped('not installed (Debian: apt-get install openvswitch-switch-dpdk)');
    const flows = quick ? QUICK_FLOWS : 65_536;
    const pools = poolsOf(makeFlows(flows, {}), 11);
    let theirs: OpenVSwitch;
    try {
      theirs = await OpenVSwitch.start(pools[Pools.Run]!, 1);
    } catch (error) {
      return skipped(`it does not start here: ${(error as Error).message.split('\n')[0]}`);
    }
    const ours = await established([pools]);
    try {
      const digest = await digestOf(ours);
      const milliseconds = quick ? 300 : 1500;
      // Connections are made in its first round over the capture, which is not timed.
      for (let i = 0; i < 60 && theirs.connections() < flows; i++)
        await new Promise((resolve) => setTimeout(resolve, 500));
      if (theirs.connections() !== flows)
        throw new Error(`Open vSwitch has ${theirs.connections()} of ${flows} connections`);
      const { a, b, ratio } = await interleaved(
        quick ? 1 : 9,
        async () => {
          theirs.resume();
          const ns = await theirs.nsPerPacket(milliseconds);
          theirs.pause();
          return ns;
        },
        () => timed(ours, quick ? 2 : 24),
      );
      return [
        {
          row: this.rows[0]!,
          value: rounded(1e3 / b),
          unit: 'M packets/s',
          baseline: 'openvswitch-switch-dpdk, net_pcap source',
          baselineValue: rounded(1e3 / a),
          ratio: rounded(ratio),
          target: 'ratio ≥ 15',
          met: quick || ratio >= 15,
          digest,
        },
      ];
    } finally {
      await theirs.close();
      await ours.close();
    }
  },
};
