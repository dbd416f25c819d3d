/** Parse: each column and each fault, and that nothing outside a row's octets is read. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DROP_REASONS } from '../../src/batch/drop-reason.js';
import {
  COLUMN_OFFSET,
  COLUMNS,
  Kind,
  NO_VLAN,
  NO_WSCALE,
  type PacketBatch,
  RowFlag,
} from '../../src/batch/packet-batch.js';
import { parseRows } from '../../src/batch/parse.js';
import { formatAddress } from '../../src/flow/ip-address.js';
import { tupleHash } from '../../src/flow/tuple-hash.js';
import { internetChecksum } from '../../src/wire/checksum.js';
import { EtherType } from '../../src/wire/ethernet.js';
import { NextHeader } from '../../src/wire/ipv6.js';
import { write16 } from '../../src/wire/octets.js';
import { maximumSegmentSize, windowScale } from '../../src/wire/tcp.js';
import { mutateFrame, Random, randomFrame } from '../fuzz/mutate.js';
import {
  arp,
  carriedPacket,
  concat,
  ethernet,
  fragments4,
  fragments6,
  icmp4,
  icmp6,
  ip4,
  ip6,
  loadBatch,
  neighbourSolicitation,
  packet4,
  sctp4,
  tagged,
  tcp4,
  tcp6,
  tcpSegment,
  udp4,
  udp6,
  udpDatagram,
} from './frames.js';

const batch = loadBatch([]);

/** The columns of one row, by name; addresses as text. */
function parse(frame: Uint8Array, wireLength?: number) {
  loadBatch([frame], wireLength === undefined ? { batch } : { batch, wireLength });
  parseRows(batch, 0, 1);
  const row = Object.fromEntries(COLUMNS.map(([name]) => [name, batch[name][0]!])) as Record<
    (typeof COLUMNS)[number][0],
    number
  >;
  return {
    ...row,
    src: formatAddress(batch.address, 0, row.kind),
    dst: formatAddress(batch.address, 4, row.kind),
    fault: DROP_REASONS[row.fault]!,
  };
}
const faultOf = (frame: Uint8Array, wireLength?: number) => parse(frame, wireLength).fault;
const sound = (row: { flags: number }) => (row.flags & RowFlag.Sound) !== 0;
/** A copy with the octets from `at` on changed. */
function changed(frame: Uint8Array, at: number, ...values: number[]): Uint8Array {
  const copy = frame.slice();
  copy.set(values, at);
  return copy;
}
/** An IPv4 header changed at `at` (from the header's start) and its checksum made right again. */
function header4(frame: Uint8Array, at: number, ...values: number[]): Uint8Array {
  const copy = changed(frame, 14 + at, ...values);
  write16(copy, 24, 0);
  write16(copy, 24, internetChecksum(copy, 14, Math.max(20, (copy[14]! & 0xf) * 4)));
  return copy;
}

test('parse: a TCP SYN fills every column', () => {
  const options = [maximumSegmentSize(1460), windowScale(7)];
  const frame = tcp4({
    src: '10.1.2.3',
    dst: '192.0.2.1',
    sport: 40_001,
    dport: 443,
    seq: 0xfffffffe,
    ack: 5,
    window: 1234,
    options,
    tos: 0xb9,
    ttl: 63,
  });
  const row = parse(frame);
  const expected = {
    src: '10.1.2.3',
    dst: '192.0.2.1',
    protocol: 6,
    srcPort: 40_001,
    dstPort: 443,
    tcpSeq: 0xfffffffe,
    tcpAck: 5,
    tcpWindow: 1234,
    tcpFlags: 2,
    wscale: 7,
    tos: 0xb9,
    ttl: 63,
    kind: Kind.Ip4,
    flags: RowFlag.Sound | RowFlag.Transport,
    fault: 'none',
    vlan: NO_VLAN,
    etherType: 0x0800,
    l3Offset: 14,
    l4Offset: 34,
    ipLength: 48,
    payloadLength: 0,
    fragmentId: 0,
  };
  for (const [name, value] of Object.entries(expected)) assert.equal(row[name as keyof typeof row], value, name);
  assert.equal(row.hash, tupleHash(batch.address, 0, 4, 6, 40_001, 443));
});

