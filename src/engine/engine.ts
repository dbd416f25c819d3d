/**
 * The engine: shards in piscina's threads, the objects that they enforce, and what front ends ask (engine-view.ts). Objects
 * change by generation: compiled here, swapped in by every worker between two batches, and then the epochs of the touched
 * ports are bumped, so that their connections are decided again on their next packet.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { Piscina } from 'piscina';
import { DROP_REASONS, Port, STAGES, Verdict, VERDICTS } from '../batch/drop-reason.js';
import { EMIT_COPY, EMIT_HEADER_WORDS, EMIT_WORDS, type PacketBatch } from '../batch/packet-batch.js';
import { RewriteTable } from '../batch/rewrite-table.js';
import type { Config } from '../config/config.js';
import { C, D, DIRECTION_WORDS, E, LOOSE_KEY, Status } from '../conntrack/entry.js';
import { P } from '../conntrack/plan-table.js';
import { connectionTotals, stateName } from '../conntrack/connection-totals.js';
import { expired } from '../conntrack/flow-accounting.js';
import type { Recovery } from '../conntrack/recover.js';
import { ConnectionTable, type TableMemory } from '../conntrack/table.js';
import { SeineError } from '../errors.js';
import { type FlowRecord, RECORD_WORDS, unpackRecord } from '../flow/flow-record.js';
import { RecordsRing } from '../flow/records-ring.js';
import { formatAddress } from '../flow/ip-address.js';
import { type CounterMemory, counterIndex, RULES_MAX, SharedCounters } from '../metrics/shared-counters.js';
import { kernels } from '../native/kernels.js';
import type { ClusterObjects, Namespace, NetworkPolicy, Pod } from '../objects/model.js';
import { assignLocalPorts, isLocal, type PortTable } from '../objects/ports.js';
import { readManifest } from '../objects/read.js';
import {
  commit,
  copyOf,
  emptyObjects,
  type ObjectDelta,
  type PlannedChange,
  planApply,
  planDelete,
} from '../objects/store.js';
import { Forwarding, type ForwardingData } from '../pipeline/forwarding.js';
import { ForwardingTables } from '../pipeline/forwarding-tables.js';
import { emissionCount } from '../pipeline/emitter.js';
import { VXLAN_PORT } from '../pipeline/decapsulate.js';
import { type Generation, type ShardSettings, Total } from '../pipeline/shard.js';
import { wholeDelta } from '../policy/compile.js';
import { PolicyCompiler, type PolicyDelta, type PolicyUpdate } from '../policy/compiler.js';
import { RuleRegistry } from '../policy/rule-registry.js';
import type { PolicyTables } from '../policy/tables.js';
import { type Fault, readFault } from '../worker/fault.js';
import { ShardRunner } from '../worker/shard-runner.js';
import type { FromWorker, ToWorker, WorkerTask } from '../worker/worker.js';
import { checkBatch } from '../batch/limits.js';
import { ThreadDispatcher } from './dispatcher.js';
import type {
  ApplyResult,
  BatchInput,
  BatchOutput,
  ConnectionInfo,
  Dispatcher,
  EngineView,
  ExporterInfo,
  PolicyInfo,
  PortInfo,
  RuleInfo,
  StateStatus,
  WorkerInfo,
} from './engine-view.js';
import { CLUSTER_PORTS, ObjectMarks, ObjectsNow, openState } from './durable.js';
import { InHand } from '../worker/in-hand.js';
import type { StateFile } from './state-file.js';
import { type Fabric, incarnationsOf, makeFabric } from './fabric.js';
import { type RecordsConsumer, RecordsInbox } from './records-inbox.js';
import { Doorbell } from './ring.js';

export interface EngineOptions {
  config: Config;
  objects?: ClusterObjects;
  /** replay: the capture's clock, in-ports by source address, tunnel port already decapsulated. */
  mode?: 'serve' | 'replay';
  /** Flow records wait for `deliverRecords`: so that those that an earlier process left find their listeners. */
  holdRecords?: boolean;
  /** Module whose default export runs a WorkerTask; a front end gives its own to adopt connections. */
  workerEntry?: URL;
}

interface WorkerSlot {
  port: MessagePort | null;
  state: WorkerInfo['state'];
  threadId: number;
  restarts: number;
  clients: number;
  /** Descriptors that were sent to the worker and that it has not taken yet. */
  handedOver: { fd: number; memifHub: number | undefined }[];
  readyWaiters: (() => void)[];
  awaiting: Map<string, () => void>;
}

/** Objects of a change that is compiled in one go: more, and other work comes between. */
const SMALL_CHANGE = 16;

const of = <T>(deltas: readonly ObjectDelta[], kind: ObjectDelta['kind']) =>
  deltas.filter((delta) => delta.kind === kind) as { key: string; before: T | undefined; after: T | undefined }[];
const endpointsOf = ({ podByPort }: PortTable) => [...podByPort].map(([port, pod]) => ({ port, pod }));

/** Restarts of one worker within a minute before the engine gives up on it. */
const RESTARTS_PER_MINUTE = 20;

