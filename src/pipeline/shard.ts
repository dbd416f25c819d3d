/**
 * One shard: its connection table and all that its thread needs to judge packets. Stages get it beside the batch.
 * Rows' working state lies in arrays indexed by row, set anew for each pass of the runner.
 */
import { BATCH_ROWS } from '../batch/packet-batch.js';
import type { ExistingConnections } from '../config/config.js';
import { ConnectionKey } from '../conntrack/connection-key.js';
import { C, E, Status } from '../conntrack/entry.js';
import { FlowAccounting, NEVER_NS } from '../conntrack/flow-accounting.js';
import { type Recovery, recoverTable } from '../conntrack/recover.js';
import { ConnectionTable, type TableMemory } from '../conntrack/table.js';
import type { ReplayContext } from '../conntrack/replay.js';
import { timeoutsNs, type TimeoutName } from '../conntrack/timeouts.js';
import { EndReason } from '../flow/flow-record.js';
import type { RecordsRing } from '../flow/records-ring.js';
import { counterIndex, type CounterMemory, SharedCounters } from '../metrics/shared-counters.js';
import { Classifier } from '../policy/classifier.js';
import type { PolicyTables } from '../policy/tables.js';
import { nativeEnabled } from '../native/kernels.js';
import { Emitter } from './emitter.js';
import { NativeShard } from './native-shard.js';
import { Forwarding, type ForwardingData, PortKind } from './forwarding.js';

/** State that all shards share: epochs of ports, connections per endpoint, totals. */
export interface SharedState {
  /** u32 per port number: bumped when anything changes that a decision at that endpoint rests on. */
  epochs: SharedArrayBuffer;
  /** i32 [shard][port number]: entries of the shard whose original in-port it is. A shard's own, so that it can recount. */
  endpoints: SharedArrayBuffer;
  /** i32: a line of TOTALS_WORDS with the peaks of all shards, then one for each shard; by Total.*. */
  totals: SharedArrayBuffer;
}
/** Entries in all tables, the most there ever were; of them connections (not denied, not loose records), the most. */
export const Total = { Entries: 0, EntriesPeak: 1, Connections: 2, ConnectionsPeak: 3 } as const;
const TOTALS_WORDS = 16;
const PORTS = 65536;
export const EPOCHS_SIZE = PORTS * 4;
export const allocateSharedState = (shards = 1, epochs = new SharedArrayBuffer(EPOCHS_SIZE)): SharedState => ({
  epochs,
  endpoints: new SharedArrayBuffer(shards * PORTS * 4),
  totals: new SharedArrayBuffer((1 + shards) * TOTALS_WORDS * 4),
});

export interface ShardSettings {
  shard: number;
  shards: number;
  max: number;
  maxPerEndpoint: number;
  tcpLoose: boolean;
  tcpLiberal: boolean;
  verifyChecksums: boolean;
  timeouts: Partial<Record<TimeoutName, number>>;
  existingConnections: ExistingConnections;
  fastPath: boolean;
  idleTimeout: number;
  activeTimeout: number;
  /** replay: packets on the tunnel port are already decapsulated. */
  replay: boolean;
}

/** What is swapped when objects change. */
export interface Generation {
  generation: number;
  policy: PolicyTables;
  /** What is new of it: all for a shard that has none, null where nothing is. */
  forwarding: Partial<ForwardingData> | null;
}

/** Bits of a row's working state. */
export const Work = {
  New: 1, // no connection yet: ConntrackCommit makes one
  Existing: 2,
  Evaluate: 4, // policy is to be asked
  Closes: 8, // TCP closed by this packet: both records end after it is counted
  Related: 16,
  Untracked: 32,
  Reinit: 64, // New, in an entry that is there (expired, closed, denied)
  Tracked: 128, // ConntrackState has seen it
} as const;

