/**
 * What of the engine's memory lies in the state file, and how it is taken up again. Tables and rings of records speak for
 * themselves (conntrack/recover.ts, flow/records-ring.ts). Beside them stand each port's epoch, what each participant
 * has in hand, and marks of the objects under which plans were made: a port number and a rule's id mean the same to the
 * next process, and what a port's decisions rest on is compared by digest, so that a start is an apply like any other.
 */
import { DROP_REASONS, Port, STAGES, VERDICTS } from '../batch/drop-reason.js';
import type { Config } from '../config/config.js';
import { TABLE_LAYOUT } from '../conntrack/recover.js';
import { ConnectionTable } from '../conntrack/table.js';
import { R, RECORD_WORDS } from '../flow/flow-record.js';
import { RecordsRing } from '../flow/records-ring.js';
import { RULES_MAX } from '../metrics/shared-counters.js';
import type { ClusterObjects } from '../objects/model.js';
import type { PortTable } from '../objects/ports.js';
import { EPOCHS_SIZE } from '../pipeline/shard.js';
import { Digest, Sum } from '../policy/digest.js';
import type { RuleMemory } from '../policy/rule-registry.js';
import { participantsSize } from '../worker/in-hand.js';
import { StateFile, statePath } from './state-file.js';

const PORTS = 65536;
const EVERY_PORT = Array.from({ length: PORTS }, (_, port) => port);
/** Ports whose routes rest on all nodes and pods. */
export const CLUSTER_PORTS: readonly number[] = [Port.Tunnel, Port.Gateway, Port.Local];
/** f64 digests by port: the pod's name, its addresses and MAC, its policy. */
const PORT_MARKS = 3;
/** f64: settings that decisions rest on; nodes and pods of the cluster. */
const MARKS = 64;
const Mark = { settings: 0, cluster: 1 } as const;

export function openState(config: Config): StateFile | null {
  if (config.stateFile === null) return null;
  const shards = config.workers;
  const each = Array.from({ length: shards }, (_, shard) => shard);
  const { max } = config.conntrack;
  return new StateFile(statePath(config.stateFile, config.listen.unix), {
    shards,
    max,
    regions: [
      ...each.map((shard) => ({ name: `table ${shard}`, octets: ConnectionTable.size(max) })),
      ...each.map((shard) => ({ name: `records ${shard}`, octets: RecordsRing.size() })),
      { name: 'epochs', octets: EPOCHS_SIZE },
      { name: 'participants', octets: participantsSize(shards) },
      { name: 'ports', octets: PORT_MARKS * PORTS * 8 },
      { name: 'rules', octets: RULES_MAX * 8 },
      { name: 'marks', octets: MARKS * 8 },
    ],
    layout: JSON.stringify([TABLE_LAYOUT, R, RECORD_WORDS, VERDICTS, STAGES, DROP_REASONS, RULES_MAX]),
  });
}

const digestOf = (text: string): number => new Digest().text(text).value() || 1;

/** Marks of the objects; 0 in any of them means that nothing is known. */
export class ObjectMarks implements RuleMemory {
  private readonly ports: Float64Array;
  private readonly rules: Float64Array;
  private readonly marks: Float64Array;
  private readonly idByMark = new Map<number, number>();
  /** The next rule's id. */
  readonly next: number;
  /** Rule ids were forgotten, since most of them were given: what names one is to be decided again. */
  readonly renumbered: boolean;

  constructor(state: StateFile) {
    this.ports = new Float64Array(state.region('ports'));
    this.rules = new Float64Array(state.region('rules'));
    this.marks = new Float64Array(state.region('marks'));
    let last = this.rules.length - 1;
    while (last > 0 && this.rules[last] === 0) last--;
    this.renumbered = last > this.rules.length / 2;
    if (this.renumbered) this.rules.fill(0);
    this.next = this.renumbered ? 1 : last + 1;
    for (let id = this.next - 1; id > 0; id--) if (this.rules[id] !== 0) this.idByMark.set(this.rules[id]!, id);
  }

  find(key: string): number | undefined {
    return this.idByMark.get(digestOf(key));
  }
  note(id: number, key: string): void {
    this.rules[id] = digestOf(key);
  }

