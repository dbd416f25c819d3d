/** Rows of kernels against their references: parse, replay of established connections in process. */
import { createHash } from 'node:crypto';
import { PacketBatch } from '../src/batch/packet-batch.js';
import { tcpFrame } from '../src/flow/build-frame.js';
import { nativeKernels, references } from '../src/native/kernels.js';
import { interleaved, type Row, type RowGroup, rounded } from './harness.js';

const ROWS = 256;

function fill(batch: PacketBatch): void {
  const mac = new Uint8Array(6);
  let at = 0;
  for (let row = 0; row < ROWS; row++) {
    const frame = tcpFrame({
      srcMac: mac,
      dstMac: mac,
      src: `10.0.${row & 7}.1`,
      dst: '10.1.0.2',
      srcPort: 1024 + row,
      dstPort: 80,
      payload: 10,
      seq: row,
      ack: 1,
      flags: 16,
    });
    batch.data.set(frame, at);
    batch.offset[row] = at;
    batch.length[row] = frame.length;
    batch.wireLength[row] = frame.length;
    batch.frameOctets[row] = frame.length;
    at += frame.length;
  }
  batch.count = ROWS;
}

export const kernels: RowGroup = {
  rows: ['parse, 256 × 64 octets TCP'],
  async run(quick): Promise<Row[]> {
    const native = nativeKernels();
    const batch = new PacketBatch();
    fill(batch);
    const rounds = quick ? 3 : 15;
    const calls = quick ? 200 : 4000;
    const time = (parse: (batch: PacketBatch, first: number, count: number) => void) => {
      const started = process.hrtime.bigint();
      for (let i = 0; i < calls; i++) parse(batch, 0, ROWS);
      return Number(process.hrtime.bigint() - started) / calls / ROWS;
    };
    const digestOf = (parse: (batch: PacketBatch, first: number, count: number) => void) => {
      parse(batch, 0, ROWS);
      return createHash('sha256').update(batch.block).digest('hex').slice(0, 16);
    };
    const digest = digestOf(native.parseRows);
    if (digestOf(references.parseRows) !== digest) throw new Error('parse: native and reference differ');
    const { a, b, ratio } = await interleaved(
      rounds,
      () => time(native.parseRows),
      () => time(references.parseRows),
    );
    return [
      {
        row: this.rows[0]!,
        value: rounded(a),
        unit: 'ns/packet',
        baseline: 'its TypeScript reference',
        baselineValue: rounded(b),
        ratio: rounded(ratio),
        target: 'ratio ≤ 1',
        met: ratio <= 1,
        digest,
      },
    ];
  },
};
