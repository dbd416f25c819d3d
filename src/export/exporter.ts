/**
 * Sends flow records to collectors as NetFlow v5: every collector gets every datagram, under a sequence of its own.
 * Knows records, sockets and time, and nothing of the engine: it runs on whatever thread hands it records.
 *
 * records handed in = exported (given to the network for at least one collector, and not refused by it) + lost, by
 * reason. What one collector of several missed is in its own `lost`.
 */
import { isIP } from 'node:net';
import type { Config } from '../config/config.js';
import { SeineError } from '../errors.js';
import { Collector, type CollectorLoss, HIGH_WATER, LOSS_REASONS } from './collector.js';
import { engineIdentity } from './engine-id.js';
import {
  type Netflow5Datagram,
  Netflow5Encoder,
  type Netflow5Loss,
  type Netflow5Settings,
  writeSequence,
} from './netflow5.js';
import { RECORD_WORDS } from '../flow/flow-record.js';
import { parseTarget, type TargetAddress } from './target.js';

export type LossReason = CollectorLoss | Netflow5Loss;
const NETFLOW5_LOSSES: readonly LossReason[] = ['ipv6', 'unsplittable', ...LOSS_REASONS];

export interface ExporterInfo {
  format: string;
  target: string;
  records: bigint;
  datagrams: bigint;
  lost: bigint;
  state: string;
}
export interface ExportTotals {
  records: { format: string; records: number }[];
  /** Every reason, also those that are 0. */
  lost: { format: string; reason: string; records: number }[];
  datagrams: { format: string; target: string; datagrams: number }[];
  /** What each collector did not get, whether another did or not. */
  missed: { format: string; target: string; records: number }[];
}
/** `serve`: bounded queues, partial datagrams leave after a second. `replay`: nothing is dropped for want of room. */
export type ExporterMode = 'serve' | 'replay';
export type ExporterConfig = Pick<Config, 'ovsBridge' | 'ovsdb' | 'netflow'>;

const FORMAT = 'netflow5';
/** Datagrams that may wait for one collector in `serve`: 245,760 records, 12 MB. */
export const QUEUE_DATAGRAMS = 8192;
const PARTIAL_MS = 1000;
/** How long `close` waits for collectors in `serve`, and in `replay` for one that takes nothing any more. */
const CLOSE_MS = 5000;

/** A datagram on its way to several collectors. */
interface Shared {
  octets: Uint8Array;
  flows: number;
  group: Group;
}
/** What the copies of one datagram have in common. */
interface Group {
  flows: number;
  open: number;
  delivered: boolean;
  loss: CollectorLoss | null;
  /** Records before this one have left with this datagram or an earlier one, or are lost. */
  upTo: number;
  /** A collector's network has it, or it is lost. */
  gone: boolean;
}

/** Throws SEINE_ERR_CONFIG_INVALID where a netflow setting is wrong; `Exporter` accepts what passes. */
export function checkExport(config: ExporterConfig): TargetAddress[] {
  const { netflow } = config;
  const fail = (message: string): never => {
    throw new SeineError('SEINE_ERR_CONFIG_INVALID', message);
  };
  const other = netflow.versions.find((version) => version !== 5);
  if (other !== undefined) fail(`netflow.versions: ${other} is not spoken by this exporter; write [5]`);
  for (const key of ['engineId', 'engineType'] as const) {
    const value = netflow[key];
    if (value !== null && !(Number.isInteger(value) && value >= 0 && value <= 255)) {
      fail(`netflow.${key}: ${value} does not fit in one octet; write a number from 0 to 255`);
    }
  }
  const sourceFamily = netflow.source === null ? 0 : isIP(netflow.source);
  if (netflow.source !== null && sourceFamily === 0) {
    fail(`netflow.source: "${netflow.source}" is no IP address; write the address to send from, e.g. 10.127.1.5`);
  }
  const targets = new Map<string, TargetAddress>();
  netflow.targets.forEach((name, index) => {
    const target = parseTarget(name, `netflow.targets[${index}]`);
    if (sourceFamily !== 0 && target.family !== 0 && target.family !== sourceFamily) {
      fail(
        `netflow.targets[${index}]: "${name}" is IPv${target.family} and netflow.source ${netflow.source} is not; ` +
          `give both in one family`,
      );
    }
    targets.set(name, target); // a set, as in OVSDB: twice is once
  });
  return [...targets.values()];
}

