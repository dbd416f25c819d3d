/**
 * ConntrackState: finds the row's connection, tracks its state, and sets the conntrack bits. A row whose connection has
 * a plan that holds is finished here; the others go on, marked with what is to be decided.
 */
import { Ct, DropReason } from '../../batch/drop-reason.js';
import { Kind, type PacketBatch, RowFlag } from '../../batch/packet-batch.js';
import { connectionKey } from '../../conntrack/connection-key.js';
import { E, Status } from '../../conntrack/entry.js';
import { expired, touch } from '../../conntrack/flow-accounting.js';
import { applyPlan, ctOf, isFresh, planHolds } from '../../conntrack/plan.js';
import { timeoutOf } from '../../conntrack/protocol-timeout.js';
import { sctpNext } from '../../conntrack/sctp-state.js';
import { ACK, mayBegin, Side, sideState, SYN, Track, trackTcp } from '../../conntrack/tcp-state.js';
import { carriedConnection } from '../icmp-error.js';
import { resetAnswer } from '../answers.js';
import { transportChecksumHolds } from '../verify-checksum.js';
import { type Shard, Work } from '../shard.js';

export const name = 'ConntrackState';
export function process(batch: PacketBatch, shard: Shard): void {
  const { live, liveCount, flags, fault, ct } = batch;
  for (let i = 0; i < liveCount; i++) {
    const row = live[i]!;
    const flag = flags[row]!;
    if ((flag & RowFlag.Sound) === 0 || (flag & RowFlag.NeighbourDiscovery) !== 0) shard.work[row] = Work.Untracked;
    else if (fault[row] !== 0) {
      shard.work[row] = Work.Untracked | Work.Tracked;
      ct[row] = Ct.Invalid | Ct.Tracked;
    } else if (shard.settings.verifyChecksums && !transportChecksumHolds(batch, row)) invalid(batch, shard, row);
    else if ((flag & RowFlag.IcmpError) !== 0) related(batch, shard, row);
    else track(batch, shard, row);
  }
}

/** A packet of no valid connection: dropped; where the engine only meters, the bits tell. */
function invalid(batch: PacketBatch, shard: Shard, row: number): void {
  shard.work[row] = Work.Untracked | Work.Tracked;
  batch.ct[row] = Ct.Invalid | Ct.Tracked;
  if (!shard.metering) batch.dropReason[row] = DropReason.ConntrackInvalid;
}

/** An ICMP error is related to the connection whose packet it carries, or to none. */
function related(batch: PacketBatch, shard: Shard, row: number): void {
  if (carriedConnection(batch, row, shard.table) < 0) {
    invalid(batch, shard, row);
    return;
  }
  shard.work[row] = Work.Related | Work.Tracked;
  batch.ct[row] = Ct.Related | Ct.Tracked;
}

/** May a connection begin with this packet? Its first state is set when ConntrackCommit makes it. */
function begin(batch: PacketBatch, shard: Shard, row: number, reinit: number): void {
  const tcp = isTcp(batch, row);
  const way = shard.key.ways;
  if (way === 2 || (tcp && !mayBegin(batch.tcpFlags[row]!, shard.settings.tcpLoose))) {
    invalid(batch, shard, row);
    return;
  }
  shard.work[row] = Work.New | Work.Evaluate | Work.Tracked | reinit;
  batch.ct[row] = Ct.New | Ct.Tracked;
}

const isTcp = (batch: PacketBatch, row: number): boolean =>
  batch.protocol[row] === 6 && (batch.flags[row]! & (RowFlag.Transport | RowFlag.FragmentLater)) === RowFlag.Transport;

/** Type of an SCTP packet's first chunk, −1 where it is not there. */
export function firstChunk(batch: PacketBatch, row: number): number {
  const l4 = batch.l4Offset[row]!;
  if (l4 === 0 || (batch.flags[row]! & RowFlag.FragmentLater) !== 0) return -1;
  const header = batch.kind[row] === Kind.Ip6 ? 40 : 0;
  const end = Math.min(batch.length[row]!, batch.l3Offset[row]! + batch.ipLength[row]!);
  return l4 + 12 + 4 <= end && header >= 0 ? batch.data[batch.offset[row]! + l4 + 12]! : -1;
}

