/**
 * The only door to the addon. Every kernel has a TypeScript reference of the same name and arguments; SEINE_NATIVE=off runs
 * those. An addon that is missing or does not fit is an error, never a silent fallback. To add a kernel: write the
 * reference, native/NAME.{h,cc} without N-API, a checked wrapper in native/addon.cc, and a line in both objects below.
 */
import { createRequire } from 'node:module';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { composeRows } from '../batch/compose.js';
import { Ct, DROP_REASONS, Verdict } from '../batch/drop-reason.js';
import { COLUMN_OFFSET, COLUMNS_SIZE, Kind, type PacketBatch, Rewrite, RowFlag } from '../batch/packet-batch.js';
import { readMsgpack, writeMsgpack } from '../batch/msgpack.js';
import { parseRows } from '../batch/parse.js';
import { LinkKind } from '../capture/link.js';
import { Format, S, Scan, scanRecords } from '../capture/scan.js';
import { readProtobuf, writeProtobuf } from '../batch/protobuf.js';
import { C, COLD_WORDS, D, DIRECTION_WORDS, E, ENTRY_WORDS, Status, T, TCP_WORDS } from '../conntrack/entry.js';
import { P, PLAN_WORDS } from '../conntrack/plan-table.js';
import { type ReplayContext, replayRows } from '../conntrack/replay.js';
import { Timeout } from '../conntrack/timeouts.js';
import { SeineError } from '../errors.js';
import { counterIndex, COUNTERS_SIZE } from '../metrics/shared-counters.js';
import { encodeRecords, N } from '../export/netflow5-records.js';
import { takeRecords } from '../export/record-sort.js';
import { R } from '../flow/flow-record.js';
import { tupleHash } from '../flow/tuple-hash.js';
import type { Classifier, PolicyContext } from '../policy/classifier.js';
import { MEMO, PROGRAM } from '../policy/memory.js';
import { decideAll, lookupAddresses, QUESTION } from '../policy/questions.js';
import { ENDPOINT, EndpointFlag } from '../policy/tables.js';
import { classifyRules } from '../policy/rule-tree/classify.js';
import * as RULE_TREE from '../policy/rule-tree/layout.js';
import { internetChecksum, updateChecksum16 } from '../wire/checksum.js';
import type { MemifAddon } from './memif.js';

export interface Kernels {
  parseRows(batch: PacketBatch, first: number, count: number): void;
  /** Returns how many rows it left in `slow` (conntrack/replay.ts). */
  replayRows(context: ReplayContext, batch: PacketBatch, rows: Int32Array, count: number, slow: Int32Array): number;
  composeRows(
    batch: PacketBatch,
    table: Uint8Array,
    rows: Int32Array,
    count: number,
    out: Uint8Array,
    outAt: number,
    sizes: Uint32Array,
  ): number;
  /**
   * Read the message at [start, end) of `octets` into a batch, its id and flags into `head` (batch/head.ts). They return the
   * batch's frames, 0 for what is no sound batch within limits.
   */
  readMsgpack(batch: PacketBatch, octets: Uint8Array, start: number, end: number, head: Uint32Array): number;
  readProtobuf(batch: PacketBatch, octets: Uint8Array, start: number, end: number, head: Uint32Array): number;
  /** Write the verdicts of a batch at `at` of `out`, which has room for verdictsBound(count). They return the octets written. */
  writeMsgpack(
    batch: PacketBatch,
    count: number,
    head: Uint32Array,
    extra: number,
    out: Uint8Array,
    at: number,
  ): number;
  writeProtobuf(batch: PacketBatch, count: number, head: Uint32Array, out: Uint8Array, at: number): number;
  /** Returns Scan.*: why it stopped (capture/scan.ts). */
  scanRecords(
    batch: PacketBatch,
    state: Uint32Array,
    interfaces: Uint32Array,
    ownTime: Uint32Array,
    interfaceId: Uint32Array,
  ): Scan;
  takeRecords(
    words: Uint32Array,
    count: number,
    all: boolean,
    beforeLow: number,
    beforeHigh: number,
    out: Uint32Array,
  ): number;
  encodeRecords(state: Float64Array, words: Uint32Array, at: number, octets: Uint8Array): number;
  internetChecksum(octets: Uint8Array, offset: number, length: number, initial?: number): number;
  updateChecksum16(checksum: number, before: number, after: number): number;
  tupleHash(
    address: Uint32Array,
    at: number,
    family: 4 | 6,
    protocol: number,
    srcPort: number,
    dstPort: number,
  ): number;
  /** Answers `count` questions from what the classifier remembers (policy/questions.ts); returns how many it can't. */
  policyDecide(classifier: Classifier, questions: Uint32Array, count: number, rules: Int32Array): number;
  lookupAddresses(map: Uint32Array, addresses: Uint32Array, family: 4 | 6, count: number, values: Uint32Array): void;
  classifyRules(tree: Uint32Array, reader: number, tuples: Uint32Array, count: number, results: Int32Array): void;
}