test('parse: what a stage wrote of the batch before is gone', () => {
  loadBatch([tcp4()], { batch });
  const keep = new Set(['timeNs', 'offset', 'length', 'wireLength', 'frameOctets', 'inPort', 'owner']);
  const resets = [
    'verdict',
    'dropReason',
    'stage',
    'ct',
    'outPort',
    'rule',
    'egressRule',
    'ingressRule',
    'connection',
    'direction',
    'tunnel',
    'rewrite',
  ] as const;
  parseRows(batch, 0, 1);
  const snapshot = () =>
    COLUMNS.filter(([name]) => !keep.has(name)).map(([name, size, per]) => [
      name,
      Buffer.from(batch.block.slice(COLUMN_OFFSET[name], COLUMN_OFFSET[name] + size * per)).toString('hex'),
    ]);
  const clean = snapshot();
  for (const [name, size, per] of COLUMNS)
    if (!keep.has(name)) batch.block.fill(0xee, COLUMN_OFFSET[name], COLUMN_OFFSET[name] + size * per);
  parseRows(batch, 0, 1);
  assert.deepEqual(snapshot(), clean);
  for (const name of resets) assert.equal(batch[name][0], 0, name);
});

test('parse: link headers: tags are looked through, the outermost id is the VLAN, a third tag is non-IP', () => {
  const frame = tcp4();
  for (const tpid of [0x8100, 0x88a8, 0x9100]) {
    const row = parse(tagged(frame, 0xf123, tpid));
    assert.deepEqual([row.vlan, row.l3Offset, row.l4Offset, row.fault], [0x123, 18, 38, 'none']);
  }
  const twice = parse(tagged(tagged(frame, 5), 7, 0x88a8));
  assert.deepEqual([twice.vlan, twice.l3Offset, twice.etherType, sound(twice)], [7, 22, 0x0800, true]);
  const thrice = parse(tagged(tagged(tagged(frame, 5), 6), 7));
  assert.deepEqual([thrice.fault, thrice.kind], ['unsupported-ethertype', Kind.NonIp]);
});

test('parse: MPLS, PPPoE and LLC are non-IP; ARP is ARP', () => {
  for (const type of [0x8847, 0x8864, 46, 0x05ff, 0x88cc]) {
    const row = parse(ethernet(type, packet4(6, tcpSegment())));
    assert.deepEqual(
      [row.kind, row.flags, row.fault, row.hash, row.ipLength],
      [Kind.NonIp, 0, 'unsupported-ethertype', 0, 0],
    );
  }
  const row = parse(arp());
  assert.deepEqual([row.kind, row.fault, row.flags], [Kind.NonIp, 'none', RowFlag.Arp | RowFlag.GroupDestination]);
});

test('parse: group destinations by MAC, IPv4 and IPv6 address', () => {
  const group = (frame: Uint8Array) => (parse(frame).flags & RowFlag.GroupDestination) !== 0;
  assert.ok(
    group(udp4({ dst: '224.0.0.1' })) &&
      group(udp4({ dst: '239.255.255.255' })) &&
      group(udp4({ dst: '255.255.255.255' })),
  );
  assert.ok(!group(udp4({ dst: '223.255.255.255' })) && !group(udp4({ dst: '240.0.0.1' })));
  assert.ok(group(udp6({ dst: 'ff02::1' })) && !group(udp6({ dst: 'fe80::1' })));
  assert.ok(
    group(udp4({ dstMac: 'ff:ff:ff:ff:ff:ff' })) &&
      group(ethernet(46, new Uint8Array(46), { dstMac: '01:80:c2:00:00:00' })),
  );
});

