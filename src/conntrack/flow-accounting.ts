/**
 * Flow records of the table's entries: opened, counted, ended. A record is one direction of one connection (or a loose
 * entry) until it is idle, active too long, closed, or its out-port or verdict changes (flow/flow-record.ts).
 * Ended ones go into the shard's ring of records, whole before the entry forgets them. When a record is due depends on its
 * packets alone, never on when the table is swept, so any number of workers makes the same records.
 */
import type { PacketBatch } from '../batch/packet-batch.js';
import { EndReason, R } from '../flow/flow-record.js';
import type { RecordsRing } from '../flow/records-ring.js';
import { add64 } from '../metrics/shared-counters.js';
import { C, D, DIRECTION_WORDS, E, LOOSE_KEY, Status } from './entry.js';
import { P } from './plan-table.js';
import { type ConnectionTable, TICK_NS, tick, tick32 } from './table.js';

/** Longer than any capture: for timeouts that are off. */
export const NEVER_NS = 2 ** 62;

/** The furthest that E.activeDue lies ahead: four years. */
const ACTIVE_HORIZON_TICKS = 2 ** 30;

/** b − a of two u64 times in words; exact up to 2^53 ns (104 days), rounded beyond. */
export const elapsed = (words: Uint32Array, at: number, nowLow: number, nowHigh: number): number =>
  (nowHigh - words[at + 1]!) * 0x100000000 + (nowLow - words[at]!);

export class FlowAccounting {
  idleNs = 10e9;
  activeNs = 600e9;

  constructor(
    readonly table: ConnectionTable,
    readonly records: RecordsRing,
  ) {}

  /**
   * Counts a packet in its direction's record. `verdict` and `outPort` are the row's. True when a record was opened, so
   * that the entry must be due earlier than it may be armed for.
   */
  count(entry: number, direction: number, batch: PacketBatch, row: number, outPort: number, verdict: number): boolean {
    const { words } = this.table;
    const at = this.table.at(entry);
    const d = at + E.direction + direction * DIRECTION_WORDS;
    const cold = this.table.cold(entry);
    const bit = direction === 0 ? Status.Record0 : Status.Record1;
    const low = batch.timeNs[row * 2]!;
    const high = batch.timeNs[row * 2 + 1]!;
    const excess = batch.frameOctets[row]! - batch.ipLength[row]!;
    let opened = false;
    if ((words[at + E.status]! & bit) !== 0) {
      if (!this.endIfDue(entry, direction, low, high)) {
        if (
          words[cold + C.interfaces + direction]! >>> 16 !== outPort ||
          ((words[d + D.marks]! >>> 16) & 0xff) !== verdict
        ) {
          this.end(entry, direction, EndReason.End, low, high);
        } else if (words[d + D.packets] === 0xffffffff || words[d + D.excess]! + excess > 0xffffffff) {
          this.end(entry, direction, EndReason.Resources, low, high);
        }
      }
    }
    if ((words[at + E.status]! & bit) === 0) {
      opened = true;
      const interfaces = ((batch.inPort[row]! & 0xffff) | (outPort << 16)) >>> 0;
      words[cold + C.interfaces + direction] = interfaces;
      words[d + D.marks] = ((batch.tos[row]! & 0xfc) | (verdict << 16) | (batch.dropReason[row]! << 24)) >>> 0;
      words.fill(0, d + D.packets, d + D.last);
      words[cold + C.first + direction * 2] = low;
      words[cold + C.first + direction * 2 + 1] = high;
      const other = (words[at + E.status]! & (Status.Record0 | Status.Record1)) !== 0;
      words[at + E.status] = words[at + E.status]! | bit;
      this.dueActive(at, low, high, other);
    }
    words[d + D.packets] = words[d + D.packets]! + 1;
    words[d + D.excess] = words[d + D.excess]! + excess;
    add64(words, d + D.octets, batch.ipLength[row]!);
    words[d + D.last] = low;
    words[d + D.last + 1] = high;
    if (batch.protocol[row] === 6) words[d + D.marks] = words[d + D.marks]! | (batch.tcpFlags[row]! << 8);
    this.linkPlan(entry, direction);
    return opened;
  }

