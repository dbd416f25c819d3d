/** The limits of a batch (contract §3), checked by every front end; an error names limit and frame. */
import { SeineError } from '../errors.js';
import { BATCH_OCTETS_LIMIT, BATCH_ROWS, EMIT_ROWS, FRAME_MAX_SIZE, FRAME_MIN_SIZE } from './packet-batch.js';

/** A message of the Unix socket may hold this many octets. */
export const MESSAGE_OCTETS_LIMIT = 5 * 1024 * 1024;
export const LIMITS = {
  frames: BATCH_ROWS,
  frameOctets: FRAME_MAX_SIZE,
  batchOctets: BATCH_OCTETS_LIMIT,
  messageOctets: MESSAGE_OCTETS_LIMIT,
} as const;

/** An answer holds at most this many octets: what any gRPC client takes by default (contract §3). */
export const ANSWER_OCTETS_LIMIT = 4 * 1024 * 1024;
/** Octets of an answer beside frames: a row's verdict, ports, rule, lengths and its encapsulation (IPv6: 70), at most. */
const ANSWER_ROW_OCTETS = 96;
/** Octets of one emission's out-port and length, at most, times the emissions that a batch can have; and of field heads. */
const ANSWER_EMISSION_OCTETS = EMIT_ROWS * 8 + 1024;

/** Octets that the frames that the engine makes for a batch may have, so that its answer stays within the limit. */
export const emissionRoom = (frames: number, octets: number): number =>
  Math.max(0, ANSWER_OCTETS_LIMIT - octets - frames * ANSWER_ROW_OCTETS - ANSWER_EMISSION_OCTETS);

/** Checks counts of frames: how many there are, and how many in-ports and times stand beside them (null: none given). */
export function checkCounts(frames: number, octets: number, inPorts: number, times: number | null): void {
  if (frames < 1 || frames > BATCH_ROWS)
    throw new SeineError('SEINE_ERR_BATCH_LIMIT', `length: ${frames} frames; a batch holds 1 to ${BATCH_ROWS}`);
  if (octets > BATCH_OCTETS_LIMIT)
    throw new SeineError(
      'SEINE_ERR_BATCH_LIMIT',
      `data: ${octets} octets; a batch holds at most ${BATCH_OCTETS_LIMIT}`,
    );
  if (inPorts !== 1 && inPorts !== frames)
    throw new SeineError(
      'SEINE_ERR_BATCH_INVALID',
      `inPort: ${inPorts} values for ${frames} frames; give one for all, or one each`,
    );
  if (times !== null && times !== frames)
    throw new SeineError('SEINE_ERR_BATCH_INVALID', `time: ${times} values for ${frames} frames; give one each`);
}

/** Checks one frame's size; returns where the next begins. */
export function checkFrame(index: number, size: number, at: number, octets: number): number {
  if (size < FRAME_MIN_SIZE || size > FRAME_MAX_SIZE) {
    throw new SeineError(
      'SEINE_ERR_BATCH_LIMIT',
      `frame ${index}: ${size} octets; a frame has ${FRAME_MIN_SIZE} to ${FRAME_MAX_SIZE}`,
    );
  }
  if (at + size > octets)
    throw new SeineError(
      'SEINE_ERR_BATCH_INVALID',
      `frame ${index}: ends at octet ${at + size}, but data has ${octets}`,
    );
  return at + size;
}
export function checkEnd(frames: number, at: number, octets: number): void {
  if (at !== octets)
    throw new SeineError('SEINE_ERR_BATCH_INVALID', `data has ${octets} octets, but the ${frames} frames take ${at}`);
}

export function checkBatch(data: Uint8Array, length: Uint32Array, inPorts: number, times: number | null): void {
  checkCounts(length.length, data.length, inPorts, times);
  let at = 0;
  for (let i = 0; i < length.length; i++) at = checkFrame(i, length[i]!, at, data.length);
  checkEnd(length.length, at, data.length);
}