test('parse: a cut link header is frame-truncated', () => {
  assert.equal(faultOf(tcp4().subarray(0, 13)), 'frame-truncated');
  assert.equal(faultOf(new Uint8Array(0)), 'frame-truncated');
  assert.equal(faultOf(tagged(tcp4(), 1).subarray(0, 17)), 'frame-truncated');
  assert.equal(faultOf(tagged(tagged(tcp4(), 1), 2).subarray(0, 21)), 'frame-truncated');
  assert.equal(faultOf(ethernet(46, new Uint8Array(0))), 'unsupported-ethertype');
});

test('parse: each way in which an IPv4 header is unsound has its name', () => {
  const frame = tcp4({ payload: new Uint8Array(10) });
  const cases: [string, Uint8Array, number?][] = [
    ['ip-header-truncated', frame.subarray(0, 33)],
    ['ip-header-truncated', frame.subarray(0, 14), 64],
    ['ip-header-truncated', tcp4({ ipOptions: new Uint8Array(8) }).subarray(0, 40), 62],
    ['ip-bad-version', header4(frame, 0, 0x65)],
    ['ip-bad-version', header4(frame, 0, 0x05)],
    ['ip-bad-header-length', header4(frame, 0, 0x44)],
    ['ip-bad-header-length', header4(frame, 2, 0, 19)],
    ['ip-bad-header-length', header4(frame, 2, 0, 0)],
    ['ip-length-exceeds-frame', header4(frame, 3, 51)],
    ['ip-length-exceeds-frame', header4(frame, 2, 0xff, 0xff)],
    ['ip-bad-checksum', changed(frame, 24, 1, 2)],
  ];
  for (const [fault, octets, wireLength] of cases) {
    const row = parse(octets, wireLength);
    assert.deepEqual([row.fault, row.kind, row.ipLength, row.hash, sound(row)], [fault, Kind.Ip4, 0, 0, false], fault);
  }
});

test("parse: an IPv4 checksum of 0 is not yet filled in, and padding is not the packet's", () => {
  assert.ok(sound(parse(changed(tcp4(), 24, 0, 0))));
  const row = parse(concat(tcp4(), new Uint8Array(6)));
  assert.deepEqual([row.ipLength, row.payloadLength, row.fault], [40, 0, 'none']);
});

test('parse: a snap length that leaves the headers makes nothing malformed', () => {
  const frame = tcp4({ payload: new Uint8Array(1000) });
  const row = parse(frame.subarray(0, 54), frame.length);
  assert.deepEqual([row.fault, row.ipLength, row.payloadLength], ['none', 1040, 1000]);
  const six = udp6({ payload: new Uint8Array(1000) });
  assert.equal(faultOf(six.subarray(0, 62), six.length), 'none');
  assert.equal(faultOf(six.subarray(0, 62)), 'ip-length-exceeds-frame');
});

test('parse: each way in which an IPv6 header is unsound has its name', () => {
  const frame = tcp6();
  const cases: [string, Uint8Array][] = [
    ['ip-header-truncated', frame.subarray(0, 53)],
    ['ip-bad-version', changed(frame, 14, 0x40)],
    ['ip-length-exceeds-frame', changed(frame, 18, 0, 0)], // a jumbogram's
    ['ip-length-exceeds-frame', changed(frame, 18, 0, 21)],
  ];
  for (const [fault, octets] of cases) {
    const row = parse(octets);
    assert.deepEqual([row.fault, row.kind, row.ipLength, sound(row)], [fault, Kind.Ip6, 0, false], fault);
  }
});

test('parse: the version must fit the EtherType', () => {
  assert.equal(
    faultOf(ethernet(EtherType.Ip6, packet4(17, udpDatagram({ payload: new Uint8Array(40) })))),
    'ip-bad-version',
  );
});

