/**
 * Frames that the engine makes itself: they are put beside the batch, with the row that caused them, and leave with its
 * answer. The area is shared by the threads that judge the batch's rows, so room is taken with atomics.
 */
import {
  EMIT_COPY,
  EMIT_DATA_SIZE,
  EMIT_HEADER_WORDS,
  EMIT_ROWS,
  EMIT_WORDS,
  type PacketBatch,
} from '../batch/packet-batch.js';
import { counterIndex, EMISSION_KINDS, type SharedCounters } from '../metrics/shared-counters.js';

export type EmissionKind = (typeof EMISSION_KINDS)[number];

/** ICMP errors per source and second (contract: verdict reject). */
export const ICMP_ERRORS_PER_SECOND = 10;
const LIMITER_ENTRIES = 4096;

export class Emitter {
  private readonly window = new Map<string, { second: number; count: number }>();
  constructor(private readonly counters: SharedCounters) {}

  /** Takes `size` of the octets that the batch's emissions may have together, so that its answer keeps its limit. */
  private room(words: Int32Array, size: number): boolean {
    if (Atomics.add(words, 3, size) + size <= words[2]!) return true;
    Atomics.sub(words, 3, size);
    return this.lost();
  }

  /** Puts a frame out of `outPort`; false (counted) when the batch's emission area is full. */
  frame(batch: PacketBatch, row: number, outPort: number, octets: Uint8Array, kind: EmissionKind): boolean {
    const words = batch.emitWords;
    if (!this.room(words, octets.length)) return false;
    const offset = Atomics.add(words, 1, octets.length);
    if (offset + octets.length > EMIT_DATA_SIZE) return this.lost();
    const index = Atomics.add(words, 0, 1);
    if (index >= EMIT_ROWS) return this.lost();
    batch.emitData.set(octets, offset);
    const at = EMIT_HEADER_WORDS + index * EMIT_WORDS;
    words[at] = row;
    words[at + 1] = outPort;
    words[at + 2] = octets.length;
    words[at + 3] = offset;
    this.counters.add(counterIndex.emitted(EMISSION_KINDS.indexOf(kind)));
    return true;
  }

  /** A copy of the row's own frame out of another port. */
  copy(batch: PacketBatch, row: number, outPort: number, kind: EmissionKind): boolean {
    const words = batch.emitWords;
    if (!this.room(words, batch.length[row]!)) return false;
    const index = Atomics.add(words, 0, 1);
    if (index >= EMIT_ROWS) return this.lost();
    const at = EMIT_HEADER_WORDS + index * EMIT_WORDS;
    words[at] = row;
    words[at + 1] = outPort;
    words[at + 2] = batch.length[row]!;
    words[at + 3] = EMIT_COPY | 0;
    this.counters.add(counterIndex.emitted(EMISSION_KINDS.indexOf(kind)));
    return true;
  }

  private lost(): boolean {
    this.counters.count('emissionsLost');
    return false;
  }

  /** May an ICMP error go to this source now? Ten a second each, by packet time; refusals are counted. */
  mayAnswer(source: string, low: number, high: number): boolean {
    const second = Math.floor((high * 0x100000000 + low) / 1e9);
    let entry = this.window.get(source);
    if (entry === undefined || entry.second !== second) {
      if (entry === undefined && this.window.size >= LIMITER_ENTRIES) {
        for (const oldest of this.window.keys()) {
          this.window.delete(oldest);
          break;
        }
      }
      this.window.delete(source);
      entry = { second, count: 0 };
      this.window.set(source, entry);
    }
    if (++entry.count <= ICMP_ERRORS_PER_SECOND) return true;
    this.counters.count('icmpErrorsSuppressed');
    return false;
  }
}

/** How many emissions a batch holds (the count may have run past the area). */
export const emissionCount = (batch: PacketBatch): number => Math.min(Atomics.load(batch.emitWords, 0), EMIT_ROWS);
