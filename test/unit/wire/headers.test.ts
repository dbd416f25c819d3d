/** Every header against octets written down from its RFC; write ∘ read = identity; readers stay in bounds. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { checkAh, readAh, writeAh } from '../../../src/wire/ah.js';
import { checkArp, readArp, writeArp } from '../../../src/wire/arp.js';
import { internetChecksum } from '../../../src/wire/checksum.js';
import { checkEsp, readEsp, writeEsp } from '../../../src/wire/esp.js';
import { checkEthernet, readEthernet, writeEthernet } from '../../../src/wire/ethernet.js';
import { Fault } from '../../../src/wire/fault.js';
import { checkFragment, readFragment, writeFragment } from '../../../src/wire/fragment.js';
import { checkGeneve, hasCriticalOption, readGeneve, writeGeneve } from '../../../src/wire/geneve.js';
import { checkGre, greChecksumIsRight, readGre, writeGre } from '../../../src/wire/gre.js';
import { checkIcmp, readIcmp, writeIcmp } from '../../../src/wire/icmp.js';
import { checkIcmp6, readIcmp6, writeIcmp6 } from '../../../src/wire/icmp6.js';
import { checkIgmp, type IgmpMessage, readIgmp, writeIgmp } from '../../../src/wire/igmp.js';
import { checkIpv4, ipv4ChecksumIsRight, readIpv4, writeIpv4 } from '../../../src/wire/ipv4.js';
import { checkIpv6, NextHeader, readIpv6, walkExtensions, writeExtension, writeIpv6 } from '../../../src/wire/ipv6.js';
import { checkMld, type MldMessage, readMld, writeMld } from '../../../src/wire/mld.js';
import { checkNd, linkLayerOf, type NdMessage, NdOptionType, readNd, writeNd } from '../../../src/wire/nd.js';
import type { Ip6Words } from '../../../src/wire/octets.js';
import { checkSctp, readSctp, readSctpChunks, sctpChecksumIsRight, writeSctp } from '../../../src/wire/sctp.js';
import {
  checkTcp,
  maximumSegmentSize,
  maximumSegmentSizeOf,
  readTcp,
  windowScale,
  windowScaleOf,
  writeTcp,
} from '../../../src/wire/tcp.js';
import { checkUdp, readUdp, writeUdp } from '../../../src/wire/udp.js';
import { checkVxlan, vni, writeVxlan } from '../../../src/wire/vxlan.js';
import { hex, mac, words } from '../frames.js';

const u8 = fc.nat(0xff);
const u16 = fc.nat(0xffff);
const u32 = fc.nat(0xffffffff);
const macs = fc.uint8Array({ minLength: 6, maxLength: 6 });
const ip6 = fc.tuple(u32, u32, u32, u32) as fc.Arbitrary<Ip6Words>;
const octets = (step: number, max: number) =>
  fc.nat(max / step).chain((n) => fc.uint8Array({ minLength: n * step, maxLength: n * step }));

/** Writes at `offset` of a canary-filled buffer: returns the octets written, asserting that the others stay. */
function written(write: (out: Uint8Array, offset: number) => number, offset = 3): Uint8Array {
  const out = new Uint8Array(4096).fill(0xa5);
  const size = write(out, offset);
  assert.ok(
    out.subarray(0, offset).every((octet) => octet === 0xa5) &&
      out.subarray(offset + size).every((octet) => octet === 0xa5),
  );
  return out.slice(offset, offset + size);
}
const toHex = (data: Uint8Array) => Buffer.from(data).toString('hex');
const equalHex = (actual: Uint8Array, expected: string) => assert.equal(toHex(actual), expected.replace(/\s+/g, ''));