test('parse: IPv6 fields, and a protocol behind hop-by-hop, routing, destination and atomic fragment headers', () => {
  const content = new Uint8Array(14);
  const extensions = [
    { type: NextHeader.HopByHop, content },
    { type: NextHeader.Routing, content: new Uint8Array(22) },
    { type: NextHeader.Fragment, fragment: { offset: 0, more: false, id: 77 } },
    { type: NextHeader.DestinationOptions },
  ];
  const row = parse(
    tcp6({ src: 'fd00::a', dst: 'fd00::b', trafficClass: 0xb8, hopLimit: 3, extensions, sport: 1, dport: 2 }),
  );
  assert.deepEqual([row.src, row.dst, row.tos, row.ttl], ['fd00::a', 'fd00::b', 0xb8, 3]);
  assert.deepEqual([row.protocol, row.srcPort, row.dstPort, row.fault], [6, 1, 2, 'none']);
  assert.equal(row.l4Offset, 14 + 40 + 16 + 24 + 8 + 8);
  assert.equal(row.ipLength, 40 + 16 + 24 + 8 + 8 + 20);
  assert.equal(row.flags, RowFlag.Sound | RowFlag.Transport);
});

test('parse: a broken IPv6 chain is ip6-bad-extension and still sound; its protocol is the value read last', () => {
  const cut = parse(ip6(NextHeader.HopByHop, new Uint8Array(7)));
  assert.deepEqual([cut.fault, cut.protocol, sound(cut), cut.ipLength], ['ip6-bad-extension', 0, true, 47]);
  const beyond = parse(ip6(NextHeader.DestinationOptions, Uint8Array.of(6, 1, 0, 0, 0, 0, 0, 0)));
  assert.deepEqual([beyond.fault, beyond.protocol], ['ip6-bad-extension', 6]);
  const second = parse(ip6(NextHeader.HopByHop, Uint8Array.of(43, 0, 0, 0, 0, 0, 0, 0)));
  assert.deepEqual([second.fault, second.protocol, second.l4Offset], ['ip6-bad-extension', 43, 0]);
});

test('parse: authentication and no-next-header end the chain', () => {
  for (const protocol of [51, 59]) {
    const row = parse(ip6(protocol, new Uint8Array(16)));
    assert.deepEqual([row.protocol, row.srcPort, row.dstPort, row.fault], [protocol, 0, 0, 'none']);
  }
});

test('parse: each malformed transport header has its name, and keeps ports that are there', () => {
  const tcp = tcp4({ sport: 7, dport: 8, payload: new Uint8Array(4) });
  const cut = (protocol: number, segment: Uint8Array, size: number) => ip4(protocol, segment.subarray(0, size));
  const cases: [string, Uint8Array][] = [
    ['tcp-truncated', cut(6, tcpSegment({ sport: 7, dport: 8 }), 19)],
    ['tcp-bad-offset', changed(tcp, 46, 0x40)],
    ['tcp-bad-offset', changed(tcp, 46, 0x70)],
    ['udp-truncated', cut(17, udpDatagram({ sport: 7, dport: 8 }), 7)],
    ['udp-bad-length', changed(udp4({ sport: 7, dport: 8 }), 38, 0, 7)],
    ['udp-bad-length', changed(udp4({ sport: 7, dport: 8 }), 38, 0, 9)],
    ['udp-bad-length', changed(udp4({ sport: 7, dport: 8 }), 38, 0, 0)],
    ['sctp-truncated', ip4(132, Uint8Array.of(0, 7, 0, 8, 0, 0, 0, 0, 0, 0, 0))],
  ];
  for (const [fault, frame] of cases) {
    const row = parse(frame);
    assert.deepEqual([row.fault, row.srcPort, row.dstPort, sound(row)], [fault, 7, 8, true], fault);
    assert.equal(row.flags & RowFlag.Transport, 0);
    assert.equal(row.hash, tupleHash(batch.address, 0, 4, row.protocol, 7, 8));
  }
  const three = parse(cut(6, tcpSegment({ sport: 7, dport: 8 }), 3));
  assert.deepEqual([three.fault, three.srcPort, three.dstPort], ['tcp-truncated', 0, 0]);
  assert.equal(faultOf(icmp4().subarray(0, 41)), 'ip-length-exceeds-frame');
  assert.equal(faultOf(ip4(1, Uint8Array.of(8, 0, 0, 0, 0, 0, 0))), 'icmp-truncated');
  assert.equal(faultOf(ip6(58, Uint8Array.of(128, 0, 0, 0, 0, 0, 0))), 'icmp-truncated');
});