export class Engine implements EngineView {
  readonly dispatcher: Dispatcher;
  readonly rewrite: RewriteTable;
  private readonly own: ThreadDispatcher;
  private readonly doorbell: Doorbell;
  /** Null where the main thread judges: a replay with one worker, which spares the hand-over and a thread. */
  private pool: Piscina | null = null;
  private runner: ShardRunner | null = null;
  private readonly slots: WorkerSlot[] = [];
  private readonly counterBlocks: SharedCounters[];
  private readonly registry: RuleRegistry;
  private readonly marks: ObjectMarks | null;
  private readonly report: StateStatus | null = null;
  /** Its own: changed in place, once a change can't be refused any more. */
  private readonly objects: ClusterObjects;
  private localPods: Map<string, Pod>;
  private portTable: PortTable;
  private policy: PolicyCompiler;
  private policyTables: PolicyTables;
  /** What `policies` answers while a change is being compiled. */
  private policiesBefore: PolicyInfo[] | null = null;
  private forwardingTables: ForwardingTables;
  private forwarding: Forwarding;
  private generation = 0;
  private applying: Promise<unknown> = Promise.resolve();
  private closing = false;
  private readonly restartTimes: number[] = [];
  private readonly recordListeners = new Set<(records: FlowRecord[]) => void>();
  private readonly inbox: RecordsInbox;
  private readonly applyListeners: ((seconds: number) => void)[] = [];
  /** Flow records that a lost worker, or an earlier process, had not handed over; and batches that they had in hand. */
  private recordsLost = 0;
  private batchesLost = 0;
  private readonly fault: Fault | null;
  exporterStats: () => ExporterInfo[] = () => [];
  /** Told of worker losses and other trouble, one line each. */
  onWarning: (line: string) => void = (line) => process.stderr.write(`seine: ${line}\n`);

  static async start(options: EngineOptions): Promise<Engine> {
    // A replay begins with nothing, and leaves nothing.
    const state = options.mode === 'replay' ? null : openState(options.config);
    try {
      const engine = new Engine(options, state);
      await engine.startWorkers();
      return engine;
    } catch (error) {
      state?.abandon();
      throw error;
    }
  }

  private constructor(
    private readonly options: EngineOptions,
    private readonly stateFile: StateFile | null,
  ) {
    const { config } = options;
    this.config = config;
    this.fault = readFault(process.env);
    this.objects = copyOf(options.objects ?? emptyObjects());
    this.fabric = makeFabric(config.workers, config.conntrack.max, this.stateFile);
    this.own = new ThreadDispatcher(this.fabric, 0);
    this.own.replay = options.mode === 'replay';
    this.dispatcher = this.own;
    this.rewrite = new RewriteTable(this.fabric.rewrite);
    this.counterBlocks = this.fabric.counters.map((memory) => new SharedCounters(memory));
    if (this.stateFile !== null) this.report = this.takeUpState(this.stateFile);
    this.marks = this.stateFile === null ? null : new ObjectMarks(this.stateFile);
    this.registry = new RuleRegistry(RULES_MAX, this.marks);
    this.inbox = new RecordsInbox(this.fabric.records, options.holdRecords ?? false, this.stateFile !== null);
    this.inbox.listen((words) => this.tellWatchers(words));
    this.policy = new PolicyCompiler(this.registry);
    this.localPods = new Map([...this.objects.pods].filter(([, pod]) => isLocal(pod, config.node)));
    this.portTable = assignLocalPorts(
      [...this.localPods.values()],
      config.hostGateway,
      this.marks?.portsOf(this.objects) ?? null,
    );
    this.policyTables = this.policy.update(wholeDelta(this.objects, endpointsOf(this.portTable))).tables;
    this.forwardingTables = this.allForwarding();
    this.forwarding = new Forwarding(this.forwardingTables.data);
    this.own.forwarding = this.forwarding;
    this.writeRewriteTable(this.forwardingTables.data);
    this.settleMarks();
    this.doorbell = new Doorbell(new Int32Array(this.fabric.bells), 0);
    void this.doorbell.listen(() => {
      this.own.pump();
      this.inbox.drain();
    });
  }
  readonly config: Config;
  readonly fabric: Fabric;

  // --- workers ---

  private settings(shard: number): ShardSettings {
    const { config } = this;
    const { conntrack } = config;
    return {
      shard,
      shards: config.workers,
      max: conntrack.max,
      maxPerEndpoint: conntrack.maxPerEndpoint ?? Math.max(1, Math.floor(conntrack.max / 4)),
      tcpLoose: conntrack.tcpLoose,
      tcpLiberal: conntrack.tcpLiberal,
      verifyChecksums: conntrack.verifyChecksums,
      timeouts: conntrack.timeouts,
      existingConnections: config.policy.existingConnections,
      fastPath: process.env.SEINE_FASTPATH !== 'off',
      idleTimeout: config.netflow.idleTimeout,
      activeTimeout: config.netflow.activeTimeout,
      replay: this.options.mode === 'replay',
    };
  }

  private async startWorkers(): Promise<void> {
    if (this.options.mode === 'replay' && this.config.workers === 1 && this.fault === null) {
      this.startHere();
      return;
    }
    const { Piscina } = await import('piscina');
    this.pool = new Piscina({
      filename: (this.options.workerEntry ?? new URL('../worker/entry.cjs', import.meta.url)).href,
      minThreads: this.config.workers,
      maxThreads: this.config.workers,
      concurrentTasksPerWorker: 1,
      idleTimeout: Number.POSITIVE_INFINITY,
      atomics: 'disabled',
    });
    this.pool.on('error', () => {}); // a lost worker's task is rejected too: it is handled there
    for (let shard = 0; shard < this.config.workers; shard++) {
      this.slots.push(this.newSlot());
    }
    await Promise.all(this.slots.map((_, shard) => this.runWorker(shard)));
  }