/** read(write(x)) = x for every x; and every shorter piece of what was written is Truncated, or another fault. */
function identity<T>(
  name: string,
  arbitrary: fc.Arbitrary<T>,
  write: (out: Uint8Array, offset: number, value: T) => number,
  read: (data: Uint8Array, offset: number) => unknown,
  check: (data: Uint8Array, offset: number, end?: number) => Fault,
  fixedSize: number,
) {
  test(`${name}: what is written is read, and nothing shorter passes its check`, () => {
    fc.assert(
      fc.property(arbitrary, (value) => {
        const data = written((out, offset) => write(out, offset, value));
        assert.equal(check(data, 0), Fault.None);
        // fast-check's records have no prototype; a clone's have the usual one.
        assert.deepEqual(read(data, 0), structuredClone(value));
        for (let size = 0; size < fixedSize; size++) assert.notEqual(check(data, 0, size), Fault.None);
      }),
      { numRuns: 60 },
    );
  });
  test(`${name}: on any octets, what passes the check is read without leaving them`, () => {
    fc.assert(
      fc.property(arbitrary, fc.uint8Array({ maxLength: 120 }), fc.nat(60), fc.boolean(), (value, noise, at, whole) => {
        const sound = written((out, offset) => write(out, offset, value));
        const data = whole ? noise : Uint8Array.from([...sound.subarray(0, at), ...noise, ...sound.subarray(at)]);
        if (check(data, 0) !== Fault.None) return;
        // A read past the end is undefined and would not survive the comparison with more octets behind.
        const longer = new Uint8Array(data.length + 64).fill(0xa5);
        longer.set(data);
        const bounded = (buffer: Uint8Array) =>
          (read as (d: Uint8Array, o: number, e: number) => unknown)(buffer, 0, data.length);
        assert.deepEqual(bounded(longer), bounded(data));
      }),
      { numRuns: 200 },
    );
  });
}

