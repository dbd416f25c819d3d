/**
 * Packets that an engine row sends, in shared memory: frames back to back in the order of sending, their columns beside them,
 * cut into batches. And the mailbox by which the main thread tells a worker's client (pool-client.ts) what to send.
 */
export interface PoolMemory {
  octets: SharedArrayBuffer;
  /** u32 a row. `offset`: within its batch's data. */
  length: SharedArrayBuffer;
  inPort: SharedArrayBuffer;
  offset: SharedArrayBuffer;
  /** f64 a batch, and one more: where its frames begin in `octets`. */
  start: SharedArrayBuffer;
  rows: number;
  batchRows: number;
}

export interface PoolFrame {
  octets: Uint8Array;
  inPort: number;
}

/** `frame(i)` may give the same array again and again: it is copied. `octets`: room for all frames. */
export function makePool(
  rows: number,
  batchRows: number,
  frameOctets: number,
  frame: (row: number) => PoolFrame,
): PoolMemory {
  const octets = new Uint8Array(new SharedArrayBuffer(rows * frameOctets));
  const [length, inPort, offset] = Array.from({ length: 3 }, () => new Uint32Array(new SharedArrayBuffer(rows * 4)));
  const start = new Float64Array(new SharedArrayBuffer((Math.ceil(rows / batchRows) + 1) * 8));
  let at = 0;
  for (let row = 0; row < rows; row++) {
    if (row % batchRows === 0) start[row / batchRows] = at;
    const made = frame(row);
    octets.set(made.octets, at);
    length![row] = made.octets.length;
    inPort![row] = made.inPort;
    offset![row] = at - start[Math.floor(row / batchRows)]!;
    at += made.octets.length;
  }
  start[start.length - 1] = at;
  const shared = (view: { buffer: ArrayBufferLike }) => view.buffer as SharedArrayBuffer;
  return {
    octets: shared(octets),
    length: shared(length!),
    inPort: shared(inPort!),
    offset: shared(offset!),
    start: shared(start),
    rows,
    batchRows,
  };
}

/** Words (i32) and numbers (f64) of a mailbox; its last 32 octets are the digest of the last order. */
export const MAILBOX_OCTETS = 256;
export const Word = { Order: 0, Done: 1, Pool: 2, FirstBatch: 3, EndBatch: 4, Passes: 5, Flags: 6, Failed: 7 } as const;
/** Numbers, from octet 64 on: packets' clock at the first batch and what each batch adds (0: the service's clock); results. */
export const Figure = {
  ClockNs: 0,
  StepNs: 1,
  ElapsedNs: 2,
  Forwarded: 3,
  OutOctets: 4,
  LongestGapNs: 5,
  CpuNs: 6,
} as const;
export const OrderFlag = { ReturnPackets: 1, Digest: 2, Gaps: 4 } as const;
export const FIGURES_AT = 64;
export const DIGEST_AT = MAILBOX_OCTETS - 32;

/** What workers find under ENVIRONMENT_KEY: for each shard its mailbox and its pools. */
export const ENVIRONMENT_KEY = 'seine-bench';
export interface BenchEnvironment {
  mailboxes: SharedArrayBuffer[];
  /** [shard][pool] */
  pools: PoolMemory[][];
}
