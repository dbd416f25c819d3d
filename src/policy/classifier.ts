/**
 * Decisions: (endpoint, direction, peer address, protocol, port) → rule. The endpoint has a policy set, the peer's address a
 * class; both lead to a program, the rules that may match as port intervals, made when first asked for and kept. So a
 * decision is one address look-up and one binary search, for ten policies and for ten thousand. Owned by one thread.
 */
import { AddressMap } from '../flow/address-map.js';
import type { NamedPort, NetworkPolicyPort, Protocol } from '../objects/model.js';
import { ANY_PEER, Direction, PORTS, type PolicyTables } from './compile.js';

const PROTOCOL_INDEX: Readonly<Record<number, number>> = { 6: 0, 17: 1, 132: 2 };
const PROTOCOLS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP'];
const ANY_PROTOCOL = 3;

/**
 * Words 0–3: by protocol, the rule that needs no port ([3]: of any other protocol), 0 = none. Words 4–7: where TCP's, UDP's
 * and SCTP's parts begin, and the end. A part: ascending starts of intervals, then the rule of each.
 */
type Program = Int32Array;
const PARTS = 4;
const HEADER = 8;

/** What a policy set's rules ask of a peer, turned round: from group and block to positions in the set's rules. */
interface PolicySet {
  defaultDeny: number;
  /** Position → rule. */
  rules: number[];
  anyPeer: number[];
  byGroup: Map<number, number[]>;
  bitGroups: number[];
  byBlock: Map<number, number[]>;
  /** Egress: some rule names a port, which means what the peer says. */
  namesPeerPorts: boolean;
  namedPorts: number;
  byClass: Map<number, Program>;
  /** By hash of the positions that matched: classes with the same share a program. */
  byPositions: Map<number, { positions: Int32Array; namedPorts: number; program: Program }[]>;
}

/** Classes kept over all sets; past that all are found anew. */
const KEPT_MAX = 1_000_000;

export class Classifier {
  private readonly peers: AddressMap;
  private readonly sets: (PolicySet | undefined)[];
  private kept = 0;
  private positions = new Int32Array(256);
  private readonly cut = new Set<number>();

  constructor(private readonly tables: PolicyTables) {
    this.peers = new AddressMap(tables.peers);
    this.sets = new Array<PolicySet | undefined>(tables.setNamedPorts.length).fill(undefined);
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
    const index = port < PORTS ? this.tables.endpointSets[direction * PORTS + port]! : 0;
    if (index === 0) return 0;
    const set = this.sets[index] ?? this.open(index, direction);
    const cls = this.peers.lookup(peer, peerAt, family);
    const program = set.byClass.get(cls) ?? this.find(set, cls);
    const part = PROTOCOL_INDEX[protocol] ?? ANY_PROTOCOL;
    let rule: number;
    if (part === ANY_PROTOCOL || dstPort < 0) rule = program[part]!;
    else {
      const first = program[PARTS + part]!;
      const count = (program[PARTS + part + 1]! - first) >>> 1;
      let low = 0;
      let high = count - 1;
      while (low < high) {
        const middle = (low + high + 1) >>> 1;
        if (program[first + middle]! <= dstPort) low = middle;
        else high = middle - 1;
      }
      rule = program[first + count + low]!;
    }
    return rule !== 0 ? rule : -set.defaultDeny;
  }