test('parse: TCP flags that no connection can hold are tcp-invalid-flags', () => {
  for (let flags = 0; flags < 64; flags++) {
    const [fin, syn, rst, psh, ack, urg] = [1, 2, 4, 8, 16, 32].map((bit) => (flags & bit) !== 0);
    const bad = (syn && (rst || fin)) || !(syn || ack || rst) || (!ack && (fin || psh || urg));
    assert.equal(faultOf(tcp4({ flags })), bad ? 'tcp-invalid-flags' : 'none', `flags ${flags}`);
  }
});

test("parse: the window scale is a SYN's only, and at most 14 (RFC 7323 section 2.3)", () => {
  assert.equal(parse(tcp4({ flags: 'S', options: [windowScale(15)] })).wscale, 14);
  assert.equal(parse(tcp4({ flags: 'SA', options: [windowScale(0)] })).wscale, 0);
  assert.equal(parse(tcp4({ flags: 'A', options: [windowScale(7)] })).wscale, NO_WSCALE);
  assert.equal(parse(tcp4({ flags: 'S' })).wscale, NO_WSCALE);
  // An option of length 0 ends the list instead of going round for ever.
  assert.equal(parse(tcp4({ flags: 'S', options: [windowScale(7)] }).fill(0, 55, 56)).fault, 'none');
});

test('parse: ICMP: type and code in the destination port, identifiers of queries, errors and ND flagged', () => {
  const echo = parse(icmp4({ type: 8, code: 3, id: 0xabcd }));
  assert.deepEqual([echo.srcPort, echo.dstPort, echo.icmpId], [0, 8 * 256 + 3, 0xabcd]);
  assert.equal(parse(icmp6({ type: 129, id: 0xabcd })).icmpId, 0xabcd);
  assert.equal(parse(icmp4({ type: 3, rest: 0x12345678 })).icmpId, 0);
  for (let type = 0; type < 256; type++) {
    assert.equal(
      (parse(icmp4({ type })).flags & RowFlag.IcmpError) !== 0,
      [3, 4, 5, 11, 12].includes(type),
      `ICMP ${type}`,
    );
    const six = parse(icmp6({ type })).flags;
    assert.equal((six & RowFlag.IcmpError) !== 0, type >= 1 && type <= 4, `ICMPv6 ${type}`);
    assert.equal(
      (six & RowFlag.NeighbourDiscovery) !== 0,
      (type >= 130 && type <= 137) || type === 143,
      `ICMPv6 ${type}`,
    );
  }
  assert.ok((parse(neighbourSolicitation({ target: 'fd00::2' })).flags & RowFlag.NeighbourDiscovery) !== 0);
  // ICMP over IPv6 and ICMPv6 over IPv4 are protocols like any other.
  assert.equal(parse(ip6(1, Uint8Array.of(8, 0, 0, 0))).fault, 'none');
});

test('parse: protocols without ports have ports 0, whatever their octets', () => {
  for (const protocol of [2, 4, 41, 47, 50, 51, 89]) {
    const row = parse(ip4(protocol, new Uint8Array(20).fill(0xff)));
    assert.deepEqual([row.srcPort, row.dstPort, row.fault], [0, 0, 'none']);
  }
});

