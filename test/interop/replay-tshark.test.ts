/**
 * Flow records of real captures against tshark's own reading of them: packets and layer-3 octets per source, destination and
 * protocol, of the packets that contract §1 calls sound. tshark's ipv6.nxt is the first next header, so IPv6 goes without it.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { runReplay } from '../golden/run-replay.js';

const FIELDS = [
  'frame.protocols',
  'frame.len',
  'frame.cap_len',
  'ip.version',
  'ip.hdr_len',
  'ip.len',
  'ip.checksum',
  'ip.checksum.status',
  'ip.src',
  'ip.dst',
  'ip.proto',
  'ipv6.version',
  'ipv6.plen',
  'ipv6.src',
  'ipv6.dst',
] as const;
type Row = Record<(typeof FIELDS)[number], string>;

const folder = join(
  process.env.SEINE_DATA ?? fileURLToPath(new URL('../../../../shared/data', import.meta.url)),
  'captures',
);
const GOOD_CHECKSUM = '1';

/** Skips loudly; where all peers ought to be, their absence is a failure. */
function absent(t: TestContext, what: string): void {
  if (process.env.CI === 'true' && what.startsWith('tshark')) assert.fail(what);
  t.skip(what);
}

function tshark(capture: string): Row[] {
  const options = ['-o', 'ip.defragment:FALSE', '-o', 'ip.check_checksum:TRUE', '-o', 'ip.tso_support:FALSE'];
  const output = execFileSync(
    'tshark',
    [
      '-r',
      capture,
      ...options,
      '-T',
      'fields',
      '-E',
      'occurrence=f',
      '-E',
      'separator=|',
      ...FIELDS.flatMap((field) => ['-e', field]),
    ],
    { encoding: 'utf8', maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'ignore'] },
  );
  return output
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const values = line.split('|');
      return Object.fromEntries(FIELDS.map((field, i) => [field, values[i] ?? ''])) as Row;
    });
}

/** Octets of link header before an IP header that the frame begins with, at most two tags deep; null where it does not. */
function linkSize(row: Row): number | null {
  const chain = row['frame.protocols'];
  const match = /^(?:(raw)|eth:ethertype((?::(?:vlan|ieee8021ad):ethertype)*)):(?:ip|ipv6)(?::|$)/.exec(chain);
  if (match === null) return null;
  if (match[1] !== undefined) return 0;
  const tags = (match[2] ?? '').split('ethertype').length - 1;
  return tags > 2 ? null : 14 + 4 * tags;
}

/** "src dst protocol" and layer-3 octets of a sound packet, by tshark's fields. */
function sound(row: Row): [string, number] | null {
  const link = linkSize(row);
  if (link === null) return null;
  const onWire = Number(row['frame.len']) - link;
  const captured = Number(row['frame.cap_len']) - link;
  if (/:ipv6(:|$)/.test(row['frame.protocols'].split(':ip:')[0]!) && row['ipv6.src'] !== '') {
    const payload = Number(row['ipv6.plen']);
    if (captured < 40 || payload === 0 || payload + 40 > onWire || row['ipv6.version'] !== '6') return null;
    return [`${row['ipv6.src']} ${row['ipv6.dst']}`, payload + 40];
  }
  if (row['ip.src'] === '' || row['ip.version'] !== '4') return null;
  const header = Number(row['ip.hdr_len']);
  const total = Number(row['ip.len']);
  if (header < 20 || header > total || total > onWire || header > captured) return null;
  if (row['ip.checksum.status'] !== GOOD_CHECKSUM && Number(row['ip.checksum']) !== 0) return null;
  return [`${row['ip.src']} ${row['ip.dst']} ${row['ip.proto']}`, total];
}

function add(sums: Map<string, [number, number]>, key: string, packets: number, octets: number): void {
  const sum = sums.get(key) ?? [0, 0];
  sums.set(key, [sum[0] + packets, sum[1] + octets]);
}
const sorted = (sums: Map<string, [number, number]>) => [...sums].sort(([a], [b]) => (a < b ? -1 : 1));

const captures = existsSync(folder)
  ? readdirSync(folder)
      .filter((name) => /\.(pcap|pcapng|cap)$/.test(name))
      .sort()
  : [];

test('interop: flow records of every capture add up to tshark’s sums of its sound packets', async (t) => {
  if (spawnSync('tshark', ['--version']).error) return absent(t, 'tshark is not installed: no capture is compared');
  if (captures.length === 0)
    return absent(t, `${folder} has no captures (set SEINE_DATA): no capture is compared with tshark`);
  for (const name of captures) {
    await t.test(name, async () => {
      const capture = join(folder, name);
      const rows = tshark(capture);
      const replayed = await runReplay({ captures: [capture] });
      assert.equal(replayed.error, null);
      assert.equal(replayed.summary.packets, rows.length);
      assert.equal(
        replayed.summary.octets,
        rows.reduce((sum, row) => sum + Number(row['frame.len']), 0),
      );
      const expected = new Map<string, [number, number]>();
      for (const row of rows) {
        const found = sound(row);
        if (found !== null) add(expected, found[0], 1, found[1]);
      }
      const actual = new Map<string, [number, number]>();
      for (const { src, dst, protocol, packets, octets } of replayed.flows) {
        add(actual, src.includes(':') ? `${src} ${dst}` : `${src} ${dst} ${protocol}`, packets, octets);
      }
      assert.deepEqual(sorted(actual), sorted(expected));
    });
  }
});
