/** Rows of the export: flow records encoded, and what a real nfcapd on loopback gets of 100,000 a second. */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defaultConfig } from '../src/config/default-config.js';
import { Exporter } from '../src/export/exporter.js';
import { Netflow5Encoder } from '../src/export/netflow5.js';
import { R, RECORD_WORDS } from '../src/flow/flow-record.js';
import { median, type Row, type RowGroup, rounded } from './harness.js';
import { isInstalled } from './programs.js';

const ENCODE = 'export: flow records encoded as NetFlow v5';
const NFCAPD = 'export: 100,000 records/s to nfcapd on loopback, none lost';
const NOW_NS = 1_700_000_100_000_000_000n;
const SETTINGS = {
  engineId: 1,
  engineType: 2,
  addToInterface: false,
  icmpPort: 'destination',
  octets: 'layer3',
} as const;
const RATE = 100_000;
const TICK_MS = 10;

/** Distinct records of short IPv4 flows, seeded. */
function makeRecords(count: number): Uint32Array {
  const words = new Uint32Array(count * RECORD_WORDS);
  let state = 1;
  const next = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state;
  };
  const time = (at: number, ns: bigint): void => {
    words[at] = Number(ns & 0xffffffffn);
    words[at + 1] = Number(ns >> 32n);
  };
  for (let record = 0; record < count; record++) {
    const at = record * RECORD_WORDS;
    words[at + R.src] = (0x0a000000 | record) >>> 0;
    words[at + R.dst] = next();
    words[at + R.ports] = next();
    words[at + R.protocol] = (record % 3 === 0 ? 17 : 6) | (0x1b << 16);
    words[at + R.interfaces] = 3 | (1 << 16);
    words[at + R.verdict] = 4 | (1 << 8);
    words[at + R.packets] = 1 + (next() >>> 20);
    words[at + R.octets] = 60 * words[at + R.packets]!;
    const start = NOW_NS - BigInt(next() >>> 2);
    time(at + R.start, start);
    time(at + R.end, start + BigInt(next() >>> 8));
    time(at + R.export, NOW_NS);
  }
  return words;
}

export const exportRows: RowGroup = {
  rows: [ENCODE, NFCAPD],
  async run(quick): Promise<Row[]> {
    const rows = [encode(quick)];
    if (isInstalled('nfcapd', 'nfdump') && isInstalled('nfdump', 'nfdump')) rows.push(await toNfcapd(quick));
    return rows;
  },
};

function encode(quick: boolean): Row {
  const count = quick ? 3000 : 300_000;
  const words = makeRecords(count);
  const rates: number[] = [];
  let digest = '';
  for (let round = 0; round < (quick ? 1 : 7); round++) {
    const hash = createHash('sha256');
    let written = 0;
    const encoder = new Netflow5Encoder(
      SETTINGS,
      ({ octets, records }) => {
        written += records;
        // Only the first round looks at them: the others are timed.
        if (round === 0) hash.update(octets);
      },
      () => {},
    );
    const started = process.hrtime.bigint();
    // As the ring of records hands them over: some thousands at a time.
    for (let at = 0; at < words.length; at += 4096 * RECORD_WORDS)
      encoder.push(words.subarray(at, at + 4096 * RECORD_WORDS), NOW_NS);
    encoder.flush();
    const seconds = Number(process.hrtime.bigint() - started) / 1e9;
    if (written !== count) throw new Error(`${written} of ${count} records were encoded`);
    if (round === 0) digest = `sha256 ${hash.digest('hex').slice(0, 16)} of ${count} records`;
    if (round > 0 || quick) rates.push(count / seconds / 1e6);
  }
  const value = median(rates);
  return {
    row: ENCODE,
    value: rounded(value),
    unit: 'M records/s',
    baseline: null,
    baselineValue: null,
    ratio: null,
    target: '≥ 1',
    met: quick || value >= 1,
    digest,
  };
}

async function toNfcapd(quick: boolean): Promise<Row> {
  const folder = mkdtempSync(join(tmpdir(), 'seine-bench-'));
  const port = await freePort();
  const collector = spawn('nfcapd', ['-w', folder, '-p', String(port), '-b', '127.0.0.1'], { stdio: 'ignore' });
  try {
    await listens(port);
    const seconds = quick ? 0.2 : 3;
    const words = makeRecords(RATE * seconds);
    const exporter = new Exporter(
      { ...defaultConfig(1), netflow: { ...defaultConfig(1).netflow, targets: [`127.0.0.1:${port}`] } },
      'serve',
    );
    const perTick = (RATE * TICK_MS) / 1000;
    const started = performance.now();
    for (let sent = 0; sent < RATE * seconds; ) {
      // By the clock, so that a late timer is made up for.
      const due = Math.min(RATE * seconds, Math.floor(((performance.now() - started) / TICK_MS + 1) * perTick));
      exporter.push(words.subarray(sent * RECORD_WORDS, due * RECORD_WORDS), NOW_NS);
      sent = due;
      await new Promise((resolve) => setTimeout(resolve, TICK_MS));
    }
    await exporter.close();
    const took = (performance.now() - started) / 1000;
    collector.kill('SIGTERM');
    await once(collector, 'exit');
    const flows = readdirSync(folder)
      .filter((name) => name.startsWith('nfcapd.'))
      .reduce((sum, name) => sum + flowsIn(join(folder, name)), 0);
    const lost = RATE * seconds - flows;
    return {
      row: NFCAPD,
      value: rounded(flows / took),
      unit: 'records/s',
      baseline: null,
      baselineValue: null,
      ratio: null,
      target: '0 lost',
      met: lost === 0,
      digest: `nfdump counts ${flows} of ${RATE * seconds}: ${lost} lost`,
    };
  } finally {
    if (collector.exitCode === null) collector.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}

const flowsIn = (file: string): number => {
  const { stdout } = spawnSync('nfdump', ['-r', file, '-I'], { encoding: 'utf8' });
  return Number(/^Flows: (\d+)/m.exec(stdout)?.[1] ?? 0);
};

async function freePort(): Promise<number> {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  return port;
}
/** Waits until something receives on the port, as /proc/net/udp shows. */
async function listens(port: number): Promise<void> {
  const { receiverBacklog } = await import('../src/export/receiver-backlog.js');
  for (const last = Date.now() + 5000; receiverBacklog(port) === null; ) {
    if (Date.now() > last) throw new Error(`nfcapd does not listen on port ${port}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
