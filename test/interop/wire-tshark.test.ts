/** tshark reads what our writers write: no header malformed, every checksum right, the fields that Parse finds. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Kind, NO_VLAN } from '../../src/batch/packet-batch.js';
import { parseRows } from '../../src/batch/parse.js';
import { formatAddress } from '../../src/flow/ip-address.js';
import { IgmpType, writeIgmp } from '../../src/wire/igmp.js';
import { NextHeader } from '../../src/wire/ipv6.js';
import { writeMld } from '../../src/wire/mld.js';
import { maximumSegmentSize, windowScale } from '../../src/wire/tcp.js';
import {
  arp,
  carriedPacket,
  fragments4,
  fragments6,
  geneve4,
  gre4,
  hex,
  icmp4,
  icmp6,
  ip4,
  loadBatch,
  nd,
  neighbourAdvertisement,
  neighbourSolicitation,
  Protocol,
  sctp4,
  sctp6,
  sealed6,
  tagged,
  tcp4,
  tcp6,
  udp4,
  udp6,
  vxlan4,
  words,
} from '../unit/frames.js';

const payload = hex('00112233445566778899aabbccddeeff01');
const options = [maximumSegmentSize(1460), windowScale(9)];
const extensions = [
  { type: NextHeader.HopByHop, content: hex('0502 0000') }, // router alert
  { type: NextHeader.DestinationOptions },
  { type: NextHeader.Fragment, fragment: { offset: 0, more: false, id: 3 } },
];
function message(write: (out: Uint8Array) => number): Uint8Array {
  const out = new Uint8Array(500);
  return out.slice(0, write(out));
}
const group = words('ff02::16');

const FRAMES: Record<string, Uint8Array> = {
  tcp4: tcp4({ options, payload }),
  'tcp4 with IP options': tcp4({ ipOptions: hex('94040000'), flags: 'PA', ack: 77, payload }),
  tcp6: tcp6({ options, payload }),
  'tcp6 behind extension headers': tcp6({ extensions, payload }),
  udp4: udp4({ sport: 5000, dport: 5001, payload }),
  udp6: udp6({ sport: 5000, dport: 5001, payload }),
  'udp6 behind extension headers': udp6({ extensions, sport: 5000, dport: 5001, payload }),
  sctp4: sctp4(),
  sctp6: sctp6({ tag: 9, chunks: [{ type: 0, flags: 3, data: hex('00000001 0000 0000 00000000 616263') }] }),
  'icmp4 echo': icmp4({ payload }),
  'icmp4 error': icmp4({
    type: 3,
    code: 4,
    rest: 1400,
    payload: carriedPacket(udp4({ sport: 5000, dport: 5001, payload })),
  }),
  'icmp6 echo': icmp6({ payload }),
  'icmp6 error': icmp6({ type: 2, rest: 1280, payload: carriedPacket(udp6({ sport: 5000, dport: 5001, payload })) }),
  'neighbour solicitation': neighbourSolicitation({
    target: 'fd00::2',
    dst: 'ff02::1:ff00:2',
    dstMac: '33:33:ff:00:00:02',
  }),
  'neighbour advertisement': neighbourAdvertisement({ target: 'fd00::1' }),
  'router solicitation': nd(
    { type: 133, options: [{ type: 1, data: hex('020000000001') }] },
    { src: 'fe80::1', dst: 'ff02::2' },
  ),
  'router advertisement': nd(
    {
      type: 134,
      hopLimit: 64,
      flags: 0,
      routerLifetimeS: 1800,
      reachableTimeMs: 0,
      retransTimerMs: 0,
      options: [{ type: 5, data: hex('0000 000005dc') }],
    },
    { src: 'fe80::1', dst: 'ff02::1' },
  ),
  redirect: nd(
    { type: 137, target: words('fe80::2'), destination: words('2001:db8::1'), options: [] },
    { src: 'fe80::1' },
  ),
  'MLD report': sealed6(
    Protocol.Icmp6,
    message((out) => writeMld(out, 0, { version: 1, type: 131, maxResponseDelayMs: 0, group })),
    { src: 'fe80::1', dst: 'ff02::16', hopLimit: 1 },
  ),
  'MLDv2 query': sealed6(
    Protocol.Icmp6,
    message((out) =>
      writeMld(out, 0, {
        version: 2,
        type: 130,
        maxResponseCode: 1000,
        group,
        robustness: 2,
        queryIntervalCode: 125,
        sources: [words('fd00::9')],
      }),
    ),
    { src: 'fe80::1', dst: 'ff02::16', hopLimit: 1 },
  ),
  'MLDv2 report': sealed6(
    Protocol.Icmp6,
    message((out) =>
      writeMld(out, 0, { version: 2, type: 143, records: [{ type: 4, group, sources: [words('fd00::9')] }] }),
    ),
    { src: 'fe80::1', dst: 'ff02::16', hopLimit: 1 },
  ),
  'IGMPv2 report': ip4(
    Protocol.Igmp,
    message((out) => writeIgmp(out, 0, { version: 2, type: IgmpType.Report2, maxResponse: 0, group: 0xe00000fb })),
    { dst: '224.0.0.251', ttl: 1 },
  ),
  'IGMPv3 report': ip4(
    Protocol.Igmp,
    message((out) =>
      writeIgmp(out, 0, {
        version: 3,
        type: IgmpType.Report3,
        records: [{ type: 4, group: 0xe00000fb, sources: [1] }],
      }),
    ),
    { dst: '224.0.0.22', ttl: 1 },
  ),
  arp: arp(),
  'one VLAN tag': tcp4({ vlan: 100, payload }),
  'two VLAN tags': tagged(udp6({ vlan: 100, sport: 5000, dport: 5001, payload }), 200, 0x88a8),
  vxlan: vxlan4(tcp4({ payload }), { vni: 5 }),
  geneve: geneve4(tcp6({ payload }), { vni: 6 }),
  gre: gre4(udp4({ sport: 5000, dport: 5001, payload }), { key: 7 }),
  ...Object.fromEntries(
    fragments4(udp4({ id: 5, sport: 5000, dport: 5001, payload: new Uint8Array(50) }), 24).map((f, i) => [
      `IPv4 fragment ${i}`,
      f,
    ]),
  ),
  ...Object.fromEntries(
    fragments6(udp6({ sport: 5000, dport: 5001, payload: new Uint8Array(50) }), 24, 6).map((f, i) => [
      `IPv6 fragment ${i}`,
      f,
    ]),
  ),
};

/** A pcap file (link type Ethernet, microseconds, little-endian). */
function pcap(frames: readonly Uint8Array[]): Buffer {
  const word = (...values: number[]) => Buffer.from(Uint32Array.from(values).buffer);
  const head = word(0xa1b2c3d4, 0x00040002, 0, 0, 0x40000, 1);
  return Buffer.concat([head, ...frames.flatMap((frame, i) => [word(i, 0, frame.length, frame.length), frame])]);
}

