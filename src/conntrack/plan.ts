/**
 * A plan is what the stages decided for one direction of a connection: verdict, out-port, tunnel, rewrites, rules. It
 * holds while the epochs of the connection's two ports are those that it was made under (behaviour §1).
 */
import { Ct, Port, Verdict } from '../batch/drop-reason.js';
import { type PacketBatch, Rewrite } from '../batch/packet-batch.js';
import { C, E, Status } from './entry.js';
import { P } from './plan-table.js';
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
  return words[at + E.epochs] === epochsNow(table, epochs, entry);
}

/** Sum of the epochs of the connection's two ports: in-port, and out-port of the original direction's plan. */
function epochsNow(table: ConnectionTable, epochs: Uint32Array, entry: number): number {
  const { words } = table;
  const origin = words[table.cold(entry) + C.origin]! & 0xffff;
  return (epochs[origin]! + epochs[words[table.planAt(entry, 0) + P.port]! & 0xffff]!) >>> 0;
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
  const at = table.planAt(entry, direction);
  const plan = words[at + P.decision]!;
  const rewrite = plan >>> 24;
  if ((rewrite & Rewrite.DecrementTtl) !== 0 && batch.ttl[row]! <= 1) return false;
  const verdict = plan & 0xff;
  const port = words[at + P.port]!;
  batch.dropReason[row] = (plan >>> 8) & 0xff;
  batch.stage[row] = (plan >>> 16) & 0xff;
  batch.rewrite[row] = rewrite;
  batch.outPort[row] = verdict === Verdict.Forward ? port & 0xffff : Port.Dropped;
  batch.tunnel[row] = port >>> 16;
  batch.ingressRule[row] = words[at + P.ingressRule]!;
  batch.egressRule[row] = words[at + P.egressRule]!;
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
  table.setPlan(
    entry,
    direction,
    (port | (batch.tunnel[row]! << 16)) >>> 0,
    (verdict | (reason << 8) | (stage << 16) | (batch.rewrite[row]! << 24)) >>> 0,
    batch.ingressRule[row]!,
    batch.egressRule[row]!,
    batch.inPort[row]!,
  );
  words[at + E.status] = words[at + E.status]! | (direction === 0 ? Status.Plan0 : Status.Plan1);
}

/** Stamps the entry with today's epochs of its in-port and of the port its original direction leaves by. */
export function stampEpochs(table: ConnectionTable, epochs: Uint32Array, entry: number): void {
  const { words } = table;
  const at = table.at(entry);
  words[at + E.epochs] = epochsNow(table, epochs, entry);
}

/** conntrack bits of a packet of a valid connection. */
export const ctOf = (status: number, direction: number): number =>
  Ct.Tracked | ((status & Status.SeenReply) !== 0 ? Ct.Established : Ct.New) | (direction === 1 ? Ct.Reply : 0);

/** Another out-port of the original direction's decision, which is left as it is otherwise. */
export function setPlanPort(table: ConnectionTable, entry: number, port: number, inPort: number): void {
  const plan = table.planAt(entry, 0);
  const { words } = table;
  table.setPlan(
    entry,
    0,
    ((words[plan + P.port]! & 0xffff0000) | (port & 0xffff)) >>> 0,
    words[plan + P.decision]!,
    words[plan + P.ingressRule]!,
    words[plan + P.egressRule]!,
    inPort,
  );
}
