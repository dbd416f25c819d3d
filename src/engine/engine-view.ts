/** What front ends, metrics and commands may ask of an engine. engine/engine.ts implements it. */
import type { Config } from '../config/config.js';
import type { SharedCounters, Transport } from '../metrics/shared-counters.js';
import type { PacketBatch } from '../batch/packet-batch.js';
import type { FlowRecord } from '../flow/flow-record.js';

export interface PortInfo {
  port: number;
  /** "default/web" of a pod, the tunnel's or the gateway's name. */
  name: string;
  kind: 'tunnel' | 'gateway' | 'pod';
  ips: string[];
  mac: string | null;
}
export type PolicyKind =
  | 'NetworkPolicy'
  | 'ClusterNetworkPolicy'
  | 'AntreaNetworkPolicy'
  | 'AntreaClusterNetworkPolicy';
export interface RuleInfo {
  id: number;
  kind: PolicyKind;
  namespace: string | null;
  policy: string;
  /** Its name, else its index; null = the default deny of the policy's direction. */
  rule: string | number | null;
  direction: 'ingress' | 'egress';
  action: 'allow' | 'drop' | 'reject';
}
export interface PolicyInfo {
  kind: PolicyKind;
  namespace: string | null;
  name: string;
  /** Local pods ("namespace/name") that it selects. */
  pods: string[];
  ingressRules: number | null;
  egressRules: number | null;
}
export interface ConnectionInfo {
  src: string;
  dst: string;
  protocol: number;
  srcPort: number;
  dstPort: number;
  vlan: number | null;
  /** TCP: RFC 9293's state names of the connection; else new, established, denied. */
  state: string;
  /** Names of ports, null where none. */
  inPort: number;
  outPort: number;
  verdict: string;
  reason: string | null;
  ingressRule: number;
  egressRule: number;
  packets: [bigint, bigint];
  octets: [bigint, bigint];
  startNs: bigint;
  lastNs: bigint;
  expiresNs: bigint;
  shard: number;
}
export interface WorkerInfo {
  worker: number;
  threadId: number;
  state: 'starting' | 'serving' | 'restarting' | 'stopped';
  restarts: number;
  clients: number;
  packets: bigint;
  connections: number;
  busySeconds: number;
}
export interface ExporterInfo {
  format: string;
  target: string;
  records: bigint;
  datagrams: bigint;
  lost: bigint;
  state: string;
}
export interface ObjectChange {
  kind: string;
  namespace: string | null;
  name: string;
  change: 'created' | 'configured' | 'unchanged' | 'deleted';
}
export interface ApplyResult {
  changes: ObjectChange[];
  warnings: string[];
  /** Objects' generation after the apply; unchanged by a dry run. */
  generation: number;
}

/** Columns in, as the library and front ends hand them over: frames back to back (contract §3). */
export interface BatchInput {
  data: Uint8Array;
  length: Uint32Array;
  /** One value may stand for all. */
  inPort: Uint32Array | number;
  /** ns since 1970, one per frame; without it, the service's clock. */
  time?: BigUint64Array;
  returnPackets?: boolean;
}
export interface BatchOutput {
  verdict: Uint8Array;
  outPort: Uint32Array;
  reason: Uint8Array;
  ct: Uint8Array;
  rule: Uint32Array;
  stage: Uint8Array;
  /** With returnPackets: each forwarded frame as it leaves, and octets per row (0 where not forwarded). */
  data?: Uint8Array;
  dataLength?: Uint32Array;
  emit?: { outPort: Uint32Array; length: Uint32Array; data: Uint8Array };
}

/**
 * How a thread gets batches judged. One per thread; a worker's own handles its shard without leaving the thread.
 * A front end acquires a batch, fills data, offset, length, wireLength, frameOctets, inPort, timeNs and count, submits it, reads
 * the verdict columns in `done`, and releases it. `done` is called in the order of submits.
 */
export interface Dispatcher {
  /** A free batch, or null when all are in use: then stop reading and wait for `whenFree`. */
  acquire(): PacketBatch | null;
  whenFree(callback: () => void): void;
  submit(batch: PacketBatch, transport: Transport, options: SubmitOptions, done: (error: Error | null) => void): void;
  release(batch: PacketBatch): void;
}
export interface SubmitOptions {
  /** timeNs was not given: the dispatcher writes its clock. */
  stampTime: boolean;
  /** Whoever reads the batch afterwards wants more than the columns of verdicts and what composing frames needs. */
  allColumns?: boolean;
  /** replay: take in-ports from source addresses after Parse. */
  assignInPorts?: boolean;
}

/** The state file, and what of an earlier process was found in it. */
export interface StateStatus {
  path: string;
  /** There was a state, and it was taken up. */
  restored: boolean;
  connections: number;
  entriesMended: number;
  entriesDropped: number;
  /** Batches that were in hand when the process before ended, or a worker of this one. */
  batchesLost: number;
  /** Flow records that were not exported yet at the start, and are. */
  recordsWaiting: number;
  /** Being sent when the process ended: sent, in all likelihood, and not sent again. */
  recordsInDoubt: number;
  recordsLost: number;
}

export interface EngineView {
  readonly config: Config;
  readonly dispatcher: Dispatcher;
  /** Every thread's counters; workers' are at their index in `workers()`, then others. */
  counters(): SharedCounters[];
  ready(): boolean;
  /** Pods are among the objects: else the engine only meters. */
  metering(): boolean;
  ports(): PortInfo[];
  portName(port: number): string | null;
  rules(): RuleInfo[];
  rule(id: number): RuleInfo | null;
  policies(): PolicyInfo[];
  services(): { namespace: string; name: string; type: string; clusterIPs: string[]; ports: string[] }[];
  drops(): { stage: string; reason: string; packets: bigint }[];
  workers(): WorkerInfo[];
  exporters(): ExporterInfo[];
  /** Connections now in the tables, by protocol ("tcp", "udp", "icmp", "sctp", "other") and state. */
  connectionTotals(): { protocol: string; state: string; count: number }[];
  connections(): Iterable<ConnectionInfo>;
  connectionsLimit(): number;
  /** null without a state file. */
  state(): StateStatus | null;
  /** Calls back with the flow records that ended from now on; returns the unsubscriber. */
  watchRecords(listener: (records: FlowRecord[]) => void): () => void;
  /** Seconds that each apply took (metrics). */
  onApply(listener: (seconds: number) => void): void;
  /** All or nothing. `origin` names the text in messages. Throws SeineError. */
  apply(manifest: string, options: { origin: string; dryRun?: boolean; prune?: boolean }): Promise<ApplyResult>;
  delete(kind: string, namespace: string | null, name: string): Promise<ApplyResult>;
  process(batch: BatchInput): Promise<BatchOutput>;
  close(): Promise<void>;
}
