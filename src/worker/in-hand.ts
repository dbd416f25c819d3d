/**
 * What each participant has in hand, in memory that outlives it: batches submitted and answered, so that a crash tells how
 * many were lost; and of a shard's thread how far the clock of its packets is behind the machine's.
 */

/** u32: batches submitted, batches answered; then f64, ns: the lag. */
export const PARTICIPANT_WORDS = 16;
const SUBMITTED = 0;
const ANSWERED = 1;
/** Index over a participant's words as f64. */
export const LAG = 2;
export const participantsSize = (shards: number): number => (shards + 1) * PARTICIPANT_WORDS * 4;

/** A participant's counts, written by it alone. */
export class InHand {
  private readonly words: Uint32Array;
  constructor(memory: SharedArrayBuffer, participant: number) {
    this.words = new Uint32Array(memory, participant * PARTICIPANT_WORDS * 4, PARTICIPANT_WORDS);
  }
  submitted(): void {
    this.words[SUBMITTED] = this.words[SUBMITTED]! + 1;
  }
  answered(count: number): void {
    this.words[ANSWERED] = this.words[ANSWERED]! + count;
  }
  /** The participant is gone: how many it had in hand. They count as answered. */
  forget(): number {
    const lost = (this.words[SUBMITTED]! - this.words[ANSWERED]!) >>> 0;
    this.words[ANSWERED] = this.words[SUBMITTED]!;
    return lost;
  }
}
