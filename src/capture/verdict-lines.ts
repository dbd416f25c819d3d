/**
 * JSON lines of verdicts (`replay --verdicts`), one per packet. What repeats (ports, verdict with reason, stage and ct,
 * policies) is put together once and kept as octets.
 */
import { CT_BITS, DROP_REASONS, Port, STAGES, Stage, Verdict, VERDICTS } from '../batch/drop-reason.js';
import { Kind, type PacketBatch, RowFlag } from '../batch/packet-batch.js';
import type { RuleInfo } from '../engine/engine-view.js';
import { formatAddress } from '../flow/ip-address.js';
import { asciiOctets, jsonOctets, type Output } from './output.js';
import type { CaptureRows, EarlyDrop } from './rows.js';
import { rest, secondsOf } from './time-words.js';

/** Octets that a line may take: names of Kubernetes have at most 253, and there are few of them. */
const LINE_MAX_SIZE = 16_384;
/** Texts of IPv6 addresses kept. */
const ADDRESSES_MAX = 65_536;

const PACKET = asciiOctets('{"packet":');
const TIME = asciiOctets(',"time":"');
const AFTER_TIME = asciiOctets('",');
const FLOW = asciiOctets(',"flow":{"src":"');
const DESTINATION = asciiOctets('","dst":"');
const PROTOCOL = asciiOctets('","protocol":');
const SOURCE_PORT = asciiOctets(',"srcPort":');
const DESTINATION_PORT = asciiOctets(',"dstPort":');
const FLOW_END = asciiOctets('}}\n');
const NO_FLOW = asciiOctets(',"flow":null}\n');

/** Names that lines need. */
export interface LineNames {
  portName(port: number): string | null;
  rule(id: number): RuleInfo | null;
}

/** Seconds with nine decimals. */
export function putTime(output: Output, low: number, high: number): void {
  output.putNumber(secondsOf(low, high));
  output.octets[output.at++] = 46;
  output.putPadded(rest.ns, 9);
}

export class AddressText {
  private readonly known = new Map<string, Uint8Array>();
  put(output: Output, words: Uint32Array, at: number, family: 4 | 6): void {
    if (family === 4) {
      const word = words[at]!;
      output.putNumber(word >>> 24);
      output.octets[output.at++] = 46;
      output.putNumber((word >>> 16) & 0xff);
      output.octets[output.at++] = 46;
      output.putNumber((word >>> 8) & 0xff);
      output.octets[output.at++] = 46;
      output.putNumber(word & 0xff);
      return;
    }
    const key = `${words[at]},${words[at + 1]},${words[at + 2]},${words[at + 3]}`;
    let text = this.known.get(key);
    if (text === undefined) {
      text = asciiOctets(formatAddress(words, at, 6));
      if (this.known.size >= ADDRESSES_MAX) this.known.clear();
      this.known.set(key, text);
    }
    output.put(text);
  }
}

export class VerdictLines {
  private readonly inPorts: (Uint8Array | undefined)[] = [];
  private readonly outPorts: (Uint8Array | undefined)[] = [];
  private readonly outcomes = new Map<number, Uint8Array>();
  private readonly policies: (Uint8Array | undefined)[] = [];
  private readonly addresses = new AddressText();

  constructor(
    private readonly output: Output,
    private readonly names: LineNames,
  ) {}

  /** All of a judged batch, early drops in their places. `earlyInPort`: the in-port of what no engine saw. */
  batch(batch: PacketBatch, rows: CaptureRows, earlyInPort: (drop: EarlyDrop) => number): void {
    const { early, ownTime } = rows;
    let packet = rows.firstPacket;
    let next = 0;
    for (let row = 0; row <= batch.count; row++) {
      for (; next < early.length && early[next]!.beforeRow === row; next++)
        this.early(packet++, early[next]!, earlyInPort(early[next]!));
      if (row === batch.count) return;
      const verdict = batch.verdict[row]!;
      this.head(packet++, ownTime[row * 2]!, ownTime[row * 2 + 1]!, batch.inPort[row]!);
      const outPort = outPortOf(verdict, batch.outPort[row]!);
      this.output.put((this.outPorts[outPort] ??= this.outPortPiece(outPort)));
      this.output.put(this.outcome(verdict, batch.dropReason[row]!, batch.stage[row]!, batch.ct[row]!));
      const rule = batch.rule[row]!;
      this.output.put((this.policies[rule] ??= this.policyPiece(rule)));
      if ((batch.flags[row]! & RowFlag.Sound) === 0) this.output.put(NO_FLOW);
      else {
        const family = batch.kind[row] === Kind.Ip6 ? 6 : 4;
        this.flow(batch.address, row * 8, family, batch.protocol[row]!, batch.srcPort[row]!, batch.dstPort[row]!);
      }
    }
  }