export class Shard {
  readonly table: ConnectionTable;
  readonly accounting: FlowAccounting;
  readonly counters: SharedCounters;
  readonly timeouts: Float64Array;
  readonly epochs: Uint32Array;
  private readonly endpoints: Int32Array;
  private readonly totals: Int32Array;
  /** Where this shard's own lie. */
  private readonly ownEndpoints: number;
  private readonly ownTotals: number;
  readonly emitter: Emitter;
  readonly replayContext: ReplayContext;
  readonly key = new ConnectionKey();
  readonly loose = new ConnectionKey();
  /** Work bits and table entry of each row. */
  readonly work = new Uint8Array(BATCH_ROWS);
  readonly entry = new Int32Array(BATCH_ROWS);
  forwarding!: Forwarding;
  policy!: Classifier;
  generation = -1;
  metering = true;
  readonly fastPath: boolean;
  /** Judges what is not unusual natively; null: replay's reference and the stages do. */
  readonly native: NativeShard | null;

  constructor(
    readonly settings: ShardSettings,
    table: TableMemory,
    counters: CounterMemory,
    shared: SharedState,
    readonly records: RecordsRing,
  ) {
    this.table = new ConnectionTable(table);
    this.accounting = new FlowAccounting(this.table, records);
    this.counters = new SharedCounters(counters);
    this.timeouts = timeoutsNs(settings.timeouts);
    this.epochs = new Uint32Array(shared.epochs);
    this.endpoints = new Int32Array(shared.endpoints);
    this.totals = new Int32Array(shared.totals);
    this.ownEndpoints = settings.shard * PORTS;
    this.ownTotals = (1 + settings.shard) * TOTALS_WORDS;
    this.emitter = new Emitter(this.counters);
    this.replayContext = {
      table: this.table,
      epochs: this.epochs,
      timeouts: this.timeouts,
      recordTimeouts: new Float64Array(2),
      classes: new Uint8Array(8192),
      counters: this.counters,
      endpoints: this.endpoints,
      totals: this.totals,
      shard: settings.shard,
      records,
      control: new Uint32Array(4),
      limits: settings,
    };
    // Verified checksums are the stages' (pipeline/verify-checksum.ts).
    this.fastPath = settings.fastPath && !settings.verifyChecksums;
    this.native = this.fastPath && nativeEnabled ? new NativeShard(this.replayContext) : null;
    this.setRecordTimeouts(settings.idleTimeout, settings.activeTimeout);
  }

  /** Seconds as in `netflow`: active 0 = 600, −1 = never. */
  setRecordTimeouts(idle: number, active: number): void {
    this.accounting.idleNs = idle * 1e9;
    this.accounting.activeNs = active < 0 ? NEVER_NS : (active === 0 ? 600 : active) * 1e9;
    this.replayContext.recordTimeouts[0] = this.accounting.idleNs;
    this.replayContext.recordTimeouts[1] = this.accounting.activeNs;
  }

  swap(next: Generation): void {
    if (this.forwarding === undefined) this.forwarding = new Forwarding(next.forwarding as ForwardingData);
    else if (next.forwarding !== null) this.forwarding = this.forwarding.changed(next.forwarding);
    if (this.policy === undefined) this.policy = new Classifier(next.policy);
    else this.policy.swap(next.policy);
    this.metering = this.forwarding.metering;
    this.generation = next.generation;
    this.native?.swap(this.forwarding, this.policy);
  }

  isPod(port: number): boolean {
    return this.forwarding.portKind[port & 0xffff] === PortKind.Pod;
  }

  /** Is the table so full, or an endpoint so near its limit, that rows must be judged one by one? */
  mustGoSingly(rows: number): boolean {
    return this.total(Total.Entries) + 2 * rows >= this.settings.max;
  }

