/**
 * Gets batches judged for one thread, the owner of the batches that it acquires. Parses them, resolves fragments, splits
 * the rows by shard and sends each shard its slice over a ring (its own shard's it judges on the spot). Answers come back in
 * the order of submits. Rows belong to one thread at a time: `owner` says which, and both sides assert it.
 *
 * ICMP errors are judged by the shard of the connection that they carry, but recorded under their own key, which may lie in
 * another shard: when a batch is judged, its error rows go to the shards of their own keys, batch by batch in order.
 */
import { Port } from '../batch/drop-reason.js';
import { emissionRoom } from '../batch/limits.js';
import { Kind, PacketBatch, RowFlag, SHARDS_MAX } from '../batch/packet-batch.js';
import { looseHash } from '../conntrack/connection-key.js';
import { FragmentTable } from '../conntrack/fragments.js';
import { shardOf } from '../flow/tuple-hash.js';
import {
  counterIndex,
  DURATION_BUCKETS,
  SharedCounters,
  type Transport,
  TRANSPORTS,
} from '../metrics/shared-counters.js';
import { JudgeFlag, kernels, nativeEnabled } from '../native/kernels.js';
import type { Forwarding } from '../pipeline/forwarding.js';
import { decapsulateTunnelRows } from '../pipeline/decapsulate.js';
import { SeineError } from '../errors.js';
import type { Dispatcher, SubmitOptions } from './engine-view.js';
import type { Fabric } from './fabric.js';
import { incarnationsOf, ringOffset } from './fabric.js';
import { InHand } from '../worker/in-hand.js';
import { Doorbell, Ring } from './ring.js';

/** A capture's packets are in no answer: only the emission area itself bounds what is made for them. */
const REPLAY_EMISSION_ROOM = 0x7fffffff;
const endOf = (batch: PacketBatch): number => batch.offset[batch.count - 1]! + batch.length[batch.count - 1]!;

export const Message = { Judge: 1, Account: 2, Failed: 3 } as const;

/** A shard that lives in this very thread. */
export interface LocalShard {
  shard: number;
  judge(
    batch: PacketBatch,
    rows: Int32Array,
    count: number,
    stableLow: number,
    stableHigh: number,
    tried?: boolean,
  ): void;
  /**
   * Judges a batch of this thread's own as its front end filled it, natively; returns how many rows it left, parsed, in
   * `batch.rest`; −1: it did nothing. `clock`: the latest time so far, then that of the last row. null: not with faults.
   */
  readonly judgeWhole:
    | ((batch: PacketBatch, flags: number, clock: Uint32Array, stableLow: number, stableHigh: number) => number)
    | null;
  account(batch: PacketBatch, rows: Int32Array, count: number): void;
}

interface Flight {
  batch: PacketBatch;
  index: number;
  transport: number;
  startedNs: bigint;
  pending: number;
  /** Rows in the batch's `rest`: those that are judged by stages or by other threads. */
  rest: number;
  accounting: 'none' | 'running' | 'done';
  error: Error | null;
  /** Slices still out: shard → its incarnation when the slice was sent. */
  out: Map<number, number>;
  done: (error: Error | null) => void;
}

export class ThreadDispatcher implements Dispatcher {
  private readonly batches: PacketBatch[];
  private readonly free: number[] = [];
  private readonly flights = new Map<number, Flight>();
  private readonly order: Flight[] = [];
  private readonly waiters: (() => void)[] = [];
  private readonly toShard: Ring[] = [];
  private readonly fromShard: Ring[] = [];
  private readonly bells: Doorbell[] = [];
  private readonly fragments: FragmentTable;
  private readonly inHand: InHand;
  private readonly wasSubmitted: Uint8Array;
  readonly counters: SharedCounters;
  private readonly message = new Int32Array(4);
  private readonly incarnations: Int32Array;
  /** The latest packet time, two words. */
  private readonly clock = new Uint32Array(2);
  private readonly stable = new Uint32Array(2);
  private finalizing = false;
  local: LocalShard | null = null;
  forwarding: Forwarding | null = null;
  /** replay: what comes in by the tunnel port is decapsulated already. */
  replay = false;

  constructor(
    private readonly fabric: Fabric,
    participant: number,
  ) {
    this.batches = fabric.batches[participant]!.map((memory) => new PacketBatch(memory));
    for (let index = 0; index < this.batches.length; index++) this.free.push(index);
    const bells = new Int32Array(fabric.bells);
    for (let shard = 0; shard < fabric.shards; shard++) {
      this.toShard.push(new Ring(fabric.rings, ringOffset(fabric, participant, shard, false)));
      this.fromShard.push(new Ring(fabric.rings, ringOffset(fabric, participant, shard, true)));
      this.bells.push(new Doorbell(bells, shard + 1));
    }
    this.incarnations = incarnationsOf(fabric);
    this.fragments = new FragmentTable(fabric.fragments);
    this.inHand = new InHand(fabric.participants, participant);
    this.wasSubmitted = new Uint8Array(this.batches.length);
    this.counters = new SharedCounters(fabric.counters[participant]!);
  }