  private early(packet: number, drop: EarlyDrop, inPort: number): void {
    this.head(packet, drop.timeLow, drop.timeHigh, inPort);
    this.output.put((this.outPorts[Port.Dropped] ??= this.outPortPiece(Port.Dropped)));
    this.output.put(this.outcome(Verdict.Drop, drop.reason, earlyStage(drop), 0));
    this.output.put((this.policies[0] ??= this.policyPiece(0)));
    const { flow } = drop;
    if (flow === null) this.output.put(NO_FLOW);
    else this.flow(flow.address, 0, flow.family, flow.protocol, flow.srcPort, flow.dstPort);
  }

  private head(packet: number, timeLow: number, timeHigh: number, inPort: number): void {
    const { output } = this;
    output.reserve(LINE_MAX_SIZE);
    output.put(PACKET);
    output.putNumber(packet);
    output.put(TIME);
    putTime(output, timeLow, timeHigh);
    output.put(AFTER_TIME);
    output.put((this.inPorts[inPort] ??= this.inPortPiece(inPort)));
  }

  private flow(
    words: Uint32Array,
    at: number,
    family: 4 | 6,
    protocol: number,
    srcPort: number,
    dstPort: number,
  ): void {
    const { output } = this;
    output.put(FLOW);
    this.addresses.put(output, words, at, family);
    output.put(DESTINATION);
    this.addresses.put(output, words, at + 4, family);
    output.put(PROTOCOL);
    output.putNumber(protocol);
    output.put(SOURCE_PORT);
    output.putNumber(srcPort);
    output.put(DESTINATION_PORT);
    output.putNumber(dstPort);
    output.put(FLOW_END);
  }

  private inPortPiece(port: number): Uint8Array {
    return jsonMembers({ inPort: port, inPortName: this.names.portName(port) });
  }
  private outPortPiece(port: number): Uint8Array {
    const name = port >= Port.Dropped ? null : this.names.portName(port);
    return asciiOctets(`,${String.fromCharCode(...jsonMembers({ outPort: port, outPortName: name }))}`);
  }
  private outcome(verdict: number, reason: number, stage: number, ct: number): Uint8Array {
    const key = verdict | (reason << 3) | (stage << 11) | (ct << 16);
    let piece = this.outcomes.get(key);
    if (piece === undefined) {
      const members = {
        verdict: VERDICTS[verdict],
        reason: verdict === Verdict.Forward || reason === 0 ? null : DROP_REASONS[reason],
        stage: STAGES[stage],
        ct: CT_BITS.filter((_, bit) => (ct & (1 << bit)) !== 0),
      };
      piece = asciiOctets(`,${String.fromCharCode(...jsonMembers(members))},"policy":`);
      this.outcomes.set(key, piece);
    }
    return piece;
  }
  private policyPiece(id: number): Uint8Array {
    const rule = id === 0 ? null : this.names.rule(id);
    if (rule === null) return asciiOctets('null');
    const { kind, namespace, policy, direction, action } = rule;
    return jsonOctets({ kind, namespace, name: policy, rule: rule.rule, direction, action });
  }
}

/** A JSON object's members without its braces. */
const jsonMembers = (members: object): Uint8Array => jsonOctets(members).slice(1, -1);

/** Dropped and rejected packets have out-port 65533, consumed ones 65534. */
export const outPortOf = (verdict: number, outPort: number): number =>
  verdict === Verdict.Forward ? outPort : verdict === Verdict.Consume ? Port.Local : Port.Dropped;

/** A too long frame fails where frames are parsed, a malformed carrier where the Classifier would have opened it. */
export const earlyStage = (drop: EarlyDrop): number =>
  DROP_REASONS[drop.reason] === 'frame-too-long' ? Stage.Parse : Stage.Classifier;