  private newSlot(): WorkerSlot {
    return {
      port: null,
      state: 'starting',
      threadId: 0,
      restarts: 0,
      clients: 0,
      handedOver: [],
      readyWaiters: [],
      awaiting: new Map(),
    };
  }
  private startHere(): void {
    const slot = this.newSlot();
    slot.state = 'serving';
    this.slots.push(slot);
    this.runner = new ShardRunner(this.fabric, this.settings(0), this.currentGeneration(), {
      spilled: (words) => this.inbox.spilled(0, words),
      ring: () => this.inbox.drain(),
    });
    this.own.local = this.runner;
  }

  /** Runs a shard's worker; resolves when it serves. A worker that ends unasked is run again. */
  private runWorker(shard: number): Promise<void> {
    const slot = this.slots[shard]!;
    const { port1, port2 } = new MessageChannel();
    slot.port = port1;
    port1.on('message', (message: FromWorker) => this.fromWorker(shard, message));
    const task: WorkerTask = {
      fabric: this.fabric,
      settings: this.settings(shard),
      generation: this.currentGeneration(),
      fault: this.fault,
      takeUp: slot.restarts > 0 || (this.report?.restored ?? false),
      port: port2,
    };
    const ready = new Promise<void>((resolve, reject) => {
      slot.readyWaiters.push(resolve);
      this.pool!.run(task, { transferList: [port2] }).then(
        () => {
          slot.state = 'stopped';
        },
        (error: Error) => {
          // What it still said, flow records above all, counts.
          for (let left = receiveMessageOnPort(port1); left !== undefined; left = receiveMessageOnPort(port1))
            this.fromWorker(shard, left.message as FromWorker);
          port1.close();
          if (this.closing) return;
          this.workerLost(shard, error);
          reject(error);
        },
      );
    });
    ready.catch(() => {});
    return ready;
  }

  private workerLost(shard: number, error: Error): void {
    const slot = this.slots[shard]!;
    slot.state = 'restarting';
    slot.restarts++;
    slot.clients = 0;
    this.onWarning(
      `worker ${shard} was lost (${error.message}); its batches in hand are answered with an error, and it is started again`,
    );
    this.recordsLost += this.inbox.shardLost(shard);
    this.batchesLost += new InHand(this.fabric.participants, shard + 1).forget();
    Atomics.add(incarnationsOf(this.fabric), shard, 1);
    this.own.shardLost(shard);
    this.slots.forEach((other, index) => {
      if (index !== shard) this.post(index, { type: 'lost', shard });
      void other;
    });
    const now = Date.now();
    this.restartTimes.push(now);
    while (this.restartTimes[0]! < now - 60_000) this.restartTimes.shift();
    if (this.restartTimes.length > RESTARTS_PER_MINUTE) {
      this.onWarning(`workers were lost ${this.restartTimes.length} times within a minute: giving up`);
      slot.state = 'stopped';
      return;
    }
    for (const waiter of slot.awaiting.values()) waiter();
    slot.awaiting.clear();
    void this.runWorker(shard);
    // Clients whose descriptors reached nobody.
    for (const { fd, memifHub } of slot.handedOver.splice(0)) this.adoptDescriptor(fd, memifHub);
  }

  private fromWorker(shard: number, message: FromWorker): void {
    const slot = this.slots[shard]!;
    switch (message.type) {
      case 'ready':
        slot.state = 'serving';
        slot.threadId = message.threadId;
        if (message.recovery !== null) this.recovered(message.recovery, slot.restarts > 0);
        for (const waiter of slot.readyWaiters.splice(0)) waiter();
        break;
      case 'taken':
        slot.handedOver.splice(
          slot.handedOver.findIndex(({ fd }) => fd === message.fd),
          1,
        );
        break;
      case 'clients':
        slot.clients = message.count;
        break;
      case 'spilled':
        this.inbox.spilled(shard, message.words);
        break;
      case 'swapped':
        slot.awaiting.get(`swap ${message.generation}`)?.();
        break;
      case 'finished':
        this.inbox.drain();
        slot.awaiting.get('finish')?.();
        break;
      case 'failed':
        this.onWarning(`worker ${shard}: ${message.message}`);
        break;
      case 'drained':
        slot.awaiting.get('drain')?.();
        break;
      case 'stopped':
        slot.awaiting.get('stop')?.();
        break;
    }
  }