  private open(index: number, direction: 0 | 1): PolicySet {
    const { setSections, sectionRules, sectionDeny, rulePeers, rulePorts, portLists, groupBitsAt, setNamedPorts } =
      this.tables;
    const first = setSections.start[index]!;
    const set: PolicySet = {
      defaultDeny: sectionDeny[setSections.items[first]!]!,
      rules: [],
      anyPeer: [],
      byGroup: new Map(),
      bitGroups: [],
      byBlock: new Map(),
      namesPeerPorts: false,
      namedPorts: setNamedPorts[index]!,
      byClass: new Map(),
      byPositions: new Map(),
    };
    const note = (into: Map<number, number[]>, key: number, position: number) => {
      const list = into.get(key);
      if (list === undefined) into.set(key, [position]);
      else list.push(position);
    };
    for (let i = first; i < setSections.start[index + 1]!; i++) {
      const section = setSections.items[i]!;
      for (let rule = sectionRules[section]!; rule < sectionRules[section + 1]!; rule++) {
        const position = set.rules.push(rule) - 1;
        for (let p = rulePeers.start[rule]!; p < rulePeers.start[rule + 1]!; p++) {
          const peer = rulePeers.items[p]!;
          if (peer === ANY_PEER) set.anyPeer.push(position);
          else note((peer & 1) === 0 ? set.byGroup : set.byBlock, peer >>> 1, position);
        }
        if (
          direction === Direction.Egress &&
          portLists[rulePorts[rule]!]!.some(({ port }) => typeof port === 'string')
        ) {
          set.namesPeerPorts = true;
        }
      }
    }
    set.bitGroups = [...set.byGroup.keys()].filter((group) => groupBitsAt[group]! >= 0);
    this.sets[index] = set;
    return set;
  }

  /** The program of a class that the set has not met. */
  private find(set: PolicySet, cls: number): Program {
    const identity = this.tables.classIdentity[cls]!;
    let count = identity === 0 ? 0 : this.matchGroups(set, identity);
    if (set.byBlock.size > 0) count = this.matchBlocks(set, this.tables.classRegion[cls]!, count);
    const positions = this.positions.subarray(0, count).sort();
    const namedPorts = set.namesPeerPorts ? this.tables.identityNamedPorts[identity]! : set.namedPorts;

    let hash = namedPorts;
    for (let i = 0; i < count; i++) hash = (Math.imul(hash ^ positions[i]!, 0x9e3779b1) + i) | 0;
    let bucket = set.byPositions.get(hash);
    if (bucket === undefined) {
      bucket = [];
      set.byPositions.set(hash, bucket);
    }
    let known = bucket.find(
      (entry) =>
        entry.namedPorts === namedPorts &&
        entry.positions.length === count &&
        entry.positions.every((position, i) => position === positions[i]),
    );
    if (known === undefined) {
      known = {
        positions: positions.slice(),
        namedPorts,
        program: this.build(set, positions, this.tables.namedPorts[namedPorts]!),
      };
      bucket.push(known);
    }
    if (++this.kept > KEPT_MAX) this.forget();
    set.byClass.set(cls, known.program);
    return known.program;
  }
  private forget(): void {
    for (const set of this.sets) {
      set?.byClass.clear();
      set?.byPositions.clear();
    }
    this.kept = 1;
  }

  private matchGroups(set: PolicySet, identity: number): number {
    const { identityGroups, groupBitsAt, groupBits } = this.tables;
    const { start, items } = identityGroups;
    const first = start[identity]!;
    const end = start[identity + 1]!;
    let count = 0;
    for (const group of set.bitGroups) {
      if ((groupBits[groupBitsAt[group]! + (identity >>> 5)]! & (1 << (identity & 31))) !== 0) {
        count = this.note(set.byGroup.get(group)!, count);
      }
    }
    if (end - first <= set.byGroup.size) {
      for (let i = first; i < end; i++) {
        const found = set.byGroup.get(items[i]!);
        if (found !== undefined) count = this.note(found, count);
      }
      return count;
    }
    for (const [group, found] of set.byGroup) {
      let low = first;
      let high = end;
      while (low < high) {
        const middle = (low + high) >>> 1;
        if (items[middle]! < group) low = middle + 1;
        else high = middle;
      }
      if (low < end && items[low] === group) count = this.note(found, count);
    }
    return count;
  }