export const references: Kernels = {
  parseRows,
  scanRecords,
  takeRecords,
  encodeRecords,
  replayRows,
  composeRows,
  readMsgpack,
  readProtobuf,
  writeMsgpack,
  writeProtobuf,
  internetChecksum,
  updateChecksum16,
  tupleHash,
  policyDecide: decideAll,
  lookupAddresses,
  classifyRules,
};

/** Does this process run the native kernels? */
export const nativeEnabled = process.env.SEINE_NATIVE !== 'off';

// biome-ignore lint/suspicious/noExplicitAny: the addon's functions are typed by `Kernels` below
type Addon = Record<string, (...args: any[]) => any>;

/** Codes and offsets that native/batch.h and native/entry.h repeat, by the addon's name for each group. */
const SHARED: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  columns: COLUMN_OFFSET,
  reasons: Object.fromEntries(DROP_REASONS.map((name, code) => [name, code])),
  verdict: Verdict,
  kind: Kind,
  rowFlag: RowFlag,
  rewrite: Rewrite,
  ct: Ct,
  size32: { entry: ENTRY_WORDS, cold: COLD_WORDS, direction: DIRECTION_WORDS, tcp: TCP_WORDS, plan: PLAN_WORDS },
  entry: E,
  cold: C,
  plan: P,
  direction: D,
  tcp: T,
  status: Status,
  scan: Scan,
  scanState: S,
  captureFormat: Format,
  linkKind: LinkKind,
  record: R,
  netflow5: N,
  endpoint: ENDPOINT,
  endpointFlag: EndpointFlag,
  memo: MEMO,
  program: PROGRAM,
  question: QUESTION,
  ruleTree: { ...RULE_TREE, ...RULE_TREE.H } as unknown as Record<string, number>,
  ruleTuple4: { size: RULE_TREE.LAYOUT[4].tupleWords, ...RULE_TREE.LAYOUT[4].tuple },
  ruleTuple6: { size: RULE_TREE.LAYOUT[6].tupleWords, ...RULE_TREE.LAYOUT[6].tuple },
  rulePack4: { size: RULE_TREE.LAYOUT[4].packWords, ...RULE_TREE.LAYOUT[4].pack },
  rulePack6: { size: RULE_TREE.LAYOUT[6].packWords, ...RULE_TREE.LAYOUT[6].pack },
};
/** Of these groups the addon must know every member; of the others, those that a kernel uses. */
const WHOLE = ['columns', 'reasons'];

function load(): Addon {
  // dist/src/native → the package's root, where node-gyp builds.
  const path = fileURLToPath(new URL('../../../build/Release/seine.node', import.meta.url));
  const refuse = (found: string, cause?: unknown): never => {
    throw new SeineError('SEINE_ERR_IO', `${path}: ${found}: run \`npm rebuild\``, { cause });
  };
  if (!existsSync(path)) refuse('the native addon is not built');
  let addon: Addon;
  try {
    addon = createRequire(import.meta.url)(path) as Addon;
  } catch (error) {
    return refuse(`the native addon does not load (${(error as Error).message})`, error);
  }
  const layout = addon.layout!() as Record<string, Record<string, number>> & { size: number };
  const differs = (what: string): never => refuse(`the native addon was built for another ${what}`);
  if (layout.size !== COLUMNS_SIZE) differs('size of the column block');
  for (const [group, ours] of Object.entries(SHARED)) {
    const theirs = layout[group] ?? differs(`layout without ${group}`);
    for (const name of WHOLE.includes(group) ? Object.keys(ours) : Object.keys(theirs))
      if (theirs[name] !== ours[name]) differs(`value of ${group} ${name}`);
  }
  addon.setTimeoutIndices!(Timeout);
  const { packets, octets, drop, single } = counterIndex;
  addon.setCounterIndices!({
    packets: packets(0),
    octets: octets(0),
    drops: drop(0, 0),
    connectionsCreated: single('connectionsCreated'),
    total: COUNTERS_SIZE / 8,
  });
  return addon;
}

let addon: Addon | null = null;
const theAddon = (): Addon => {
  addon ??= load();
  return addon;
};

