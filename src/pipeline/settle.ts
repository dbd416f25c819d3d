/**
 * After the stages: a packet that policy denied is kept in the table, so that it stays denied at no cost, and every packet
 * with a sound IP header is counted in a flow record: its connection's, or a loose one under its own key.
 */
import { DropReason, Port } from '../batch/drop-reason.js';
import { type PacketBatch, RowFlag } from '../batch/packet-batch.js';
import { connectionKey, looseKey } from '../conntrack/connection-key.js';
import { C, E, Status } from '../conntrack/entry.js';
import { expired, touch } from '../conntrack/flow-accounting.js';
import { setPlanPort, stampEpochs, storePlan } from '../conntrack/plan.js';
import { timeoutOf } from '../conntrack/protocol-timeout.js';
import { EndReason } from '../flow/flow-record.js';
import { resetAnswer } from './answers.js';
import { countNewConnection } from './counting.js';
import { type Shard, Work } from './shard.js';
import { takeEntry } from './stages/conntrack-commit.js';

const ICMP = 1,
  ICMP6 = 58;

export function settle(shard: Shard, batch: PacketBatch, row: number): void {
  const flags = batch.flags[row]!;
  batch.rule[row] = decidingRule(batch, row);
  if ((flags & RowFlag.Sound) === 0) return;
  if (batch.dropReason[row] !== 0) {
    batch.outPort[row] = Port.Dropped;
    if (isPolicyDenial(batch.dropReason[row]!) && (shard.work[row]! & Work.Evaluate) !== 0) deny(batch, shard, row);
  }
  // An ICMP error's hash is that of what it carries: its own record may lie in another shard (engine/dispatcher.ts).
  if ((flags & RowFlag.IcmpError) === 0) account(shard, batch, row);
}

/** The rule of verdict lines: of a denial the one that denied, of an admission the ingress rule if there is one. */
export function decidingRule(batch: PacketBatch, row: number): number {
  if (batch.dropReason[row] === DropReason.EgressDefaultDeny || batch.dropReason[row] === DropReason.EgressPolicy) {
    return batch.egressRule[row]!;
  }
  if (batch.dropReason[row] !== 0 && !isPolicyDenial(batch.dropReason[row]!)) return 0;
  return batch.ingressRule[row]! || batch.egressRule[row]!;
}

const isPolicyDenial = (reason: number): boolean =>
  reason === DropReason.EgressDefaultDeny ||
  reason === DropReason.IngressDefaultDeny ||
  reason === DropReason.EgressPolicy ||
  reason === DropReason.IngressPolicy;

/** Keeps a denied row's decision: a new one in an entry of its own, a cut connection in its own. */
function deny(batch: PacketBatch, shard: Shard, row: number): void {
  const { table } = shard;
  const { words } = table;
  const work = shard.work[row]!;
  const reason = batch.dropReason[row]!;
  const stage = batch.stage[row]!;
  let entry: number;
  const routed = reason === DropReason.IngressDefaultDeny || reason === DropReason.IngressPolicy;
  // Where the packet would have gone was overwritten by settle: ask the route again.
  const port = routed ? deniedPort(batch, shard, row) : Port.Dropped;
  if ((work & Work.New) !== 0) {
    entry = shard.entry[row]!;
    const other = entry >= 0 && (words[table.at(entry) + E.status]! & (Status.Denied | Status.Cut)) === Status.Denied;
    if (other && batch.direction[row] === 1 && hasPlan(shard, entry, 0)) {
      // Both ways are denied, each for its own reason.
      setPlanPort(table, entry, batch.inPort[row]!, words[table.cold(entry) + C.origin]! & 0xffff);
      batch.connection[row] = entry + 1;
    } else {
      connectionKey(batch, row, shard.key);
      entry = takeEntry(batch, shard, row, Status.Denied);
      if (entry < 0) return;
      words[table.at(entry) + E.status] = words[table.at(entry) + E.status]! | Status.Denied;
    }
    storePlan(table, entry, batch.direction[row]!, batch.verdict[row]!, reason, stage, port, batch, row);
    countNewConnection(batch, shard, row);
  } else {
    entry = shard.entry[row]!;
    const at = table.at(entry);
    const replied = (words[at + E.status]! & Status.SeenReply) !== 0;
    shard.cut();
    words[at + E.status] = (words[at + E.status]! & ~(Status.Flood | Status.SeenReply)) | Status.Denied | Status.Cut;
    if (replied || (words[at + E.status]! & Status.ListUnreplied) === 0) table.list(entry, 0);
    storePlan(table, entry, 0, batch.verdict[row]!, reason, stage, port, batch, row);
    storePlan(table, entry, 1, batch.verdict[row]!, reason, stage, port, batch, row);
    if (shard.settings.existingConnections === 'reset') resetAnswer(batch, shard, row);
  }
  const at = table.at(entry);
  touch(
    words,
    at,
    batch.timeNs[row * 2]!,
    batch.timeNs[row * 2 + 1]!,
    shard.timeouts[timeoutOf(batch.protocol[row]!, words[at + E.status]!)]!,
  );
  stampEpochs(table, shard.epochs, entry);
}

