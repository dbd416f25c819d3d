/**
 * Decisions: (endpoint, direction, peer address, protocol, port) → rule. The endpoint has a policy set, the peer's address an
 * identity and a region; they lead to a program, the rules that may match as port intervals, made when first asked for and
 * kept. So a decision is a few look-ups and one binary search, for ten policies and for ten thousand. Owned by one thread.
 * native/policy.h reads the same memory and says the same, but for what nobody has asked yet: that is made here.
 */
import { AddressMap } from '../flow/address-map.js';
import { PolicyMemory, PROGRAM } from './memory.js';
import {
  ANY_PORT,
  ENDPOINT,
  EndpointFlag,
  endpointAt,
  type DirectionCode,
  IDENTITY,
  indexOf,
  NAMED_PORT,
  type PolicyTables,
  REGION,
  SET,
  SetFlag,
} from './tables.js';

/** Protocol number → part of a program; 3: none of those that have ports. */
const partOf = (protocol: number): number => (protocol === 6 ? 0 : protocol === 17 ? 1 : protocol === 132 ? 2 : 3);
const ANY_PROTOCOL = 3;

/** `decideMemoised`: no program is kept for the question yet. */
export const NOT_MEMOISED = -0x80000000;

/** What the native decision reads. The first three change with each swap, so take it anew for each call. */
export interface PolicyContext {
  hosts: Uint32Array;
  regions: Uint32Array;
  endpoints: Uint32Array;
  memo: Uint32Array;
  programs: Int32Array;
}

export class Classifier {
  context!: PolicyContext;
  private tables!: PolicyTables;
  private hosts!: AddressMap;
  private regions!: AddressMap;
  private readonly memory = new PolicyMemory();
  private positions = new Int32Array(256);
  /** What the last question came to: `find` goes on from there. */
  private identity = 0;
  private region = 0;

  constructor(tables: PolicyTables) {
    this.swap(tables);
  }

  /** Newer tables. What was remembered stays, unless their ids have other meanings. */
  swap(tables: PolicyTables): void {
    if (this.tables !== undefined && this.tables.base !== tables.base) this.memory.forget();
    this.tables = tables;
    this.hosts = new AddressMap(tables.hosts);
    this.regions = new AddressMap(tables.regions);
    const { hosts, regions, endpoints } = tables;
    this.context = { hosts, regions, endpoints, memo: this.memory.memo, programs: this.memory.programs };
  }

  /**
   * 0: no policy selects the endpoint in that direction; +rule: allowed by it; −rule: denied (the default deny's id).
   * direction: 0 ingress, 1 egress, as seen from the endpoint at `port`. dstPort: −1 where the packet has no ports.
   */
  decide(
    direction: DirectionCode,
    port: number,
    peer: Uint32Array,
    peerAt: number,
    _self: Uint32Array,
    _selfAt: number,
    family: 4 | 6,
    protocol: number,
    dstPort: number,
  ): number {
    const { endpoints } = this.tables;
    const endpoint = endpointAt(port, direction);
    const set = endpoints[endpoint + ENDPOINT.set] ?? 0;
    if (set === 0) return 0;
    const setId = endpoints[endpoint + ENDPOINT.setId]!;
    const program = this.recall(endpoint, setId, peer, peerAt, family) || this.find(set, setId);
    return this.run(program, protocol, dstPort) || -endpoints[endpoint + ENDPOINT.defaultDeny]!;
  }
  /** The reference of the native decision: what `decide` says where the program is kept already, else NOT_MEMOISED. */
  decideMemoised(
    direction: DirectionCode,
    port: number,
    peer: Uint32Array,
    peerAt: number,
    family: 4 | 6,
    protocol: number,
    dstPort: number,
  ): number {
    const { endpoints } = this.tables;
    const endpoint = endpointAt(port, direction);
    if ((endpoints[endpoint + ENDPOINT.set] ?? 0) === 0) return 0;
    const program = this.recall(endpoint, endpoints[endpoint + ENDPOINT.setId]!, peer, peerAt, family);
    if (program === 0) return NOT_MEMOISED;
    return this.run(program, protocol, dstPort) || -endpoints[endpoint + ENDPOINT.defaultDeny]!;
  }