  /**
   * Sets E.activeDue for a record opened at low, high: the tick of its active timeout, or the other record's where that is
   * sooner. Compared as a signed distance (±9 years), so a later timeout stands as four years, looked at again then.
   */
  private dueActive(at: number, low: number, high: number, other: boolean): void {
    const { words } = this.table;
    const now = tick32(low, high);
    const ticks = Math.min(Math.floor(((low & (TICK_NS - 1)) + this.activeNs) / TICK_NS), ACTIVE_HORIZON_TICKS);
    const due = (now + ticks) >>> 0;
    if (!other || ((words[at + E.activeDue]! - due) | 0) > 0) words[at + E.activeDue] = due;
  }

  /** Sets E.activeDue anew, from the entry's open records. */
  redue(entry: number): void {
    const { words } = this.table;
    const at = this.table.at(entry);
    const first = this.table.cold(entry) + C.first;
    const one = (words[at + E.status]! & Status.Record0) !== 0;
    if (one) this.dueActive(at, words[first]!, words[first + 1]!, false);
    if ((words[at + E.status]! & Status.Record1) !== 0) this.dueActive(at, words[first + 2]!, words[first + 3]!, one);
  }

  /**
   * Where the direction's plan holds and decides as its open record says, the fast path may go on with both: Status.Replay.
   * The record's in-port is then the plan's too.
   */
  linkPlan(entry: number, direction: number): void {
    const { words } = this.table;
    const at = this.table.at(entry);
    const replay = direction === 0 ? Status.Replay0 : Status.Replay1;
    const needed = direction === 0 ? Status.Plan0 | Status.Record0 : Status.Plan1 | Status.Record1;
    const status = words[at + E.status]!;
    if ((status & replay) !== 0 || (status & needed) !== needed) return;
    const plan = this.table.planAt(entry, direction);
    const interfaces = words[this.table.cold(entry) + C.interfaces + direction]!;
    const verdict = (words[this.table.directionAt(entry, direction) + D.marks]! >>> 16) & 0xff;
    if (words[plan + P.interfaces]! >>> 16 !== interfaces >>> 16 || (words[plan + P.decision]! & 0xff) !== verdict)
      return;
    if (words[plan + P.interfaces] !== interfaces) {
      this.table.setPlan(
        entry,
        direction,
        words[plan + P.port]!,
        words[plan + P.decision]!,
        words[plan + P.ingressRule]!,
        words[plan + P.egressRule]!,
        interfaces & 0xffff,
      );
    }
    words[at + E.status] = words[at + E.status]! | replay;
  }

  /** Ends the direction's open record if it is due at `now`; true if it was. */
  endIfDue(entry: number, direction: number, low: number, high: number): boolean {
    const { words } = this.table;
    const d = this.table.directionAt(entry, direction);
    const first = this.table.cold(entry) + C.first + direction * 2;
    const sinceLast = elapsed(words, d + D.last, low, high);
    const sinceFirst = elapsed(words, first, low, high);
    const idleDue = sinceLast >= this.idleNs;
    const activeDue = sinceFirst >= this.activeNs;
    if (!idleDue && !activeDue) return false;
    // The earlier of both: how long ago each was due.
    if (activeDue && (!idleDue || sinceFirst - this.activeNs > sinceLast - this.idleNs)) {
      this.endAfter(entry, direction, EndReason.Active, first, this.activeNs);
    } else this.endAfter(entry, direction, EndReason.Idle, d + D.last, this.idleNs);
    return true;
  }

  private endAfter(entry: number, direction: number, reason: number, from: number, ns: number): void {
    const { words } = this.table;
    const low = words[from]! + (ns % 0x100000000);
    this.end(
      entry,
      direction,
      reason,
      low >>> 0,
      words[from + 1]! + Math.floor(ns / 0x100000000) + (low > 0xffffffff ? 1 : 0),
    );
  }

