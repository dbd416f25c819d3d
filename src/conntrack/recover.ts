/**
 * Takes a connection table up again that its thread, or its process, left in mid-change. Entries alone are believed, and
 * only after a look: index, free list, timing wheel, eviction lists and the plans' references are made anew from them. An
 * entry that can't be a whole one is dropped; one whose update was cut short is kept, with TCP windows as wide as those of
 * a connection picked up midway. Every index that is read is checked, so that no octets whatever make it crash or run on.
 */
import { DROP_REASONS, VERDICTS } from '../batch/drop-reason.js';
import { R } from '../flow/flow-record.js';
import type { RecordsRing } from '../flow/records-ring.js';
import { shardOf, tupleHash } from '../flow/tuple-hash.js';
import { C, COLD_WORDS, D, DIRECTION_WORDS, E, LOOSE_KEY, Status, T, TCP_WORDS } from './entry.js';
import type { FlowAccounting } from './flow-accounting.js';
import { P } from './plan-table.js';
import { SCTP_STATE_NAMES } from './sctp-state.js';
import { type ConnectionTable, H, HEADER_WORDS, WHEEL_SLOTS } from './table.js';
import { MAX_ACK_WINDOW, Side } from './tcp-state.js';

export interface Recovery {
  /** Entries kept: connections, denied ones and loose records; of them connections. */
  entries: number;
  connections: number;
  /** Kept, but with something set right. */
  mended: number;
  /** Could not be kept. */
  dropped: number;
  /** Open flow records that could not be kept, with their entries or alone. */
  recordsDropped: number;
}

const KNOWN_STATUS = Object.values(Status).reduce((all, bit) => all | bit, 0xff);
const LISTS = Status.ListUnreplied | Status.ListClosing;
const PORTLESS = new Set([1, 58]);
/** 417 days in ns: no timeout or clock of ours is so far off. */
const FAR_NS = 2 ** 55;
const WIDE = 2 ** 30 - 1;
/** IPv4 header; IPv6 header and the largest payload. */
const OCTETS_LEAST = 20;
const OCTETS_MOST = 65_575;

const number64 = (words: Uint32Array, at: number): number => words[at + 1]! * 0x100000000 + words[at]!;
const set64 = (words: Uint32Array, at: number, value: number): void => {
  words[at] = (value % 0x100000000) >>> 0;
  words[at + 1] = Math.floor(value / 0x100000000);
};

export interface RecoverOptions {
  accounting: FlowAccounting;
  shard: number;
  shards: number;
  /** The clock, ns since 1970. */
  nowNs: number;
  /** Told of every entry that is kept. */
  kept(entry: number): void;
}