  /** The port numbers that the earlier process gave to pods that are still there. */
  portsOf(objects: ClusterObjects): Pick<PortTable, 'ports'> {
    const byName = new Map<number, number>();
    for (let port = 0; port < PORTS; port++) if (this.ports[port] !== 0) byName.set(this.ports[port]!, port);
    const ports: PortTable['ports'] = [];
    for (const { namespace, name } of objects.pods.values()) {
      const key = `${namespace}/${name}`;
      const port = byName.get(digestOf(key));
      if (port !== undefined) ports.push({ port, name: key, kind: 'pod', ips: [], mac: null });
    }
    return { ports };
  }

  /** Ports whose decisions may differ from those of the process whose marks these are; null: all ports. */
  changed(now: ObjectsNow): Set<number> | null {
    if (this.renumbered || this.marks[Mark.settings] !== now.settings) return null;
    const touched = new Set<number>();
    for (let port = 0; port < PORTS; port++) {
      const same =
        this.ports[port] === now.name(port) &&
        this.ports[PORTS + port] === now.identity(port) &&
        this.ports[2 * PORTS + port] === now.policy(port);
      if (!same) touched.add(port);
    }
    if (this.marks[Mark.cluster] !== now.cluster) for (const port of CLUSTER_PORTS) touched.add(port);
    return touched;
  }

  /**
   * New objects come: what these ports' decisions rest on is unknown until `keep`, so that a process that ends meanwhile
   * leaves nothing that is not true. Port numbers hold at once.
   */
  unsettle(now: ObjectsNow, touched: Iterable<number> | null): void {
    for (const port of touched ?? EVERY_PORT) {
      this.ports[2 * PORTS + port] = 0;
      this.ports[PORTS + port] = 0;
      this.ports[port] = now.name(port);
      if (touched === null || CLUSTER_PORTS.includes(port)) this.marks[Mark.cluster] = 0;
    }
  }

  /** The epochs say from now on what these objects say. */
  keep(now: ObjectsNow, touched: Iterable<number> | null): void {
    for (const port of touched ?? EVERY_PORT) {
      this.ports[port] = now.name(port);
      this.ports[PORTS + port] = now.identity(port);
      this.ports[2 * PORTS + port] = now.policy(port);
    }
    this.marks[Mark.settings] = now.settings;
  }
  /**
   * The same of the cluster as a whole, whose digest takes a look at every object: at the start and the end. A process that
   * crashed after a change of pods or nodes leaves it unknown, and connections through tunnel and gateway are decided again.
   */
  keepCluster(now: ObjectsNow): void {
    this.marks[Mark.cluster] = now.cluster;
  }
}

/** Digests of today's objects. A port without a pod has 0 for all. */
export class ObjectsNow {
  private clusterDigest = 0;
  constructor(
    private readonly config: Config,
    private readonly objects: ClusterObjects,
    private readonly table: PortTable,
    private readonly endpointDigest: ReadonlyMap<number, number>,
    private readonly metering: boolean,
  ) {}

  get settings(): number {
    const { node, hostGateway, tunnelType, tunnelPort, trafficEncapMode, serviceCIDR } = this.config;
    return digestOf(
      JSON.stringify([node, hostGateway, tunnelType, tunnelPort, trafficEncapMode, serviceCIDR, this.metering]),
    );
  }
  /** All nodes, in their order, since plans name them by number; and all pods. */
  get cluster(): number {
    if (this.clusterDigest !== 0) return this.clusterDigest;
    const digest = new Digest();
    for (const { name, internalIPs, podCIDRs, annotations } of this.objects.nodes.values())
      digest.text(JSON.stringify([name, internalIPs, podCIDRs, annotations['seine.dev/mac'] ?? null]));
    const pods = new Sum();
    for (const { namespace, name, ips, nodeName, hostNetwork, phase } of this.objects.pods.values())
      pods.add(new Digest().text(JSON.stringify([namespace, name, ips, nodeName, hostNetwork, phase])));
    this.clusterDigest = digest.join(pods).value() || 1;
    return this.clusterDigest;
  }
  name(port: number): number {
    const pod = this.table.podByPort.get(port);
    return pod === undefined ? 0 : digestOf(`${pod.namespace}/${pod.name}`);
  }
  identity(port: number): number {
    const pod = this.table.podByPort.get(port);
    return pod === undefined
      ? 0
      : digestOf(JSON.stringify([pod.namespace, pod.name, pod.ips, pod.annotations['seine.dev/mac']]));
  }
  policy(port: number): number {
    if (!this.table.podByPort.has(port)) return 0;
    return (this.endpointDigest.get(port) ?? 0) + 1;
  }
}