const tag = fc.record({
  tpid: fc.constantFrom(0x8100, 0x88a8, 0x9100),
  priority: fc.nat(7),
  dropEligible: fc.boolean(),
  vid: fc.nat(0xfff),
});
identity(
  'ethernet',
  fc.record({
    destination: macs,
    source: macs,
    tags: fc.array(tag, { maxLength: 2 }),
    etherType: fc.constantFrom(0x0800, 0x86dd, 0x0806, 46),
  }),
  writeEthernet,
  readEthernet,
  checkEthernet,
  14,
);
identity(
  'arp',
  fc.record({ operation: u16, senderMac: macs, senderIp: u32, targetMac: macs, targetIp: u32 }),
  writeArp,
  readArp,
  checkArp,
  28,
);
identity(
  'ipv4',
  octets(4, 40).chain((options) =>
    fc.record({
      tos: u8,
      totalLength: fc.integer({ min: 20 + options.length, max: 0xffff }),
      identification: u16,
      dontFragment: fc.boolean(),
      moreFragments: fc.boolean(),
      fragmentOffset: fc.nat(0x1fff),
      ttl: u8,
      protocol: u8,
      source: u32,
      destination: u32,
      options: fc.constant(options),
    }),
  ),
  writeIpv4,
  (data, offset) => {
    const { checksum: _, ...header } = readIpv4(data, offset);
    return header;
  },
  checkIpv4,
  20,
);
identity(
  'ipv6',
  fc.record({
    trafficClass: u8,
    flowLabel: fc.nat(0xfffff),
    payloadLength: u16,
    nextHeader: u8,
    hopLimit: u8,
    source: ip6,
    destination: ip6,
  }),
  writeIpv6,
  readIpv6,
  checkIpv6,
  40,
);
identity(
  'ipv6 fragment',
  fc.record({ nextHeader: u8, fragmentOffset: fc.nat(0x1fff), moreFragments: fc.boolean(), identification: u32 }),
  writeFragment,
  readFragment,
  checkFragment,
  8,
);
identity(
  'tcp',
  fc.record({
    sourcePort: u16,
    destinationPort: u16,
    sequence: u32,
    acknowledgment: u32,
    flags: u8,
    window: u16,
    checksum: u16,
    urgentPointer: u16,
    options: fc.array(fc.record({ kind: fc.integer({ min: 2, max: 255 }), data: fc.uint8Array({ maxLength: 8 }) }), {
      maxLength: 4,
    }),
  }),
  writeTcp,
  readTcp,
  checkTcp,
  20,
);
identity(
  'udp',
  fc.record({ sourcePort: u16, destinationPort: u16, length: fc.constant(8), checksum: u16 }),
  writeUdp,
  readUdp,
  checkUdp,
  8,
);
identity(
  'sctp',
  fc.record({
    header: fc.record({ sourcePort: u16, destinationPort: u16, verificationTag: u32 }),
    chunks: fc.array(fc.record({ type: u8, flags: u8, data: fc.uint8Array({ maxLength: 20 }) }), { maxLength: 3 }),
  }),
  (out, offset, { header, chunks }) => writeSctp(out, offset, header, chunks),
  (data, offset, end = data.length) => ({ header: readSctp(data, offset), chunks: readSctpChunks(data, offset, end) }),
  checkSctp,
  12,
);
identity(
  'icmp',
  fc.record({ type: u8, code: u8, rest: u32 }),
  (out, offset, header) => writeIcmp(out, offset, header, new Uint8Array(0)),
  (data, offset) => {
    const { checksum: _, ...header } = readIcmp(data, offset);
    return header;
  },
  checkIcmp,
  8,
);
identity(
  'icmp6',
  fc.record({ type: u8, code: u8, rest: u32 }),
  writeIcmp6,
  (data, offset) => {
    const { checksum: _, ...header } = readIcmp6(data, offset);
    return header;
  },
  checkIcmp6,
  8,
);
const ndOptions = fc.array(
  fc.record({ type: u8, data: octets(8, 16).map((data) => Uint8Array.from([1, 2, 3, 4, 5, 6, ...data])) }),
  { maxLength: 3 },
);
identity<NdMessage>(
  'nd',
  fc.oneof(
    fc.record({ type: fc.constant(133 as const), options: ndOptions }),
    fc.record({
      type: fc.constant(134 as const),
      hopLimit: u8,
      flags: u8,
      routerLifetimeS: u16,
      reachableTimeMs: u32,
      retransTimerMs: u32,
      options: ndOptions,
    }),
    fc.record({ type: fc.constant(135 as const), target: ip6, options: ndOptions }),
    fc.record({ type: fc.constant(136 as const), flags: u8, target: ip6, options: ndOptions }),
    fc.record({ type: fc.constant(137 as const), target: ip6, destination: ip6, options: ndOptions }),
  ),
  writeNd,
  readNd,
  checkNd,
  8,
);
identity<MldMessage>(
  'mld',
  fc.oneof(
    fc.record({
      version: fc.constant(1 as const),
      type: fc.constantFrom(130, 131, 132),
      maxResponseDelayMs: u16,
      group: ip6,
    }),
    fc.record({
      version: fc.constant(2 as const),
      type: fc.constant(130 as const),
      maxResponseCode: u16,
      group: ip6,
      robustness: u8,
      queryIntervalCode: u8,
      sources: fc.array(ip6, { maxLength: 3 }),
    }),
    fc.record({
      version: fc.constant(2 as const),
      type: fc.constant(143 as const),
      records: fc.array(fc.record({ type: u8, group: ip6, sources: fc.array(ip6, { maxLength: 3 }) }), {
        maxLength: 3,
      }),
    }),
  ),
  writeMld,
  readMld,
  checkMld,
  8,
);
identity<IgmpMessage>(
  'igmp',
  fc.oneof(
    fc.record({
      version: fc.constant(2 as const),
      type: fc.constantFrom(0x11, 0x12, 0x16, 0x17),
      maxResponse: u8,
      group: u32,
    }),
    fc.record({
      version: fc.constant(3 as const),
      type: fc.constant(0x11 as const),
      maxResponse: u8,
      group: u32,
      robustness: u8,
      queryIntervalCode: u8,
      sources: fc.array(u32, { maxLength: 3 }),
    }),
    fc.record({
      version: fc.constant(3 as const),
      type: fc.constant(0x22 as const),
      records: fc.array(fc.record({ type: u8, group: u32, sources: fc.array(u32, { maxLength: 3 }) }), {
        maxLength: 3,
      }),
    }),
  ),
  writeIgmp,
  readIgmp,
  checkIgmp,
  8,
);
identity(
  'gre',
  fc.record({ protocolType: u16, checksum: fc.boolean(), key: fc.option(u32), sequence: fc.option(u32) }),
  (out, offset, header) => writeGre(out, offset, header, offset + 4),
  readGre,
  checkGre,
  4,
);
identity('esp', fc.record({ spi: u32, sequence: u32 }), writeEsp, readEsp, checkEsp, 8);
identity(
  'ah',
  fc.record({ nextHeader: u8, spi: u32, sequence: u32, integrityCheckValue: octets(4, 32) }),
  writeAh,
  readAh,
  checkAh,
  12,
);
identity('vxlan', fc.nat(0xffffff), writeVxlan, vni, checkVxlan, 8);
identity(
  'geneve',
  fc.record({
    protocolType: u16,
    vni: fc.nat(0xffffff),
    options: fc.array(fc.record({ optionClass: u16, type: u8, data: octets(4, 24) }), { maxLength: 3 }),
  }),
  writeGeneve,
  readGeneve,
  checkGeneve,
  8,
);

