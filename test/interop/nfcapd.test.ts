/** A real nfcapd receives what we export, and nfdump reads it back. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Exporter, type ExporterConfig } from '../../src/export/exporter.js';
import { receiverBacklog } from '../../src/export/receiver-backlog.js';
import { R, RECORD_WORDS } from '../../src/flow/flow-record.js';
import { NOW_NS, packed, SECOND_NS } from '../unit/export/record.js';
import { havePeers } from './peer.js';

const config = (targets: string[], netflow: Partial<ExporterConfig['netflow']> = {}): ExporterConfig => ({
  ovsBridge: 'br0',
  ovsdb: null,
  netflow: {
    targets,
    engineId: null,
    engineType: null,
    addToInterface: false,
    activeTimeout: 600,
    idleTimeout: 10,
    versions: [5],
    icmpPort: 'destination',
    octets: 'layer3',
    source: null,
    ...netflow,
  },
});

interface Collected {
  file: string;
  /** What nfcapd said. */
  log: string;
}
/** Starts nfcapd; `stop` ends it and says where its file is. */
async function nfcapd(t: TestContext): Promise<{ target: string; stop(): Promise<Collected> }> {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  await once(socket, 'close');
  const folder = mkdtempSync(join(tmpdir(), 'seine-nfcapd-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const child = spawn('nfcapd', ['-b', '127.0.0.1', '-p', String(port), '-w', folder, '-t', '300'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  child.stdout.on('data', (text) => (log += text));
  child.stderr.on('data', (text) => (log += text));
  const ended = once(child, 'close'); // its last lines are read by then
  t.after(() => child.exitCode ?? child.kill('SIGKILL'));
  for (let i = 0; receiverBacklog(port) === null; i++) {
    assert.ok(i < 200 && child.exitCode === null, `nfcapd does not listen: ${log}`);
    await new Promise((done) => setTimeout(done, 25));
  }
  return {
    target: `127.0.0.1:${port}`,
    stop: async () => {
      for (let i = 0; i < 200 && receiverBacklog(port) !== 0; i++) await new Promise((done) => setTimeout(done, 25));
      child.kill('SIGTERM');
      await ended;
      const file = readdirSync(folder).find((name) => /^nfcapd\.\d+$/.test(name));
      assert.ok(file !== undefined, `nfcapd left no file: ${log}`);
      return { file: join(folder, file), log };
    },
  };
}
const nfdump = (file: string, ...args: string[]) =>
  execFileSync('nfdump', ['-r', file, ...args], {
    encoding: 'utf8',
    env: { ...process.env, TZ: 'UTC' },
    maxBuffer: 1 << 28,
  });
/** nfdump -I: "Flows: 3" and so on. */
const summary = ({ file }: Collected) =>
  Object.fromEntries(
    nfdump(file, '-I')
      .split('\n')
      .map((line) => line.split(': ') as [string, string])
      .filter((pair) => pair.length === 2)
      .map(([key, value]) => [key.trim(), Number(value)]),
  );
const assertClean = ({ log, ...rest }: Collected) => {
  assert.equal(summary({ log, ...rest })['Sequence failures'], 0);
  const line = /Total.*|Ident.*/.exec(log)?.[0] ?? '';
  assert.match(log, /Bad Packets: 0|Bad: 0/i, line);
};

test('nfcapd: reads addresses, ports, flags, interfaces, counters, times, ICMP type and code of every record', async (t) => {
  if (!havePeers(t, ['nfcapd', 'nfdump'], 'nfdump')) return;
  const collector = await nfcapd(t);
  const exporter = new Exporter(config([collector.target]), 'replay');
  const startNs = NOW_NS - 61n * SECOND_NS;
  exporter.push(
    packed(
      {
        src: 0x0a000001,
        dst: 0xc0a80102,
        srcPort: 51234,
        dstPort: 443,
        protocol: 6,
        tcpFlags: 0x1b,
        tos: 0xb8,
        packets: 12n,
        octets: 3456n,
        startNs,
        endNs: NOW_NS - SECOND_NS,
        inPort: 3,
        outPort: 1,
      },
      {
        src: 0x0a000003,
        dst: 0x0a000004,
        srcPort: 0,
        dstPort: 3 * 256 + 13,
        protocol: 1,
        tcpFlags: 0,
        packets: 2n,
        octets: 112n,
        inPort: 4,
        outPort: 65533,
      },
      {
        src: 0x0a000005,
        dst: 0xe00000fb,
        srcPort: 5353,
        dstPort: 5353,
        protocol: 17,
        tcpFlags: 0,
        packets: 1n,
        octets: 70n,
        inPort: 5,
        outPort: 65535,
      },
    ),
    NOW_NS,
  );
  await exporter.close();
  const collected = await collector.stop();
  assertClean(collected);
  type Row = Record<string, number | string>;
  const rows = JSON.parse(nfdump(collected.file, '-o', 'json')) as Row[];
  assert.equal(rows.length, 3);
  const pick = (row: Row | undefined, ...keys: string[]) => keys.map((key) => row?.[key]);
  const tcp = rows.find(({ proto }) => proto === 6);
  assert.deepEqual(pick(tcp, 'src4_addr', 'dst4_addr', 'src_port', 'dst_port', 'tcp_flags', 'src_tos'), [
    '10.0.0.1',
    '192.168.1.2',
    51234,
    443,
    '...AP.SF',
    0xb8,
  ]);
  assert.deepEqual(pick(tcp, 'in_packets', 'in_bytes', 'input_snmp', 'output_snmp'), [12, 3456, 3, 1]);
  assert.deepEqual(pick(tcp, 'first', 'last'), ['2023-11-29T05:08:26.123', '2023-11-29T05:09:26.123']);
  const icmp = rows.find(({ proto }) => proto === 1);
  assert.deepEqual(pick(icmp, 'icmp_type', 'icmp_code', 'output_snmp'), [3, 13, 65533]);
  const udp = rows.find(({ proto }) => proto === 17);
  assert.deepEqual(pick(udp, 'dst4_addr', 'src_port', 'dst_port', 'output_snmp'), ['224.0.0.251', 5353, 5353, 65535]);
});

test('nfcapd: sums of counters past 2^32 are exact', async (t) => {
  if (!havePeers(t, ['nfcapd', 'nfdump'], 'nfdump')) return;
  const collector = await nfcapd(t);
  const exporter = new Exporter(config([collector.target]), 'replay');
  const packets = 123_456_789_012n;
  const octets = 98_765_432_109_876n;
  exporter.push(packed({ packets, octets }), NOW_NS);
  await exporter.close();
  const collected = await collector.stop();
  assertClean(collected);
  const totals = summary(collected);
  assert.deepEqual([BigInt(totals.Packets!), BigInt(totals.Bytes!)], [packets, octets]);
});

test('nfcapd: half a million records at full speed: no gap, no bad packet, exact sums', async (t) => {
  if (!havePeers(t, ['nfcapd', 'nfdump'], 'nfdump')) return;
  const collector = await nfcapd(t);
  const exporter = new Exporter(config([collector.target]), 'replay');
  const CHUNK = 20_000;
  const template = packed(...Array.from({ length: CHUNK }, () => ({})));
  const count = 500_000;
  let octets = 0n;
  const began = performance.now();
  for (let from = 0; from < count; from += CHUNK) {
    const words = template.slice();
    for (let i = 0; i < CHUNK; i++) {
      words[i * RECORD_WORDS + R.src] = 0x0a000000 + from + i;
      words[i * RECORD_WORDS + R.octets] = 40 + (i % 1400);
      octets += BigInt(40 + (i % 1400));
    }
    if (!exporter.push(words, NOW_NS)) await exporter.drained();
  }
  await exporter.close();
  const seconds = (performance.now() - began) / 1000;
  t.diagnostic(`${Math.round(count / seconds)} records/s`);
  const collected = await collector.stop();
  assertClean(collected);
  const totals = summary(collected);
  assert.deepEqual([totals.Flows, totals.Packets, BigInt(totals.Bytes!)], [count, count, octets]);
  assert.equal(exporter.stats()[0]!.records, BigInt(count));
});

test('nfcapd: two captures years apart, in one export, are read with their own times', async (t) => {
  if (!havePeers(t, ['nfcapd', 'nfdump'], 'nfdump')) return;
  const collector = await nfcapd(t);
  const exporter = new Exporter(config([collector.target]), 'replay');
  const oldNs = 1_000_000_000n * SECOND_NS;
  exporter.push(
    packed({ src: 1, startNs: oldNs, endNs: oldNs + SECOND_NS, exportNs: oldNs + 11n * SECOND_NS }, { src: 2 }),
    NOW_NS,
  );
  await exporter.close();
  const collected = await collector.stop();
  assertClean(collected);
  const rows = JSON.parse(nfdump(collected.file, '-o', 'json')) as { first: string }[];
  assert.deepEqual(rows.map(({ first }) => first).sort(), ['2001-09-09T01:46:40.000', '2023-11-29T05:09:24.123']);
});

test("nfcapd: nfdump's totals of replayed captures are tshark's, without a sequence error or bad packet", async (t) => {
  if (!havePeers(t, ['nfcapd', 'nfdump', 'tshark'], 'nfdump tshark')) return;
  const folder = mkdtempSync(join(tmpdir(), 'seine-replay-nfcapd-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
  const generate = fileURLToPath(new URL('../../bench/generate-capture.js', import.meta.url));
  const capture = join(folder, 'made.pcap');
  execFileSync(process.execPath, [generate, '--packets', '30000', '--flows', '2500', capture], { stdio: 'ignore' });
  const data = join(
    process.env.SEINE_DATA ?? fileURLToPath(new URL('../../../../shared/data', import.meta.url)),
    'captures',
  );
  // Real captures of IPv4 alone, as v5 knows nothing else.
  const real = [
    'nDPI__pcap__teams.pcap',
    'zeek__icmp__5-pings.pcap',
    'nDPI__pcap__synscan.pcap',
    'zeek__tcp__ssh-dups.pcap',
  ];
  if (!existsSync(data)) t.diagnostic(`NOT TESTED with real captures: none at ${data}`);
  for (const path of [capture, ...real.map((name) => join(data, name)).filter((each) => existsSync(each))]) {
    const collector = await nfcapd(t);
    execFileSync(
      process.execPath,
      [main, 'replay', '--netflow', collector.target, '--summary', join(folder, 's'), path],
      { stdio: 'ignore' },
    );
    const collected = await collector.stop();
    assertClean(collected);
    const rows = execFileSync(
      'tshark',
      [
        '-r',
        path,
        '-o',
        'ip.defragment:FALSE',
        '-Y',
        'ip',
        '-T',
        'fields',
        '-E',
        'occurrence=f',
        '-e',
        'ip.len',
        '-e',
        'icmp.type',
        '-e',
        'icmp.code',
        '-e',
        'ip.proto',
      ],
      { encoding: 'utf8', maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'ignore'] },
    )
      .trim()
      .split('\n')
      .map((line) => line.split('\t'));
    const totals = summary(collected);
    assert.equal(totals.Packets, rows.length, path);
    assert.equal(
      totals.Bytes,
      rows.reduce((sum, [length]) => sum + Number(length), 0),
      path,
    );
    if (path.includes('5-pings')) {
      const pings = nfdump(collected.file, '-q', '-o', 'fmt:%pr %it %ic')
        .trim()
        .split('\n')
        .map((line) => line.trim().split(/\s+/).slice(-2).map(Number));
      assert.deepEqual(pings.map(([type, code]) => [type, code]).sort(), [
        [0, 0],
        [8, 0],
      ]);
    }
  }
});
