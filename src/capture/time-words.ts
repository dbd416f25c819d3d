/**
 * Nanoseconds since 1970 as two u32 words, exact, without a BigInt per packet: 1.7e18 is past what a number holds exactly,
 * so the sums go 16 bits at a time. Times past 2^63 − 1 ns (the year 2262) count as that.
 */
const WORD = 0x100000000;
const MAX_HIGH = 0x7fffffff, MAX_LOW = 0xffffffff;

/** The result of the last call: `time.low`, `time.high`. One thread, no allocation. */
export const time = { low: 0, high: 0 };

function settle(high: number, low: number): void {
  if (high > MAX_HIGH) {
    time.high = MAX_HIGH;
    time.low = MAX_LOW;
  } else {
    time.high = high;
    time.low = low >>> 0;
  }
}

/** seconds × 10^9 + ns. Both below 2^32 × 1000. */
export function fromSeconds(seconds: number, ns: number): void {
  const upper = (seconds >>> 16) * 1e9; // × 2^16
  const low = (upper % 0x10000) * 0x10000 + (seconds & 0xffff) * 1e9 + ns;
  settle(Math.floor(upper / 0x10000) + Math.floor(low / WORD), low);
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