export class Exporter {
  #config: ExporterConfig;
  #settings: Netflow5Settings;
  #collectors = new Map<string, Collector<Shared>>();
  /** Collectors no longer configured, until their queues are empty. */
  #leaving = new Set<Collector<Shared>>();
  #encoder: Netflow5Encoder;
  #exported = 0;
  #lost = new Map<LossReason, number>(NETFLOW5_LOSSES.map((reason) => [reason, 0]));
  #partial: NodeJS.Timeout | null = null;
  #waiting: (() => void)[] = [];
  /** Datagrams that no network has yet, in order; and how many records were done with when it was last told. */
  #unsent: Group[] = [];
  #done = 0;
  #onSending: ((records: number) => void) | null = null;
  #onDone: ((records: number) => void) | null = null;
  #closed: Promise<void> | null = null;

  /** Throws SEINE_ERR_CONFIG_INVALID as `checkExport`. */
  constructor(
    config: ExporterConfig,
    readonly mode: ExporterMode = 'serve',
  ) {
    const targets = checkExport(config);
    this.#config = structuredClone({ ovsBridge: config.ovsBridge, ovsdb: config.ovsdb, netflow: config.netflow });
    this.#settings = settingsOf(config);
    this.#encoder = new Netflow5Encoder(
      this.#settings,
      (datagram) => this.#emit(datagram),
      (reason, flows) => this.#lose(reason, flows),
    );
    this.#open(targets);
  }

  /**
   * `words`: packed records (flow/flow-record.ts), in the order of export; read before it returns. `nowNs`: the engine's
   * clock. Returns false when collectors have much to take: who can wait for `drained` should.
   */
  push(words: Uint32Array, nowNs: bigint): boolean {
    if (this.#closed !== null)
      throw new SeineError('SEINE_ERR_CLOSED', 'exporter: it is closed, and takes no records; push before close');
    if (this.#collectors.size === 0) {
      this.#encoder.taken += words.length / RECORD_WORDS;
      this.#tellDone();
      return true;
    }
    this.#encoder.push(words, nowNs);
    this.#pump();
    this.#tellDone();
    if (this.mode === 'serve' && this.#partial === null && this.#encoder.pending > 0) {
      this.#partial = setTimeout(() => this.flush(), PARTIAL_MS);
      this.#partial.unref();
    }
    return !this.#isFull();
  }

  /**
   * Tells who keeps the records until they have left: `sending` (if someone wants to know; datagrams then leave one by one)
   * that those before the n-th ever pushed are being given to
   * the network, `done` that they are with a collector's network, or lost.
   */
  progress(sending: ((records: number) => void) | null, done: (records: number) => void): void {
    this.#onSending = sending;
    this.#onDone = done;
  }

  #gone(group: Group): void {
    if (group.gone) return;
    group.gone = true;
    this.#tellDone();
  }
  #tellDone(): void {
    let done = this.#done;
    let gone = 0;
    while (gone < this.#unsent.length && this.#unsent[gone]!.gone) done = this.#unsent[gone++]!.upTo;
    if (gone > 0) this.#unsent.splice(0, gone);
    if (this.#unsent.length === 0 && this.#encoder.pending === 0) done = this.#encoder.taken;
    if (done === this.#done) return;
    this.#done = done;
    this.#onDone?.(done);
  }

  /** Sends the partial datagram too. */
  flush(): void {
    if (this.#partial !== null) clearTimeout(this.#partial);
    this.#partial = null;
    this.#encoder.flush();
    this.#pump();
  }
  #pump(): void {
    for (const collector of this.#collectors.values()) collector.pump();
  }

  /** Resolves at once, or when every collector has taken most of what waits for it. */
  drained(): Promise<void> {
    if (!this.#isFull()) return Promise.resolve();
    return new Promise((done) => this.#waiting.push(done));
  }

  /**
   * New settings from the next record on; records in hand leave under the old ones. A collector that stays keeps its
   * sequence unless the engine's id or type changed. All or nothing: throws as `checkExport` with nothing changed.
   */
  update(config: ExporterConfig): void {
    const targets = checkExport(config);
    const settings = settingsOf(config);
    this.flush();
    const moved = config.netflow.source !== this.#config.netflow.source;
    const renumbered =
      settings.engineId !== this.#settings.engineId || settings.engineType !== this.#settings.engineType;
    this.#config = structuredClone({ ovsBridge: config.ovsBridge, ovsdb: config.ovsdb, netflow: config.netflow });
    this.#settings = settings;
    this.#encoder.configure(settings);
    const kept = new Set(targets.map((target) => target.name));
    const reopened = new Map<string, Collector<Shared>>();
    for (const [name, collector] of this.#collectors) {
      if (kept.has(name) && !moved) continue;
      this.#collectors.delete(name);
      if (kept.has(name)) reopened.set(name, collector);
      this.#leave(collector);
    }
    this.#open(targets, reopened);
    if (renumbered) for (const collector of this.#collectors.values()) collector.sequence = 0;
    this.#wake();
  }

  /** Sends what is in hand, waits for collectors that still take datagrams, and closes the sockets. */
  close(): Promise<void> {
    this.#closed ??= this.#shut();
    return this.#closed;
  }

  async #shut(): Promise<void> {
    this.flush();
    const all = [...this.#collectors.values(), ...this.#leaving];
    await Promise.all(all.map((collector) => this.#settle(collector)));
    for (const collector of all) collector.close();
    this.#wake();
  }

  /** Waits for a collector as long as its queue gets shorter (`replay`), or CLOSE_MS (`serve`). */
  async #settle(collector: Collector<Shared>): Promise<void> {
    let done = false;
    const settled = collector.settle().then(() => {
      done = true;
    });
    for (let before = Number.POSITIVE_INFINITY; !done && collector.queued < before; ) {
      before = this.mode === 'serve' ? 0 : collector.queued;
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, CLOSE_MS);
      });
      await Promise.race([settled, late]);
      clearTimeout(timer);
    }
  }

  stats(): ExporterInfo[] {
    return [...this.#collectors].map(([target, collector]) => ({
      format: FORMAT,
      target,
      records: BigInt(collector.counts.records),
      datagrams: BigInt(collector.counts.datagrams),
      lost: BigInt(collector.counts.lost),
      state: collector.state,
    }));
  }

  totals(): ExportTotals {
    return {
      records: [{ format: FORMAT, records: this.#exported }],
      lost: [...this.#lost].map(([reason, records]) => ({ format: FORMAT, reason, records })),
      datagrams: [...this.#collectors].map(([target, { counts }]) => ({
        format: FORMAT,
        target,
        datagrams: counts.datagrams,
      })),
      missed: [...this.#collectors].map(([target, { counts }]) => ({ format: FORMAT, target, records: counts.lost })),
    };
  }

  /** `before`: collectors that get another socket; their counts and sequence go on. */
  #open(targets: readonly TargetAddress[], before?: ReadonlyMap<string, Collector<Shared>>): void {
    for (const target of targets) {
      if (this.#collectors.has(target.name)) continue;
      const collector = new Collector<Shared>(target, {
        counts: before?.get(target.name)?.counts,
        source: this.#config.netflow.source,
        queueLimit: this.mode === 'serve' ? QUEUE_DATAGRAMS : Number.POSITIVE_INFINITY,
        resolved: ({ group }, loss) => this.#resolved(group, loss),
        oneByOne: () => this.#onSending !== null,
        sending: ({ group }) => {
          if (!group.gone) this.#onSending?.(group.upTo);
        },
        sent: ({ group }) => this.#gone(group),
        drained: () => this.#wake(),
      });
      collector.sequence = before?.get(target.name)?.sequence ?? 0;
      this.#collectors.set(target.name, collector);
    }
  }

  #leave(collector: Collector<Shared>): void {
    this.#leaving.add(collector);
    void this.#settle(collector).then(() => {
      collector.close();
      this.#leaving.delete(collector);
    });
  }

  #emit(datagram: Netflow5Datagram): void {
    const { octets, records, flows, upTo } = datagram;
    const group: Group = { flows, open: this.#collectors.size, delivered: false, loss: null, upTo, gone: false };
    this.#unsent.push(group);
    let first = true;
    for (const collector of this.#collectors.values()) {
      const copy = first ? octets : octets.slice();
      first = false;
      writeSequence(copy, collector.sequence);
      // Also of one that is lost below: the gap tells the collector of it.
      collector.sequence = (collector.sequence + records) >>> 0;
      collector.push({ octets: copy, flows, group });
    }
  }

  #resolved(group: Shared['group'], loss: CollectorLoss | null): void {
    if (loss === null) group.delivered = true;
    else group.loss ??= loss;
    if (--group.open > 0) return;
    this.#gone(group);
    if (group.delivered) this.#exported += group.flows;
    else this.#lose(group.loss!, group.flows);
  }

  #lose(reason: LossReason, flows: number): void {
    this.#lost.set(reason, this.#lost.get(reason)! + flows);
  }

  #isFull(): boolean {
    for (const collector of this.#collectors.values()) if (collector.queued > HIGH_WATER) return true;
    return false;
  }

  #wake(): void {
    if (this.#waiting.length === 0 || this.#isFull()) return;
    for (const done of this.#waiting.splice(0)) done();
  }
}

function settingsOf(config: ExporterConfig): Netflow5Settings {
  const { addToInterface, icmpPort, octets } = config.netflow;
  return { ...engineIdentity(config), addToInterface, icmpPort, octets };
}
