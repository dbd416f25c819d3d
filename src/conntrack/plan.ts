/**
 * A plan is what the stages decided for one direction of a connection: verdict, out-port, tunnel, rewrites, rules. It
 * holds while the epochs of the connection's two ports are those that it was made under (behaviour §1).
 */
import { Ct, Port, Verdict } from '../batch/drop-reason.js';
import { type PacketBatch, Rewrite } from '../batch/packet-batch.js';
import { D, DIRECTION_WORDS, E, Status } from './entry.js';
import type { ConnectionTable } from './table.js';

/** Is the plan of `direction` there, and made under today's epochs? */
export function planHolds(table: ConnectionTable, epochs: Uint32Array, entry: number, direction: number): boolean {
  const { words } = table;
  const at = table.at(entry);
  return (
    (words[at + E.status]! & (direction === 0 ? Status.Plan0 : Status.Plan1)) !== 0 && isFresh(table, epochs, entry)
  );
}

/** Are the connection's decisions of today's epochs? */
export function isFresh(table: ConnectionTable, epochs: Uint32Array, entry: number): boolean {
  const { words } = table;
  const at = table.at(entry);
  return (
    words[at + E.epochIn] === epochs[words[at + E.origin]! & 0xffff] &&
    words[at + E.epochOut] === epochs[words[at + E.direction + D.planPort]! & 0xffff]
  );
}

/** Writes the plan's decision into the row. False when this packet can't take it (TTL used up): the stages decide. */
export function applyPlan(
  table: ConnectionTable,
  entry: number,
  direction: number,
  batch: PacketBatch,
  row: number,
): boolean {
  const { words } = table;
  const d = table.directionAt(entry, direction);
  const plan = words[d + D.planVerdict]!;
  const rewrite = plan >>> 24;
  if ((rewrite & Rewrite.DecrementTtl) !== 0 && batch.ttl[row]! <= 1) return false;
  const verdict = plan & 0xff;
  const port = words[d + D.planPort]!;
  batch.dropReason[row] = (plan >>> 8) & 0xff;
  batch.stage[row] = (plan >>> 16) & 0xff;
  batch.rewrite[row] = rewrite;
  batch.outPort[row] = verdict === Verdict.Forward ? port & 0xffff : Port.Dropped;
  batch.tunnel[row] = port >>> 16;
  batch.ingressRule[row] = words[d + D.ingressRule]!;
  batch.egressRule[row] = words[d + D.egressRule]!;
  batch.verdict[row] = verdict;
  return true;
}

/** Stores the row's decision as the plan of `direction`. */
export function storePlan(
  table: ConnectionTable,
  entry: number,
  direction: number,
  verdict: number,
  reason: number,
  stage: number,
  port: number,
  batch: PacketBatch,
  row: number,
): void {
  const { words } = table;
  const at = table.at(entry);
  const d = at + E.direction + direction * DIRECTION_WORDS;
  words[d + D.planPort] = (port | (batch.tunnel[row]! << 16)) >>> 0;
  words[d + D.planVerdict] = (verdict | (reason << 8) | (stage << 16) | (batch.rewrite[row]! << 24)) >>> 0;
  words[d + D.ingressRule] = batch.ingressRule[row]!;
  words[d + D.egressRule] = batch.egressRule[row]!;
  words[at + E.status] = words[at + E.status]! | (direction === 0 ? Status.Plan0 : Status.Plan1);
}

/** Stamps the entry with today's epochs of its in-port and of the port its original direction leaves by. */
export function stampEpochs(table: ConnectionTable, epochs: Uint32Array, entry: number): void {
  const { words } = table;
  const at = table.at(entry);
  words[at + E.epochIn] = epochs[words[at + E.origin]! & 0xffff]!;
  words[at + E.epochOut] = epochs[words[at + E.direction + D.planPort]! & 0xffff]!;
}

/** conntrack bits of a packet of a valid connection. */
export const ctOf = (status: number, direction: number): number =>
  Ct.Tracked | ((status & Status.SeenReply) !== 0 ? Ct.Established : Ct.New) | (direction === 1 ? Ct.Reply : 0);