  acquire(): PacketBatch | null {
    const index = this.free.pop();
    return index === undefined ? null : this.batches[index]!;
  }
  whenFree(callback: () => void): void {
    if (this.free.length > 0) queueMicrotask(callback);
    else this.waiters.push(callback);
  }
  release(batch: PacketBatch, answered = true): void {
    const index = this.batches.indexOf(batch);
    if (index < 0 || this.free.includes(index)) throw new Error('a batch is released by its owner, once');
    this.free.push(index);
    if (this.wasSubmitted[index] !== 0) {
      this.wasSubmitted[index] = 0;
      if (answered) this.inHand.answered(1);
    }
    if (this.waiters.length > 0) queueMicrotask(() => this.wake());
  }
  /** A waiter that no longer wants a batch, a client gone meanwhile, leaves it to the next. */
  private wake(): void {
    while (this.free.length > 0 && this.waiters.length > 0) this.waiters.shift()!();
  }
  /** Answers of batches that were released before, as not yet answered, are with their clients, or nobody waits for them. */
  answered(count: number): void {
    this.inHand.answered(count);
  }
  get inFlight(): number {
    return this.order.length;
  }

  /** The service's clock, ns since 1970. */
  nowNs(): bigint {
    return process.hrtime.bigint() + this.fabric.clockOffsetNs;
  }

  submit(batch: PacketBatch, transport: Transport, options: SubmitOptions, done: (error: Error | null) => void): void {
    const startedNs = process.hrtime.bigint();
    const { count } = batch;
    this.inHand.submitted();
    batch.emitWords[0] = 0;
    batch.emitWords[1] = 0;
    batch.emitWords[2] = this.replay ? REPLAY_EMISSION_ROOM : emissionRoom(count, endOf(batch));
    batch.emitWords[3] = 0;
    const whole = this.judgeWhole(batch, options);
    if (whole < 0) this.parse(batch, options);
    const rest = whole < 0 ? count : whole;
    if (nativeEnabled) this.counters.count('rowsByNative', count);
    const moved = this.prepare(batch, rest, options);
    const index = this.batches.indexOf(batch);
    const flight: Flight = {
      batch,
      index,
      transport: TRANSPORTS.indexOf(transport),
      startedNs,
      pending: 0,
      rest,
      accounting: 'none',
      error: null,
      out: new Map(),
      done,
    };
    this.wasSubmitted[index] = 1;
    this.flights.set(index, flight);
    this.order.push(flight);
    if (rest > 0) this.send(flight, Message.Judge, this.split(batch, rest), whole >= 0 && !moved);
    this.finalize();
  }

  /** Lets the thread's own shard judge what it can natively; how many rows are left, −1: all, and not parsed. */
  private judgeWhole(batch: PacketBatch, options: SubmitOptions): number {
    const { local, forwarding, clock } = this;
    const metering = forwarding === null || forwarding.metering;
    if (local === null || local.judgeWhole === null || (options.assignInPorts && !metering)) return -1;
    let flags = options.allColumns ? JudgeFlag.AllColumns : 0;
    if (!this.replay && !metering) flags |= JudgeFlag.TunnelEncapsulated;
    if (options.stampTime) {
      flags |= JudgeFlag.StampTimes;
      this.stampClock();
    }
    return local.judgeWhole(batch, flags, clock, this.stable[0]!, this.stable[1]!);
  }

  /** Parses all rows; they are in `rest` then. */
  private parse(batch: PacketBatch, options: SubmitOptions): void {
    const { count, rest } = batch;
    this.stampTime(batch, options.stampTime);
    kernels.parseRows(batch, 0, count);
    for (let row = 0; row < count; row++) rest[row] = row;
  }

  /** What the stages need of parsed rows: in-ports, the packets inside tunnels, fragments' ports. True where rows are of
   *  other packets than before. */
  private prepare(batch: PacketBatch, rest: number, options: SubmitOptions): boolean {
    if (rest === 0) return false;
    let moved = false;
    if (this.forwarding !== null && !this.forwarding.metering) {
      if (options.assignInPorts) this.assignInPorts(batch);
      else if (!this.replay) moved = decapsulateTunnelRows(batch, rest, this.forwarding);
    }
    for (let i = 0; i < rest; i++) {
      const row = batch.rest[i]!;
      if ((batch.flags[row]! & (RowFlag.FragmentFirst | RowFlag.FragmentLater)) !== 0) {
        this.fragments.resolve(batch, row);
        this.counters.count('fragmentsTracked');
      }
    }
    return moved;
  }