export function recoverTable({ accounting, shard, shards, nowNs, kept }: RecoverOptions): Recovery {
  const { table, records } = accounting;
  const { words, plans } = table;
  const report: Recovery = { entries: 0, connections: 0, mended: 0, dropped: 0, recordsDropped: 0 };
  const fresh = Math.min(words[H.fresh]!, table.capacity);
  const heads = [words[H.unrepliedHead]!, words[H.closingHead]!];
  words.fill(0, H.fresh, H.wheelAt);
  words.fill(0, table.wheelAt, table.wheelAt + WHEEL_SLOTS);
  words.fill(0, table.slotsAt, table.slotsAt + table.slotMask + 1);
  words[H.fresh] = fresh;

  const judge = new EntryJudge(table, records, shard, shards, nowNs);
  const references = new Uint32Array(plans.fresh);
  /** Which list an entry is in, plus 1. */
  const listed = new Uint8Array(fresh);
  const address = new Uint32Array(8);
  let due = Number.POSITIVE_INFINITY;
  for (let entry = fresh - 1; entry >= 0; entry--) {
    const at = table.at(entry);
    const cold = table.cold(entry);
    if ((words[at + E.status]! & Status.Used) === 0 || !judge.keep(entry, address)) {
      if ((words[at + E.status]! & Status.Used) !== 0) {
        report.dropped++;
        report.recordsDropped += openRecords(words[at + E.status]!);
      }
      words[at + E.status] = 0;
      words[cold + C.wheelNext] = words[H.free]!;
      words[H.free] = entry + 1;
      continue;
    }
    const status = words[at + E.status]!;
    if ((status & LISTS) !== 0) listed[entry] = (status & Status.ListUnreplied) !== 0 ? 1 : 2;
    words[at + E.status] = status & ~LISTS;
    words[cold + C.origin] = words[cold + C.origin]! & 0xffff;
    words[cold + C.wheelNext] = 0;
    words[cold + C.wheelPrev] = 0;
    index(table, entry);
    for (let direction = 0; direction < 2; direction++) {
      const plan = words[table.directionAt(entry, direction) + D.plan]!;
      if (plan !== 0) references[plan] = references[plan]! + 1;
    }
    due = Math.min(due, accounting.dueTick(entry));
    report.entries++;
    if ((status & (Status.Denied | Status.Loose)) === 0) report.connections++;
    kept(entry);
  }
  words[H.used] = report.entries;
  report.mended = judge.mended;
  report.recordsDropped += judge.recordsDropped;
  plans.rebuild(references);
  relist(table, listed, heads, fresh);
  if (report.entries > 0) {
    // What was due meanwhile is due at the next sweep, which may take a whole turn of the wheel for it.
    const tick = Math.max(0, due - 1);
    words[H.tickLow] = tick >>> 0;
    words[H.tickHigh] = Math.floor(tick / 0x100000000);
    words[H.started] = 1;
  }
  for (let entry = 0; entry < fresh; entry++) {
    if ((words[table.at(entry) + E.status]! & Status.Used) === 0) continue;
    accounting.redue(entry);
    accounting.linkPlan(entry, 0);
    accounting.linkPlan(entry, 1);
    table.arm(entry, accounting.dueTick(entry));
  }
  return report;
}

const openRecords = (status: number): number =>
  ((status & Status.Record0) !== 0 ? 1 : 0) + ((status & Status.Record1) !== 0 ? 1 : 0);

function index(table: ConnectionTable, entry: number): void {
  const { words, slotsAt, slotMask } = table;
  const hash = words[table.cold(entry) + C.hash]!;
  let slot = hash & slotMask;
  while (words[slotsAt + slot] !== 0) slot = (slot + 1) & slotMask;
  words[slotsAt + slot] = ((entry + 1) | ((hash >>> 24) << 24)) >>> 0;
}

/** Eviction lists in their old order, as far as links can be followed; entries that are missed come last. */
function relist(table: ConnectionTable, listed: Uint8Array, heads: readonly number[], fresh: number): void {
  for (const which of [0, 1] as const) {
    const order: number[] = [];
    for (let next = heads[which]!; next !== 0 && next <= fresh && listed[next - 1] === which + 1; ) {
      listed[next - 1] = 0;
      order.push(next - 1);
      next = table.words[table.cold(next - 1) + C.listNext]!;
    }
    for (const entry of order) table.list(entry, which);
  }
  for (let entry = 0; entry < fresh; entry++) if (listed[entry] !== 0) table.list(entry, listed[entry] === 1 ? 0 : 1);
}

/** Says whether an entry can be kept, and sets right what is wrong with one that can. */
class EntryJudge {
  mended = 0;
  recordsDropped = 0;
  /** Offset of the last record that ended, where it may still be open in its entry; −1 = there is none. */
  private readonly lastRecord: number;

  constructor(
    private readonly table: ConnectionTable,
    private readonly ring: RecordsRing,
    private readonly shard: number,
    private readonly shards: number,
    private readonly nowNs: number,
  ) {
    this.lastRecord = ring.at((ring.head - 1) >>> 0);
  }