  /** Ends an open record, exported at the given time. */
  end(entry: number, direction: number, reason: number, exportLow: number, exportHigh: number): void {
    const { words } = this.table;
    const at = this.table.at(entry);
    const d = at + E.direction + direction * DIRECTION_WORDS;
    const o = this.records.next();
    const { out } = this.records;
    const six = (words[at + E.key]! & 0xf00) === 0x600;
    const turn = direction * 4;
    if (six) {
      const base = this.table.addressAt(entry);
      for (let i = 0; i < 8; i++) out[o + i] = words[base + (i ^ turn)]!;
    } else {
      out.fill(0, o, o + 8);
      out[o + R.src] = words[at + (direction === 0 ? E.src : E.dst)]!;
      out[o + R.dst] = words[at + (direction === 0 ? E.dst : E.src)]!;
    }
    const ports = words[at + E.ports]!;
    out[o + R.ports] = direction === 0 ? ports : ((ports >>> 16) | (ports << 16)) >>> 0;
    const marks = words[d + D.marks]!;
    out[o + R.protocol] =
      ((words[at + E.key]! & 0xff) | ((marks & 0xff) << 8) | (((marks >>> 8) & 0xff) << 16) | (reason << 24)) >>> 0;
    const cold = this.table.cold(entry);
    out[o + R.interfaces] = words[cold + C.interfaces + direction]!;
    out[o + R.verdict] = (six ? 6 : 4) | (((marks >>> 16) & 0xff) << 8) | ((marks >>> 24) << 16);
    out[o + R.packets] = words[d + D.packets]!;
    out[o + R.packets + 1] = 0;
    for (const field of [R.octets, R.frameOctets]) {
      out[o + field] = words[d + D.octets]!;
      out[o + field + 1] = words[d + D.octets + 1]!;
    }
    add64(out, o + R.frameOctets, words[d + D.excess]!);
    for (let i = 0; i < 2; i++) {
      out[o + R.start + i] = words[cold + C.first + direction * 2 + i]!;
      out[o + R.end + i] = words[d + D.last + i]!;
    }
    out[o + R.export] = exportLow;
    out[o + R.export + 1] = exportHigh;
    // The plan's rules decided the record's packets, unless they met another end (invalid, TTL …).
    const plan = this.table.planAt(entry, direction);
    const planned = (words[plan + P.decision]! & 0xff) === ((marks >>> 16) & 0xff);
    out[o + R.ingressRule] = planned ? words[plan + P.ingressRule]! : 0;
    out[o + R.egressRule] = planned ? words[plan + P.egressRule]! : 0;
    // In this order: a crash between the two leaves the record twice, which recovery sees, and never not at all.
    this.records.publish();
    const bits = direction === 0 ? Status.Record0 | Status.Replay0 : Status.Record1 | Status.Replay1;
    words[at + E.status] = words[at + E.status]! & ~bits;
  }

  /** A packet that found no room in the table: a record of its own. */
  single(batch: PacketBatch, row: number, outPort: number, verdict: number): void {
    const o = this.records.next();
    const { out } = this.records;
    for (let i = 0; i < 8; i++) out[o + i] = batch.address[row * 8 + i]!;
    out[o + R.ports] = (batch.srcPort[row]! | (batch.dstPort[row]! << 16)) >>> 0;
    out[o + R.protocol] =
      (batch.protocol[row]! |
        ((batch.tos[row]! & 0xfc) << 8) |
        ((batch.protocol[row] === 6 ? batch.tcpFlags[row]! : 0) << 16) |
        (EndReason.Resources << 24)) >>>
      0;
    out[o + R.interfaces] = ((batch.inPort[row]! & 0xffff) | (outPort << 16)) >>> 0;
    out[o + R.verdict] = batch.kind[row]! | (verdict << 8) | (batch.dropReason[row]! << 16);
    out.fill(0, o + R.packets, o + R.start);
    out[o + R.packets] = 1;
    out[o + R.octets] = batch.ipLength[row]!;
    out[o + R.frameOctets] = batch.frameOctets[row]!;
    for (const field of [R.start, R.end, R.export]) {
      out[o + field] = batch.timeNs[row * 2]!;
      out[o + field + 1] = batch.timeNs[row * 2 + 1]!;
    }
    out[o + R.ingressRule] = batch.ingressRule[row]!;
    out[o + R.egressRule] = batch.egressRule[row]!;
    this.records.publish();
  }