  private post(shard: number, message: ToWorker): void {
    if (this.runner === null) this.slots[shard]?.port?.postMessage(message);
    else this.tellRunner(this.runner, message);
  }
  /** What a worker does with a message, for a shard of this thread. */
  private tellRunner(runner: ShardRunner, message: ToWorker): void {
    switch (message.type) {
      case 'swap':
        runner.state.swap(message.generation);
        break;
      case 'records':
        runner.state.setRecordTimeouts(message.idleTimeout, message.activeTimeout);
        break;
      case 'finish':
        runner.finish(message.low, message.high);
        this.inbox.drain();
        break;
    }
  }
  /** Sends a message to every worker and waits for its answer. */
  private async ask(message: ToWorker, answer: string): Promise<void> {
    await Promise.all(
      this.slots.map((slot, shard) => {
        if (slot.state === 'stopped') return Promise.resolve();
        if (this.runner !== null) {
          this.post(shard, message);
          return Promise.resolve();
        }
        return new Promise<void>((resolve) => {
          slot.awaiting.set(answer, () => {
            slot.awaiting.delete(answer);
            resolve();
          });
          this.post(shard, message);
        });
      }),
    );
  }

  /** Hands a client's descriptor (its own duplicate) to the worker that has the fewest. `memifHub`: of a memif client. */
  adoptDescriptor(fd: number, memifHub?: number): void {
    let chosen = 0;
    this.slots.forEach((slot, shard) => {
      if (slot.state === 'serving' && slot.clients < this.slots[chosen]!.clients) chosen = shard;
    });
    this.slots[chosen]!.clients++;
    this.slots[chosen]!.handedOver.push({ fd, memifHub });
    this.post(chosen, { type: 'adopt', fd, ...(memifHub === undefined ? {} : { memifHub }) });
  }

  // --- what outlives a process ---

  /** Rings of records and what was in hand; the workers take up their tables. */
  private takeUpState(state: StateFile): StateStatus {
    if (state.refusal !== null) this.onWarning(`stateFile: ${state.path}: ${state.refusal}; it is started afresh`);
    const report: StateStatus = {
      path: state.path,
      restored: state.inherited,
      connections: 0,
      entriesMended: 0,
      entriesDropped: 0,
      batchesLost: 0,
      recordsWaiting: 0,
      recordsInDoubt: 0,
      recordsLost: 0,
    };
    for (let participant = 0; participant <= this.config.workers; participant++)
      report.batchesLost += new InHand(this.fabric.participants, participant).forget();
    for (const memory of this.fabric.records) {
      const { waiting, inDoubt, lost } = new RecordsRing(memory).takeUp(VERDICTS.length, DROP_REASONS.length);
      report.recordsWaiting += waiting;
      report.recordsInDoubt += inDoubt;
      report.recordsLost += lost;
    }
    this.batchesLost = report.batchesLost;
    this.recordsLost = report.recordsLost;
    return report;
  }
  /** A worker has taken its table up, after the process before (at the start) or the thread before. */
  private recovered({ connections, mended, dropped, recordsDropped }: Recovery, thread: boolean): void {
    this.recordsLost += recordsDropped;
    if (thread) {
      if (mended + dropped > 0)
        this.onWarning(`of its shard's connections ${mended} were set right, ${dropped} could not be kept`);
      return;
    }
    if (this.report === null) return;
    this.report.connections += connections;
    this.report.entriesMended += mended;
    this.report.entriesDropped += dropped;
    this.report.recordsLost += recordsDropped;
  }
  /** The start is an apply: what changed since the earlier process is decided again. */
  private settleMarks(): void {
    if (this.marks === null) return;
    const now = this.objectsNow();
    const touched = this.marks.changed(now);
    this.marks.unsettle(now, touched);
    this.bump(touched ?? Array(65536).keys());
    this.marks.keep(now, touched);
    this.marks.keepCluster(now);
  }
  private objectsNow(): ObjectsNow {
    return new ObjectsNow(this.config, this.objects, this.portTable, this.policy.endpointDigest, this.metering());
  }
  private bump(ports: Iterable<number>): void {
    const epochs = new Int32Array(this.fabric.shared.epochs);
    for (const port of ports) Atomics.add(epochs, port, 1);
  }
  state(): StateStatus | null {
    if (this.report === null) return null;
    return { ...this.report, batchesLost: this.batchesLost, recordsLost: this.recordsLost };
  }

  // --- objects ---

  private currentGeneration(): Generation {
    return { generation: this.generation, policy: this.policyTables, forwarding: this.forwardingTables.data };
  }
  private allForwarding(): ForwardingTables {
    const { node, tunnelPort } = this.config;
    return new ForwardingTables(this.objects, this.portTable, { node, tunnelPort: tunnelPort || VXLAN_PORT });
  }

  /** `news`: of nodes and ports those that may have changed. */
  private writeRewriteTable({ nodes, ports }: Partial<ForwardingData>): void {
    const { gatewayMac, nodes: all } = this.forwardingTables.data;
    for (const { port, mac, kind } of ports ?? []) this.rewrite.setPort(port, kind === 2 ? gatewayMac : mac);
    if (nodes === undefined) return;
    const self = all[0];
    nodes.forEach((node, index) => {
      if (index === 0 || self === undefined) return;
      const family = self.ip4 !== null && node.ip4 !== null ? 4 : self.ip6 !== null && node.ip6 !== null ? 6 : null;
      this.rewrite.setNode(
        index,
        family === null || this.config.trafficEncapMode !== 'encap'
          ? null
          : {
              family,
              local: (family === 4 ? self.ip4 : self.ip6)!,
              remote: (family === 4 ? node.ip4 : node.ip6)!,
              sourceMac: self.mac,
              destinationMac: node.mac,
              port: this.config.tunnelPort || VXLAN_PORT,
              vni: 0,
              ttl: 64,
              udpChecksum: this.config.tunnelCsum || family === 6,
              dontFragment: true,
            },
      );
    });
  }