  keep(entry: number, address: Uint32Array): boolean {
    const { table } = this;
    const { words } = table;
    const at = table.at(entry);
    const cold = table.cold(entry);
    const status = words[at + E.status]!;
    const key = words[at + E.key]!;
    const protocol = key & 0xff;
    const family = (key >>> 8) & 0xf;
    const loose = (key & LOOSE_KEY) !== 0;
    const vlan = key >>> 16;
    if ((status & ~KNOWN_STATUS) !== 0 || (key & 0x7000) !== 0) return false;
    if ((family !== 4 && family !== 6) || (vlan > 0xfff && vlan !== 0xffff)) return false;
    if (loose !== ((status & Status.Loose) !== 0)) return false;
    if (!this.stateIsKnown(status & 0xff, loose ? 0 : protocol)) return false;

    const ports = words[at + E.ports]!;
    if (family === 6) for (let i = 0; i < 8; i++) address[i] = words[table.addressAt(entry) + i]!;
    else {
      address.fill(0);
      address[0] = words[at + E.src]!;
      address[4] = words[at + E.dst]!;
    }
    if (family === 6 && (address[3] !== words[at + E.src] || address[7] !== words[at + E.dst])) return false;
    const hash = PORTLESS.has(protocol)
      ? tupleHash(address, 0, family, protocol, 0, 0)
      : tupleHash(address, 0, family, protocol, ports & 0xffff, ports >>> 16);
    if (hash !== words[cold + C.hash] || shardOf(hash, this.shards) !== this.shard) return false;
    const discriminator = loose || PORTLESS.has(protocol) ? words[at + E.discriminator]! : 0;
    // A loose or ICMP key turned round is another entry's.
    const ways = loose || PORTLESS.has(protocol) ? 1 : 3;
    if (table.find(hash, address, 0, ports, key, discriminator, ways) >= 0) return false;

    const before = this.mended;
    let now = status & ~(Status.Replay0 | Status.Replay1 | Status.Busy);
    if ((status & LISTS) === LISTS) now &= ~Status.ListClosing;
    for (let direction = 0; direction < 2; direction++) now = this.direction(entry, direction, now);
    words[at + E.status] = now;
    if (!loose && protocol === 6) this.windows(at, (status & Status.Busy) !== 0);
    if (number64(words, at + E.expires) > this.nowNs + FAR_NS) {
      set64(words, at + E.expires, this.nowNs + FAR_NS);
      this.mended = before + 1;
    }
    if (this.mended > before || (status & Status.Busy) !== 0) this.mended = before + 1;
    return true;
  }

  private stateIsKnown(state: number, protocol: number): boolean {
    if (protocol === 6) return (state & 0xf) <= Side.FinAcked && state >>> 4 <= Side.FinAcked;
    return protocol === 132 ? state < SCTP_STATE_NAMES.length : state === 0;
  }

  /** Plan and open record of a direction; returns the entry's status. */
  private direction(entry: number, direction: number, status: number): number {
    const { table } = this;
    const { words, plans } = table;
    const d = table.directionAt(entry, direction);
    const planBit = direction === 0 ? Status.Plan0 : Status.Plan1;
    const recordBit = direction === 0 ? Status.Record0 : Status.Record1;
    const plan = words[d + D.plan]!;
    if (plan !== 0 && !(plans.isSound(plan, (status & Status.Loose) !== 0) && this.isPlanOf(entry, direction, plan))) {
      words[d + D.plan] = 0;
      status &= ~planBit;
      // The connection is decided again, as after a change.
      words[table.at(entry) + E.epochs] = (words[table.at(entry) + E.epochs]! ^ 0x80000000) >>> 0;
      this.mended++;
    } else if (plan === 0 && (status & planBit) !== 0 && (status & Status.Loose) === 0) {
      status &= ~planBit;
      this.mended++;
    }
    if ((status & recordBit) === 0) return status;
    if (this.hasEnded(entry, direction)) {
      this.mended++;
      return status & ~recordBit;
    }
    if (!this.isRecordSound(entry, direction)) {
      this.mended++;
      this.recordsDropped++;
      return status & ~recordBit;
    }
    return status;
  }

  /** Does the plan rest on the entry's own ports? Its original direction's plan says which they are. */
  private isPlanOf(entry: number, direction: number, plan: number): boolean {
    const { words, plans } = this.table;
    const basis = words[plans.at(plan) + P.basis]!;
    if ((words[this.table.cold(entry) + C.origin]! & 0xffff) !== (basis & 0xffff)) return false;
    return direction === 1 || (words[plans.at(plan) + P.port]! & 0xffff) === basis >>> 16;
  }

