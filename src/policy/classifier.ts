/**
 * Decisions: (endpoint, direction, peer address, protocol, port) → rule. Two address look-ups, one memoised program, one
 * binary search: the same cost for ten policies and ten thousand. A program is the rules that one class of peers may match
 * at one identity, as port intervals; it is built from bit sets when first asked for. Thread: owned by one worker.
 */
import { AddressMap } from '../flow/address-map.js';
import type { NetworkPolicyPort, Protocol } from '../objects/model.js';
import type { CompiledPolicy, CompiledRule, PolicySet } from './compile.js';

const PROTOCOL_INDEX: Readonly<Record<number, number>> = { 6: 0, 17: 1, 132: 2 };
const PROTOCOLS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP'];
const ANY_PROTOCOL = 3;

interface Program {
  /** By protocol, the rule that needs no port; [3]: of any other protocol. 0 = none. */
  portless: Int32Array;
  /** By protocol: ascending interval starts, and the rule from each on (0 = none). */
  starts: Uint32Array[];
  rules: Int32Array[];
}

/** Programs kept; past that they are made anew (more classes of peers than that have been seen at once). */
const PROGRAMS_MAX = 1_000_000;

export class Classifier {
  private readonly peers: AddressMap;
  private readonly programs = new Map<number, Program>();
  private readonly classes: number;
  private readonly identities: number;
  private readonly identityOfPort = new Int32Array(65536);

  constructor(private readonly compiled: CompiledPolicy) {
    this.peers = new AddressMap(compiled.peers);
    this.classes = compiled.classIdentity.length;
    this.identities = compiled.namedPorts.length;
    for (const [port, identity] of compiled.endpoints) this.identityOfPort[port] = identity;
  }

  /**
   * 0: no policy selects the endpoint in that direction; +rule: allowed by it; −rule: denied (the default deny's id).
   * direction: 0 ingress, 1 egress, as seen from the endpoint at `port`. dstPort: −1 where the packet has no ports.
   */
  decide(
    direction: 0 | 1,
    port: number,
    peer: Uint32Array,
    peerAt: number,
    _self: Uint32Array,
    _selfAt: number,
    family: 4 | 6,
    protocol: number,
    dstPort: number,
  ): number {
    const identity = this.identityOfPort[port]!;
    const set = this.compiled.sets[direction].get(identity);
    if (set === undefined) return 0;
    const found = this.peers.lookup(peer, peerAt, family);
    const cls = found === 0 ? 0 : found - 1;
    const key = (direction * this.identities + identity) * this.classes + cls;
    let program = this.programs.get(key);
    if (program === undefined) {
      if (this.programs.size >= PROGRAMS_MAX) this.programs.clear();
      program = this.build(direction, identity, set, cls);
      this.programs.set(key, program);
    }
    const index = PROTOCOL_INDEX[protocol] ?? ANY_PROTOCOL;
    let rule: number;
    if (index === ANY_PROTOCOL || dstPort < 0) rule = program.portless[index]!;
    else {
      const starts = program.starts[index]!;
      let low = 0;
      let high = starts.length - 1;
      while (low < high) {
        const middle = (low + high + 1) >>> 1;
        if (starts[middle]! <= dstPort) low = middle;
        else high = middle - 1;
      }
      rule = program.rules[index]![low]!;
    }
    return rule !== 0 ? rule : -set.defaultDeny;
  }

  private matchesPeer(rule: CompiledRule, cls: number): boolean {
    if (rule.anyPeer) return true;
    const identity = this.compiled.classIdentity[cls]!;
    if (identity !== 0) {
      for (const set of rule.identitySets) {
        if ((this.compiled.identitySets[set]![identity >>> 5]! & (1 << (identity & 31))) !== 0) return true;
      }
    }
    const held = this.compiled.classBlocks[cls]!;
    return held.length > 0 && rule.blocks.some((block) => held.includes(block));
  }

  private build(direction: 0 | 1, identity: number, set: PolicySet, cls: number): Program {
    // A named port is looked up on the destination pod: the endpoint itself for ingress, the peer for egress.
    const named = this.compiled.namedPorts[direction === 0 ? identity : this.compiled.classIdentity[cls]!]!;
    const portless = new Int32Array(4);
    const intervals: { low: number; high: number; rule: number }[][] = [[], [], []];
    for (const rule of set.rules) {
      if (!this.matchesPeer(rule, cls)) continue;
      if (rule.ports === null) {
        for (let p = 0; p < 4; p++) if (portless[p] === 0) portless[p] = rule.id;
        for (let p = 0; p < 3; p++) intervals[p]!.push({ low: 0, high: 65535, rule: rule.id });
        continue;
      }
      for (const port of rule.ports) {
        const p = PROTOCOLS.indexOf(port.protocol);
        if (port.port === undefined) {
          if (portless[p] === 0) portless[p] = rule.id;
          intervals[p]!.push({ low: 0, high: 65535, rule: rule.id });
        } else for (const range of rangesOf(port, named)) intervals[p]!.push({ ...range, rule: rule.id });
      }
    }
    const painted = intervals.map(paint);
    return { portless, starts: painted.map(({ starts }) => starts), rules: painted.map(({ rules }) => rules) };
  }
}

function rangesOf(
  port: NetworkPolicyPort,
  named: CompiledPolicy['namedPorts'][number],
): { low: number; high: number }[] {
  if (typeof port.port === 'number') return [{ low: port.port, high: port.endPort ?? port.port }];
  return named
    .filter(({ name, protocol }) => name === port.port && protocol === port.protocol)
    .map((found) => ({ low: found.port, high: found.port }));
}

/** Intervals in order of precedence → ascending starts with the first interval's rule that covers each. */
function paint(intervals: readonly { low: number; high: number; rule: number }[]): {
  starts: Uint32Array;
  rules: Int32Array;
} {
  const points = [...new Set([0, ...intervals.flatMap(({ low, high }) => [low, high + 1])])]
    .filter((point) => point <= 65535)
    .sort((a, b) => a - b);
  const index = new Map(points.map((point, i) => [point, i]));
  const rules = new Int32Array(points.length);
  // next[i]: the first segment from i on that is not painted yet.
  const next = Int32Array.from({ length: points.length + 1 }, (_, i) => i);
  const free = (i: number): number => {
    let root = i;
    while (next[root] !== root) root = next[root]!;
    for (let at = i; at !== root; ) {
      const then = next[at]!;
      next[at] = root;
      at = then;
    }
    return root;
  };
  for (const { low, high, rule } of intervals) {
    const end = high >= 65535 ? points.length : index.get(high + 1)!;
    for (let i = free(index.get(low)!); i < end; i = free(i)) {
      rules[i] = rule;
      next[i] = i + 1;
    }
  }
  return { starts: Uint32Array.from(points), rules };
}