  /** Blocks that hold the region: those that begin at it or around it, and are not cut at it or around it. */
  private matchBlocks(set: PolicySet, region: number, before: number): number {
    const { regionParent, regionBegins, regionCuts } = this.tables;
    let count = before;
    this.cut.clear();
    for (let at = region; at !== 0; at = regionParent[at]!) {
      for (let i = regionCuts.start[at]!; i < regionCuts.start[at + 1]!; i++) this.cut.add(regionCuts.items[i]!);
      for (let i = regionBegins.start[at]!; i < regionBegins.start[at + 1]!; i++) {
        const block = regionBegins.items[i]!;
        const found = set.byBlock.get(block);
        // An except lies within its block, so that it was met before.
        if (found !== undefined && !this.cut.has(block)) count = this.note(found, count);
      }
    }
    return count;
  }
  private note(positions: readonly number[], count: number): number {
    if (count + positions.length > this.positions.length) {
      const larger = new Int32Array(2 * (count + positions.length));
      larger.set(this.positions);
      this.positions = larger;
    }
    this.positions.set(positions, count);
    return count + positions.length;
  }

  /** `matched` and the rules for any peer, both in order, as one program. */
  private build(set: PolicySet, matched: Int32Array, named: readonly NamedPort[]): Program {
    const { ruleId, rulePorts, portLists } = this.tables;
    const portless = [0, 0, 0, 0];
    const intervals: Interval[][] = [[], [], []];
    let m = 0;
    let a = 0;
    let last = -1;
    while (m < matched.length || a < set.anyPeer.length) {
      const position =
        a >= set.anyPeer.length || (m < matched.length && matched[m]! <= set.anyPeer[a]!)
          ? matched[m++]!
          : set.anyPeer[a++]!;
      if (position === last) continue; // two peers of one rule
      last = position;
      const rule = set.rules[position]!;
      const id = ruleId[rule]!;
      if (rulePorts[rule] === 0) {
        for (let p = 0; p < 4; p++) portless[p] ||= id;
        for (const list of intervals) list.push({ low: 0, high: 65535, rule: id });
        break; // it takes all that is left
      }
      for (const port of portLists[rulePorts[rule]!]!) {
        const p = PROTOCOLS.indexOf(port.protocol);
        if (port.port === undefined) {
          portless[p] ||= id;
          intervals[p]!.push({ low: 0, high: 65535, rule: id });
        } else for (const range of rangesOf(port, named)) intervals[p]!.push({ ...range, rule: id });
      }
    }
    const parts = intervals.map(paint);
    const program = new Int32Array(HEADER + parts.reduce((sum, { starts }) => sum + 2 * starts.length, 0));
    program.set(portless);
    let at = HEADER;
    parts.forEach(({ starts, rules }, p) => {
      program[PARTS + p] = at;
      program.set(starts, at);
      program.set(rules, at + starts.length);
      at += 2 * starts.length;
    });
    program[PARTS + PROTOCOLS.length] = at;
    return program;
  }
}

interface Interval {
  low: number;
  high: number;
  rule: number;
}

function rangesOf(port: NetworkPolicyPort, named: readonly NamedPort[]): { low: number; high: number }[] {
  if (typeof port.port === 'number') return [{ low: port.port, high: port.endPort ?? port.port }];
  return named
    .filter(({ name, protocol }) => name === port.port && protocol === port.protocol)
    .map((found) => ({ low: found.port, high: found.port }));
}

/** Intervals in order of precedence → ascending starts with the first interval's rule that covers each. */
function paint(intervals: readonly Interval[]): { starts: number[]; rules: Int32Array } {
  const starts = [...new Set([0, ...intervals.flatMap(({ low, high }) => [low, high + 1])])]
    .filter((point) => point <= 65535)
    .sort((a, b) => a - b);
  const index = new Map(starts.map((point, i) => [point, i]));
  const rules = new Int32Array(starts.length);
  // next[i]: the first segment from i on that is not painted yet.
  const next = Int32Array.from({ length: starts.length + 1 }, (_, i) => i);
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
    const end = high >= 65535 ? starts.length : index.get(high + 1)!;
    for (let i = free(index.get(low)!); i < end; i = free(i)) {
      rules[i] = rule;
      next[i] = i + 1;
    }
  }
  return { starts, rules };
}