test('parse: fragments: first with ports, later without; identification, offset', () => {
  const [first, later, last] = fragments4(udp4({ sport: 7, dport: 8, id: 99, payload: new Uint8Array(40) }), 16);
  const one = parse(first!);
  assert.deepEqual(
    [one.flags, one.srcPort, one.fragmentId, one.fragmentOffset, one.fault],
    [RowFlag.Sound | RowFlag.FragmentFirst | RowFlag.Transport, 7, 99, 0, 'none'],
  );
  const two = parse(later!);
  assert.deepEqual(
    [two.flags, two.srcPort, two.dstPort, two.fragmentOffset, two.l4Offset],
    [RowFlag.Sound | RowFlag.FragmentLater, 0, 0, 2, 0],
  );
  assert.equal(two.hash, tupleHash(batch.address, 0, 4, 17, 0, 0));
  assert.equal(parse(last!).flags, RowFlag.Sound | RowFlag.FragmentLater);
  const six = fragments6(udp6({ sport: 7, dport: 8, payload: new Uint8Array(40) }), 16, 0xdeadbeef).map((frame) =>
    parse(frame),
  );
  assert.deepEqual(
    six.map((row) => [row.flags & 6, row.srcPort, row.fragmentId, row.fragmentOffset, row.protocol]),
    [
      [RowFlag.FragmentFirst, 7, 0xdeadbeef, 0, 17],
      [RowFlag.FragmentLater, 0, 0xdeadbeef, 2, 17],
      [RowFlag.FragmentLater, 0, 0xdeadbeef, 4, 17],
    ],
  );
});

test('parse: fragment-bad: a non-last fragment of no multiple of 8, one that ends past 65,535', () => {
  const piece = (size: number, fragmentOffset: number, more: boolean) =>
    ip4(17, new Uint8Array(size), { fragmentOffset, more });
  assert.equal(faultOf(piece(12, 1, true)), 'fragment-bad');
  assert.equal(faultOf(piece(12, 1, false)), 'none');
  assert.equal(faultOf(piece(0, 1, true)), 'fragment-bad');
  assert.equal(faultOf(piece(7, 8191, false)), 'none'); // up to 65,535
  assert.equal(faultOf(piece(8, 8191, false)), 'fragment-bad');
  const fragment = { type: NextHeader.Fragment, fragment: { offset: 1, more: true, id: 1 } };
  const bad = parse(ip6(17, new Uint8Array(12), { extensions: [fragment] }));
  assert.deepEqual([bad.fault, sound(bad)], ['fragment-bad', true]);
});

test('parse: an ICMP error hashes as the packet it carries, from whichever end it comes', () => {
  const lost = tcp4({ src: '10.0.0.1', dst: '10.0.0.9', sport: 5, dport: 6 });
  const hash = parse(lost).hash;
  const error = (size: number) =>
    parse(icmp4({ src: '10.0.0.254', dst: '10.0.0.1', type: 3, rest: 0, payload: carriedPacket(lost, size) }));
  assert.equal(error(28).hash, hash);
  assert.equal(error(24).hash, hash);
  const cutOff = error(23).hash; // in the carried ports: the outer addresses decide
  const outer = tupleHash(batch.address, 0, 4, 1, 0, 0);
  assert.equal(cutOff, outer);
  assert.equal(error(19).hash, outer);
  const lost6 = udp6({
    src: 'fd00::1',
    dst: 'fd00::9',
    extensions: [{ type: NextHeader.HopByHop }],
    sport: 5,
    dport: 6,
  });
  const hash6 = parse(lost6).hash;
  assert.equal(
    parse(icmp6({ src: 'fd00::fe', dst: 'fd00::1', type: 3, rest: 0, payload: carriedPacket(lost6) })).hash,
    hash6,
  );
  const echo = icmp4({ src: '10.0.0.1', dst: '10.0.0.9', id: 4 });
  assert.equal(
    parse(icmp4({ src: '10.0.0.254', dst: '10.0.0.1', type: 11, payload: carriedPacket(echo) })).hash,
    parse(echo).hash,
  );
  const later = fragments4(lost, 8)[1]!;
  assert.equal(
    parse(icmp4({ src: '10.0.0.254', dst: '10.0.0.1', type: 11, payload: carriedPacket(later) })).hash,
    outer,
  );
});