  apply(manifest: string, options: { origin: string; dryRun?: boolean; prune?: boolean }): Promise<ApplyResult> {
    return this.serially(async () => {
      const { inputs, warnings } = readManifest(manifest, options.origin);
      const plan = planApply(this.objects, inputs, { prune: options.prune ?? false });
      return this.change(plan, warnings, options.dryRun ?? false);
    });
  }
  delete(kind: string, namespace: string | null, name: string): Promise<ApplyResult> {
    return this.serially(() => this.change(planDelete(this.objects, kind, namespace, name), [], false));
  }
  private serially<T>(work: () => Promise<T>): Promise<T> {
    const result = this.applying.then(work);
    this.applying = result.catch(() => {});
    return result;
  }

  /** All or nothing: what may be refused is refused before anything has changed. */
  private async change({ changes, deltas }: PlannedChange, warnings: string[], dryRun: boolean): Promise<ApplyResult> {
    const pods = of<Pod>(deltas, 'Pod');
    const before = this.portTable;
    const { local, table } = this.portsAfter(pods);
    if (dryRun || deltas.length === 0) return { changes, warnings, generation: this.generation };
    const started = process.hrtime.bigint();
    const { tables, touched } = await this.compilePolicy({
      namespaces: of<Namespace>(deltas, 'Namespace'),
      pods,
      policies: of<NetworkPolicy>(deltas, 'NetworkPolicy'),
      endpoints: table === before ? null : endpointsOf(table),
    });
    commit(this.objects, deltas);
    this.localPods = local;
    this.portTable = table;
    this.policyTables = tables;
    const news = this.updateForwarding(deltas, pods);
    this.generation++;
    const ports = this.touchedPorts(touched, before, changes);
    const now = this.objectsNow();
    this.marks?.unsettle(now, ports);
    await this.ask(
      { type: 'swap', generation: { generation: this.generation, policy: tables, forwarding: news } },
      `swap ${this.generation}`,
    );
    this.bump(ports);
    this.marks?.keep(now, ports);
    const seconds = Number(process.hrtime.bigint() - started) / 1e9;
    for (const listener of this.applyListeners) listener(seconds);
    return { changes, warnings, generation: this.generation };
  }

  /** Local pods and their ports after a change of pods; the same tables where it touches none of them. */
  private portsAfter(pods: readonly { key: string; after: Pod | undefined }[]): {
    local: Map<string, Pod>;
    table: PortTable;
  } {
    const { node, hostGateway } = this.config;
    let local = this.localPods;
    for (const { key, after } of pods) {
      const isHere = after !== undefined && isLocal(after, node);
      if (!isHere && !local.has(key)) continue;
      if (local === this.localPods) local = new Map(local);
      if (isHere) local.set(key, after);
      else local.delete(key);
    }
    if (local === this.localPods) return { local, table: this.portTable };
    return { local, table: assignLocalPorts([...local.values()], hostGateway, this.portTable) };
  }

  /** In short steps, so that this thread's front ends are held up no longer than by one. */
  private async compilePolicy(delta: PolicyDelta): Promise<PolicyUpdate> {
    const size = delta.policies.length + delta.pods.length + delta.namespaces.length;
    if (size > SMALL_CHANGE) this.policiesBefore = this.policy.policyInfos();
    try {
      const steps = this.policy.steps(delta);
      for (let began = performance.now(); ; ) {
        const { done, value } = steps.next();
        if (done) return value;
        if (size <= SMALL_CHANGE || performance.now() - began < 1) continue;
        await new Promise<void>((resolve) => setImmediate(resolve));
        began = performance.now();
      }
    } catch (error) {
      // Refused, nothing has changed. By any other error the compiler is of no use any more: one that knows what is in force.
      if (!(error instanceof SeineError)) {
        this.policy = new PolicyCompiler(this.registry);
        this.policyTables = this.policy.update(wholeDelta(this.objects, endpointsOf(this.portTable))).tables;
      }
      throw error;
    } finally {
      this.policiesBefore = null;
    }
  }

  /** What of the forwarding tables is new, null: nothing. */
  private updateForwarding(
    deltas: readonly ObjectDelta[],
    pods: readonly { before: Pod | undefined; after: Pod | undefined }[],
  ): Partial<ForwardingData> | null {
    let news: Partial<ForwardingData> | null;
    if (deltas.some(({ kind }) => kind === 'Node')) {
      this.forwardingTables = this.allForwarding();
      news = this.forwardingTables.data;
    } else {
      const moved = pods.flatMap(({ before, after }) => [before, after]);
      news = this.forwardingTables.update(this.objects, moved, this.portTable, (ip) => this.policy.podsAt(ip));
    }
    if (news === null) return null;
    this.forwarding = this.forwarding.changed(news);
    this.own.forwarding = this.forwarding;
    this.writeRewriteTable(news);
    return news;
  }

