/**
 * What a front end keeps of a request beside its columns: three words, the batch's id (low, high) and flags. native/message.h
 * mirrors them.
 */
export const HEAD_WORDS = 3;
export const HeadFlag = {
  /** The id is a negative integer. */
  Negative: 1,
  ReturnPackets: 2,
  /** Times were given. */
  Timed: 4,
} as const;

/** Octets that the verdict columns of `count` rows take at most in a message, with everything around them. */
export const verdictsBound = (count: number): number => 160 + count * 13;
