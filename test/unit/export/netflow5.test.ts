/** NetFlow v5 datagrams, octet by octet, against Cisco's layout. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultIdentity, engineIdentity } from '../../../src/export/engine-id.js';
import {
  millisecondsOf,
  type Netflow5Datagram,
  Netflow5Encoder,
  type Netflow5Settings,
  splitCount,
  splitShare,
  writeSequence,
} from '../../../src/export/netflow5.js';
import { decode } from './decode.js';
import { NOW_NS, packed, SECOND_NS, type TestRecord } from './record.js';

const SETTINGS: Netflow5Settings = {
  engineId: 98,
  engineType: 39,
  addToInterface: false,
  icmpPort: 'destination',
  octets: 'layer3',
};

function encode(words: Uint32Array, settings: Partial<Netflow5Settings> = {}, nowNs = NOW_NS) {
  const datagrams: Netflow5Datagram[] = [];
  const lost: Record<string, number> = {};
  const encoder = new Netflow5Encoder(
    { ...SETTINGS, ...settings },
    (datagram) => datagrams.push(datagram),
    (reason, flows) => {
      lost[reason] = (lost[reason] ?? 0) + flows;
    },
  );
  encoder.push(words, nowNs);
  encoder.flush();
  return { datagrams, lost, encoder };
}
const one = (record: TestRecord, settings: Partial<Netflow5Settings> = {}) =>
  decode(encode(packed(record), settings).datagrams[0]!.octets).records[0]!;
const ms = (ns: bigint) => Number(ns / 1_000_000n);

test('netflow5: a record stands in the datagram as Cisco lays it out', () => {
  const { datagrams } = encode(
    packed({ src: 0xc0a80102, dst: 0x08080404, srcPort: 51234, dstPort: 443, protocol: 6, tos: 0xb8, tcpFlags: 0x1b }),
  );
  assert.equal(datagrams.length, 1);
  const { header, records } = decode(datagrams[0]!.octets);
  assert.deepEqual(
    { ...header, uptime: 0 },
    {
      version: 5,
      count: 1,
      uptime: 0,
      seconds: 1_701_234_567,
      nanoseconds: 123_456_789,
      sequence: 0,
      engineType: 39,
      engineId: 98,
      sampling: 0,
    },
  );
  assert.deepEqual(records[0], {
    src: 0xc0a80102,
    dst: 0x08080404,
    nextHop: 0,
    input: 3,
    output: 1,
    packets: 1,
    octets: 40,
    firstMs: ms(NOW_NS - 3n * SECOND_NS),
    lastMs: ms(NOW_NS - SECOND_NS),
    srcPort: 51234,
    dstPort: 443,
    pad: 0,
    tcpFlags: 0x1b,
    protocol: 6,
    tos: 0xb8,
    asAndMasks: [0, 0],
  });
});

test('netflow5: at most 30 records a datagram, the rest in a shorter one', () => {
  const { datagrams } = encode(packed(...Array.from({ length: 61 }, (_, index) => ({ src: index }))));
  assert.deepEqual(
    datagrams.map(({ records, flows, octets }) => [records, flows, octets.length]),
    [
      [30, 30, 1464],
      [30, 30, 1464],
      [1, 1, 72],
    ],
  );
  assert.deepEqual(
    datagrams.flatMap(({ octets }) => decode(octets).records.map(({ src }) => src)),
    Array.from({ length: 61 }, (_, index) => index),
  );
});

test('netflow5: engine id and type of "br0" are 98 and 39 (CRC-32C of the bridge)', () => {
  assert.deepEqual(defaultIdentity('br0'), { engineId: 98, engineType: 39 });
});
test('netflow5: a configured engine id leaves the type to the default, and ovsdb.bridge comes before ovsBridge', () => {
  assert.deepEqual(
    engineIdentity({ ovsBridge: 'br-int', ovsdb: { bridge: 'br0' }, netflow: { engineId: 10, engineType: null } }),
    { engineId: 10, engineType: 39 },
  );
  assert.deepEqual(engineIdentity({ ovsBridge: 'br0', ovsdb: null, netflow: { engineId: null, engineType: 0 } }), {
    engineId: 98,
    engineType: 0,
  });
});

test('netflow5: addToInterface puts 7 bits of the engine id above 9 bits of the port: port 1 is 5121 with engine id 10', () => {
  const record = one({ inPort: 1, outPort: 65534 }, { addToInterface: true, engineId: 10 });
  assert.equal(record.input, 5121);
  assert.equal(record.output, (10 << 9) | 0x1fe);
  assert.equal(one({ inPort: 2 }, { addToInterface: true, engineId: 0x8a }).input, 5122, 'the top bit does not fit');
});
test('netflow5: ports with a meaning keep their OpenFlow numbers', () => {
  for (const outPort of [65533, 65534, 65535]) assert.equal(one({ outPort }).output, outPort);
});

test('netflow5: ICMP type and code stand in the destination port, or in the source port where so configured', () => {
  const echo = { protocol: 1, srcPort: 0, dstPort: 0x0800 };
  assert.deepEqual([one(echo).srcPort, one(echo).dstPort], [0, 2048]);
  const article = one(echo, { icmpPort: 'source' });
  assert.deepEqual([article.srcPort, article.dstPort], [2048, 0]);
  assert.deepEqual([one({}, { icmpPort: 'source' }).srcPort, one({}, { icmpPort: 'source' }).dstPort], [40000, 80]);
});
test('netflow5: octets are layer-3 octets, or frame octets where so configured', () => {
  assert.equal(one({ octets: 40n, frameOctets: 54n }).octets, 40);
  assert.equal(one({ octets: 40n, frameOctets: 54n }, { octets: 'frame' }).octets, 54);
});
test('netflow5: tos keeps its DSCP bits only', () => assert.equal(one({ tos: 0xff }).tos, 0xfc));

test('netflow5: IPv6 records are counted as lost and not written', () => {
  const { datagrams, lost } = encode(packed({ family: 6 }, { src: 7 }, { family: 6 }));
  assert.deepEqual(lost, { ipv6: 2 });
  assert.deepEqual(
    decode(datagrams[0]!.octets).records.map(({ src }) => src),
    [7],
  );
});

test('netflow5: 5 packets of 3 × 2^32 octets in all become 4 records, each with a packet, with exact sums', () => {
  const octets = 3n << 32n;
  const { datagrams } = encode(packed({ packets: 5n, octets }));
  const { records } = decode(datagrams[0]!.octets);
  assert.equal(records.length, 4);
  assert.equal(datagrams[0]!.flows, 1);
  assert.ok(records.every(({ packets }) => packets > 0));
  assert.equal(
    records.reduce((sum, record) => sum + record.packets, 0),
    5,
  );
  assert.equal(
    records.reduce((sum, record) => sum + BigInt(record.octets), 0n),
    octets,
  );
});
test('netflow5: a counter of exactly 2^32−1 is one record, of 2^32 two', () => {
  assert.equal(splitCount(1000n, 0xffffffffn), 1n);
  assert.equal(splitCount(1000n, 0x100000000n), 2n);
  assert.equal(splitCount(0x100000000n, 0x100000000n), 2n);
});
test('netflow5: counters far past 175 × 2^32 are split with exact sums', () => {
  const packets = 1n << 28n;
  const octets = 1000n << 32n;
  const { datagrams } = encode(packed({ packets, octets }));
  const all = datagrams.flatMap((datagram) => decode(datagram.octets).records);
  assert.equal(all.length, 1001);
  assert.equal(
    all.reduce((sum, record) => sum + BigInt(record.packets), 0n),
    packets,
  );
  assert.equal(
    all.reduce((sum, record) => sum + BigInt(record.octets), 0n),
    octets,
  );
  assert.equal(
    datagrams.reduce((sum, { flows }) => sum + flows, 0),
    1,
  );
});
test('netflow5: one packet of more than 2^32−1 octets is no packet: counted as lost, not written wrongly', () => {
  assert.equal(splitCount(1n, 0x100000000n), 0n);
  assert.deepEqual(encode(packed({ packets: 1n, octets: 0x100000000n })).lost, { unsplittable: 1 });
});
test('netflow5: shares differ by at most one', () => {
  assert.deepEqual(
    [0n, 1n, 2n].map((index) => splitShare(10n, index, 3n)),
    [3, 3, 4],
  );
});

test('netflow5: the boot stays the same from datagram to datagram', () => {
  const { datagrams } = encode(
    packed(
      ...Array.from({ length: 90 }, (_, index) => ({
        startNs: NOW_NS - BigInt(index) * 60n * SECOND_NS,
        endNs: NOW_NS,
      })),
    ),
  );
  const boots = datagrams.map(({ octets }) => {
    const { header } = decode(octets);
    return header.seconds * 1000 + Math.floor(header.nanoseconds / 1e6) - header.uptime;
  });
  assert.equal(new Set(boots).size, 1);
});
test('netflow5: a record that began before the boot moves it, and both are read right', () => {
  const early = NOW_NS - 3n * 86_400n * SECOND_NS;
  const { datagrams } = encode(packed({ src: 1 }, { src: 2, startNs: early, endNs: NOW_NS - SECOND_NS }, { src: 3 }));
  const all = datagrams.flatMap(({ octets }) => decode(octets).records);
  assert.deepEqual(
    all.map(({ src }) => src),
    [1, 2, 3],
  );
  assert.deepEqual(
    all.map(({ firstMs }) => firstMs),
    [ms(NOW_NS - 3n * SECOND_NS), ms(early), ms(NOW_NS - 3n * SECOND_NS)],
  );
});
test('netflow5: past 49.7 days of uptime First and Last stay right', () => {
  const datagrams: Netflow5Datagram[] = [];
  const encoder = new Netflow5Encoder(
    SETTINGS,
    (datagram) => datagrams.push(datagram),
    () => {},
  );
  for (let day = 0; day <= 400; day += 20) {
    const now = NOW_NS + BigInt(day) * 86_400n * SECOND_NS;
    encoder.push(packed({ src: day, startNs: now - 2n * SECOND_NS, endNs: now - SECOND_NS }), now);
    if (day % 40 === 0) encoder.flush();
  }
  encoder.flush();
  const all = datagrams.flatMap(({ octets }) => decode(octets).records);
  assert.equal(all.length, 21);
  for (const { src, firstMs, lastMs } of all) {
    const now = NOW_NS + BigInt(src) * 86_400n * SECOND_NS;
    assert.deepEqual([firstMs, lastMs], [ms(now - 2n * SECOND_NS), ms(now - SECOND_NS)], `day ${src}`);
  }
});
test('netflow5: a record due years before the clock keeps its times, under the time it was due', () => {
  const startNs = NOW_NS - 5n * 365n * 86_400n * SECOND_NS;
  const { datagrams } = encode(packed({ startNs, endNs: startNs, exportNs: startNs + 10n * SECOND_NS }, {}));
  const all = datagrams.map(({ octets }) => decode(octets));
  assert.deepEqual(
    all.map(({ records }) => records[0]!.firstMs),
    [ms(startNs), ms(NOW_NS - 3n * SECOND_NS)],
  );
  assert.equal(all[0]!.header.seconds, Number((startNs + 10n * SECOND_NS) / SECOND_NS));
});
test('netflow5: a capture that begins in 1970 has no time before its boot', () => {
  const record = decode(
    encode(packed({ startNs: 5_000_000n, endNs: 9_000_000n, exportNs: 9_000_000n }), {}, 9_000_000n).datagrams[0]!
      .octets,
  );
  assert.deepEqual([record.records[0]!.firstMs, record.records[0]!.lastMs], [5, 9]);
});
test('netflow5: milliseconds of 64-bit nanoseconds are exact at their edges', () => {
  for (const ns of [
    0n,
    999_999n,
    1_000_000n,
    NOW_NS,
    1_701_234_567_123_000_000n,
    1_701_234_567_122_999_999n,
    (1n << 64n) - 1n,
  ]) {
    assert.equal(millisecondsOf(Number(ns & 0xffffffffn), Number(ns >> 32n)), ms(ns), String(ns));
  }
});

test('netflow5: settings change between two records: the first leaves under the old ones', () => {
  const datagrams: Netflow5Datagram[] = [];
  const encoder = new Netflow5Encoder(
    SETTINGS,
    (datagram) => datagrams.push(datagram),
    () => {},
  );
  encoder.push(packed({ src: 1 }), NOW_NS);
  encoder.configure({ ...SETTINGS, engineId: 5 });
  encoder.push(packed({ src: 2 }), NOW_NS);
  encoder.flush();
  assert.deepEqual(
    datagrams.map(({ octets }) => [decode(octets).header.engineId, decode(octets).records[0]!.src]),
    [
      [98, 1],
      [5, 2],
    ],
  );
});
test('netflow5: writeSequence writes 32 bits in network order', () => {
  const { octets } = encode(packed({})).datagrams[0]!;
  writeSequence(octets, 0xfedcba98);
  assert.equal(decode(octets).header.sequence, 0xfedcba98);
});