/** What the addon keeps of a shard: its memory, checked once. */
const shardHandles = new WeakMap<ReplayContext, unknown>();
function shardHandle(a: Addon, c: ReplayContext): unknown {
  let handle = shardHandles.get(c);
  if (handle === undefined) {
    const { table, epochs, timeouts, recordTimeouts, classes, counters, records, limits } = c;
    handle = a.createShard!(
      table.words,
      epochs,
      timeouts,
      recordTimeouts,
      classes,
      counters.words,
      counters.rules,
      c.endpoints,
      c.totals,
      records.words,
      records.header,
      c.control,
      limits.max,
      limits.maxPerEndpoint,
      c.shard,
      (limits.tcpLoose ? 1 : 0) | (limits.tcpLiberal ? 2 : 0) | (limits.replay ? 4 : 0),
    );
    shardHandles.set(c, handle);
  }
  return handle;
}

/**
 * The native kernels, also where SEINE_NATIVE=off: for tests that hold them against the references. `crc32c`: `table` hashes
 * by table, and classifies rules without AVX2, even where the processor has the instructions.
 */
export function nativeKernels(crc32c: 'fastest' | 'table' = 'fastest'): Kernels {
  const a = theAddon();
  const byTable = crc32c === 'table';
  return {
    parseRows: (batch, first, count) => a.parseRows!(batch.block, batch.data, first, count, byTable),
    replayRows: (c, batch, rows, count, slow) => a.replayRows!(shardHandle(a, c), batch.block, rows, count, slow),
    composeRows: (batch, table, rows, count, out, outAt, sizes) =>
      a.composeRows!(batch.block, batch.data, table, rows, count, out, outAt, sizes),
    readMsgpack: (batch, octets, start, end, head) => {
      const count = a.readMsgpack!(batch.block, batch.data, octets, start, end, head) as number;
      if (count > 0) batch.count = count;
      return count;
    },
    readProtobuf: (batch, octets, start, end, head) => {
      const count = a.readProtobuf!(batch.block, batch.data, octets, start, end, head) as number;
      if (count > 0) batch.count = count;
      return count;
    },
    writeMsgpack: (batch, count, head, extra, out, at) => a.writeMsgpack!(batch.block, count, head, extra, out, at),
    writeProtobuf: (batch, count, head, out, at) => a.writeProtobuf!(batch.block, count, head, out, at),
    scanRecords: (batch, state, interfaces, ownTime, interfaceId) =>
      a.scanRecords!(batch.block, batch.data, state, interfaces, ownTime, interfaceId),
    takeRecords: (words, count, all, beforeLow, beforeHigh, out) =>
      a.takeRecords!(words, count, all, beforeLow, beforeHigh, out),
    encodeRecords: (state, words, at, octets) => a.encodeRecords!(state, words, at, octets),
    internetChecksum: (octets, offset, length, initial = 0) => a.checksum!(octets, offset, length, initial),
    updateChecksum16: (checksum, before, after) => a.updateChecksum16!(checksum, before, after),
    tupleHash: (address, at, family, protocol, srcPort, dstPort) =>
      a.tupleHash!(address, at, family, protocol, srcPort, dstPort, byTable),
    policyDecide: ({ context: c }, questions, count, rules) =>
      a.policyDecide!(c.hosts, c.regions, c.endpoints, c.memo, c.programs, questions, count, rules),
    lookupAddresses: (map, addresses, family, count, values) =>
      a.lookupAddresses!(map, addresses, family, count, values),
    classifyRules: (tree, reader, tuples, count, results) =>
      a.classifyRules!(tree, reader, tuples, count, results, byTable),
  };
}

export const kernels: Kernels = nativeEnabled ? nativeKernels() : references;

/** CPU time that the calling thread has used so far, ns. */
export const threadCpuNs = (): number => theAddon().threadCpuNs!() as number;

/**
 * dup(2), closed on exec: a descriptor of its own for the thread that takes a connection over. Not a kernel: used in both
 * modes. Throws SEINE_ERR_IO where there is no such descriptor or no room for another.
 */
export function duplicateDescriptor(fd: number): number {
  const { duplicateDescriptor: duplicate } = theAddon();
  try {
    return duplicate!(fd) as number;
  } catch (error) {
    throw new SeineError(
      'SEINE_ERR_IO',
      `descriptor ${fd} can't be duplicated: ${(error as Error).message}; raise the limit of open files (ulimit -n) if it is reached`,
      { cause: error },
    );
  }
}

/**
 * send(2) of octets[start, end) without waiting: how many octets the socket took, fewer than given where it is full, 0 also
 * where it is broken, which the next ordinary write tells. Not a kernel: used in both modes.
 */
export const sendNow = (fd: number, octets: Uint8Array, start: number, end: number): number =>
  theAddon().sendNow!(fd, octets, start, end) as number;

/** memif's part of the addon (native/memif.ts). Not a kernel: used in both modes. */
export const memifAddon = (): MemifAddon => theAddon() as unknown as MemifAddon;

