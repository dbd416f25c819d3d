/** A shard of the example cluster, and conversations between its pods that mostly behave: for tests of tables and replay. */
import { PacketBatch } from '../../src/batch/packet-batch.js';
import { EXAMPLE_CLUSTER, EXAMPLE_NODE } from '../../src/config/example-cluster.js';
import { ConnectionTable } from '../../src/conntrack/table.js';
import { RecordsRing } from '../../src/flow/records-ring.js';
import { allocateCounters } from '../../src/metrics/shared-counters.js';
import { references } from '../../src/native/kernels.js';
import { assignPorts } from '../../src/objects/ports.js';
import { readManifest } from '../../src/objects/read.js';
import { applyObjects, emptyObjects } from '../../src/objects/store.js';
import { compileForwarding } from '../../src/pipeline/forwarding-tables.js';
import { allocateSharedState, Shard } from '../../src/pipeline/shard.js';
import { compilePolicies } from '../../src/policy/compile.js';
import { RuleRegistry } from '../../src/policy/rule-registry.js';
import { mutateFrame, type Random, randomFrame } from '../fuzz/mutate.js';
import { tcp4, tcp6, udp4, udp6 } from '../unit/frames.js';

export interface End {
  port: number;
  ips: string[];
  mac: string | null;
}

export function exampleShard(
  policies: boolean,
  tables = ConnectionTable.allocate(2048),
  fastPath = true,
  /** Packets on the tunnel port are decapsulated already. */
  replay = true,
): { shard: Shard; pods: End[] } {
  const read = applyObjects(emptyObjects(), readManifest(EXAMPLE_CLUSTER, 'example').inputs).objects;
  const objects = policies ? read : { ...read, networkPolicies: new Map() };
  const table = assignPorts(objects, EXAMPLE_NODE, 'gw0', null);
  const policy = compilePolicies({
    objects,
    endpoints: [...table.podByPort].map(([port, pod]) => ({ port, pod })),
    registry: new RuleRegistry(),
  });
  const settings = {
    shard: 0,
    shards: 1,
    max: 2048,
    maxPerEndpoint: 2048,
    tcpLoose: true,
    tcpLiberal: false,
    verifyChecksums: false,
    timeouts: {},
    existingConnections: 'recheck',
    fastPath,
    idleTimeout: 10,
    activeTimeout: 60,
    replay,
  } as const;
  const shard = new Shard(settings, tables, allocateCounters(), allocateSharedState(), new RecordsRing());
  shard.swap({
    generation: 1,
    policy: policy.tables,
    forwarding: compileForwarding(objects, table, EXAMPLE_NODE, 4789),
  });
  // Pods of the other node come by the tunnel: 10.10.1.2 and fd00:10:10:1::2.
  const remote = { port: 1, ips: ['10.10.1.2', 'fd00:10:10:1::2'], mac: null };
  return { shard, pods: [...table.ports.filter(({ kind }) => kind === 'pod'), remote] };
}

