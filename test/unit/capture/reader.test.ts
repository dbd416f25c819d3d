import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { DropReason } from '../../../src/batch/drop-reason.js';
import { SeineError } from '../../../src/errors.js';
import {
  block,
  concat,
  enhancedPacket,
  ethernet,
  file,
  interfaceBlock,
  ipv4,
  mac,
  Octets,
  pcap,
  readAll,
  section,
  udp4,
} from './captures.js';

const T = 1_701_234_567_123_456_789n;
const frame = ethernet(udp4());

for (const little of [true, false]) {
  for (const nanoseconds of [true, false]) {
    test(`pcap: ${nanoseconds ? 'nanosecond' : 'microsecond'} files in ${little ? 'little' : 'big'}-endian order are read, times exact`, async () => {
      const read = await readAll([file(pcap([{ timeNs: T, octets: frame, original: 1500 }], { little, nanoseconds }))]);
      assert.equal(read.error, null);
      assert.equal(read.packets.length, 1);
      const [packet] = read.packets;
      assert.deepEqual(packet!.frame, frame);
      assert.equal(packet!.wireLength, 1500);
      assert.equal(packet!.frameOctets, 1500);
      assert.equal(packet!.ownNs, nanoseconds ? T : T - (T % 1000n));
    });
  }
  test(`pcapng: ${little ? 'little' : 'big'}-endian sections are read`, async () => {
    const octets = concat(
      section(little),
      interfaceBlock({ little, resolution: 9 }),
      enhancedPacket(T, { octets: frame }, little),
    );
    const read = await readAll([file(octets)]);
    assert.equal(read.error, null);
    assert.deepEqual(
      read.packets.map(({ ownNs, frame: octets }) => ({ ownNs, octets })),
      [{ ownNs: T, octets: frame }],
    );
  });
}

const RESOLUTIONS: [string, { resolution?: number; offsetSeconds?: bigint }, bigint, bigint][] = [
  ['absent (microseconds)', {}, T / 1000n, (T / 1000n) * 1000n],
  ['9 (nanoseconds)', { resolution: 9 }, T, T],
  ['3 (milliseconds)', { resolution: 3 }, T / 1_000_000n, (T / 1_000_000n) * 1_000_000n],
  ['0 (seconds)', { resolution: 0 }, T / 1_000_000_000n, (T / 1_000_000_000n) * 1_000_000_000n],
  ['12 (picoseconds: cut)', { resolution: 12 }, 1_234_567_890_123_456n, 1_234_567_890_123n],
  ['2^-20', { resolution: 0x80 | 20 }, (5n << 20n) | (1n << 19n), 5_500_000_000n],
  ['9 with an offset of 1,000 s', { resolution: 9, offsetSeconds: 1000n }, T, T + 1000n * 1_000_000_000n],
  ['9 with an offset of -2 s', { resolution: 9, offsetSeconds: -2n }, T, T - 2n * 1_000_000_000n],
];
for (const [name, options, units, expected] of RESOLUTIONS) {
  test(`pcapng: if_tsresol ${name}`, async () => {
    const read = await readAll([
      file(concat(section(), interfaceBlock(options), enhancedPacket(units, { octets: frame }))),
    ]);
    assert.equal(read.error, null);
    assert.equal(read.packets[0]!.ownNs, expected);
  });
}

test('pcapng: sections begin anew with interfaces of their own, each with its link type and byte order', async () => {
  const octets = concat(
    section(true),
    interfaceBlock(),
    interfaceBlock({ linkType: 101 }),
    enhancedPacket(1n, { octets: udp4(), interfaceId: 1 }),
    enhancedPacket(2n, { octets: frame, interfaceId: 0 }),
    section(false),
    interfaceBlock({ little: false, linkType: 101 }),
    enhancedPacket(3n, { octets: udp4(), interfaceId: 0 }, false),
  );
  const read = await readAll([file(octets)]);
  assert.equal(read.error, null);
  assert.deepEqual(
    read.packets.map(({ interfaceId }) => interfaceId),
    [1, 0, 0],
  );
  assert.deepEqual(
    read.packets.map(({ frame: octets }) => octets.subarray(12)),
    [frame.subarray(12), frame.subarray(12), frame.subarray(12)],
  );
});