function track(batch: PacketBatch, shard: Shard, row: number): void {
  const { table, key } = shard;
  const { words } = table;
  connectionKey(batch, row, key);
  if (key.ways === 0) {
    invalid(batch, shard, row);
    return;
  }
  const found = table.find(key.hash, batch.address, row * 8, key.ports, key.key, key.discriminator, key.ways);
  const low = batch.timeNs[row * 2]!;
  const high = batch.timeNs[row * 2 + 1]!;
  const entry = found >> 1;
  const at = table.at(entry);
  const gone =
    found >= 0 && expired(words, at, low, high) && shard.accounting.freeIfDone(entry, low, high, shard.removed);
  if (found < 0 || gone) {
    begin(batch, shard, row, 0);
    return;
  }
  const direction = found & 1;
  shard.entry[row] = entry;
  batch.direction[row] = direction;
  batch.connection[row] = entry + 1;
  let status = words[at + E.status]!;
  const tcp = isTcp(batch, row);

  if ((status & Status.Denied) !== 0) {
    const anew = (status & Status.Cut) !== 0 && tcp && (batch.tcpFlags[row]! & (SYN | ACK)) === SYN;
    if (!anew && !expired(words, at, low, high) && planHolds(table, shard.epochs, entry, direction)) {
      touch(words, at, low, high, shard.timeouts[timeoutOf(batch.protocol[row]!, status)]!);
      shard.work[row] = Work.Existing | Work.Tracked;
      batch.ct[row] = Ct.New | Ct.Tracked;
      applyPlan(table, entry, direction, batch, row);
      if ((status & Status.Cut) !== 0 && shard.settings.existingConnections === 'reset') resetAnswer(batch, shard, row);
      return;
    }
    begin(batch, shard, row, Work.Reinit);
    return;
  }
  if (expired(words, at, low, high)) {
    begin(batch, shard, row, Work.Reinit);
    return;
  }

  let closes = 0;
  if (tcp && sideState(status, 0) !== Side.None) {
    const { tcpFlags, tcpSeq, tcpAck, tcpWindow, payloadLength, wscale } = batch;
    const result = trackTcp(
      words,
      at,
      direction,
      tcpFlags[row]!,
      tcpSeq[row]!,
      tcpAck[row]!,
      tcpWindow[row]!,
      payloadLength[row]!,
      wscale[row]!,
      shard.settings.tcpLiberal,
    );
    if (result === Track.Invalid) {
      invalid(batch, shard, row);
      return;
    }
    if (result === Track.Reopen) {
      begin(batch, shard, row, Work.Reinit);
      return;
    }
    if (result === Track.Closes) closes = Work.Closes;
    status = words[at + E.status]!;
    if ((status & Status.SeenReply) !== 0 || direction === 1) {
      if (
        (sideState(status, 0) >= Side.FinSent || sideState(status, 1) >= Side.FinSent) &&
        (status & Status.ListClosing) === 0
      ) {
        table.list(entry, 1);
        status = words[at + E.status]!;
      }
    }
  } else if (batch.protocol[row] === 132) {
    const state = sctpNext(status & 0xff, firstChunk(batch, row), direction);
    status = (status & ~0xff) | state;
  }
  if (direction === 1 && (status & Status.SeenReply) === 0) {
    words[at + E.status] = status;
    if ((status & Status.ListUnreplied) !== 0) table.unlist(entry);
    status = words[at + E.status]! | Status.SeenReply;
  } else if (direction === 0) status |= Status.Multiple;
  words[at + E.status] = status;
  touch(words, at, low, high, shard.timeouts[timeoutOf(batch.protocol[row]!, status)]!);

  shard.work[row] = Work.Existing | Work.Tracked | closes;
  batch.ct[row] = ctOf(status, direction);
  if (planHolds(table, shard.epochs, entry, direction) && applyPlan(table, entry, direction, batch, row)) return;
  const stale = !isFresh(table, shard.epochs, entry);
  const flood = direction === 0 && (status & Status.Flood) !== 0;
  if (flood || (stale && shard.settings.existingConnections !== 'keep'))
    shard.work[row] = shard.work[row]! | Work.Evaluate;
}