  /** Only connections of endpoints that a change touched are decided again. */
  private touchedPorts(
    decisions: ReadonlySet<number>,
    before: PortTable,
    changes: ApplyResult['changes'],
  ): Set<number> {
    const touched = new Set(decisions);
    if (before !== this.portTable) {
      const identity = (pod: Pod | undefined): string =>
        pod === undefined ? '' : JSON.stringify([pod.namespace, pod.name, pod.ips, pod.annotations['seine.dev/mac']]);
      for (const port of new Set([...before.podByPort.keys(), ...this.portTable.podByPort.keys()])) {
        const [was, is] = [before.podByPort.get(port), this.portTable.podByPort.get(port)];
        if (was !== is && identity(was) !== identity(is)) touched.add(port);
      }
    }
    if (changes.some(({ kind, change }) => (kind === 'Pod' || kind === 'Node') && change !== 'unchanged')) {
      for (const port of CLUSTER_PORTS) touched.add(port);
    }
    return touched;
  }

  onApply(listener: (seconds: number) => void): void {
    this.applyListeners.push(listener);
  }

  // --- batches ---

  process(input: BatchInput): Promise<BatchOutput> {
    const inPorts = typeof input.inPort === 'number' ? null : input.inPort;
    checkBatch(input.data, input.length, inPorts === null ? 1 : inPorts.length, input.time?.length ?? null);
    return new Promise((resolve, reject) => {
      const attempt = () => {
        if (this.closing) {
          reject(new SeineError('SEINE_ERR_CLOSED', 'the engine is closed'));
          return;
        }
        const batch = this.dispatcher.acquire();
        if (batch === null) {
          this.dispatcher.whenFree(attempt);
          return;
        }
        fillBatch(batch, input);
        this.dispatcher.submit(batch, 'library', { stampTime: input.time === undefined }, (error) => {
          if (error !== null) reject(error);
          else {
            try {
              resolve(this.output(batch, input.returnPackets ?? false));
            } catch (failure) {
              reject(failure);
            }
          }
          this.dispatcher.release(batch);
        });
      };
      attempt();
    });
  }

  /** Copies a judged batch's answer out of shared memory. */
  output(batch: PacketBatch, returnPackets: boolean): BatchOutput {
    return copyOutput(batch, returnPackets, this.rewrite);
  }

  counters(): SharedCounters[] {
    return [...this.counterBlocks.slice(1), this.counterBlocks[0]!];
  }
  ready(): boolean {
    return !this.closing && this.slots.length > 0 && this.slots.every(({ state }) => state === 'serving');
  }
  metering(): boolean {
    return this.forwarding.metering;
  }
  ports(): PortInfo[] {
    return this.portTable.ports;
  }
  portName(port: number): string | null {
    if (this.metering()) return null;
    return this.names.get(port) ?? null;
  }
  private namesOf: PortTable | null = null;
  private namesMap = new Map<number, string>();
  private get names(): Map<number, string> {
    if (this.namesOf !== this.portTable) {
      this.namesOf = this.portTable;
      this.namesMap = new Map(this.portTable.ports.map(({ port, name }) => [port, name]));
    }
    return this.namesMap;
  }
  rules(): RuleInfo[] {
    return this.registry.list();
  }
  rule(id: number): RuleInfo | null {
    return this.registry.get(id);
  }
  policies(): PolicyInfo[] {
    return this.policiesBefore ?? this.policy.policyInfos();
  }
  services(): ReturnType<EngineView['services']> {
    return [...this.objects.services.values()].map(({ namespace, name, type, clusterIPs, ports }) => ({
      namespace,
      name,
      type,
      clusterIPs,
      ports: ports.map(
        ({ port, protocol, name: portName }) => `${portName === null ? '' : `${portName}:`}${port}/${protocol}`,
      ),
    }));
  }
  drops(): ReturnType<EngineView['drops']> {
    const result: ReturnType<EngineView['drops']> = [];
    STAGES.forEach((stage, s) => {
      DROP_REASONS.forEach((reason, r) => {
        const index = counterIndex.drop(s, r);
        const packets = this.counterBlocks.reduce((sum, block) => sum + block.read(index), 0n);
        if (packets > 0n) result.push({ stage, reason, packets });
      });
    });
    return result;
  }
  workers(): WorkerInfo[] {
    return this.slots.map((slot, worker) => {
      const block = this.counterBlocks[worker + 1]!;
      return {
        worker,
        threadId: slot.threadId,
        state: slot.state,
        restarts: slot.restarts,
        clients: slot.clients,
        packets: block.read(counterIndex.single('rowsHandled')),
        connections: this.table(worker).used,
        busySeconds: Number(block.read(counterIndex.single('busyNs'))) / 1e9,
      };
    });
  }
  exporters(): ExporterInfo[] {
    return this.exporterStats();
  }
  private readonly tables: ConnectionTable[] = [];
  private table(shard: number): ConnectionTable {
    this.tables[shard] ??= new ConnectionTable(this.fabric.tables[shard]!);
    return this.tables[shard];
  }
  connectionTotals(): ReturnType<EngineView['connectionTotals']> {
    return connectionTotals(this.fabric.tables.map((_, shard) => this.table(shard)));
  }
  /** What the thread of the metrics reads: counters in the order of `counters()`, and the connection tables. */
  metricsMemory(): { counters: CounterMemory[]; tables: TableMemory[] } {
    return { counters: this.counters().map(({ memory }) => memory), tables: [...this.fabric.tables] };
  }
  *connections(): Iterable<ConnectionInfo> {
    for (let shard = 0; shard < this.config.workers; shard++) {
      const table = this.table(shard);
      for (const entry of table.entries()) {
        const info = describeConnection(table, entry, shard);
        if (info !== null) yield info;
      }
    }
  }
  connectionsLimit(): number {
    return this.config.conntrack.max;
  }
  /** Connections made, the most that the tables held at once, and those that live at the clock. */
  summary(): { created: bigint; peak: number; active: number } {
    const totals = new Int32Array(this.fabric.shared.totals);
    const created = counterIndex.single('connectionsCreated');
    const [low, high] = this.own.latest();
    let active = 0;
    for (let shard = 0; shard < this.config.workers; shard++) {
      const table = this.table(shard);
      for (const entry of table.entries()) {
        const at = table.at(entry);
        const other = (table.words[at + E.status]! & (Status.Denied | Status.Loose)) !== 0;
        if (!other && !expired(table.words, at, low, high)) active++;
      }
    }
    return {
      created: this.counterBlocks.reduce((sum, block) => sum + block.read(created), 0n),
      peak: totals[Total.ConnectionsPeak]!,
      active,
    };
  }