test('pcapng: unknown blocks are passed over, also one larger than the window', async () => {
  const octets = Buffer.concat([
    section(),
    block(true, 0x0bad, new Uint8Array(5)),
    interfaceBlock(),
    block(true, 5, new Uint8Array(3)),
    new Octets(true)
      .u32(0x80000001)
      .u32(12 + 3_000_000)
      .done(),
    new Uint8Array(3_000_000),
    new Octets(true).u32(12 + 3_000_000).done(),
    enhancedPacket(7n, { octets: frame }),
  ]);
  const read = await readAll([file(octets)]);
  assert.equal(read.error, null);
  assert.equal(read.packets.length, 1);
  assert.deepEqual(read.warnings, []);
});

test('pcapng: simple packets are cut at the snap length and take the clock; obsolete packet blocks are read', async () => {
  const simple = block(true, 3, new Octets(true).u32(200).raw(frame.subarray(0, 40)).done());
  const obsolete = block(
    true,
    2,
    new Octets(true).u16(0).u16(0xffff).u32(0).u32(9).u32(frame.length).u32(frame.length).raw(frame).done(),
  );
  const read = await readAll([
    file(
      concat(section(), interfaceBlock({ snapLength: 40 }), enhancedPacket(5n, { octets: frame }), simple, obsolete),
    ),
  ]);
  assert.equal(read.error, null);
  assert.deepEqual(
    read.packets.map(({ frame: { length }, wireLength, ownNs }) => [length, wireLength, ownNs]),
    [
      [frame.length, frame.length, 5000n],
      [40, 200, 5000n],
      [frame.length, frame.length, 9000n],
    ],
  );
});

test('reader: the clock never goes back, over all captures; a packet keeps its own time', async () => {
  const a = file(
    pcap([
      { timeNs: 5000n, octets: frame },
      { timeNs: 3000n, octets: frame },
    ]),
  );
  const b = file(
    pcap([
      { timeNs: 4000n, octets: frame },
      { timeNs: 6000n, octets: frame },
    ]),
  );
  const read = await readAll([a, b], 1);
  assert.deepEqual(
    read.packets.map(({ ownNs }) => ownNs),
    [5000n, 3000n, 4000n, 6000n],
  );
  assert.deepEqual(
    read.packets.map(({ clockNs }) => clockNs),
    [5000n, 5000n, 5000n, 6000n],
  );
});

test('reader: gzip is told by its magic, several members included', async () => {
  const plain = pcap([
    { timeNs: 1000n, octets: frame },
    { timeNs: 2000n, octets: frame },
  ]);
  const read = await readAll([
    file(Buffer.concat([gzipSync(plain.subarray(0, 50)), gzipSync(plain.subarray(50))]), 'pcap.gz'),
  ]);
  assert.equal(read.error, null);
  assert.equal(read.packets.length, 2);
});

test('reader: a capture cut off anywhere gives what was read and a warning', async () => {
  const whole = pcap([
    { timeNs: 1000n, octets: frame },
    { timeNs: 2000n, octets: frame },
  ]);
  const recordSize = 16 + frame.length;
  for (let cut = 24; cut < whole.length; cut++) {
    const read = await readAll([file(whole.subarray(0, cut))]);
    assert.equal(read.error, null);
    assert.equal(read.packets.length, Math.floor((cut - 24) / recordSize), `cut at ${cut}`);
    assert.equal(read.cutOff, (cut - 24) % recordSize !== 0, `cut at ${cut}`);
    assert.equal(read.warnings.length, read.cutOff ? 1 : 0);
  }
});

test('reader: after a capture that is cut off, the next one is read', async () => {
  const whole = pcap([{ octets: frame }]);
  const read = await readAll([file(whole.subarray(0, 30)), file(whole)]);
  assert.equal(read.packets.length, 1);
  assert.equal(read.cutOff, true);
});

test('reader: a gzip stream that is cut off counts as a capture that is', async () => {
  const packets = Array.from({ length: 2000 }, (_, i) => ({
    timeNs: BigInt(i) * 1000n,
    octets: ethernet(udp4({ srcPort: (i * 7919) % 65_536 })),
  }));
  const packed = gzipSync(pcap(packets));
  const read = await readAll([file(packed.subarray(0, packed.length / 2), 'gz')]);
  assert.equal(read.error, null);
  assert.equal(read.cutOff, true);
  assert.ok(read.packets.length > 0 && read.packets.length < 2000);
});

