/** JSON lines of flow records (`replay --flows`), from packed records in their order (export/record-order.ts). */
import { Verdict } from '../batch/drop-reason.js';
import { END_REASONS, R, RECORD_WORDS } from '../flow/flow-record.js';
import { asciiOctets, jsonOctets, type Output } from './output.js';
import { AddressText, type LineNames, putTime } from './verdict-lines.js';

const LINE_MAX_SIZE = 16_384;
const ICMP = 1,
  ICMP6 = 58;
const key = (name: string, quote = ''): Uint8Array => asciiOctets(`,"${name}":${quote}`);
const SRC = asciiOctets('{"src":"');
const DST = asciiOctets('","dst":"');
const PROTOCOL = asciiOctets('","protocol":');
const SRC_PORT = key('srcPort'),
  DST_PORT = key('dstPort'),
  TOS = key('tos'),
  IN_PORT = key('inPort'),
  OUT_PORT = key('outPort');
const PACKETS = key('packets'),
  OCTETS = key('octets'),
  TCP_FLAGS = key('tcpFlags'),
  START = key('start', '"');
const END = asciiOctets('","end":"');
const END_REASON = END_REASONS.map((name) => asciiOctets(`","endReason":"${name}"`));
const ICMP_TYPE = key('icmpType'),
  ICMP_CODE = key('icmpCode');
const NO_ICMP = asciiOctets(',"icmpType":null,"icmpCode":null');
const INGRESS = key('ingressPolicy'),
  EGRESS = key('egressPolicy');
const ACTIONS = { allow: 0, drop: 1, reject: 2, none: 3 };
const ACTION = ['"allow"', '"drop"', '"reject"', 'null'].map((text) => asciiOctets(`,"action":${text}}\n`));

export class FlowLines {
  private readonly addresses = new AddressText();
  private readonly policies: (Uint8Array | undefined)[] = [];

  constructor(
    private readonly output: Output,
    private readonly names: LineNames,
  ) {}

  records(words: Uint32Array): void {
    for (let at = 0; at < words.length; at += RECORD_WORDS) this.record(words, at);
  }

  private record(words: Uint32Array, at: number): void {
    const output = this.output;
    const protocol = words[at + R.protocol]!;
    const ports = words[at + R.ports]!;
    const interfaces = words[at + R.interfaces]!;
    const family = (words[at + R.verdict]! & 0xff) === 6 ? 6 : 4;
    const number = (name: Uint8Array, value: number): void => {
      output.put(name);
      output.putNumber(value);
    };
    output.reserve(LINE_MAX_SIZE);
    output.put(SRC);
    this.addresses.put(output, words, at + R.src, family);
    output.put(DST);
    this.addresses.put(output, words, at + R.dst, family);
    number(PROTOCOL, protocol & 0xff);
    number(SRC_PORT, ports & 0xffff);
    number(DST_PORT, ports >>> 16);
    number(TOS, (protocol >>> 8) & 0xff);
    number(IN_PORT, interfaces & 0xffff);
    number(OUT_PORT, interfaces >>> 16);
    output.put(PACKETS);
    putCounter(output, words[at + R.packets]!, words[at + R.packets + 1]!);
    output.put(OCTETS);
    putCounter(output, words[at + R.octets]!, words[at + R.octets + 1]!);
    number(TCP_FLAGS, (protocol >>> 16) & 0xff);
    output.put(START);
    putTime(output, words[at + R.start]!, words[at + R.start + 1]!);
    output.put(END);
    putTime(output, words[at + R.end]!, words[at + R.end + 1]!);
    output.put(END_REASON[protocol >>> 24]!);
    if ((protocol & 0xff) === ICMP || (protocol & 0xff) === ICMP6) {
      number(ICMP_TYPE, ports >>> 24);
      number(ICMP_CODE, (ports >>> 16) & 0xff);
    } else output.put(NO_ICMP);
    output.put(INGRESS);
    output.put(this.policy(words[at + R.ingressRule]!));
    output.put(EGRESS);
    output.put(this.policy(words[at + R.egressRule]!));
    output.put(ACTION[this.action(words, at)]!);
  }

  private policy(id: number): Uint8Array {
    return (this.policies[id] ??= this.policyName(id));
  }
  private policyName(id: number): Uint8Array {
    const rule = id === 0 ? null : this.names.rule(id);
    if (rule === null) return asciiOctets('null');
    return jsonOctets(rule.namespace === null ? rule.policy : `${rule.namespace}/${rule.policy}`);
  }

  /** The action of the rule that decided: a denying one where the packets were denied by a policy, else an allowing one. */
  private action(words: Uint32Array, at: number): number {
    const forwarded = ((words[at + R.verdict]! >>> 8) & 0xff) === Verdict.Forward;
    for (const id of [words[at + R.ingressRule]!, words[at + R.egressRule]!]) {
      const rule = id === 0 ? null : this.names.rule(id);
      if (rule !== null && (rule.action === 'allow') === forwarded) return ACTIONS[rule.action];
    }
    return ACTIONS.none;
  }
}

function putCounter(output: Output, low: number, high: number): void {
  if (high < 0x200000) output.putNumber(high * 0x100000000 + low);
  else output.putAscii(((BigInt(high) << 32n) | BigInt(low)).toString());
}