  /**
   * Room for one more entry from `inPort`: evicts the oldest unreplied entry, then the oldest closing one, when the
   * table is full. 0 = there is room, 1 = the table is full of established connections, 2 = the endpoint's limit.
   */
  makeRoom(inPort: number, low: number, high: number): 0 | 1 | 2 {
    if (this.isPod(inPort) && this.entriesOf(inPort & 0xffff) >= this.settings.maxPerEndpoint) return 2;
    if (this.total(Total.Entries) < this.settings.max && this.table.used < this.table.capacity) return 0;
    for (const list of [0, 1] as const) {
      const victim = this.table.oldest(list);
      if (victim < 0) continue;
      this.counters.add(counterIndex.evicted(list));
      for (const direction of [0, 1]) {
        const bit = direction === 0 ? Status.Record0 : Status.Record1;
        if ((this.table.words[this.table.at(victim) + E.status]! & bit) === 0) continue;
        if (!this.accounting.endIfDue(victim, direction, low, high)) {
          this.accounting.end(victim, direction, EndReason.Resources, low, high);
        }
      }
      this.removed(victim);
      this.table.remove(victim);
      return 0;
    }
    return 1;
  }

  /** Book-keeping of an entry that was put in, or is about to go. */
  inserted(entry: number, inPort: number): void {
    const cold = this.table.cold(entry);
    this.table.words[cold + C.origin] = (this.table.words[cold + C.origin]! & 0xffff0000) | (inPort & 0xffff);
    this.addEndpoint(inPort & 0xffff, 1);
    this.countIn(Total.Entries);
  }
  /** A connection was admitted. */
  admitted(): void {
    this.countIn(Total.Connections);
  }
  /** A connection is one no more: its entry is denied from now on. */
  cut(): void {
    this.addTotal(Total.Connections, -1);
  }
  private addEndpoint(port: number, value: number): void {
    Atomics.add(this.endpoints, this.ownEndpoints + port, value);
  }
  private addTotal(total: number, value: number): void {
    Atomics.add(this.totals, this.ownTotals + total, value);
  }
  private entriesOf(port: number): number {
    let sum = 0;
    for (let at = port; at < this.endpoints.length; at += PORTS) sum += Atomics.load(this.endpoints, at);
    return sum;
  }
  private total(total: number): number {
    let sum = 0;
    for (let at = TOTALS_WORDS + total; at < this.totals.length; at += TOTALS_WORDS)
      sum += Atomics.load(this.totals, at);
    return sum;
  }
  private countIn(total: number): void {
    this.addTotal(total, 1);
    this.notePeak(total);
  }
  private notePeak(total: number): void {
    const now = this.total(total);
    for (let peak = Atomics.load(this.totals, total + 1); now > peak; ) {
      const before = Atomics.compareExchange(this.totals, total + 1, peak, now);
      if (before === peak) break;
      peak = before;
    }
  }
  /** Takes up what an earlier thread or process left in the table, at this clock (ns since 1970). */
  recover(nowNs: number): Recovery {
    for (let port = 0; port < PORTS; port++) Atomics.store(this.endpoints, this.ownEndpoints + port, 0);
    const { shard, shards } = this.settings;
    const { accounting, table } = this;
    const recovery = recoverTable({
      accounting,
      shard,
      shards,
      nowNs,
      kept: (entry) => this.addEndpoint(table.words[table.cold(entry) + C.origin]! & 0xffff, 1),
    });
    Atomics.store(this.totals, this.ownTotals + Total.Entries, recovery.entries);
    Atomics.store(this.totals, this.ownTotals + Total.Connections, recovery.connections);
    this.notePeak(Total.Entries);
    this.notePeak(Total.Connections);
    return recovery;
  }
  /** Ends records that are due by a time, frees entries that have expired and have none. */
  sweep(low: number, high: number): void {
    if (this.native?.sweep(low, high) !== true) this.accounting.sweep(low, high, this.removed);
  }
  readonly removed = (entry: number): void => {
    this.addEndpoint(this.table.words[this.table.cold(entry) + C.origin]! & 0xffff, -1);
    this.addTotal(Total.Entries, -1);
    if ((this.table.words[this.table.at(entry) + E.status]! & (Status.Denied | Status.Loose)) === 0) {
      this.addTotal(Total.Connections, -1);
    }
  };
}