test('ethernet: tags by IEEE 802.1Q: TPID, then priority, drop eligible and VLAN id', () => {
  const tags = [
    { tpid: 0x88a8, priority: 5, dropEligible: true, vid: 100 },
    { tpid: 0x8100, priority: 0, dropEligible: false, vid: 4095 },
  ];
  const header = { destination: mac('ff:ff:ff:ff:ff:ff'), source: mac('02:00:00:00:00:01'), tags, etherType: 0x0800 };
  equalHex(
    written((out, offset) => writeEthernet(out, offset, header)),
    'ffffffffffff 020000000001 88a8 b064 8100 0fff 0800',
  );
  assert.equal(checkEthernet(hex('ffffffffffff 020000000001 8100 00'), 0), Fault.Truncated);
});

test('arp: a request by RFC 826, and other hardware, protocol and sizes refused', () => {
  const request = '0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002';
  const packet = {
    operation: 1,
    senderMac: mac('02:00:00:00:00:01'),
    senderIp: 0x0a000001,
    targetMac: new Uint8Array(6),
    targetIp: 0x0a000002,
  };
  equalHex(
    written((out, offset) => writeArp(out, offset, packet)),
    request,
  );
  assert.equal(checkArp(hex(request.replace('0001 0800', '0006 0800')), 0), Fault.BadType);
  assert.equal(checkArp(hex(request.replace('0001 0800', '0001 86dd')), 0), Fault.BadType);
  assert.equal(checkArp(hex(request.replace('06 04', '08 04')), 0), Fault.BadLength);
});

test('ipv4: a header and its checksum by RFC 791', () => {
  const octetsOfHeader = hex('4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7');
  const header = readIpv4(octetsOfHeader, 0);
  assert.equal(header.dontFragment, true);
  assert.equal(header.totalLength, 115);
  equalHex(
    written((out, offset) => writeIpv4(out, offset, header)),
    toHex(octetsOfHeader),
  );
  assert.ok(ipv4ChecksumIsRight(octetsOfHeader, 0));
  octetsOfHeader[11] = 0x62;
  assert.ok(!ipv4ChecksumIsRight(octetsOfHeader, 0));
  octetsOfHeader.fill(0, 10, 12); // an offloading sender
  assert.ok(ipv4ChecksumIsRight(octetsOfHeader, 0));
  assert.equal(checkIpv4(hex('6500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7'), 0), Fault.BadVersion);
  assert.equal(checkIpv4(hex('4400 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7'), 0), Fault.BadLength);
  assert.equal(checkIpv4(hex('4600 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7'), 0), Fault.Truncated);
  assert.equal(checkIpv4(hex('4500 0013 0000 4000 4011 b861 c0a8 0001 c0a8 00c7'), 0), Fault.BadLength);
});

test('ipv6: padding of an options header is PadN, of one octet Pad1 (RFC 8200 section 4.2)', () => {
  const content = (size: number) => new Uint8Array(size).fill(0xee);
  equalHex(
    written((out, offset) => writeExtension(out, offset, 6, content(4))),
    '0600 eeeeeeee 0100',
  );
  equalHex(
    written((out, offset) => writeExtension(out, offset, 6, content(5))),
    '0600 eeeeeeeeee 00',
  );
  equalHex(
    written((out, offset) => writeExtension(out, offset, 6, content(7))),
    '0601 eeeeeeeeeeeeee 01 05 0000000000',
  );
});

