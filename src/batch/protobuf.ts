/**
 * PacketBatch and the verdicts of VerdictBatch in protobuf's encoding (src/api/seine/v1/seine.proto; protobuf.dev, "Encoding"):
 * the reference of native/message.cc. Fields come in any order, repeated ones packed or not and in several parts; of the
 * others the last counts; fields that are not known are passed over.
 */
import { SeineError } from '../errors.js';
import { HeadFlag } from './head.js';
import { checkCounts, checkEnd, checkFrame } from './limits.js';
import { BATCH_ROWS, type PacketBatch } from './packet-batch.js';

const broken = (what: string): never => {
  throw new SeineError('SEINE_ERR_MESSAGE_INVALID', `not a message in protobuf's encoding: ${what}`);
};

/** Groups may nest this deep. */
const GROUPS_MAX = 64;

export class WireReader {
  at: number;
  /** Of the varint last read. */
  low = 0;
  high = 0;
  /** Of the tag last read. */
  field = 0;
  type = 0;
  /** Of the length-delimited value last read: where it begins. */
  start = 0;

  constructor(
    readonly octets: Uint8Array,
    start: number,
    public end: number,
  ) {
    this.at = start;
  }

  /** At most ten octets; bits beyond 64 are lost, as elsewhere. */
  varint(): void {
    let low = 0;
    let high = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (this.at === this.end) broken('it ends within a number');
      const octet = this.octets[this.at++]!;
      const bits = octet & 0x7f;
      if (shift < 32) low |= bits << shift;
      if (shift === 28) high |= bits >>> 4;
      else if (shift > 28) high |= bits << (shift - 32);
      if (octet < 0x80) {
        this.low = low >>> 0;
        this.high = high >>> 0;
        return;
      }
    }
    broken('a number of more than ten octets');
  }
  tag(): void {
    this.varint();
    if (this.high !== 0 || this.low >>> 3 === 0) broken('a field number out of range');
    this.field = this.low >>> 3;
    this.type = this.low & 7;
  }
  fixed(size: number): number {
    if (this.end - this.at < size) broken('it ends within a field');
    this.at += size;
    return this.at - size;
  }
  /** A length-delimited value lies at [start, at). */
  view(): void {
    this.varint();
    if (this.high !== 0 || this.low > this.end - this.at) broken('it ends within a field');
    this.start = this.at;
    this.at += this.low;
  }
  /** Passes over the value of the tag last read. */
  skip(): void {
    const open: number[] = [];
    for (;;) {
      const { field, type } = this;
      if (type === 0) this.varint();
      else if (type === 1) this.fixed(8);
      else if (type === 5) this.fixed(4);
      else if (type === 2) this.view();
      else if (type === 3) {
        if (open.length === GROUPS_MAX) broken('groups nested too deep');
        open.push(field);
      } else if (type !== 4 || open.pop() !== field) broken(`wire type ${type} of field ${field}`);
      if (open.length === 0) return;
      this.tag();
    }
  }
}

