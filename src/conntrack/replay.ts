/**
 * The fast path: replays the plans of established connections, one call for many rows. Reference of native/replay.cc.
 * A row is finished here when its connection is there and live, its plan holds, its flow record is open and stays so, and
 * tracking its protocol is no more than moving windows on and the states that acknowledgements and FINs change. All other rows are listed in `slow`, in order, and so is
 * every later row whose hash falls in the same turn class (pipeline.ts), so that a connection's rows keep their order.
 */
import { Ct } from '../batch/drop-reason.js';
import { Kind, type PacketBatch, Rewrite, RowFlag } from '../batch/packet-batch.js';
import { add64, counterIndex, RULE_COUNTERS, type SharedCounters } from '../metrics/shared-counters.js';
import { C, D, DIRECTION_WORDS, E, scaleOf, Status, T, TCP_WORDS } from './entry.js';
import type { RecordsRing } from '../flow/records-ring.js';
import { elapsed, expired, touch } from './flow-accounting.js';
import { P } from './plan-table.js';
import { type ConnectionTable, tick32 } from './table.js';
import { ACK, FIN, MAX_ACK_WINDOW, RST, Side, sideState, SYN, tcpTimeout } from './tcp-state.js';
import { Timeout } from './timeouts.js';

/** What replay needs of a shard; native code gets the same arrays, and what the native judging (native/judge.h) needs besides. */
export interface ReplayContext {
  table: ConnectionTable;
  epochs: Uint32Array;
  /** ns, by Timeout.*. */
  timeouts: Float64Array;
  /** ns: idle, active. */
  recordTimeouts: Float64Array;
  /** One octet a turn class; a length that is a power of two. */
  classes: Uint8Array;
  /** Where rows that are finished here are counted: verdicts, drops, rules. */
  counters: SharedCounters;
  /** Entries by in-port, and totals, of all shards (pipeline/shard.ts), and which shard's they count in. */
  endpoints: Int32Array;
  totals: Int32Array;
  shard: number;
  records: RecordsRing;
  /** Words 2 and 3: the clock of native judging, ns. */
  control: Uint32Array;
  limits: {
    max: number;
    maxPerEndpoint: number;
    tcpLoose: boolean;
    tcpLiberal: boolean;
    replay: boolean;
  };
}

const TCP = 6,
  UDP = 17;
const ESTABLISHED_BOTH = Side.Established | (Side.Established << 4);

/** Returns how many rows were left in `slow`. */
export function replayRows(
  context: ReplayContext,
  batch: PacketBatch,
  rows: Int32Array,
  count: number,
  slow: Int32Array,
): number {
  const { classes } = context;
  classes.fill(0);
  let left = 0;
  for (let i = 0; i < count; i++) {
    const row = rows[i]!;
    const cls = batch.hash[row]! & (classes.length - 1);
    if (classes[cls] !== 0 || !replayRow(context, batch, row)) {
      if ((batch.flags[row]! & RowFlag.Sound) !== 0) classes[cls] = 1;
      slow[left++] = row;
    }
  }
  return left;
}

