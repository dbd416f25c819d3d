/**
 * What one thread remembers of decisions, in flat words that native/policy.h reads too: which program holds for (policy set,
 * identity, region), and the programs. A bounded cache: ids are never given twice (tables.ts), so nothing in it goes stale
 * while the tables' base is the same; what is crowded out is found anew. Pages are only taken up where something was written.
 */

/** A bucket is a cache line: four times set, identity, region, program (0 = free). */
export const MEMO = { bucketBits: 17, ways: 4, slot: 4, bucket: 16 } as const;
const BUCKETS = 2 ** MEMO.bucketBits;
/** Programs begin on cache lines from here on; offset 0 is no program. */
const FIRST_PROGRAM = 16;
const PROGRAM_WORDS = 2 ** 22;
const KNOWN_SLOTS = 2 ** 17;

/**
 * A program, by word from its begin. 0–3: by protocol, the rule that needs no port ([3]: of any other protocol), 0 = none.
 * 4–7: where TCP's, UDP's and SCTP's parts begin, and the end. A part: ascending starts of intervals, then each one's rule.
 */
export const PROGRAM = { portless: 0, parts: 4, head: 8 } as const;

/** Before a program lies what it was made of: hash, set, named ports, count, and the positions. */
const MADE_OF = 4;

export class PolicyMemory {
  readonly memo = new Uint32Array(BUCKETS * MEMO.bucket);
  readonly programs = new Int32Array(PROGRAM_WORDS);
  /** Open addressing by hash: (where a program's making is written, the program), 0 = free. */
  private readonly known = new Uint32Array(KNOWN_SLOTS * 2);
  private knownCount = 0;
  private end = FIRST_PROGRAM;
  private victim = 0;

  /** Where the program of these ids begins; 0: not remembered. */
  lookup(set: number, identity: number, region: number): number {
    const { memo } = this;
    const first = bucketOf(set, identity, region);
    for (let at = first; at < first + MEMO.bucket; at += MEMO.slot) {
      if (memo[at] === set && memo[at + 1] === identity && memo[at + 2] === region) return memo[at + 3]!;
    }
    return 0;
  }
  remember(set: number, identity: number, region: number, program: number): void {
    const { memo } = this;
    const first = bucketOf(set, identity, region);
    let at = first;
    while (at < first + MEMO.bucket && memo[at + 3] !== 0) at += MEMO.slot;
    if (at === first + MEMO.bucket) at = first + (this.victim++ & (MEMO.ways - 1)) * MEMO.slot;
    memo[at] = set;
    memo[at + 1] = identity;
    memo[at + 2] = region;
    memo[at + 3] = program;
  }

  /** The program made of these positions in a set before; 0: none. `positions` counts from 0. */
  made(hash: number, set: number, named: number, positions: Int32Array, count: number): number {
    const { known, programs } = this;
    for (let slot = (hash >>> 0) % KNOWN_SLOTS; ; slot = (slot + 1) % KNOWN_SLOTS) {
      const at = known[slot * 2]!;
      if (at === 0) return 0;
      if (programs[at] !== hash || programs[at + 1] !== (set | 0)) continue;
      if (programs[at + 2] !== (named | 0) || programs[at + 3] !== count) continue;
      let i = 0;
      while (i < count && programs[at + MADE_OF + i] === positions[i]) i++;
      if (i === count) return known[slot * 2 + 1]!;
    }
  }
  /** Keeps a program, and what it was made of. Where there is no room left, everything is forgotten first. */
  keep(
    hash: number,
    set: number,
    named: number,
    positions: Int32Array,
    count: number,
    program: readonly number[],
  ): number {
    const room = MADE_OF + count + program.length + 16;
    if (this.end + room > PROGRAM_WORDS || this.knownCount * 2 >= KNOWN_SLOTS) this.forget();
    const { known, programs } = this;
    const at = this.end;
    programs[at] = hash;
    programs[at + 1] = set;
    programs[at + 2] = named;
    programs[at + 3] = count;
    for (let i = 0; i < count; i++) programs[at + MADE_OF + i] = positions[i]!;
    const start = (at + MADE_OF + count + 15) & ~15;
    programs.set(program, start);
    this.end = start + program.length;
    let slot = (hash >>> 0) % KNOWN_SLOTS;
    while (known[slot * 2] !== 0) slot = (slot + 1) % KNOWN_SLOTS;
    known[slot * 2] = at;
    known[slot * 2 + 1] = start;
    this.knownCount++;
    return start;
  }
  forget(): void {
    this.memo.fill(0);
    this.known.fill(0);
    this.knownCount = 0;
    this.end = FIRST_PROGRAM;
  }
}

function bucketOf(set: number, identity: number, region: number): number {
  let h = Math.imul(set, 0x9e3779b1) ^ Math.imul(identity, 0x85ebca6b) ^ Math.imul(region, 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  return ((h ^ (h >>> 13)) & (BUCKETS - 1)) * MEMO.bucket;
}