  // --- records ---

  watchRecords(listener: (records: FlowRecord[]) => void): () => void {
    this.recordListeners.add(listener);
    return () => this.recordListeners.delete(listener);
  }
  /** Packed records as shards make them (flow/flow-record.ts). */
  onPackedRecords(listener: (words: Uint32Array) => void): () => void {
    return this.inbox.listen(listener);
  }
  /** Hands every record to the one that exports them; a ring keeps them until it is done with them. */
  exportRecords(consumer: RecordsConsumer): void {
    this.inbox.consume(consumer);
  }
  /** Ends `holdRecords`. */
  deliverRecords(): void {
    this.inbox.open();
  }
  private tellWatchers(words: Uint32Array): void {
    if (this.recordListeners.size === 0) return;
    const records: FlowRecord[] = [];
    for (let at = 0; at < words.length; at += RECORD_WORDS) records.push(unpackRecord(words, at));
    for (const listener of this.recordListeners) listener(records);
  }
  /** The service's clock, ns since 1970; in replay the capture's. */
  nowNs(): bigint {
    if (this.options.mode !== 'replay') return this.own.nowNs();
    const [low, high] = this.own.latest();
    return (BigInt(high) << 32n) | BigInt(low);
  }
  /** Every record that was due a tick before this time has been delivered. */
  stableNs(): bigint {
    return this.fabric.records.reduce((least, _, shard) => {
      const stable = this.inbox.stableNs(shard);
      return stable < least ? stable : least;
    }, this.own.stableNs());
  }
  /** Ends every open record at the clock, `forced` unless due before; afterwards none is open. */
  async finish(): Promise<void> {
    const [low, high] = this.own.latest();
    await this.ask({ type: 'finish', low, high }, 'finish');
  }
  setRecordTimeouts(idleTimeout: number, activeTimeout: number): void {
    this.slots.forEach((_, shard) => {
      this.post(shard, { type: 'records', idleTimeout, activeTimeout });
    });
  }