test('parse: request and reply have one hash', () => {
  const there = { src: '10.0.0.1', dst: '10.0.0.2', sport: 1000, dport: 2000 };
  const back = { src: '10.0.0.2', dst: '10.0.0.1', sport: 2000, dport: 1000 };
  for (const make of [tcp4, udp4, sctp4]) assert.equal(parse(make(there)).hash, parse(make(back)).hash);
  assert.equal(parse(icmp4({ ...there, type: 8 })).hash, parse(icmp4({ ...back, type: 0 })).hash);
});

/** Every column of rows 0 … count − 1 but those that say where the frame stands. */
const columnsOf = (from: PacketBatch, count: number) =>
  Buffer.concat(
    COLUMNS.filter(([name]) => name !== 'offset').map(([name, size, per]) =>
      from.block.slice(COLUMN_OFFSET[name], COLUMN_OFFSET[name] + size * per * count),
    ),
  ).toString('hex');

test('parse: no octet outside a row decides its columns, and none is written', () => {
  fc.assert(
    fc.property(
      fc.nat(0xffffffff),
      fc.boolean(),
      fc.uint8Array({ maxLength: 90 }),
      fc.nat(300),
      (seed, noise, random, extra) => {
        const rng = new Random(seed);
        const frame = noise ? random : mutateFrame(rng, randomFrame(rng));
        const shown = [0x00, 0x06, 0xff].map((canary) => {
          const size = frame.length + 256;
          batch.data.fill(canary, 0, size);
          batch.data.set(frame, 128);
          batch.offset[0] = 128;
          batch.length[0] = frame.length;
          batch.wireLength[0] = frame.length + extra;
          const before = batch.data.slice(0, size);
          parseRows(batch, 0, 1);
          assert.ok(Buffer.from(before).equals(Buffer.from(batch.data.slice(0, size))), 'data is left as it was');
          return columnsOf(batch, 1);
        });
        assert.equal(shown[0], shown[1]);
        assert.equal(shown[0], shown[2]);
      },
    ),
    { numRuns: 3000 },
  );
});

test('parse: what is sound has its lengths within the frame; what is not has none', () => {
  const rng = new Random(7);
  for (let round = 0; round < 20_000; round++) {
    const frame = mutateFrame(rng, randomFrame(rng));
    if (frame.length > 65_000) continue;
    const row = parse(frame);
    if (sound(row)) {
      assert.ok(row.ipLength >= 20 && row.l3Offset + row.ipLength <= frame.length);
      assert.ok(row.l4Offset <= frame.length + 2048);
      assert.ok(row.payloadLength <= row.ipLength);
      if (row.fault === 'none' && (row.flags & RowFlag.FragmentLater) === 0 && row.protocol === 6)
        assert.ok((row.flags & RowFlag.Transport) !== 0);
    } else assert.deepEqual([row.ipLength, row.hash, row.srcPort, row.dstPort, row.protocol], [0, 0, 0, 0, 0]);
    if (row.kind !== Kind.NonIp && !sound(row)) assert.notEqual(row.fault, 'none');
  }
});

test('parse: rows outside first … first + count are left alone', () => {
  const frames = Array.from({ length: 9 }, (_, i) => tcp4({ sport: i + 1 }));
  loadBatch(frames, { batch });
  batch.srcPort.fill(0xeeee, 0, 9);
  parseRows(batch, 3, 4);
  assert.deepEqual([...batch.srcPort.subarray(0, 9)], [0xeeee, 0xeeee, 0xeeee, 4, 5, 6, 7, 0xeeee, 0xeeee]);
});