function replayRow(context: ReplayContext, batch: PacketBatch, row: number): boolean {
  const { table, timeouts } = context;
  const { words } = table;
  const plain = RowFlag.Sound | RowFlag.Transport;
  if (batch.flags[row] !== plain || batch.fault[row] !== 0) return false;
  const protocol = batch.protocol[row]!;
  if (protocol !== TCP && protocol !== UDP) return false;
  const ports = (batch.srcPort[row]! | (batch.dstPort[row]! << 16)) >>> 0;
  const key = (protocol | ((batch.kind[row] === Kind.Ip6 ? 6 : 4) << 8) | (batch.vlan[row]! << 16)) >>> 0;
  const found = table.find(batch.hash[row]!, batch.address, row * 8, ports, key, 0, 3);
  if (found < 0) return false;
  const entry = found >> 1;
  const direction = found & 1;
  const at = table.at(entry);
  const d = at + E.direction + direction * DIRECTION_WORDS;
  const low = batch.timeNs[row * 2]!;
  const high = batch.timeNs[row * 2 + 1]!;
  const status = words[at + E.status]!;
  if ((status & (direction === 0 ? Status.Replay0 : Status.Replay1)) === 0) return false;
  if ((status & (Status.Cut | Status.Flood | Status.Closed)) !== 0) return false;
  const plan = table.plans.at(words[d + D.plan]!);
  const basis = words[plan + P.basis]!;
  if (words[at + E.epochs] !== (context.epochs[basis & 0xffff]! + context.epochs[basis >>> 16]!) >>> 0) return false;
  if ((words[plan + P.interfaces]! & 0xffff) !== batch.inPort[row]) return false;
  if (expired(words, at, low, high)) return false;

  // The record must go on as it is.
  if (elapsed(words, d + D.last, low, high) >= context.recordTimeouts[0]!) return false;
  if (((tick32(low, high) - words[at + E.activeDue]!) | 0) >= 0) {
    const first = table.cold(entry) + C.first + direction * 2;
    if (elapsed(words, first, low, high) >= context.recordTimeouts[1]!) return false;
  }
  const excess = batch.frameOctets[row]! - batch.ipLength[row]!;
  if (words[d + D.packets] === 0xffffffff || words[d + D.excess]! + excess > 0xffffffff) return false;
  const decision = words[plan + P.decision]!;
  const verdict = decision & 0xff;
  const rewrite = decision >>> 24;
  if ((rewrite & Rewrite.DecrementTtl) !== 0 && batch.ttl[row]! <= 1) return false;

  let timeout: number;
  let ct: number;
  if ((status & Status.Denied) !== 0) {
    timeout = protocol === TCP ? Timeout.tcpSynSent : Timeout.udpFirst;
    ct = Ct.Tracked | Ct.New;
  } else {
    if (protocol === TCP) {
      if ((batch.tcpFlags[row]! & (SYN | RST | ACK)) !== ACK || (status & Status.SeenReply) === 0) return false;
      const mine = sideState(status, direction);
      const peer = sideState(status, 1 - direction);
      // What may close the connection is for the stages: its records end then.
      if (mine === Side.None || peer === Side.None || (mine >= Side.FinSent && peer >= Side.FinSent)) return false;
      if (!moveWindow(words, at, direction, batch, row)) return false;
      if ((status & 0xff) !== ESTABLISHED_BOTH || (batch.tcpFlags[row]! & FIN) !== 0) {
        advance(table, entry, direction, mine, peer, batch, row);
      }
      timeout = tcpTimeout(words[at + E.status]!);
    } else {
      const replied = (status & Status.SeenReply) !== 0;
      if (!replied && direction === 1) return false;
      if (direction === 0) words[at + E.status] = status | Status.Multiple;
      timeout = replied ? Timeout.udpMultiple : Timeout.udpSingle;
    }
    ct = Ct.Tracked | ((status & Status.SeenReply) !== 0 ? Ct.Established : Ct.New) | (direction === 1 ? Ct.Reply : 0);
  }
  touch(words, at, low, high, timeouts[timeout]!);

  words[d + D.packets] = words[d + D.packets]! + 1;
  words[d + D.excess] = words[d + D.excess]! + excess;
  add64(words, d + D.octets, batch.ipLength[row]!);
  words[d + D.last] = low;
  words[d + D.last + 1] = high;
  if (protocol === TCP) words[d + D.marks] = words[d + D.marks]! | (batch.tcpFlags[row]! << 8);

  const stage = (decision >>> 16) & 0xff;
  const reason = (decision >>> 8) & 0xff;
  batch.verdict[row] = verdict;
  batch.dropReason[row] = reason;
  batch.stage[row] = stage;
  batch.rewrite[row] = rewrite;
  batch.tunnel[row] = words[plan + P.port]! >>> 16;
  batch.outPort[row] = words[plan + P.interfaces]! >>> 16;
  batch.ct[row] = ct;
  batch.direction[row] = direction;
  batch.connection[row] = entry + 1;
  batch.ingressRule[row] = words[plan + P.ingressRule]!;
  batch.egressRule[row] = words[plan + P.egressRule]!;
  batch.rule[row] = words[plan + P.rule]!;

  const { counters } = context;
  const octets = batch.frameOctets[row]!;
  counters.add(counterIndex.packets(verdict));
  counters.add(counterIndex.octets(verdict), octets);
  if (reason !== 0) counters.add(counterIndex.drop(stage, reason));
  for (const rule of [words[plan + P.ingressRule]!, words[plan + P.egressRule]!]) {
    if (rule === 0) continue;
    add64(counters.rules, rule * RULE_COUNTERS.length * 2, 1);
    add64(counters.rules, rule * RULE_COUNTERS.length * 2 + 2, octets);
  }
  return true;
}