test('ipv6: the chain ends at authentication and at no-next-header, looks through an atomic fragment, stops in a later one', () => {
  const walk = (next: number, text: string) => {
    const data = hex(text);
    return walkExtensions(data, 0, next, data.length);
  };
  const none = { fault: Fault.None, fragmentAt: -1 };
  assert.deepEqual(walk(51, '0604000000000000'), { ...none, protocol: 51, at: 0 });
  assert.deepEqual(walk(NextHeader.HopByHop, '3b00000000000000'), { ...none, protocol: 59, at: 8 });
  assert.deepEqual(walk(44, '06000000 00000007 0000'), { ...none, protocol: 6, at: 8 });
  assert.deepEqual(walk(44, '11000008 00000007 0000'), { fault: Fault.None, protocol: 17, at: 8, fragmentAt: 0 });
  // The next header of a later fragment is not followed: behind it stands payload.
  assert.deepEqual(walk(44, '3c000008 00000007 ffff'), { fault: Fault.None, protocol: 60, at: 8, fragmentAt: 0 });
  assert.deepEqual(walk(60, '06010000 00000000'), { fault: Fault.BadLength, protocol: 6, at: 16, fragmentAt: -1 });
  assert.deepEqual(walk(43, '060000'), { fault: Fault.Truncated, protocol: 43, at: 0, fragmentAt: -1 });
});

test('tcp: MSS and window scale are found between padding; a shift above 14 counts as 14 (RFC 7323 section 2.3)', () => {
  const segment = hex('9c40 0050 00000001 00000000 8002 ffff 0000 0000 0204 05b4 01 0303 0f 0402 0000');
  const { options } = readTcp(segment, 0);
  assert.equal(maximumSegmentSizeOf(options), 1460);
  assert.equal(windowScaleOf(options), 14);
  assert.deepEqual(maximumSegmentSize(1460).data, Uint8Array.of(5, 0xb4));
  assert.equal(windowScaleOf([windowScale(7)]), 7);
  assert.equal(windowScaleOf([]), null);
  assert.equal(maximumSegmentSizeOf([]), null);
});

test('tcp: an option of length 0 or beyond the header ends the list', () => {
  const head = '9c40 0050 00000001 00000000 6002 ffff 0000 0000 ';
  assert.deepEqual(readTcp(hex(`${head}03000000`), 0).options, []);
  assert.deepEqual(readTcp(hex(`${head}01010305`), 0).options, []);
  assert.equal(checkTcp(hex(`${head}030307`), 0), Fault.BadLength);
  assert.equal(checkTcp(hex('9c40 0050 00000001 00000000 4002 ffff 0000 0000'), 0), Fault.BadLength);
});

test('udp: a length below 8 or beyond the datagram is refused', () => {
  assert.equal(checkUdp(hex('9c40 0035 0008 0000'), 0), Fault.None);
  assert.equal(checkUdp(hex('9c40 0035 0007 0000'), 0), Fault.BadLength);
  assert.equal(checkUdp(hex('9c40 0035 0009 0000'), 0), Fault.BadLength);
  assert.equal(checkUdp(hex('9c40 0035 0000 0000'), 0), Fault.BadLength);
});

test('sctp: the CRC-32C stands low octet first; a chunk shorter than its header is refused (RFC 9260 appendix A, 3.2)', () => {
  const packet = written((out, offset) =>
    writeSctp(out, offset, { sourcePort: 1, destinationPort: 2, verificationTag: 3 }, [
      { type: 11, flags: 0, data: new Uint8Array(0) },
    ]),
  );
  assert.ok(sctpChecksumIsRight(packet, 0));
  packet[15] = 3;
  assert.ok(!sctpChecksumIsRight(packet, 0));
  assert.equal(checkSctp(packet, 0), Fault.BadOption);
});

test('icmp: an echo request sums to zero', () => {
  const message = written((out, offset) =>
    writeIcmp(out, offset, { type: 8, code: 0, rest: 0x00010002 }, new TextEncoder().encode('abc')),
  );
  equalHex(message.subarray(0, 2), '0800');
  equalHex(message.subarray(4), '00010002 616263');
  assert.equal(internetChecksum(message, 0, message.length), 0);
});

test('nd: a solicitation by RFC 4861 section 4.3; an option of length 0 is refused (section 7.1.1)', () => {
  const options = [{ type: NdOptionType.SourceLinkLayer, data: mac('02:00:00:00:00:01') }];
  const message = written((out, offset) => writeNd(out, offset, { type: 135, target: words('fd00::2'), options }));
  equalHex(message, '8700 0000 00000000 fd000000000000000000000000000002 0101 020000000001');
  assert.deepEqual(linkLayerOf(options, NdOptionType.SourceLinkLayer), mac('02:00:00:00:00:01'));
  assert.equal(linkLayerOf(options, NdOptionType.TargetLinkLayer), null);
  message[25] = 0;
  assert.equal(checkNd(message, 0), Fault.BadOption);
  message[25] = 2;
  assert.equal(checkNd(message, 0), Fault.BadOption);
  assert.equal(checkNd(hex('8701 0000 00000000 fd000000000000000000000000000002'), 0), Fault.BadFlags);
  assert.equal(checkNd(hex('8000 0000 00000000'), 0), Fault.BadType);
});