  private recall(endpoint: number, setId: number, peer: Uint32Array, peerAt: number, family: 4 | 6): number {
    this.identity = this.hosts.lookup(peer, peerAt, family);
    const usesBlocks = (this.tables.endpoints[endpoint + ENDPOINT.flags]! & EndpointFlag.Blocks) !== 0;
    this.region = usesBlocks ? this.regions.lookup(peer, peerAt, family) : 0;
    return this.memory.lookup(setId, this.identity, this.region);
  }
  private run(program: number, protocol: number, dstPort: number): number {
    const { programs } = this.memory;
    const part = partOf(protocol);
    if (part === ANY_PROTOCOL || dstPort < 0) return programs[program + PROGRAM.portless + part]!;
    const first = program + programs[program + PROGRAM.parts + part]!;
    const count = (program + programs[program + PROGRAM.parts + part + 1]! - first) >>> 1;
    let low = 0;
    let high = count - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (programs[first + middle]! <= dstPort) low = middle;
      else high = middle - 1;
    }
    return programs[first + count + low]!;
  }

  /** The program of a set for the identity and region at hand. */
  private find(set: number, setId: number): number {
    const { arena, identities } = this.tables;
    const { memory, identity, region } = this;
    const record = identity === 0 ? 0 : identities[indexOf(identity)]!;
    let count = record === 0 ? 0 : this.matchGroups(set, record, indexOf(identity));
    if (region !== 0) count = this.matchBlocks(set, region, count);
    const { positions } = this;
    sortFirst(positions, count);
    const named =
      (arena[set + SET.flags]! & SetFlag.NamesPeerPorts) === 0
        ? arena[set + SET.namedPorts]!
        : record === 0
          ? 0
          : arena[record + IDENTITY.namedPorts]!;

    let hash = Math.imul(setId, 0x85ebca6b) ^ named;
    for (let i = 0; i < count; i++) hash = (Math.imul(hash ^ positions[i]!, 0x9e3779b1) + i) | 0;
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
    hash ^= hash >>> 13;
    const program =
      memory.made(hash, setId, named, positions, count) ||
      memory.keep(hash, setId, named, positions, count, this.build(set, count, named));
    memory.remember(setId, identity, region, program);
    return program;
  }

  private matchGroups(set: number, identity: number, index: number): number {
    const { arena, denseGroups } = this.tables;
    let count = 0;
    const denseEnd = set + arena[set + SET.blocks]!;
    for (let at = set + arena[set + SET.dense]!; at < denseEnd; at += 2) {
      const bits = denseGroups[arena[at]!]!;
      if ((arena[bits + (index >>> 5)]! & (1 << (index & 31))) !== 0) count = this.note(set, at, count);
    }
    const first = set + arena[set + SET.groups]!;
    const asked = (arena[set + SET.dense]! - arena[set + SET.groups]!) >>> 1;
    const groups = identity + IDENTITY.groups;
    const held = arena[identity + IDENTITY.count]!;
    // The shorter list is gone through, the other one searched.
    if (held < asked) {
      for (let i = 0; i < held; i++) {
        const at = search(arena, first, asked, 2, arena[groups + i]!);
        if (at >= 0) count = this.note(set, at, count);
      }
    } else {
      for (let at = first; at < first + asked * 2; at += 2) {
        if (search(arena, groups, held, 1, arena[at]!) >= 0) count = this.note(set, at, count);
      }
    }
    return count;
  }

  /** Blocks that hold the region: those that begin at it or around it, and are not cut at it or between. */
  private matchBlocks(set: number, region: number, before: number): number {
    const { arena, regionRecords } = this.tables;
    let count = before;
    const first = set + arena[set + SET.blocks]!;
    const asked = (arena[set + SET.positions]! - arena[set + SET.blocks]!) >>> 1;
    for (let id = region; id !== 0; ) {
      const record = regionRecords[indexOf(id)]!;
      const begins = record + REGION.lists;
      const held = arena[record + REGION.begins]!;
      if (held < asked) {
        for (let i = 0; i < held; i++) {
          const at = search(arena, first, asked, 2, arena[begins + i]!);
          if (at >= 0 && !this.isCut(region, id, arena[at]!)) count = this.note(set, at, count);
        }
      } else if (held > 0) {
        for (let at = first; at < first + asked * 2; at += 2) {
          if (search(arena, begins, held, 1, arena[at]!) >= 0 && !this.isCut(region, id, arena[at]!))
            count = this.note(set, at, count);
        }
      }
      id = arena[record + REGION.parent]!;
    }
    return count;
  }
  /** Is the block cut at a region from the innermost one outwards, before the one where it begins? Excepts lie within it. */
  private isCut(innermost: number, begin: number, block: number): boolean {
    const { arena, regionRecords } = this.tables;
    for (let id = innermost; ; ) {
      const record = regionRecords[indexOf(id)]!;
      const cuts = record + REGION.lists + arena[record + REGION.begins]!;
      if (search(arena, cuts, arena[record + REGION.cuts]!, 1, block) >= 0) return true;
      if (id === begin) return false;
      id = arena[record + REGION.parent]!;
    }
  }
  /** Adds the positions of the group or block whose pair lies at `at`. */
  private note(set: number, at: number, count: number): number {
    const { arena } = this.tables;
    const from = arena[at + 1]!;
    const last = at + 2 === set + arena[set + SET.positions]!;
    const to = last ? arena[set + SET.positions + 1]! : arena[at + 3]!;
    if (count + to - from > this.positions.length) {
      const larger = new Int32Array(2 * (count + to - from));
      larger.set(this.positions);
      this.positions = larger;
    }
    for (let i = from; i < to; i++) this.positions[count + i - from] = arena[set + i]!;
    return count + to - from;
  }

  /** The first `matched` positions and the rules for any peer, both in order, as one program. */
  private build(set: number, matched: number, named: number): number[] {
    const { arena } = this.tables;
    const { positions } = this;
    const portless = [0, 0, 0, 0];
    const intervals: Interval[][] = [[], [], []];
    const anyEnd = set + arena[set + SET.groups]!;
    let m = 0;
    let a = set + arena[set + SET.any]!;
    let last = -1;
    while (m < matched || a < anyEnd) {
      const position = a >= anyEnd || (m < matched && positions[m]! <= arena[a]!) ? positions[m++]! : arena[a++]!;
      if (position === last) continue; // two peers of one rule
      last = position;
      const rule = arena[set + SET.rules + position * 2]!;
      const ports = arena[set + SET.rules + position * 2 + 1]!;
      if (ports === 0) {
        for (let p = 0; p < 4; p++) portless[p] ||= rule;
        for (const list of intervals) list.push({ low: 0, high: 65535, rule });
        break; // it takes all that is left
      }
      for (let i = 0, at = ports + 1; i < arena[ports]!; i++, at += 3) {
        const p = arena[at]!;
        const low = arena[at + 1]!;
        const high = arena[at + 2]!;
        if (low === ANY_PORT) {
          portless[p] ||= rule;
          intervals[p]!.push({ low: 0, high: 65535, rule });
        } else if (low !== NAMED_PORT) intervals[p]!.push({ low, high, rule });
        else if (named !== 0) {
          for (let n = 0, pair = named + 1; n < arena[named]!; n++, pair += 3) {
            const number = arena[pair + 2]!;
            if (arena[pair] === high && arena[pair + 1] === p) intervals[p]!.push({ low: number, high: number, rule });
          }
        }
      }
    }
    const program = [...portless, 0, 0, 0, 0];
    intervals.forEach((list, p) => {
      program[PROGRAM.parts + p] = program.length;
      paint(list, program);
    });
    program[PROGRAM.parts + intervals.length] = program.length;
    return program;
  }
}

/** Where `key` is among `count` ascending keys, `stride` words apart from `first`; −1: nowhere. */
function search(words: Uint32Array, first: number, count: number, stride: number, key: number): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (words[first + middle * stride]! < key) low = middle + 1;
    else high = middle;
  }
  const at = first + low * stride;
  return low < count && words[at] === key ? at : -1;
}

/** Few positions mostly, in few runs. */
function sortFirst(values: Int32Array, count: number): void {
  if (count > 48) {
    values.subarray(0, count).sort();
    return;
  }
  for (let i = 1; i < count; i++) {
    const value = values[i]!;
    let at = i;
    for (; at > 0 && values[at - 1]! > value; at--) values[at] = values[at - 1]!;
    values[at] = value;
  }
}

interface Interval {
  low: number;
  high: number;
  rule: number;
}

/** Intervals in order of precedence → ascending starts, then the first interval's rule that covers each; appended to `out`. */
function paint(intervals: readonly Interval[], out: number[]): void {
  if (intervals.length === 0 || (intervals[0]!.low === 0 && intervals[0]!.high >= 65535)) {
    out.push(0, intervals[0]?.rule ?? 0);
    return;
  }
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
  for (const start of starts) out.push(start);
  for (const rule of rules) out.push(rule);
}
