/**
 * Nanoseconds since 1970 as two u32 words, exact, without a BigInt per packet: 1.7e18 is past what a number holds exactly,
 * so the sums go 16 bits at a time. Times past 2^63 − 1 ns (the year 2262) count as that.
 */
const WORD = 0x100000000;
const MAX_HIGH = 0x7fffffff,
  MAX_LOW = 0xffffffff;

/** The result of the last call: `time.low`, `time.high`. One thread, no allocation. */
export const time = { low: 0, high: 0 };

/** A time as it stands. */
export function setTime(low: number, high: number): void {
  time.low = low;
  time.high = high;
}

function settle(high: number, low: number): void {
  if (high > MAX_HIGH) {
    time.high = MAX_HIGH;
    time.low = MAX_LOW;
  } else {
    time.high = high;
    time.low = low >>> 0;
  }
}

/** The second of the last call and its words: packets come many a second, and the products cost more than all else here. */
const known = { seconds: 0, low: 0, high: 0 };

/** seconds × 10^9 + ns. seconds < 2^32, ns < 2^32 × 1000. */
export function fromSeconds(seconds: number, ns: number): void {
  if (seconds !== known.seconds) {
    const upper = (seconds >>> 16) * 1e9; // × 2^16
    const lower = (upper % 0x10000) * 0x10000 + (seconds & 0xffff) * 1e9;
    known.seconds = seconds;
    known.low = lower % WORD;
    known.high = Math.floor(upper / 0x10000) + Math.floor(lower / WORD);
  }
  const low = known.low + ns;
  if (low < WORD) {
    time.low = low;
    time.high = known.high;
  } else {
    time.low = low % WORD;
    time.high = known.high + Math.floor(low / WORD);
  }
  if (time.high > MAX_HIGH) settle(time.high, time.low);
}

/** (high, low) × factor, factor ≤ 10^6. */
export function fromUnits(high: number, low: number, factor: number): void {
  const product = low * factor;
  settle(high * factor + Math.floor(product / WORD), product % WORD);
}

export function fromBigInt(ns: bigint): void {
  const bounded = ns < 0n ? 0n : ns > 0x7fffffffffffffffn ? 0x7fffffffffffffffn : ns;
  time.high = Number(bounded >> 32n);
  time.low = Number(bounded & 0xffffffffn);
}

/** Whole seconds and the rest in ns of a time: long division, 16 bits a step. Returns seconds; the rest is `rest.ns`. */
export const rest = { ns: 0 };
export function secondsOf(low: number, high: number): number {
  const first = Math.floor(high / 1e9);
  let left = (high % 1e9) * 0x10000 + (low >>> 16);
  const second = Math.floor(left / 1e9);
  left = (left % 1e9) * 0x10000 + (low & 0xffff);
  const third = Math.floor(left / 1e9);
  rest.ns = left % 1e9;
  return first * WORD + second * 0x10000 + third;
}