test('mld, igmp: a record that runs out of its report is refused', () => {
  assert.equal(checkMld(hex('8f00 0000 0000 0001 04000000 ff020000000000000000000000000016'), 0), Fault.None);
  assert.equal(checkMld(hex('8f00 0000 0000 0002 04000000 ff020000000000000000000000000016'), 0), Fault.BadOption);
  assert.equal(checkMld(hex('8f00 0000 0000 0001 04000001 ff020000000000000000000000000016'), 0), Fault.BadOption);
  assert.equal(checkIgmp(hex('2200 0000 0000 0001 04000000 e0000016'), 0), Fault.None);
  assert.equal(checkIgmp(hex('2200 0000 0000 0001 04000001 e0000016'), 0), Fault.BadOption);
  assert.equal(checkIgmp(hex('2200 0000 0000 ffff'), 0), Fault.BadOption);
});

test('gre: key and sequence by RFC 2890; routing bits and version 1 refused; a checksum covers the payload', () => {
  const header = { protocolType: 0x6558, checksum: false, key: 7, sequence: 9 };
  equalHex(
    written((out, offset) => writeGre(out, offset, header, offset)),
    '3000 6558 00000007 00000009',
  );
  assert.equal(checkGre(hex('4000 6558'), 0), Fault.BadFlags);
  assert.equal(checkGre(hex('0001 880b'), 0), Fault.BadVersion);
  assert.equal(checkGre(hex('2000 6558 0000'), 0), Fault.Truncated);
  const packet = hex('0000 0000 0000 0000 616263');
  writeGre(packet, 0, { protocolType: 0x0800, checksum: true, key: null, sequence: null }, packet.length);
  assert.ok(greChecksumIsRight(packet, 0));
  packet[9] = 0;
  assert.ok(!greChecksumIsRight(packet, 0));
});

test('vxlan: the I flag is required, reserved bits are ignored (RFC 7348 section 5)', () => {
  equalHex(
    written((out, offset) => writeVxlan(out, offset, 0x123456)),
    '08000000 12345600',
  );
  assert.equal(checkVxlan(hex('f8ffffff 123456ff'), 0), Fault.None);
  assert.equal(checkVxlan(hex('f7000000 12345600'), 0), Fault.BadFlags);
  assert.equal(vni(hex('f8ffffff 123456ff'), 0), 0x123456);
});

test('geneve: by RFC 8926 section 3.4; O and other versions refused, options bounded, a critical one sets C', () => {
  const option = { optionClass: 0x0102, type: 0x81, data: hex('aabbccdd') };
  equalHex(
    written((out, offset) => writeGeneve(out, offset, { protocolType: 0x6558, vni: 5, options: [option] })),
    '02 40 6558 000005 00 0102 81 01 aabbccdd',
  );
  assert.ok(hasCriticalOption([option]));
  assert.ok(!hasCriticalOption([{ ...option, type: 1 }]));
  assert.equal(checkGeneve(hex('40 00 6558 000005 00'), 0), Fault.BadVersion);
  assert.equal(checkGeneve(hex('00 80 6558 000005 00'), 0), Fault.BadFlags);
  assert.equal(checkGeneve(hex('01 00 6558 000005 00'), 0), Fault.Truncated);
  assert.equal(checkGeneve(hex('01 00 6558 000005 00 0102 01 01'), 0), Fault.BadOption);
});

test('ah: the length counts words less two (RFC 4302 section 2.2)', () => {
  const header = { nextHeader: 6, spi: 1, sequence: 2, integrityCheckValue: new Uint8Array(12) };
  equalHex(written((out, offset) => writeAh(out, offset, header)).subarray(0, 12), '06 04 0000 00000001 00000002');
  assert.equal(checkAh(hex('06 00 0000 00000001 00000002'), 0), Fault.BadLength);
  assert.equal(checkAh(hex('06 02 0000 00000001 00000002'), 0), Fault.BadLength);
});