  async close(): Promise<void> {
    if (this.closing) return;
    await this.applying;
    while (this.own.inFlight > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    // Clients first, since their last packets may be any shard's; then open records leave, then the shards stop.
    await this.ask({ type: 'drain' }, 'drain');
    if (this.options.mode !== 'replay') {
      const now = this.own.nowNs();
      await this.ask({ type: 'finish', low: Number(now & 0xffffffffn), high: Number(now >> 32n) }, 'finish');
    }
    this.closing = true;
    await this.ask({ type: 'stop' }, 'stop');
    this.inbox.drain();
    this.doorbell.stop();
    for (const { port } of this.slots) port?.close();
    await this.pool?.destroy();
    if (!(this.options.holdRecords ?? false)) this.closeState();
  }
  /** With `holdRecords`: once the exporter is done with the records, after `close`. */
  closeState(): void {
    if (this.stateFile === null) return;
    this.marks?.keepCluster(this.objectsNow());
    this.stateFile.close();
  }
}

function describeConnection(table: ConnectionTable, entry: number, shard: number): ConnectionInfo | null {
  const { words } = table;
  const at = table.at(entry);
  const key = words[at + E.key]!;
  if ((key & LOOSE_KEY) !== 0) return null;
  const six = (key & 0xf00) === 0x600;
  const address = (which: 0 | 1) =>
    six
      ? formatAddress(words, table.addressAt(entry) + which * 4, 6)
      : formatAddress(words, at + (which === 0 ? E.src : E.dst), 4);
  const status = words[at + E.status]!;
  const d = [at + E.direction, at + E.direction + DIRECTION_WORDS] as const;
  const u64 = (word: number) => (BigInt(words[word + 1]!) << 32n) | BigInt(words[word]!);
  const cold = table.cold(entry);
  const planAt = table.planAt(entry, 0);
  const plan = words[planAt + P.decision]!;
  const vlan = key >>> 16;
  const ports = words[at + E.ports]!;
  const forward = (plan & 0xff) === Verdict.Forward;
  return {
    src: address(0),
    dst: address(1),
    protocol: key & 0xff,
    srcPort: ports & 0xffff,
    dstPort: ports >>> 16,
    vlan: vlan === 0xffff ? null : vlan,
    state: stateName(key & 0xff, status),
    inPort: words[cold + C.origin]! & 0xffff,
    outPort: forward ? words[planAt + P.port]! & 0xffff : Port.Dropped,
    verdict: forward ? 'forward' : 'drop',
    reason: forward ? null : (DROP_REASONS[(plan >>> 8) & 0xff] ?? null),
    ingressRule: words[planAt + P.ingressRule]!,
    egressRule: words[planAt + P.egressRule]!,
    packets: [BigInt(words[d[0] + D.packets]!), BigInt(words[d[1] + D.packets]!)],
    octets: [u64(d[0] + D.octets), u64(d[1] + D.octets)],
    startNs: u64(cold + C.first),
    lastNs: u64(d[0] + D.last),
    expiresNs: u64(at + E.expires),
    shard,
  };
}

/** Fills a batch from columns; they are copied. */
export function fillBatch(batch: PacketBatch, input: BatchInput): void {
  const { length } = input;
  batch.count = length.length;
  batch.data.set(input.data);
  const inPorts = input.inPort;
  let at = 0;
  for (let row = 0; row < length.length; row++) {
    const size = length[row]!;
    batch.offset[row] = at;
    batch.length[row] = size;
    batch.wireLength[row] = size;
    batch.frameOctets[row] = size;
    batch.inPort[row] = typeof inPorts === 'number' ? inPorts : inPorts.length === 1 ? inPorts[0]! : inPorts[row]!;
    at += size;
    if (input.time !== undefined) {
      const time = input.time[row]!;
      batch.timeNs[row * 2] = Number(time & 0xffffffffn);
      batch.timeNs[row * 2 + 1] = Number(time >> 32n);
    }
  }
}

/** Rows of a batch that were forwarded as one frame (a flooded row leaves as copies), with their list. */
export function forwardedRows(batch: PacketBatch, rows: Int32Array): number {
  let count = 0;
  for (let row = 0; row < batch.count; row++) if (batch.verdict[row] === Verdict.Forward) rows[count++] = row;
  return count;
}

/** Octets that composing a batch's forwarded frames may take at most. */
export const composedBound = (batch: PacketBatch): number => {
  let bound = 0;
  for (let row = 0; row < batch.count; row++) bound += batch.length[row]! + 70;
  return bound;
};

/** The emissions of a batch in order of rows: out-port, octets. Copies of a row are its frame as composed for that port. */
export function emissions(
  batch: PacketBatch,
  rewrite: RewriteTable,
): { row: number; outPort: number; octets: Uint8Array }[] {
  const count = emissionCount(batch);
  const list: { row: number; outPort: number; octets: Uint8Array; order: number }[] = [];
  const row1 = new Int32Array(1);
  const size1 = new Uint32Array(1);
  for (let i = 0; i < count; i++) {
    const at = EMIT_HEADER_WORDS + i * EMIT_WORDS;
    const row = batch.emitWords[at]!;
    const outPort = batch.emitWords[at + 1]!;
    const octets = batch.emitWords[at + 2]!;
    const offset = batch.emitWords[at + 3]! >>> 0;
    let frame: Uint8Array;
    if (offset === EMIT_COPY) {
      row1[0] = row;
      frame = new Uint8Array(octets + 70);
      frame = frame.subarray(0, kernels.composeRows(batch, rewrite.octets, row1, 1, frame, 0, size1));
    } else frame = batch.emitData.slice(offset, offset + octets);
    list.push({ row, outPort, octets: frame, order: i });
  }
  return list.sort((a, b) => a.row - b.row || a.order - b.order);
}

export function copyOutput(batch: PacketBatch, returnPackets: boolean, rewrite: RewriteTable): BatchOutput {
  const { count } = batch;
  const output: BatchOutput = {
    verdict: batch.verdict.slice(0, count),
    outPort: batch.outPort.slice(0, count),
    reason: batch.dropReason.slice(0, count),
    ct: batch.ct.slice(0, count),
    rule: batch.rule.slice(0, count),
    stage: batch.stage.slice(0, count),
  };
  if (returnPackets) {
    const rows = new Int32Array(count);
    const forwarded = forwardedRows(batch, rows);
    const sizes = new Uint32Array(forwarded);
    const data = new Uint8Array(composedBound(batch));
    const size = kernels.composeRows(batch, rewrite.octets, rows, forwarded, data, 0, sizes);
    if (size < 0) throw new Error('the bound of composed frames is too small');
    output.data = data.subarray(0, size);
    output.dataLength = new Uint32Array(count);
    for (let i = 0; i < forwarded; i++) output.dataLength[rows[i]!] = sizes[i]!;
  }
  if (emissionCount(batch) > 0) {
    const list = emissions(batch, rewrite);
    const total = list.reduce((sum, { octets }) => sum + octets.length, 0);
    const data = new Uint8Array(total);
    let at = 0;
    for (const { octets } of list) {
      data.set(octets, at);
      at += octets.length;
    }
    output.emit = {
      outPort: Uint32Array.from(list, ({ outPort }) => outPort),
      length: Uint32Array.from(list, ({ octets }) => octets.length),
      data,
    };
  }
  return output;
}