/** Reads a PacketBatch into a batch. Throws SeineError with what is wrong; `head` then has its id where that was read. */
export function fillFromProtobuf(
  batch: PacketBatch,
  octets: Uint8Array,
  start: number,
  end: number,
  head: Uint32Array,
): void {
  const wire = new WireReader(octets, start, end);
  let dataAt = start;
  let dataSize = 0;
  let frames = 0;
  let ports = 0;
  let times = 0;
  head.fill(0);
  // Beyond a batch's rows values are only counted, for the message of the refusal.
  const value = (column: Uint32Array, index: number): void => {
    wire.varint();
    if (index < BATCH_ROWS) column[index] = wire.low;
  };
  const values = (column: Uint32Array, count: number): number => {
    if (wire.type === 0) {
      value(column, count);
      return count + 1;
    }
    wire.view();
    const whole = wire.end;
    wire.end = wire.at;
    wire.at = wire.start;
    while (wire.at < wire.end) value(column, count++);
    wire.end = whole;
    return count;
  };
  while (wire.at < wire.end) {
    wire.tag();
    const { field, type } = wire;
    if (field === 1 && type === 0) {
      wire.varint();
      head[0] = wire.low;
      head[1] = wire.high;
    } else if (field === 2 && type === 2) {
      wire.view();
      dataAt = wire.start;
      dataSize = wire.at - wire.start;
    } else if (field === 3 && (type === 0 || type === 2)) frames = values(batch.length, frames);
    else if (field === 4 && (type === 0 || type === 2)) ports = values(batch.inPort, ports);
    else if (field === 5 && (type === 1 || type === 2)) {
      if (type === 2) wire.view();
      else wire.start = wire.fixed(8);
      if ((wire.at - wire.start) % 8 !== 0) broken('time_ns is no whole number of values');
      for (let at = wire.start; at < wire.at; at += 4) {
        const word = times * 2 + (at - wire.start) / 4;
        if (word < BATCH_ROWS * 2)
          batch.timeNs[word] = octets[at]! | (octets[at + 1]! << 8) | (octets[at + 2]! << 16) | (octets[at + 3]! << 24);
      }
      times += (wire.at - wire.start) / 8;
    } else if (field === 6 && type === 0) {
      wire.varint();
      head[2] = (wire.low | wire.high) !== 0 ? HeadFlag.ReturnPackets : 0;
    } else wire.skip();
  }
  checkCounts(frames, dataSize, ports, times === 0 ? null : times);
  let at = 0;
  for (let row = 0; row < frames; row++) {
    const size = batch.length[row]!;
    batch.offset[row] = at;
    batch.wireLength[row] = size;
    batch.frameOctets[row] = size;
    at = checkFrame(row, size, at, dataSize);
  }
  checkEnd(frames, at, dataSize);
  if (ports === 1) batch.inPort.fill(batch.inPort[0]!, 0, frames);
  if (times !== 0) head[2] = head[2]! | HeadFlag.Timed;
  batch.data.set(octets.subarray(dataAt, dataAt + dataSize));
  batch.count = frames;
}

/** As fillFromProtobuf. Returns the batch's frames, 0 for what is no sound batch within limits. */
export function readProtobuf(
  batch: PacketBatch,
  octets: Uint8Array,
  start: number,
  end: number,
  head: Uint32Array,
): number {
  try {
    fillFromProtobuf(batch, octets, start, end, head);
    return batch.count;
  } catch (error) {
    if (!(error instanceof SeineError)) throw error;
    return 0;
  }
}

// --- verdicts ---

const varintSize = (value: number): number =>
  value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x200000 ? 3 : value < 0x10000000 ? 4 : 5;

/** Writes fields one behind the other. The caller sees to room. */
export class WireWriter {
  constructor(
    readonly octets: Uint8Array,
    public at: number,
  ) {}
  varint(value: number): void {
    while (value > 0x7f) {
      this.octets[this.at++] = (value & 0x7f) | 0x80;
      value >>>= 7;
    }
    this.octets[this.at++] = value;
  }
  varint64(low: number, high: number): void {
    while (high !== 0) {
      this.octets[this.at++] = (low & 0x7f) | 0x80;
      low = ((low >>> 7) | (high << 25)) >>> 0;
      high >>>= 7;
    }
    this.varint(low);
  }
  head(field: number, size: number): void {
    this.varint((field << 3) | 2);
    this.varint(size);
  }
  field(field: number, octets: Uint8Array): void {
    this.head(field, octets.length);
    this.octets.set(octets, this.at);
    this.at += octets.length;
  }
  packed(field: number, values: Uint32Array): void {
    this.head(field, packedSize(values));
    for (const value of values) this.varint(value);
  }
}
export const packedSize = (values: Uint32Array): number => {
  let size = 0;
  for (const value of values) size += varintSize(value);
  return size;
};

/** Writes fields 1 to 6 of a VerdictBatch at `at`. Returns the octets written, at most verdictsBound(count). */
export function writeProtobuf(
  batch: PacketBatch,
  count: number,
  head: Uint32Array,
  out: Uint8Array,
  at: number,
): number {
  const writer = new WireWriter(out, at);
  if ((head[0]! | head[1]!) !== 0) {
    writer.varint(1 << 3);
    writer.varint64(head[0]!, head[1]!);
  }
  writer.field(2, batch.verdict.subarray(0, count));
  writer.packed(3, batch.outPort.subarray(0, count));
  writer.field(4, batch.dropReason.subarray(0, count));
  writer.field(5, batch.ct.subarray(0, count));
  writer.packed(6, batch.rule.subarray(0, count));
  return writer.at - at;
}