  /** Splits the rows in `rest` by shard: bounds and row lists of phase 0. Returns the shards that have rows. */
  private split(batch: PacketBatch, count: number): number[] {
    const { shards } = this.fabric;
    const { rest, hash, sliceBounds, sliceRows } = batch;
    if (shards === 1) {
      for (let i = 0; i < count; i++) sliceRows[i] = rest[i]!;
      sliceBounds[0] = 0;
      sliceBounds[1] = count;
      return [0];
    }
    sliceBounds.fill(0, 0, SHARDS_MAX * 2);
    for (let i = 0; i < count; i++) {
      const at = shardOf(hash[rest[i]!]!, shards) * 2 + 1;
      sliceBounds[at] = sliceBounds[at]! + 1;
    }
    const used: number[] = [];
    let start = 0;
    for (let shard = 0; shard < shards; shard++) {
      sliceBounds[shard * 2] = start;
      start += sliceBounds[shard * 2 + 1]!;
      if (sliceBounds[shard * 2 + 1]! > 0) used.push(shard);
      sliceBounds[shard * 2 + 1] = 0;
    }
    for (let i = 0; i < count; i++) {
      const row = rest[i]!;
      const at = shardOf(hash[row]!, shards) * 2;
      sliceRows[sliceBounds[at]! + sliceBounds[at + 1]!] = row;
      sliceBounds[at + 1] = sliceBounds[at + 1]! + 1;
    }
    return used;
  }

  /** Phase 1: sound ICMP errors, by the shards of their own keys. */
  private splitErrors(batch: PacketBatch, rest: number): number[] {
    const { shards } = this.fabric;
    const lists = new Map<number, number[]>();
    for (let i = 0; i < rest; i++) {
      const row = batch.rest[i]!;
      if ((batch.flags[row]! & (RowFlag.IcmpError | RowFlag.Sound)) !== (RowFlag.IcmpError | RowFlag.Sound)) continue;
      const shard = shardOf(looseHash(batch, row), shards);
      const list = lists.get(shard);
      if (list === undefined) lists.set(shard, [row]);
      else list.push(row);
    }
    let at = batch.sliceRows.length / 2;
    for (const [shard, rows] of lists) {
      batch.sliceBounds[SHARDS_MAX * 2 + shard * 2] = at;
      batch.sliceBounds[SHARDS_MAX * 2 + shard * 2 + 1] = rows.length;
      batch.sliceRows.set(rows, at);
      at += rows.length;
    }
    return [...lists.keys()].sort((a, b) => a - b);
  }

  private send(flight: Flight, kind: number, shards: readonly number[], tried = false): void {
    const { batch } = flight;
    const phase = kind === Message.Judge ? 0 : SHARDS_MAX * 2;
    flight.pending += shards.length;
    for (const shard of shards) {
      const start = batch.sliceBounds[phase + shard * 2]!;
      const rows = batch.sliceRows.subarray(start, start + batch.sliceBounds[phase + shard * 2 + 1]!);
      for (let i = 0; i < rows.length; i++) batch.owner[rows[i]!] = shard + 1;
      if (this.local?.shard === shard) {
        if (kind === Message.Judge) this.local.judge(batch, rows, rows.length, this.stable[0]!, this.stable[1]!, tried);
        else this.local.account(batch, rows, rows.length);
        this.returned(flight);
        continue;
      }
      const incarnation = Atomics.load(this.incarnations, shard);
      flight.out.set(shard, incarnation);
      this.toShard[shard]!.push(kind | (incarnation << 8), flight.index, this.stable[0]! | 0, this.stable[1]! | 0);
      this.bells[shard]!.ring();
    }
  }

  private returned(flight: Flight): void {
    flight.pending--;
  }

  /** Takes what shards sent back; called when the doorbell rings. */
  pump(): void {
    for (let shard = 0; shard < this.fromShard.length; shard++) {
      while (this.fromShard[shard]!.pop(this.message)) {
        const flight = this.flights.get(this.message[1]!);
        // What a lost worker sent back late is of a batch that was given up.
        if (flight === undefined || flight.out.get(shard) !== this.message[0]! >>> 8) continue;
        flight.out.delete(shard);
        if ((this.message[0]! & 0xff) === Message.Failed) flight.error = lost(shard);
        this.returned(flight);
      }
    }
    this.finalize();
  }

  /** The worker of a shard is gone: what it had in hand is answered with an error. */
  shardLost(shard: number): void {
    const incarnation = Atomics.load(this.incarnations, shard);
    for (const flight of this.order) {
      // What was sent since then is the next worker's.
      const sent = flight.out.get(shard);
      if (sent === undefined || sent === incarnation) continue;
      flight.out.delete(shard);
      flight.error = lost(shard);
      this.returned(flight);
    }
    this.finalize();
  }

