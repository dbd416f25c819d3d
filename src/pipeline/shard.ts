/**
 * One shard: its connection table and all that its thread needs to judge packets. Stages get it beside the batch.
 * Rows' working state lies in arrays indexed by row, set anew for each pass of the runner.
 */
import { BATCH_ROWS } from '../batch/packet-batch.js';
import type { ExistingConnections } from '../config/config.js';
import { ConnectionKey } from '../conntrack/connection-key.js';
import { C, E, Status } from '../conntrack/entry.js';
import { FlowAccounting, NEVER_NS } from '../conntrack/flow-accounting.js';
import { ConnectionTable, type TableMemory } from '../conntrack/table.js';
import type { ReplayContext } from '../conntrack/replay.js';
import { timeoutsNs, type TimeoutName } from '../conntrack/timeouts.js';
import { EndReason } from '../flow/flow-record.js';
import type { RecordsRing } from '../flow/records-ring.js';
import { counterIndex, type CounterMemory, SharedCounters } from '../metrics/shared-counters.js';
import { Classifier } from '../policy/classifier.js';
import type { PolicyTables } from '../policy/tables.js';
import { Emitter } from './emitter.js';
import { Forwarding, type ForwardingData, PortKind } from './forwarding.js';

/** State that all shards share: epochs of ports, connections per endpoint, totals. */
export interface SharedState {
  /** u32 per port number: bumped when anything changes that a decision at that endpoint rests on. */
  epochs: SharedArrayBuffer;
  /** i32 per port number: entries whose original in-port it is. */
  endpoints: SharedArrayBuffer;
  /** i32, by Total.*. */
  totals: SharedArrayBuffer;
}
/** Entries in all tables, the most there ever were; of them connections (not denied, not loose records), the most. */
export const Total = { Entries: 0, EntriesPeak: 1, Connections: 2, ConnectionsPeak: 3 } as const;
export const allocateSharedState = (): SharedState => ({
  epochs: new SharedArrayBuffer(65536 * 4),
  endpoints: new SharedArrayBuffer(65536 * 4),
  totals: new SharedArrayBuffer(64),
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
  readonly endpoints: Int32Array;
  readonly totals: Int32Array;
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
    this.emitter = new Emitter(this.counters);
    this.replayContext = {
      table: this.table,
      epochs: this.epochs,
      timeouts: this.timeouts,
      recordTimeouts: new Float64Array(2),
      classes: new Uint8Array(8192),
      counters: this.counters,
    };
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
  }

  isPod(port: number): boolean {
    return this.forwarding.portKind[port & 0xffff] === PortKind.Pod;
  }

  /** Is the table so full, or an endpoint so near its limit, that rows must be judged one by one? */
  mustGoSingly(rows: number): boolean {
    return Atomics.load(this.totals, Total.Entries) + 2 * rows >= this.settings.max;
  }

  /**
   * Room for one more entry from `inPort`: evicts the oldest unreplied entry, then the oldest closing one, when the
   * table is full. 0 = there is room, 1 = the table is full of established connections, 2 = the endpoint's limit.
   */
  makeRoom(inPort: number, low: number, high: number): 0 | 1 | 2 {
    if (this.isPod(inPort) && Atomics.load(this.endpoints, inPort & 0xffff) >= this.settings.maxPerEndpoint) return 2;
    if (Atomics.load(this.totals, Total.Entries) < this.settings.max && this.table.used < this.table.capacity) return 0;
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
    Atomics.add(this.endpoints, inPort & 0xffff, 1);
    this.countIn(Total.Entries);
  }
  /** A connection was admitted. */
  admitted(): void {
    this.countIn(Total.Connections);
  }
  private countIn(total: number): void {
    const now = Atomics.add(this.totals, total, 1) + 1;
    for (let peak = Atomics.load(this.totals, total + 1); now > peak; ) {
      const before = Atomics.compareExchange(this.totals, total + 1, peak, now);
      if (before === peak) break;
      peak = before;
    }
  }
  readonly removed = (entry: number): void => {
    Atomics.sub(this.endpoints, this.table.words[this.table.cold(entry) + C.origin]! & 0xffff, 1);
    Atomics.sub(this.totals, Total.Entries, 1);
    if ((this.table.words[this.table.at(entry) + E.status]! & (Status.Denied | Status.Loose)) === 0) {
      Atomics.sub(this.totals, Total.Connections, 1);
    }
  };
}
