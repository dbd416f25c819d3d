/** Packed flow records for tests: `packed` fills in what a test does not care about. */
import { R, RECORD_WORDS } from '../../../src/flow/flow-record.js';

export interface TestRecord {
  family?: 4 | 6;
  src?: number;
  dst?: number;
  srcPort?: number;
  dstPort?: number;
  protocol?: number;
  tos?: number;
  tcpFlags?: number;
  inPort?: number;
  outPort?: number;
  packets?: bigint;
  octets?: bigint;
  frameOctets?: bigint;
  startNs?: bigint;
  endNs?: bigint;
  exportNs?: bigint;
}
/** 2023-11-29T05:09:27.123456789Z */
export const NOW_NS = 1_701_234_567_123_456_789n;
export const SECOND_NS = 1_000_000_000n;

export function packed(...records: TestRecord[]): Uint32Array {
  const words = new Uint32Array(records.length * RECORD_WORDS);
  const put64 = (at: number, value: bigint) => {
    words[at] = Number(value & 0xffffffffn);
    words[at + 1] = Number(value >> 32n);
  };
  records.forEach((record, index) => {
    const at = index * RECORD_WORDS;
    words[at + R.src] = record.src ?? 0x0a000001;
    words[at + R.dst] = record.dst ?? 0x0a000002;
    words[at + R.ports] = ((record.srcPort ?? 40000) | ((record.dstPort ?? 80) << 16)) >>> 0;
    words[at + R.protocol] =
      ((record.protocol ?? 6) | ((record.tos ?? 0) << 8) | ((record.tcpFlags ?? 0x1b) << 16)) >>> 0;
    words[at + R.interfaces] = ((record.inPort ?? 3) | ((record.outPort ?? 1) << 16)) >>> 0;
    words[at + R.verdict] = record.family ?? 4;
    put64(at + R.packets, record.packets ?? 1n);
    put64(at + R.octets, record.octets ?? 40n);
    put64(at + R.frameOctets, record.frameOctets ?? 54n);
    put64(at + R.start, record.startNs ?? NOW_NS - 3n * SECOND_NS);
    put64(at + R.end, record.endNs ?? record.startNs ?? NOW_NS - SECOND_NS);
    put64(at + R.export, record.exportNs ?? NOW_NS);
  });
  return words;
}