  private finalize(): void {
    if (this.finalizing) return;
    this.finalizing = true;
    try {
      while (this.order.length > 0) {
        const flight = this.order[0]!;
        if (flight.pending > 0) return;
        const { batch } = flight;
        if (flight.error === null && flight.accounting === 'none') {
          const errors = this.splitErrors(batch, flight.rest);
          flight.accounting = 'running';
          if (errors.length > 0) {
            this.send(flight, Message.Account, errors);
            continue;
          }
        }
        this.order.shift();
        this.flights.delete(flight.index);
        const last = batch.count - 1;
        this.stable[0] = batch.timeNs[last * 2]!;
        this.stable[1] = batch.timeNs[last * 2 + 1]!;
        this.observe(flight);
        flight.done(flight.error);
      }
    } finally {
      this.finalizing = false;
    }
  }

  private observe(flight: Flight): void {
    const ns = Number(process.hrtime.bigint() - flight.startedNs);
    const seconds = ns / 1e9;
    let bucket = 0;
    while (bucket < DURATION_BUCKETS.length && seconds > DURATION_BUCKETS[bucket]!) bucket++;
    this.counters.add(counterIndex.batches(flight.transport));
    this.counters.add(counterIndex.duration(flight.transport, bucket));
    this.counters.add(counterIndex.durationNs(flight.transport), ns);
  }

  /** Moves the clock on to the service's. */
  private stampClock(): void {
    const now = this.nowNs();
    this.advanceClock(Number(now & 0xffffffffn), Number(now >> 32n));
  }
  /** Moves the clock on to a time; false where it was further already. */
  private advanceClock(low: number, high: number): boolean {
    const { clock } = this;
    if (high < clock[1]! || (high === clock[1]! && low < clock[0]!)) return false;
    clock[0] = low;
    clock[1] = high;
    return true;
  }
  /** Sets or clamps the rows' times: the clock never goes back. */
  private stampTime(batch: PacketBatch, stamp: boolean): void {
    const { timeNs, count } = batch;
    const { clock } = this;
    if (stamp) this.stampClock();
    for (let row = 0; row < count; row++) {
      if (!stamp && this.advanceClock(timeNs[row * 2]!, timeNs[row * 2 + 1]!)) continue;
      timeNs[row * 2] = clock[0]!;
      timeNs[row * 2 + 1] = clock[1]!;
    }
  }
  /** The latest packet time so far, in two words. */
  latest(): [number, number] {
    return [this.clock[0]!, this.clock[1]!];
  }
  stableNs(): bigint {
    return (BigInt(this.stable[1]!) << 32n) | BigInt(this.stable[0]!);
  }

  /** Replay's in-ports, from source addresses (contract "Ports"). */
  private assignInPorts(batch: PacketBatch): void {
    const forwarding = this.forwarding!;
    const { data } = batch;
    const sender = new Uint32Array(4);
    for (let row = 0; row < batch.count; row++) {
      const flags = batch.flags[row]!;
      let port: number = Port.Gateway;
      if ((flags & RowFlag.Sound) !== 0) {
        const family = batch.kind[row] === Kind.Ip6 ? 6 : 4;
        const first = batch.address[row * 8]!;
        const linkLocal = family === 6 ? first >>> 22 === 0xfe80 >>> 6 : first >>> 16 === 0xa9fe;
        let unspecified = first === 0;
        if (family === 6) for (let i = 1; i < 4; i++) unspecified = unspecified && batch.address[row * 8 + i] === 0;
        port =
          linkLocal || unspecified
            ? this.portOfSourceMac(batch, row)
            : forwarding.inPortOf(batch.address, row * 8, family);
      } else if ((flags & RowFlag.Arp) !== 0 && batch.length[row]! >= batch.l3Offset[row]! + 28) {
        const at = batch.offset[row]! + batch.l3Offset[row]! + 14;
        sender[0] = ((data[at]! << 24) | (data[at + 1]! << 16) | (data[at + 2]! << 8) | data[at + 3]!) >>> 0;
        port = sender[0] === 0 ? this.portOfSourceMac(batch, row) : forwarding.inPortOf(sender, 0, 4);
      } else port = this.portOfSourceMac(batch, row);
      batch.inPort[row] = port;
    }
  }
  private portOfSourceMac(batch: PacketBatch, row: number): number {
    if (batch.length[row]! < 12) return Port.Gateway;
    const at = batch.offset[row]! + 6;
    const mac = batch.data.subarray(at, at + 6).join(':');
    return this.forwarding!.portByMac.get(mac) ?? Port.Gateway;
  }
}

const lost = (shard: number): SeineError =>
  new SeineError(
    'SEINE_ERR_WORKER_LOST',
    `the worker of shard ${shard} was lost while it had the batch in hand; send it again`,
  );