/** Datagrams that one call of `sendDatagrams` takes at most. */
export const DATAGRAMS_MAX = 64;
const sendResult = new Int32Array(2);
/**
 * send(2) of `count` ≤ DATAGRAMS_MAX datagrams from `first` on, on a connected socket. Not a kernel: used in both modes.
 * Returns how many the kernel took and the errno that kept it from taking the next, 0 when it took all.
 */
export function sendDatagrams(
  fd: number,
  datagrams: readonly Uint8Array[],
  first: number,
  count: number,
): { taken: number; errno: number } {
  theAddon().sendDatagrams!(fd, datagrams, first, count, sendResult);
  return { taken: sendResult[0]!, errno: sendResult[1]! };
}

/** Which forms of the kernels this processor runs. */
export interface CpuFeatures {
  /** SSE4.2's instruction, or a table. */
  crc32c: 'instruction' | 'table';
  checksum: 'avx2' | 'words';
  ruleTree: 'avx2' | 'words';
}
export const cpuFeatures = (): CpuFeatures => theAddon().cpuFeatures!() as CpuFeatures;

/** Asks for huge pages behind a table (madvise(2)): fewer TLB misses. A hint, which the kernel may not take. */
export const adviseHugePages = (words: Uint32Array): boolean =>
  nativeEnabled ? (theAddon().adviseHugePages!(words) as boolean) : false;

/** Octets from an array's start to the next cache line: what lies in lines of its own begins there. 0 without native kernels. */
export const cacheLineOffset = (words: Uint32Array): number =>
  nativeEnabled ? (theAddon().cacheLineOffset!(words) as number) : 0;
/** flock(2) on a descriptor, exclusive: takes it (false where another open file has it) or gives it back. */
export const lockFile = (fd: number, taken: boolean): boolean => theAddon().lockFile!(fd, taken) as boolean;
/** Room on disk (or in memory) for all of the file's octets. Throws the system's message where there is none. */
export const reserveFile = (fd: number, octets: number): void => theAddon().reserveFile!(fd, octets) as void;
/** Octets of a file as shared memory, from a page on: stores reach the file, and every process that maps it. */
export const mapFile = (fd: number, offset: number, octets: number): SharedArrayBuffer =>
  theAddon().mapFile!(fd, offset, octets) as SharedArrayBuffer;

/** Where an array lies in memory, modulo 2^32; 0 without native code, which has no use for it. */
export const addressOf = (words: Uint32Array): number => (nativeEnabled ? (theAddon().addressOf!(words) as number) : 0);

/** How judgeBatch takes a batch. */
export const JudgeFlag = {
  AllColumns: 1, // fill every column of the rows that are finished, not only those that front ends read
  HashByTable: 2,
  TunnelEncapsulated: 4, // port 1 brings frames in VXLAN
  StampTimes: 8,
} as const;

/** What replay's `forwarding` and the classifier's context are to the addon. */
interface GenerationMemory {
  metering: boolean;
  routeMap: Uint32Array;
  ownerMap: Uint32Array;
  ownNodeMap: Uint32Array;
  ports: Uint8Array;
  peerMap: Uint32Array;
  tunnelPort: number;
}

/** The native judging, whose reference are the stages (pipeline/native-shard.ts). */
export interface JudgeKernels {
  shard(context: ReplayContext): unknown;
  setGeneration(handle: unknown, memory: GenerationMemory, policy: PolicyContext): void;
  judgeBatch(handle: unknown, batch: PacketBatch, flags: number, shard: number, shards: number): number;
  judgeRows(handle: unknown, batch: PacketBatch, rows: Int32Array, count: number, rest: Int32Array): number;
  /** False where the ring of records is full before the end (conntrack/flow-accounting.ts goes on). */
  sweep(handle: unknown, low: number, high: number): boolean;
}
export function judgeKernels(): JudgeKernels {
  const a = theAddon();
  return {
    shard: (context) => shardHandle(a, context),
    setGeneration: (handle, m, c) =>
      a.setGeneration!(
        handle,
        m.metering,
        m.routeMap,
        m.ownerMap,
        m.ownNodeMap,
        m.ports,
        c.hosts,
        c.regions,
        c.endpoints,
        c.memo,
        c.programs,
        m.peerMap,
        m.tunnelPort,
      ),
    judgeBatch: (handle, batch, flags, shard, shards) =>
      a.judgeBatch!(handle, batch.block, batch.data, batch.count, flags, shard, shards, batch.rest),
    judgeRows: (handle, batch, rows, count, rest) => a.judgeRows!(handle, batch.block, batch.data, rows, count, rest),
    sweep: (handle, low, high) => a.sweepShard!(handle, low, high) as boolean,
  };
}
