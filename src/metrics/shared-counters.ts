/**
 * Counters in shared memory: one block per thread that counts (written by that thread only), summed at scrape.
 * Each counter is 64 bits, two u32 words, low first. Rule counters lie in a block of their own, three per rule id.
 */
import { DROP_REASONS, STAGES, VERDICTS } from '../batch/drop-reason.js';

export const TRANSPORTS = ['unix', 'grpc', 'library', 'replay', 'memif'] as const;
export type Transport = (typeof TRANSPORTS)[number];
/** Upper bounds of the batch duration histogram, seconds; one more bucket counts what is above. */
export const DURATION_BUCKETS = [
  10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 1,
] as const;
export const EVICTION_REASONS = ['unreplied', 'closing'] as const;
export const EMISSION_KINDS = [
  'tcp-reset',
  'icmp-error',
  'arp-reply',
  'nd-reply',
  'flood-copy',
  'mirror-copy',
] as const;

const SINGLES = [
  'connectionsCreated',
  'recordsMade', // flow records that ended and were handed to the exporter
  'recordsSpilled', // of those, the ones that found the ring of records full
  'busyNs', // time spent on batches
  'rowsByStages', // rows that went through the twelve stages
  'rowsByFastPath', // rows that replay finished
  'rowsByNative', // rows that a native kernel parsed
  'rowsHandled', // rows judged by this thread
  'rowsFromPeers', // of those, rows of batches that another thread owns
  'icmpErrorsSuppressed', // errors not sent: rate limit of 10 a second per source
  'emissionsLost', // frames that the engine made and found no room for
  'batchesRefused',
  'fragmentsTracked',
  'memifReceived', // frames taken from clients' rings
  'memifSent', // frames written to clients' rings
  'memifLostNoInterface', // frames for a port that no memif client is connected for
  'memifLostRingFull', // frames for a client that does not take them fast enough
  'memifLostSize', // frames from clients with a size that no batch takes, or too long to be sent
  'memifLostWorker', // frames of batches that a lost worker had in hand
  'memifViolations', // clients disconnected since they broke the protocol
] as const;
export type CounterName = (typeof SINGLES)[number];

let next = 0;
const section = (size: number): number => {
  const at = next;
  next += size;
  return at;
};
const single = Object.fromEntries(SINGLES.map((name) => [name, section(1)])) as Record<CounterName, number>;
const packets = section(VERDICTS.length);
const octets = section(VERDICTS.length);
const drops = section(STAGES.length * 64);
const evicted = section(EVICTION_REASONS.length);
const emitted = section(EMISSION_KINDS.length);
const batches = section(TRANSPORTS.length);
const durations = section(TRANSPORTS.length * (DURATION_BUCKETS.length + 1));
const durationNs = section(TRANSPORTS.length);
const COUNTERS = next;
if (DROP_REASONS.length > 64) throw new Error('drop counters hold 64 reasons a stage');

/** Index of a counter in a block. */
export const counterIndex = {
  single: (name: CounterName): number => single[name],
  packets: (verdict: number): number => packets + verdict,
  octets: (verdict: number): number => octets + verdict,
  drop: (stage: number, reason: number): number => drops + stage * 64 + reason,
  evicted: (reason: number): number => evicted + reason,
  emitted: (kind: number): number => emitted + kind,
  batches: (transport: number): number => batches + transport,
  duration: (transport: number, bucket: number): number =>
    durations + transport * (DURATION_BUCKETS.length + 1) + bucket,
  durationNs: (transport: number): number => durationNs + transport,
} as const;

export const COUNTERS_SIZE = COUNTERS * 8;
/** Rule ids are never reused in one process; an apply that needs a larger id is refused. */
export const RULES_MAX = 1 << 20;
export const RULE_COUNTERS = ['packets', 'octets', 'connections'] as const;
export const RULE_COUNTERS_SIZE = RULES_MAX * RULE_COUNTERS.length * 8;

/** Adds `value` (0 ≤ value < 2^53) to the 64-bit counter at word `at`. */
export function add64(words: Uint32Array, at: number, value: number): void {
  const low = words[at]! + value;
  words[at] = low >>> 0;
  if (low > 0xffffffff) words[at + 1] = words[at + 1]! + Math.floor(low / 0x100000000);
}
export const read64 = (words: Uint32Array, at: number): bigint => (BigInt(words[at + 1]!) << 32n) | BigInt(words[at]!);

/** One thread's counters: blocks in shared memory. */
export interface CounterMemory {
  readonly counters: SharedArrayBuffer;
  readonly rules: SharedArrayBuffer;
}
export const allocateCounters = (): CounterMemory => ({
  counters: new SharedArrayBuffer(COUNTERS_SIZE),
  rules: new SharedArrayBuffer(RULE_COUNTERS_SIZE),
});

export class SharedCounters {
  readonly words: Uint32Array;
  readonly rules: Uint32Array;
  constructor(readonly memory: CounterMemory = allocateCounters()) {
    this.words = new Uint32Array(memory.counters);
    this.rules = new Uint32Array(memory.rules);
  }
  add(index: number, value = 1): void {
    add64(this.words, index * 2, value);
  }
  count(name: CounterName, value = 1): void {
    add64(this.words, single[name] * 2, value);
  }
  read(index: number): bigint {
    return read64(this.words, index * 2);
  }
  /** counter: index in RULE_COUNTERS. */
  readRule(rule: number, counter: number): bigint {
    return read64(this.rules, (rule * RULE_COUNTERS.length + counter) * 2);
  }
}

/** Sum of one counter over several threads' blocks. */
export const sumCounter = (blocks: readonly SharedCounters[], index: number): bigint =>
  blocks.reduce((sum, block) => sum + block.read(index), 0n);
