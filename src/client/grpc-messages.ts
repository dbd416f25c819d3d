/** PacketBatch and VerdictBatch on the client's side: columns to octets and back, without an object or a number a packet. */
import { packedSize, WireReader, WireWriter } from '../batch/protobuf.js';
import type { BatchInput, BatchOutput } from '../engine/engine-view.js';

/** Octets of an id that is written with room for any below 2^35: `writeBatchId` changes it in place. */
const ID_SIZE = 5;

/** Writes another id into a message of `encodePacketBatch`. */
export function writeBatchId(message: Uint8Array, id: number): void {
  for (let i = 0; i < ID_SIZE; i++)
    message[1 + i] = (Math.floor(id / 2 ** (7 * i)) & 0x7f) | (i < ID_SIZE - 1 ? 0x80 : 0);
}

/** A PacketBatch message; `id` is below 2^35. */
export function encodePacketBatch(id: number, batch: BatchInput): Buffer {
  const { data, length, time } = batch;
  const inPort = typeof batch.inPort === 'number' ? Uint32Array.of(batch.inPort) : batch.inPort;
  const times = time === undefined ? 0 : time.byteLength;
  const octets = Buffer.allocUnsafe(64 + data.length + packedSize(length) + packedSize(inPort) + times);
  octets[0] = 1 << 3;
  writeBatchId(octets, id);
  const writer = new WireWriter(octets, 1 + ID_SIZE);
  writer.field(2, data);
  writer.packed(3, length);
  writer.packed(4, inPort);
  if (time !== undefined) {
    writer.head(5, times);
    for (const value of time) writer.at = octets.writeBigUInt64LE(value, writer.at);
  }
  if (batch.returnPackets) {
    writer.varint(6 << 3);
    writer.varint(1);
  }
  return octets.subarray(0, writer.at);
}

/** A growing list of numbers. */
class Words {
  private words = new Uint32Array(256);
  private count = 0;
  /** Of the field whose tag `wire` has just read: packed or one. */
  take(wire: WireReader): void {
    if (wire.type === 0) {
      wire.varint();
      this.push(wire.low);
      return;
    }
    wire.view();
    const { at, start, end } = wire;
    wire.at = start;
    wire.end = at;
    while (wire.at < wire.end) {
      wire.varint();
      this.push(wire.low);
    }
    wire.end = end;
  }
  private push(value: number): void {
    if (this.count === this.words.length) {
      const larger = new Uint32Array(this.count * 2);
      larger.set(this.words);
      this.words = larger;
    }
    this.words[this.count++] = value;
  }
  get(): Uint32Array {
    return this.words.slice(0, this.count);
  }
}

/** Reads a VerdictBatch message. Throws SeineError for what is none. */
export function decodeVerdictBatch(octets: Buffer, returnPackets: boolean): Omit<BatchOutput, 'stage'> {
  const wire = new WireReader(octets, 0, octets.length);
  const [outPort, rule, length] = [new Words(), new Words(), new Words()];
  const bytes: Record<number, Uint8Array> = {};
  let emit: BatchOutput['emit'];
  while (wire.at < wire.end) {
    wire.tag();
    const { field, type } = wire;
    const words = field === 3 ? outPort : field === 6 ? rule : field === 8 ? length : null;
    if (words !== null && (type === 0 || type === 2)) words.take(wire);
    else if (type === 2 && (field === 2 || field === 4 || field === 5 || field === 7)) {
      wire.view();
      bytes[field] = octets.subarray(wire.start, wire.at);
    } else if (type === 2 && field === 9) {
      wire.view();
      emit = decodeEmission(octets, wire.start, wire.at);
    } else wire.skip();
  }
  const none = new Uint8Array(0);
  return {
    verdict: bytes[2] ?? none,
    outPort: outPort.get(),
    reason: bytes[4] ?? none,
    ct: bytes[5] ?? none,
    rule: rule.get(),
    ...(returnPackets ? { data: bytes[7] ?? none, dataLength: length.get() } : {}),
    ...(emit === undefined ? {} : { emit }),
  };
}

function decodeEmission(octets: Buffer, start: number, end: number): NonNullable<BatchOutput['emit']> {
  const wire = new WireReader(octets, start, end);
  const [outPort, length] = [new Words(), new Words()];
  let data: Uint8Array = new Uint8Array(0);
  while (wire.at < wire.end) {
    wire.tag();
    const words = wire.field === 1 ? outPort : wire.field === 2 ? length : null;
    if (words !== null && (wire.type === 0 || wire.type === 2)) words.take(wire);
    else if (wire.field === 3 && wire.type === 2) {
      wire.view();
      data = octets.subarray(wire.start, wire.at);
    } else wire.skip();
  }
  return { outPort: outPort.get(), length: length.get(), data };
}