  /** The tick at which the entry is next due: its open records, else its own expiry. */
  dueTick(entry: number): number {
    const { words } = this.table;
    const at = this.table.at(entry);
    const status = words[at + E.status]!;
    let due = Number.POSITIVE_INFINITY;
    for (let direction = 0; direction < 2; direction++) {
      if ((status & (direction === 0 ? Status.Record0 : Status.Record1)) === 0) continue;
      const d = at + E.direction + direction * DIRECTION_WORDS;
      const first = this.table.cold(entry) + C.first + direction * 2;
      due = Math.min(due, this.tickAfter(d + D.last, this.idleNs), this.tickAfter(first, this.activeNs));
    }
    return due === Number.POSITIVE_INFINITY ? tick(words[at + E.expires]!, words[at + E.expires + 1]!) : due;
  }
  private tickAfter(from: number, ns: number): number {
    const { words } = this.table;
    return Math.floor(words[from + 1]! * 32 + (words[from]! + ns) / 2 ** 27);
  }

  /**
   * Sweeps the wheel up to `clock`: ends records that are due, frees entries that have expired and have none.
   * `freed` is told of each entry just before it goes.
   */
  sweep(low: number, high: number, freed: (entry: number) => void): void {
    this.table.sweep(tick(low, high), (entry) => {
      if (!this.freeIfDone(entry, low, high, freed)) this.table.arm(entry, this.dueTick(entry));
    });
  }

  /**
   * Ends the entry's records that are due, and frees it if it has expired and has none open; true if it did. What finds an
   * expired entry asks this first: a packet's fate must not hang on how far the last sweep came.
   */
  freeIfDone(entry: number, low: number, high: number, freed: (entry: number) => void): boolean {
    const { words } = this.table;
    const at = this.table.at(entry);
    if ((words[at + E.status]! & Status.Record0) !== 0) this.endIfDue(entry, 0, low, high);
    if ((words[at + E.status]! & Status.Record1) !== 0) this.endIfDue(entry, 1, low, high);
    const open = (words[at + E.status]! & (Status.Record0 | Status.Record1)) !== 0;
    if (open || (!expired(words, at, low, high) && (words[at + E.key]! & LOOSE_KEY) === 0)) return false;
    freed(entry);
    this.table.remove(entry);
    return true;
  }

  /** Ends every open record: what was due by then as such, the rest as `forced` at the clock. */
  finish(low: number, high: number): void {
    for (const entry of this.table.entries()) {
      for (let direction = 0; direction < 2; direction++) {
        const bit = direction === 0 ? Status.Record0 : Status.Record1;
        if ((this.table.words[this.table.at(entry) + E.status]! & bit) === 0) continue;
        if (!this.endIfDue(entry, direction, low, high)) this.end(entry, direction, EndReason.Forced, low, high);
      }
    }
  }
}

/** Has the entry at word `at` expired at the given time? */
export const expired = (words: Uint32Array, at: number, low: number, high: number): boolean => {
  const expiresHigh = words[at + E.expires + 1]!;
  return high > expiresHigh || (high === expiresHigh && low >= words[at + E.expires]!);
};

/** Sets the entry's expiry to now + ns. */
export function touch(words: Uint32Array, at: number, low: number, high: number, ns: number): void {
  const sum = low + (ns % 0x100000000);
  words[at + E.expires] = sum >>> 0;
  words[at + E.expires + 1] = high + Math.floor(ns / 0x100000000) + (sum > 0xffffffff ? 1 : 0);
}