  /** Was the record handed over, and the crash came before its entry forgot it? */
  private hasEnded(entry: number, direction: number): boolean {
    const { table, ring, lastRecord: o } = this;
    const { words } = table;
    const out = ring.words;
    const at = table.at(entry);
    const d = table.directionAt(entry, direction);
    const cold = table.cold(entry);
    const ports = words[at + E.ports]!;
    const turned = direction === 0 ? ports : ((ports >>> 16) | (ports << 16)) >>> 0;
    if (out[o + R.packets] !== words[d + D.packets] || out[o + R.ports] !== turned) return false;
    if ((out[o + R.protocol]! & 0xff) !== (words[at + E.key]! & 0xff)) return false;
    if (out[o + R.interfaces] !== words[cold + C.interfaces + direction]) return false;
    if (((out[o + R.verdict]! >>> 8) & 0xff) !== ((words[d + D.marks]! >>> 16) & 0xff)) return false;
    for (let i = 0; i < 2; i++) {
      if (out[o + R.octets + i] !== words[d + D.octets + i] || out[o + R.end + i] !== words[d + D.last + i])
        return false;
      if (out[o + R.start + i] !== words[cold + C.first + direction * 2 + i]) return false;
    }
    const six = (words[at + E.key]! & 0xf00) === 0x600;
    const sources = six ? table.addressAt(entry) + direction * 4 : at + (direction === 0 ? E.src : E.dst);
    const sinks = six ? table.addressAt(entry) + (1 - direction) * 4 : at + (direction === 0 ? E.dst : E.src);
    for (let i = 0; i < (six ? 4 : 1); i++)
      if (out[o + R.src + i] !== words[sources + i] || out[o + R.dst + i] !== words[sinks + i]) return false;
    return true;
  }

  private isRecordSound(entry: number, direction: number): boolean {
    const { words } = this.table;
    const d = this.table.directionAt(entry, direction);
    const first = this.table.cold(entry) + C.first + direction * 2;
    const marks = words[d + D.marks]!;
    const verdict = (marks >>> 16) & 0xff;
    if (verdict === 0 || verdict >= VERDICTS.length || marks >>> 24 >= DROP_REASONS.length) return false;
    const from = number64(words, first);
    const to = number64(words, d + D.last);
    if (from > to || to > this.nowNs + FAR_NS) return false;
    const packets = words[d + D.packets]!;
    if (packets === 0) return false;
    let octets = number64(words, d + D.octets);
    // The packet that was being counted when the crash came may be in one and not in the other.
    if (octets < OCTETS_LEAST * (packets - 1)) {
      // Its low word was stored, and the carry into the high one was not.
      octets += 0x100000000;
      if (octets < OCTETS_LEAST * (packets - 1) || octets > OCTETS_MOST * packets) return false;
      set64(words, d + D.octets, octets);
      this.mended++;
    }
    return octets <= OCTETS_MOST * (packets + 1);
  }

  /** Wide windows where the entry is torn, or they contradict themselves. */
  private windows(at: number, torn: boolean): void {
    const { words } = this.table;
    for (let side = 0; side < 2; side++) {
      const s = at + E.tcp + side * TCP_WORDS;
      // A side's first acknowledgement may lie that far back of what its peer has sent, and sets how far the peer may go.
      const behind = ((words[s + T.end]! - words[s + T.maxEnd]!) | 0) > MAX_ACK_WINDOW && words[s + T.maxWindow] !== 0;
      if (!torn && !behind) continue;
      // A side that has sent nothing has no window, and none is made up for it.
      if (words[s + T.maxWindow] === 0) continue;
      words[s + T.maxWindow] = Math.max(words[s + T.maxWindow]!, WIDE);
      words[s + T.maxEnd] = (words[s + T.end]! + WIDE) >>> 0;
      if (!torn) this.mended++;
    }
  }
}

/** Text of every constant that says what a word of a table means: another one, another layout. */
export const TABLE_LAYOUT = JSON.stringify([
  { HEADER_WORDS, WHEEL_SLOTS, COLD_WORDS, DIRECTION_WORDS, TCP_WORDS },
  { H, E, D, C, T, P, Status, LOOSE_KEY },
]);