const INVALID: [string, Uint8Array, RegExp][] = [
  ['an empty file', new Uint8Array(0), /is empty/],
  ['another kind of file', new TextEncoder().encode('apiVersion: v1\nkind: Namespace\n'), /no capture's magic/],
  ['a file header that is cut off', pcap([]).subarray(0, 20), /cut off in its file header/],
  ['a modified pcap', concat(new Octets(true).u32(0xa1b2cd34).done(), new Uint8Array(40)), /modified pcap/],
  ['a link type that is not read', pcap([], { linkType: 127 }), /link type 127 \(IEEE 802\.11 with radiotap\)/],
  [
    'a pcapng link type that is not read',
    concat(section(), interfaceBlock({ linkType: 195 })),
    /interface 0: link type 195 \(IEEE 802\.15\.4\)/,
  ],
  [
    'a pcapng packet of an interface that is not there',
    concat(section(), enhancedPacket(0n, { octets: frame })),
    /packet 1 \(octet 28\): it names interface 0/,
  ],
  [
    'a pcapng block of 8 octets',
    concat(section(), new Octets(true).u32(9).u32(8).u32(8).done()),
    /a block of 8 octets/,
  ],
];
for (const [name, octets, message] of INVALID) {
  test(`reader: ${name} is an error that says so`, async () => {
    const read = await readAll([file(octets)]);
    assert.ok(read.error instanceof SeineError);
    assert.equal(read.error.code, 'SEINE_ERR_CAPTURE_INVALID');
    assert.match(read.error.message, message);
  });
}

test('reader: an insane captured length is an error with packet number and offset, after what came before it', async () => {
  const good = pcap([{ octets: frame }]);
  const bad = new Octets(true).u32(0).u32(0).u32(0x7fffffff).u32(60).raw(new Uint8Array(100)).done();
  const read = await readAll([file(concat(good, bad))]);
  assert.equal(read.packets.length, 1);
  assert.match(String(read.error), new RegExp(`packet 2 \\(octet ${good.length}\\): its captured length 2147483647`));
});

test('reader: a file that is not there is an error of usage, exit code 2', async () => {
  const read = await readAll(['/nonexistent/a.pcap']);
  assert.ok(read.error instanceof SeineError);
  assert.equal(read.error.exitCode, 2);
});

test('reader: a frame above 65,557 octets has no row, but its place and its reason; one of 65,557 has a row', async () => {
  const octets = concat(
    pcap([{ octets: frame }, { octets: frame, original: 65_558 }, { octets: frame, original: 65_557 }]),
  );
  const read = await readAll([file(octets)]);
  assert.equal(read.packets.length, 2);
  assert.deepEqual(read.early, [{ reason: DropReason.FrameTooLong, before: 1, frameOctets: 65_558 }]);
});

test('reader: captured frames of any length are rows, 0 octets too', async () => {
  const read = await readAll([
    file(pcap([{ octets: new Uint8Array(0) }, { octets: frame.subarray(0, 13), original: 100 }])),
  ]);
  assert.deepEqual(
    read.packets.map(({ frame: { length }, wireLength }) => [length, wireLength]),
    [
      [0, 0],
      [13, 100],
    ],
  );
});

test('reader: batches of any size give the same packets', async () => {
  const packets = Array.from({ length: 300 }, (_, i) => ({
    timeNs: BigInt(i) * 1_000_000n,
    octets: ethernet(udp4({ srcPort: i, payload: new Uint8Array(i) })),
  }));
  const path = file(pcap(packets));
  const [one, many] = [await readAll([path], 1), await readAll([path])];
  assert.deepEqual(one.packets, many.packets);
  assert.equal(many.packets.length, 300);
});

test('reader: captures larger than window and batch are read whole', async () => {
  const big = ethernet(udp4({ payload: new Uint8Array(60_000).fill(7) }));
  const packets = Array.from({ length: 120 }, () => ({ octets: big }));
  const octets = Buffer.concat([pcap([]), ...packets.map((packet) => pcap([packet]).subarray(24))]);
  const read = await readAll([file(octets)]);
  assert.equal(read.error, null);
  assert.equal(read.packets.length, 120);
  assert.ok(read.packets.every(({ frame: octets }) => Buffer.compare(octets, big) === 0));
});

// Link types: what becomes of their headers.
const packet4 = udp4();
const packet6 = concat(Uint8Array.of(0x60, 0, 0, 0, 0, 8, 59, 64), new Uint8Array(32), new Uint8Array(8));
const ZERO = '00:00:00:00:00:00';
const cooked1 = (etherType: number) =>
  new Octets(false).u16(0).u16(1).u16(6).raw(mac('02:00:00:00:00:09')).u16(0).u16(etherType).done();
const cooked2 = (etherType: number) =>
  new Octets(false).u16(etherType).u16(0).u32(3).u16(1).u8(0, 6).raw(mac('02:00:00:00:00:09')).u16(0).done();
const LINKS: [string, number, Uint8Array, Uint8Array, string, number][] = [
  ['raw IP (101), IPv4', 101, new Uint8Array(0), packet4, ZERO, 0x0800],
  ['raw IP (12), IPv6', 12, new Uint8Array(0), packet6, ZERO, 0x86dd],
  ['raw IP (14)', 14, new Uint8Array(0), packet4, ZERO, 0x0800],
  ['raw IPv4 (228)', 228, new Uint8Array(0), packet4, ZERO, 0x0800],
  ['raw IPv6 (229)', 229, new Uint8Array(0), packet6, ZERO, 0x86dd],
  ['null (0), little-endian', 0, Uint8Array.of(2, 0, 0, 0), packet4, ZERO, 0x0800],
  ['null (0), big-endian, IPv6 of macOS', 0, Uint8Array.of(0, 0, 0, 30), packet6, ZERO, 0x86dd],
  ['null (0), IPv6 of FreeBSD', 0, Uint8Array.of(28, 0, 0, 0), packet6, ZERO, 0x86dd],
  ['loopback (108)', 108, Uint8Array.of(0, 0, 0, 2), packet4, ZERO, 0x0800],
  ['Linux cooked v1 (113)', 113, cooked1(0x0800), packet4, '02:00:00:00:00:09', 0x0800],
  ['Linux cooked v2 (276)', 276, cooked2(0x86dd), packet6, '02:00:00:00:00:09', 0x86dd],
];
for (const [name, linkType, header, packet, srcMac, etherType] of LINKS) {
  test(`link: ${name} becomes Ethernet, in pcap and pcapng; octets stay those received`, async () => {
    const octets = concat(header, packet);
    const expected = ethernet(packet, etherType, { srcMac, dstMac: ZERO });
    const many = Array.from({ length: 3 }, () => ({ octets, original: octets.length + 7 }));
    const simple = block(
      true,
      3,
      new Octets(true)
        .u32(octets.length + 7)
        .raw(octets)
        .done(),
    );
    for (const capture of [
      pcap(many, { linkType }),
      concat(section(), interfaceBlock({ linkType }), ...many.map((packet) => enhancedPacket(1n, packet))),
      concat(section(), interfaceBlock({ linkType, snapLength: octets.length }), simple, simple, simple),
    ]) {
      const read = await readAll([file(capture)]);
      assert.equal(read.error, null);
      assert.equal(read.packets.length, 3);
      for (const { frame: octets, wireLength, frameOctets } of read.packets) {
        assert.deepEqual(octets, expected);
        assert.equal(wireLength, expected.length + 7);
        assert.equal(frameOctets, header.length + packet.length + 7);
      }
    }
  });
}

test('link: what is cut within a link header has no octets, so that Parse calls it truncated', async () => {
  const read = await readAll([file(pcap([{ octets: new Uint8Array(10), original: 60 }], { linkType: 113 }))]);
  assert.equal(read.packets[0]!.frame.length, 0);
});

test('link: an address family that is no IP is announced as no IP', async () => {
  const read = await readAll([file(pcap([{ octets: concat(Uint8Array.of(7, 0, 0, 0), ipv4()) }], { linkType: 0 }))]);
  assert.deepEqual([...read.packets[0]!.frame.subarray(12, 14)], [0, 0]);
});