/** The common case of tcp-state.ts: a segment inside both windows moves them on; anything else is false. */
function moveWindow(words: Uint32Array, at: number, side: number, batch: PacketBatch, row: number): boolean {
  const s = at + E.tcp + side * TCP_WORDS;
  const r = at + E.tcp + (1 - side) * TCP_WORDS;
  const seq = batch.tcpSeq[row]!;
  const ack = batch.tcpAck[row]!;
  const data = (seq + batch.payloadLength[row]!) >>> 0;
  const end = (batch.tcpFlags[row]! & FIN) !== 0 ? (data + 1) >>> 0 : data;
  const peerWindow = words[r + T.maxWindow]!;
  const myWindow = words[s + T.maxWindow]!;
  const myEnd = words[s + T.end]!;
  const peerEnd = words[r + T.end]!;
  if (peerWindow === 0) return false;
  if (((end - words[s + T.maxEnd]!) | 0) > 0) return false;
  if (((data - (myEnd - peerWindow - 1)) | 0) <= 0) return false;
  if (((ack - peerEnd) | 0) > 0) return false;
  if (((ack - (peerEnd - Math.max(myWindow, MAX_ACK_WINDOW))) | 0) < 0) return false;
  const scaled = batch.tcpWindow[row]! * 2 ** (scaleOf(words, at, side) & 0xff);
  if (scaled > myWindow) words[s + T.maxWindow] = scaled;
  if (((end - myEnd) | 0) > 0) words[s + T.end] = end;
  if (((words[s + T.end]! - words[s + T.maxEnd]!) | 0) > 0) words[s + T.maxEnd] = words[s + T.end]!;
  const allowed = (ack + Math.max(scaled, 1)) >>> 0;
  if (((allowed - words[r + T.maxEnd]!) | 0) > 0) words[r + T.maxEnd] = allowed;
  return true;
}

/** The state changes that an acknowledging segment without SYN or RST makes (tcp-state.ts); a FIN lists the entry as closing. */
function advance(
  table: ConnectionTable,
  entry: number,
  side: number,
  mine: number,
  peer: number,
  batch: PacketBatch,
  row: number,
): void {
  const { words } = table;
  const at = table.at(entry);
  const peerEnd = words[at + E.tcp + (1 - side) * TCP_WORDS + T.end]!;
  let mineNext = mine;
  let peerNext = peer;
  if ((batch.tcpFlags[row]! & FIN) !== 0 && mine < Side.FinSent) mineNext = Side.FinSent;
  if (peer === Side.SynSent) peerNext = Side.Established;
  else if (peer === Side.FinSent && ((batch.tcpAck[row]! - peerEnd) | 0) >= 0) peerNext = Side.FinAcked;
  const states = side === 0 ? mineNext | (peerNext << 4) : peerNext | (mineNext << 4);
  words[at + E.status] = (words[at + E.status]! & ~0xff) | states;
  if ((mineNext >= Side.FinSent || peerNext >= Side.FinSent) && (words[at + E.status]! & Status.ListClosing) === 0) {
    table.list(entry, 1);
  }
}