/** Two ends that mostly behave: handshake, data, FINs, and now and then a wrong number, a reset or a new in-port. */
export class Conversation {
  private step = 0;
  private readonly seq: [number, number];
  private readonly family: 0 | 1;
  private readonly tcp: boolean;
  private readonly sport: number;
  private readonly dport: number;
  private readonly ttl: number;
  constructor(
    private readonly rng: Random,
    private readonly ends: [End, End],
  ) {
    this.seq = [rng.next(), rng.next()];
    this.family = rng.oneIn(3) ? 1 : 0;
    this.tcp = rng.below(4) > 0;
    this.sport = 1024 + rng.below(60_000);
    this.dport = rng.pick([53, 80, 443, 5432, 6379, 8080, 9187]);
    this.ttl = rng.oneIn(8) ? 1 : 64;
  }
  next(): { frame: Uint8Array; inPort: number } {
    const rng = this.rng;
    const seq = this.seq;
    const step = this.step++;
    const side = step < 3 ? step & 1 : rng.below(2);
    const [from, to] = side === 0 ? this.ends : [this.ends[1], this.ends[0]];
    const payload = rng.octets(step < 3 ? 0 : rng.below(60));
    const common = {
      src: from.ips[this.family] ?? from.ips[0]!,
      dst: to.ips[this.family] ?? to.ips[0]!,
      sport: side === 0 ? this.sport : this.dport,
      dport: side === 0 ? this.dport : this.sport,
      ...(from.mac === null ? {} : { srcMac: from.mac }),
      payload,
    };
    const hops = { ttl: this.ttl, hopLimit: this.ttl };
    const inPort = rng.oneIn(60) ? 2 : from.port;
    const six = this.family === 1;
    if (!this.tcp)
      return { inPort, frame: six ? udp6({ ...common, hopLimit: hops.hopLimit }) : udp4({ ...common, ttl: hops.ttl }) };
    const flags =
      step === 0 ? 'S' : step === 1 ? 'SA' : rng.oneIn(80) ? 'RA' : rng.oneIn(30) ? 'FA' : rng.oneIn(3) ? 'PA' : 'A';
    const wrong = rng.oneIn(30) ? rng.below(1 << 20) - (1 << 19) : 0;
    const fields = {
      ...common,
      flags,
      seq: (seq[side]! + wrong) >>> 0,
      ack: step === 0 ? 0 : (seq[1 - side]! - (rng.oneIn(5) ? 1 : 0)) >>> 0,
      window: rng.oneIn(10) ? rng.below(65_536) : 8192,
    };
    if (wrong === 0)
      seq[side] = (seq[side]! + payload.length + (flags.includes('S') || flags.includes('F') ? 1 : 0)) >>> 0;
    return { inPort, frame: six ? tcp6({ ...fields, hopLimit: hops.hopLimit }) : tcp4({ ...fields, ttl: hops.ttl }) };
  }
}

/** Conversations, batch after batch, with some noise among them. */
export class Traffic {
  readonly batch = new PacketBatch();
  nowNs = 1_700_000_000_000_000_000n;
  private readonly conversations: Conversation[] = [];
  constructor(
    private readonly rng: Random,
    private readonly pods: readonly End[],
  ) {
    for (let i = 0; i < 40; i++) this.conversations.push(this.begin());
  }
  private begin(): Conversation {
    return new Conversation(this.rng, [this.rng.pick(this.pods), this.rng.pick(this.pods)]);
  }
  /** Fills and parses the next batch of `rows` frames; returns the time before its first. */
  next(rows: number): [low: number, high: number] {
    const { rng, batch, conversations } = this;
    this.nowNs += BigInt(rng.oneIn(10) ? rng.below(20) * 1_000_000_000 : rng.below(500_000_000));
    if (rng.oneIn(2)) conversations[rng.below(conversations.length)] = this.begin();
    let at = 0;
    for (let row = 0; row < rows; row++) {
      const noise = rng.oneIn(20);
      const said = noise
        ? { frame: mutateFrame(rng, randomFrame(rng)), inPort: rng.below(6) }
        : rng.pick(conversations).next();
      const { frame, inPort } = said;
      batch.data.set(frame, at);
      batch.offset[row] = at;
      batch.length[row] = frame.length;
      batch.wireLength[row] = frame.length;
      batch.frameOctets[row] = frame.length;
      batch.inPort[row] = inPort;
      const time = this.nowNs + BigInt(row * 1000);
      batch.timeNs[row * 2] = Number(time & 0xffffffffn);
      batch.timeNs[row * 2 + 1] = Number(time >> 32n);
      at += frame.length;
    }
    batch.count = rows;
    references.parseRows(batch, 0, rows);
    return [Number(this.nowNs & 0xffffffffn), Number(this.nowNs >> 32n)];
  }
}