const CHECKSUMS = ['ip', 'tcp', 'udp', 'sctp', 'icmp', 'icmpv6', 'igmp'].map((name) => `${name}.checksum.status`);
const FIELDS = [
  ...CHECKSUMS,
  ...['_ws.malformed', 'ieee8021ad.id', 'vlan.id', 'ip.src', 'ip.dst', 'ip.len', 'ipv6.src', 'ipv6.dst', 'ipv6.plen'],
  ...['tcp.srcport', 'tcp.dstport', 'tcp.seq_raw', 'tcp.ack_raw', 'tcp.window_size_value', 'tcp.flags', 'tcp.len'],
  ...[
    'udp.srcport',
    'udp.dstport',
    'sctp.srcport',
    'sctp.dstport',
    'icmp.type',
    'icmp.code',
    'icmpv6.type',
    'icmpv6.code',
  ],
  ...['tcp.options.wscale.shift', 'ip.frag_offset', 'ipv6.fraghdr.offset', 'ip.ttl', 'ipv6.hlim'],
];

test('wire: tshark finds nothing malformed, every checksum right, and the fields that Parse finds', (t) => {
  if (spawnSync('tshark', ['--version']).status !== 0) {
    if (process.env.CI === 'true') throw new Error('tshark is missing: install it with apt-get install tshark');
    t.skip('NOT RUN: tshark is missing');
    return;
  }
  const names = Object.keys(FRAMES);
  const frames = Object.values(FRAMES);
  const folder = mkdtempSync(join(tmpdir(), 'seine-wire-'));
  try {
    const file = join(folder, 'frames.pcap');
    writeFileSync(file, pcap(frames));
    const preferences = [
      'ip.check_checksum:TRUE',
      'tcp.check_checksum:TRUE',
      'udp.check_checksum:TRUE',
      'sctp.checksum:CRC 32c',
      'ip.defragment:FALSE',
      'ipv6.defragment:FALSE',
      'tcp.relative_sequence_numbers:FALSE',
    ];
    const args = [
      '-n',
      '-r',
      file,
      ...preferences.flatMap((name) => ['-o', name]),
      '-T',
      'fields',
      '-E',
      'occurrence=a',
      '-E',
      'separator=;',
      '-E',
      'aggregator=,',
    ];
    const run = spawnSync('tshark', [...args, ...FIELDS.flatMap((field) => ['-e', field])], { encoding: 'utf8' });
    assert.equal(run.status, 0, run.stderr);
    const lines = run.stdout.split('\n').slice(0, frames.length);
    assert.equal(lines.length, frames.length);
    const batch = loadBatch(frames);
    parseRows(batch, 0, frames.length);
    for (const [row, line] of lines.entries()) {
      const name = names[row]!;
      const columns = line.split(';');
      const all = (field: string) => columns[FIELDS.indexOf(field)]!.split(',').filter((value) => value !== '');
      // The first occurrence is the outermost header's, which is what Parse sees; an ICMP error's own is first as well.
      const first = (field: string) => (all(field).length === 0 ? undefined : Number(all(field)[0]));
      assert.deepEqual(all('_ws.malformed'), [], name);
      // 1 good, 2 not checked: the copies in ICMP errors, in fragments, and outer UDP of 0.
      for (const field of CHECKSUMS) for (const status of all(field)) assert.notEqual(status, '0', `${name}: ${field}`);
      const transport = CHECKSUMS.slice(1).some((field) => all(field)[0] === '1');
      const exempt = /fragment|arp|gre/.test(name);
      assert.ok(transport || exempt, `${name}: tshark checked a transport checksum`);
      assert.equal(batch.vlan[row], first('ieee8021ad.id') ?? first('vlan.id') ?? NO_VLAN, name);
      if (batch.kind[row] === Kind.NonIp) continue;
      const six = batch.kind[row] === Kind.Ip6;
      assert.equal(formatAddress(batch.address, row * 8, batch.kind[row]!), all(six ? 'ipv6.src' : 'ip.src')[0], name);
      assert.equal(
        formatAddress(batch.address, row * 8 + 4, batch.kind[row]!),
        all(six ? 'ipv6.dst' : 'ip.dst')[0],
        name,
      );
      assert.equal(batch.ipLength[row], six ? first('ipv6.plen')! + 40 : first('ip.len'), name);
      assert.equal(batch.ttl[row], first(six ? 'ipv6.hlim' : 'ip.ttl'), name);
      const prefix = { 6: 'tcp', 17: 'udp', 132: 'sctp' }[batch.protocol[row]!];
      const later = /fragment [1-9]/.test(name);
      if (prefix !== undefined && !later) {
        assert.equal(batch.srcPort[row], first(`${prefix}.srcport`), name);
        assert.equal(batch.dstPort[row], first(`${prefix}.dstport`), name);
      }
      if (prefix === 'tcp') {
        assert.equal(batch.tcpSeq[row], first('tcp.seq_raw'), name);
        assert.equal(batch.tcpAck[row], first('tcp.ack_raw'), name);
        assert.equal(batch.tcpWindow[row], first('tcp.window_size_value'), name);
        assert.equal(batch.tcpFlags[row], first('tcp.flags'), name);
        assert.equal(batch.payloadLength[row], first('tcp.len'), name);
        if (first('tcp.options.wscale.shift') !== undefined)
          assert.equal(batch.wscale[row], first('tcp.options.wscale.shift'), name);
      }
      const icmp = { 1: 'icmp', 58: 'icmpv6' }[batch.protocol[row]!];
      if (icmp !== undefined)
        assert.equal(batch.dstPort[row], first(`${icmp}.type`)! * 256 + first(`${icmp}.code`)!, name);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