const hasPlan = (shard: Shard, entry: number, direction: number): boolean =>
  (shard.table.words[shard.table.at(entry) + E.status]! & (direction === 0 ? Status.Plan0 : Status.Plan1)) !== 0;

/** The port whose ingress policy denied the row: the far end of its connection. */
function deniedPort(batch: PacketBatch, shard: Shard, row: number): number {
  const back = (shard.work[row]! & Work.Existing) !== 0 && batch.direction[row] === 1;
  if (back) return batch.inPort[row]! & 0xffff;
  const family = batch.kind[row] === 6 ? 6 : 4;
  return shard.forwarding.ownerPort(batch.address, row * 8 + 4, family);
}

/** Counts the row in a flow record: for rows of this shard's keys only. */
export function account(shard: Shard, batch: PacketBatch, row: number): void {
  const { table, accounting } = shard;
  const { words } = table;
  const low = batch.timeNs[row * 2]!;
  const high = batch.timeNs[row * 2 + 1]!;
  const outPort = batch.outPort[row]!;
  const verdict = batch.verdict[row]!;
  const protocol = batch.protocol[row]!;
  if (protocol !== ICMP && protocol !== ICMP6) {
    let entry = batch.connection[row]! - 1;
    let direction = batch.direction[row]!;
    if (entry < 0 && (shard.work[row]! & Work.Tracked) === 0) {
      connectionKey(batch, row, shard.key);
      const { key } = shard;
      const found = table.find(key.hash, batch.address, row * 8, key.ports, key.key, key.discriminator, 3);
      const gone =
        found >= 0 &&
        expired(words, table.at(found >> 1), low, high) &&
        accounting.freeIfDone(found >> 1, low, high, shard.removed);
      if (found >= 0 && !gone) {
        entry = found >> 1;
        direction = found & 1;
      }
    }
    if (entry >= 0 && holdsRecord(shard, entry, direction, batch.inPort[row]!)) {
      if (accounting.count(entry, direction, batch, row, outPort, verdict)) table.arm(entry, accounting.dueTick(entry));
      if ((shard.work[row]! & Work.Closes) !== 0) {
        for (const each of [0, 1]) {
          const bit = each === 0 ? Status.Record0 : Status.Record1;
          if ((words[table.at(entry) + E.status]! & bit) === 0) continue;
          if (each === direction || !accounting.endIfDue(entry, each, low, high)) {
            accounting.end(entry, each, EndReason.End, low, high);
          }
        }
      }
      return;
    }
  }
  countLoose(shard, batch, row);
}

/** Does the direction's record stand for packets from this in-port? */
function holdsRecord(shard: Shard, entry: number, direction: number, inPort: number): boolean {
  const { words } = shard.table;
  const at = shard.table.at(entry);
  const cold = shard.table.cold(entry);
  const open = (words[at + E.status]! & (direction === 0 ? Status.Record0 : Status.Record1)) !== 0;
  if (open) return (words[cold + C.interfaces + direction]! & 0xffff) === inPort;
  if (direction === 0) return (words[cold + C.origin]! & 0xffff) === inPort;
  return true;
}

/** Counts the row under its own key: ICMP, packets of no connection, and ICMP errors wherever they were judged. */
export function countLoose(shard: Shard, batch: PacketBatch, row: number): void {
  const { table, accounting, loose } = shard;
  const low = batch.timeNs[row * 2]!;
  const high = batch.timeNs[row * 2 + 1]!;
  looseKey(batch, row, loose);
  let entry = table.find(loose.hash, batch.address, row * 8, loose.ports, loose.key, loose.discriminator, 1) >> 1;
  if (entry < 0) {
    if (shard.makeRoom(batch.inPort[row]!, low, high) === 0) {
      entry = table.insert(
        loose.hash,
        batch.address,
        row * 8,
        loose.ports,
        loose.key,
        loose.discriminator,
        Status.Loose,
      );
    }
    if (entry < 0) {
      accounting.single(batch, row, batch.outPort[row]!, batch.verdict[row]!);
      return;
    }
    shard.inserted(entry, batch.inPort[row]!);
    table.list(entry, 0);
  }
  if (accounting.count(entry, 0, batch, row, batch.outPort[row]!, batch.verdict[row]!)) {
    table.setPlan(
      entry,
      0,
      0,
      batch.verdict[row]!,
      batch.ingressRule[row]!,
      batch.egressRule[row]!,
      batch.inPort[row]!,
    );
    table.arm(entry, accounting.dueTick(entry));
  }
}
