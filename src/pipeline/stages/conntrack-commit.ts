/**
 * ConntrackCommit: a new connection gets its entry, and every decided row's decision becomes its direction's plan.
 * A full table makes room by eviction or drops the newcomer; denied packets are kept in pipeline/settle.ts.
 */
import { DropReason, Port, Stage, Verdict } from '../../batch/drop-reason.js';
import { type PacketBatch, RowFlag } from '../../batch/packet-batch.js';
import { C, E, Status, TCP_WORDS } from '../../conntrack/entry.js';
import { touch } from '../../conntrack/flow-accounting.js';
import { stampEpochs, storePlan } from '../../conntrack/plan.js';
import { P } from '../../conntrack/plan-table.js';
import { timeoutOf } from '../../conntrack/protocol-timeout.js';
import { sctpNext } from '../../conntrack/sctp-state.js';
import { trackTcp } from '../../conntrack/tcp-state.js';
import { countNewConnection } from '../counting.js';
import { type Shard, Work } from '../shard.js';
import { firstChunk } from './conntrack-state.js';

export const name = 'ConntrackCommit';
export function process(batch: PacketBatch, shard: Shard): void {
  const { live, liveCount, dropReason } = batch;
  for (let i = 0; i < liveCount; i++) {
    const row = live[i]!;
    const work = shard.work[row]!;
    if ((work & (Work.New | Work.Existing)) === 0) continue;
    if ((work & Work.New) !== 0) {
      const refused = makeConnection(batch, shard, row);
      if (refused !== 0) {
        if (!shard.metering) dropReason[row] = refused;
        continue;
      }
      countNewConnection(batch, shard, row);
    }
    plan(batch, shard, row, (work & Work.Evaluate) !== 0);
  }
}

/** Makes the row's entry (or makes it anew); 0, or the reason for which there is none. */
function makeConnection(batch: PacketBatch, shard: Shard, row: number): number {
  const { table } = shard;
  const low = batch.timeNs[row * 2]!;
  const high = batch.timeNs[row * 2 + 1]!;
  const inPort = batch.inPort[row]!;
  const entry = takeEntry(batch, shard, row, 0);
  if (entry === -1) return DropReason.ConntrackFull;
  if (entry === -2) return DropReason.EndpointLimit;
  const { words } = table;
  const at = table.at(entry);
  const protocol = batch.protocol[row]!;
  if (protocol === 6 && (batch.flags[row]! & (RowFlag.Transport | RowFlag.FragmentLater)) === RowFlag.Transport) {
    const { tcpFlags, tcpSeq, tcpAck, tcpWindow, payloadLength, wscale } = batch;
    trackTcp(
      words,
      at,
      0,
      tcpFlags[row]!,
      tcpSeq[row]!,
      tcpAck[row]!,
      tcpWindow[row]!,
      payloadLength[row]!,
      wscale[row]!,
      shard.settings.tcpLiberal,
    );
  } else if (protocol === 132) {
    words[at + E.status] = words[at + E.status]! | sctpNext(0, firstChunk(batch, row), 0);
  }
  touch(words, at, low, high, shard.timeouts[timeoutOf(protocol, words[at + E.status]!)]!);
  shard.counters.count('connectionsCreated');
  shard.admitted();
  if (inPort > 0xffff) throw new Error(`in-port ${inPort} got past the classifier`);
  return 0;
}

/**
 * The row's entry, empty but for open records: the one found (turned so that the row travels its original direction),
 * or a new one in the table. `status`: bits it begins with. −1: no room, −2: the endpoint's limit.
 */
export function takeEntry(batch: PacketBatch, shard: Shard, row: number, status: number): number {
  const { table, key } = shard;
  const { words } = table;
  const low = batch.timeNs[row * 2]!;
  const high = batch.timeNs[row * 2 + 1]!;
  let entry = shard.entry[row]!;
  if (entry >= 0) {
    if (batch.direction[row] === 1) table.reverse(entry);
    shard.removed(entry);
    const at = table.at(entry);
    const kept = Status.Used | Status.Record0 | Status.Record1 | Status.ListUnreplied | Status.ListClosing;
    words[at + E.status] = (words[at + E.status]! & kept) | status;
    if (batch.protocol[row] === 6) {
      words.fill(0, at + E.tcp, at + E.tcp + 2 * TCP_WORDS);
      words[at + E.scales] = 0;
    }
    table.dropPlans(entry);
  } else {
    const full = shard.makeRoom(batch.inPort[row]!, low, high);
    if (full !== 0) return full === 1 ? -1 : -2;
    key.refresh(batch, row);
    // A connection that begins with an ICMP request lies under the request's type (connection-key.ts).
    entry = table.insert(key.hash, batch.address, row * 8, key.ports, key.key, key.discriminator, status);
    if (entry < 0) return -1;
    shard.entry[row] = entry;
  }
  batch.direction[row] = 0;
  batch.connection[row] = entry + 1;
  shard.inserted(entry, batch.inPort[row]!);
  table.list(entry, 0);
  return entry;
}

/** Stores the decision for the row's direction. */
function plan(batch: PacketBatch, shard: Shard, row: number, evaluated: boolean): void {
  const { table, epochs } = shard;
  const { words } = table;
  const entry = shard.entry[row]!;
  if (entry < 0) return;
  const at = table.at(entry);
  const direction = batch.direction[row]!;
  const outPort = batch.outPort[row]!;
  if (direction === 1 && evaluated) {
    // A change was found out by a reply: the rules are the original direction's, whose route is decided on its next packet.
    const original = table.planAt(entry, 0);
    table.setPlan(
      entry,
      0,
      ((words[original + P.port]! & 0xffff0000) | (batch.inPort[row]! & 0xffff)) >>> 0,
      words[original + P.decision]!,
      batch.ingressRule[row]!,
      batch.egressRule[row]!,
      words[table.cold(entry) + C.origin]! & 0xffff,
    );
    words[at + E.status] = words[at + E.status]! & ~(Status.Plan0 | Status.Replay0);
    batch.ingressRule[row] = 0;
    batch.egressRule[row] = 0;
  } else if (direction === 0 && !evaluated) {
    const original = table.planAt(entry, 0);
    batch.ingressRule[row] = words[original + P.ingressRule]!;
    batch.egressRule[row] = words[original + P.egressRule]!;
  }
  if (direction === 0 && outPort === Port.Flood) {
    words[at + E.status] = (words[at + E.status]! | Status.Flood) & ~(Status.Plan0 | Status.Replay0);
    const { ingressRule, egressRule, inPort } = batch;
    table.setPlan(entry, 0, Port.Flood, Verdict.Forward, ingressRule[row]!, egressRule[row]!, inPort[row]!);
  } else if (direction === 1 && outPort === Port.Flood) return;
  else {
    const stale = direction === 0 && (words[table.planAt(entry, 0) + P.port]! & 0xffff) !== outPort;
    if (stale) words[at + E.status] = words[at + E.status]! & ~(Status.Plan1 | Status.Replay1);
    storePlan(table, entry, direction, Verdict.Forward, DropReason.None, Stage.Output, outPort, batch, row);
  }
  stampEpochs(table, epochs, entry);
}
