/**
 * Rows of `seine replay --netflow`: a generated capture of TCP and UDP flows, file reading, start-up and export included, as
 * processor time of the whole process; held against softflowd and nfpcapd with their defaults on the same file, in turn. A sink
 * of our own takes seine's records: their packets and octets must be the capture's, and none lost.
 */
import { once } from 'node:events';
import { closeSync, mkdirSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { median, type Row, type RowGroup, rounded } from './harness.js';
import { anonymousPeak, costOf, isInstalled } from './programs.js';

const MAIN = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const GENERATE = fileURLToPath(new URL('./generate-capture.js', import.meta.url));

const TITLE = 'seine replay --netflow of 5 M packets, 265 k flows, file reading included';
const MEMORY = `${TITLE}: anonymous memory`;
const CPU_MAX_NS = 130;
const RATIO_MIN = 12;
const MEMORY_MAX = 150e6;
const ROUNDS = 3;

interface Program {
  name: string;
  command: string;
  debianPackage: string;
  args(capture: string, folder: string, port: number): string[];
}
const PROGRAMS: readonly Program[] = [
  {
    name: 'softflowd -r',
    command: 'softflowd',
    debianPackage: 'softflowd',
    args: (capture, _folder, port) => ['-d', '-r', capture, '-n', `127.0.0.1:${port}`],
  },
  {
    name: 'nfpcapd -r',
    command: 'nfpcapd',
    debianPackage: 'nfdump',
    args: (capture, folder) => ['-r', capture, '-w', join(folder, 'nfpcapd')],
  },
];

export const replay: RowGroup = {
  rows: [...PROGRAMS.map(({ command }) => `${TITLE}, against ${command}`), MEMORY],
  async run(quick): Promise<Row[]> {
    const folder = mkdtempSync(join(tmpdir(), 'seine-bench-'));
    const memory = new SharedArrayBuffer(24);
    const counts = new Int32Array(memory, 0, 2);
    const sums = new BigInt64Array(memory, 8, 2);
    const sink = new Worker(new URL('./netflow-sink.js', import.meta.url), { workerData: memory });
    try {
      const [port] = (await once(sink, 'message')) as [number];
      const capture = join(folder, 'c.pcap');
      mkdirSync(join(folder, 'nfpcapd'));
      const [packets, flows] = quick ? [50_000, 2650] : [5_000_000, 265_000];
      await costOf(process.execPath, [GENERATE, '--packets', String(packets), '--flows', String(flows), capture]);
      const whole = sumsOf(capture);
      const command = [MAIN, 'replay', '--summary', '-', '--netflow', `127.0.0.1:${port}`, capture];

      let records = 0;
      const replayed = async (): Promise<number> => {
        counts.fill(0);
        sums.fill(0n);
        const { cpuSeconds, stdout } = await costOf(process.execPath, command);
        const summary = JSON.parse(stdout) as { packets: number; flowRecords: number };
        records = summary.flowRecords;
        // What it sent lies in the sink's buffer at the latest.
        for (const last = Date.now() + 5000; counts[1]! < records && Date.now() < last; )
          await new Promise((resolve) => setTimeout(resolve, 5));
        if (counts[1] !== records) throw new Error(`the sink has ${counts[1]} of ${records} records`);
        if (summary.packets !== packets || sums[0] !== whole.packets || sums[1] !== whole.octets)
          throw new Error(`the sink's sums are ${sums.join(', ')}, the capture's ${whole.packets}, ${whole.octets}`);
        return cpuSeconds;
      };

      const programs = PROGRAMS.filter(({ command: name, debianPackage }) => isInstalled(name, debianPackage));
      const ours: number[] = [];
      const theirs = programs.map((): number[] => []);
      for (let round = 0; round < (quick ? 1 : ROUNDS); round++) {
        ours.push(await replayed());
        for (const [i, { command: name, args }] of programs.entries())
          theirs[i]!.push((await costOf(name, args(capture, folder, port))).cpuSeconds);
      }
      const digest = `${records} records: the capture's ${whole.packets} packets, ${whole.octets} octets`;
      const perPacket = (seconds: readonly number[]) => (median(seconds) / packets) * 1e9;
      const value = perPacket(ours);
      const row = (name: string, baseline: string | null, baselineNs: number | null): Row => {
        const ratio = baselineNs === null ? null : baselineNs / value;
        return {
          row: name,
          value: rounded(value),
          unit: 'ns of CPU/packet',
          baseline,
          baselineValue: baselineNs === null ? null : rounded(baselineNs),
          ratio: ratio === null ? null : rounded(ratio),
          target: `≤ ${CPU_MAX_NS}${baseline === null ? '' : `, ≥ ${RATIO_MIN} ×`}`,
          met: quick || (value <= CPU_MAX_NS && (ratio === null || ratio >= RATIO_MIN)),
          digest,
        };
      };
      const rows = programs.map(({ name, command: program }, i) =>
        row(`${TITLE}, against ${program}`, name, perPacket(theirs[i]!)),
      );
      if (rows.length === 0) rows.push(row(TITLE, null, null));
      const peak = await anonymousPeak(process.execPath, command);
      return [
        ...rows,
        {
          row: MEMORY,
          value: rounded(peak / 1e6),
          unit: 'MB',
          baseline: null,
          baselineValue: null,
          ratio: null,
          target: `≤ ${MEMORY_MAX / 1e6}`,
          met: quick || (peak > 0 && peak <= MEMORY_MAX),
          digest,
        },
      ];
    } finally {
      await sink.terminate();
      rmSync(folder, { recursive: true, force: true });
    }
  },
};

/** Packets of a pcap file of IPv4 over Ethernet, and the sum of their total lengths, by a walk of its own. */
function sumsOf(path: string): { packets: bigint; octets: bigint } {
  const FILE_HEADER_SIZE = 24,
    RECORD_HEADER_SIZE = 16,
    TOTAL_LENGTH = 16;
  const file = openSync(path, 'r');
  const piece = Buffer.alloc(1 << 20);
  let held = readSync(file, piece);
  let at = FILE_HEADER_SIZE;
  let packets = 0;
  let octets = 0;
  while (held > 0) {
    while (held - at >= RECORD_HEADER_SIZE) {
      const size = RECORD_HEADER_SIZE + piece.readUInt32LE(at + 8);
      if (held - at < size) break;
      octets += piece.readUInt16BE(at + RECORD_HEADER_SIZE + TOTAL_LENGTH);
      packets++;
      at += size;
    }
    piece.copyWithin(0, at, held);
    const left = held - at;
    const read = readSync(file, piece, left, piece.length - left, null);
    held = read === 0 ? 0 : left + read;
    at = 0;
  }
  closeSync(file);
  return { packets: BigInt(packets), octets: BigInt(octets) };
}
