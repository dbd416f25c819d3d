/** Checksums against the RFCs' own worked examples. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  checksumAdd,
  checksumFold,
  internetChecksum,
  transportChecksum,
  updateChecksum16,
} from '../../../src/wire/checksum.js';
import { crc32c, crc32cWord } from '../../../src/wire/crc32c.js';
import { read16, write16 } from '../../../src/wire/octets.js';
import { checksumFieldOf, setTransportChecksum } from '../../../src/wire/transport-checksum.js';
import { hex } from '../frames.js';

const checksum = (octets: Uint8Array) => internetChecksum(octets, 0, octets.length);

test('checksum: 0001 f203 f4f5 f6f7 sums to ddf2 (RFC 1071 section 3)', () => {
  const octets = hex('0001 f203 f4f5 f6f7');
  assert.equal(checksumFold(checksumAdd(octets, 0, octets.length)), 0xddf2);
  assert.equal(checksum(octets), 0x220d);
});

test('checksum: an odd last octet counts as the high half of a word (RFC 1071 section 4.1)', () => {
  assert.equal(checksum(hex('0001 f2')), checksum(hex('0001 f200')));
});

test('checksum: 65,535 octets of ones do not overflow the sum', () => {
  assert.equal(checksum(new Uint8Array(65_535).fill(0xff)), checksum(hex('ff00')));
});

test('checksum: an IPv4 header with its checksum in place sums to zero', () => {
  assert.equal(checksum(hex('4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7')), 0);
});

test('checksum: dd2f updated from 5555 to 3285 is 0000, not ffff (RFC 1624 section 4)', () => {
  assert.equal(updateChecksum16(0xdd2f, 0x5555, 0x3285), 0);
});

test('checksum: an update equals the checksum anew, of any words that are not all zero', () => {
  const word = fc.nat(0xffff);
  fc.assert(
    fc.property(fc.array(word, { minLength: 2, maxLength: 40 }), fc.nat(39), word, (list, index, after) => {
      const octets = new Uint8Array(list.length * 2 + 2);
      list.forEach((value, i) => {
        write16(octets, i * 2, value);
      });
      write16(octets, list.length * 2, 0x4500); // as in every header: never all zero
      const at = (index % list.length) * 2;
      const before = checksum(octets);
      const old = read16(octets, at);
      write16(octets, at, after);
      assert.equal(updateChecksum16(before, old, after), checksum(octets));
    }),
  );
});

test('crc32c: the examples of RFC 3720 appendix B.4', () => {
  const crc = (octets: Uint8Array) => crc32c(octets, 0, octets.length);
  assert.equal(crc(new Uint8Array(32)), 0x8a9136aa);
  assert.equal(crc(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  assert.equal(crc(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e);
  assert.equal(crc(Uint8Array.from({ length: 32 }, (_, i) => 31 - i)), 0x113fdb5c);
  const read10 =
    '01c0 0000 0000 0000 0000 0000 0000 0000 1400 0000 0000 0400 0000 0014 0000 0018 2800 0000 0000 0000 0200 0000 0000 0000';
  assert.equal(crc(hex(read10)), 0xd9963a56);
  assert.equal(crc(new TextEncoder().encode('123456789')), 0xe3069283);
});

test('crc32c: a word is its four octets, low one first', () => {
  fc.assert(
    fc.property(fc.nat(0xffffffff), (word) => {
      const octets = Uint8Array.of(word, word >>> 8, word >>> 16, word >>> 24);
      assert.equal(~crc32cWord(0xffffffff, word) >>> 0, crc32c(octets, 0, 4));
    }),
  );
});

test('transport checksum: a segment that holds it sums to zero, over IPv4 and IPv6 alike', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(4 as const, 6 as const),
      fc.constantFrom(6, 17, 58),
      fc.uint8Array({ minLength: 20, maxLength: 99 }),
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      (family, protocol, segment, addresses) => {
        const at = family === 4 ? 8 : 32;
        const packet = new Uint8Array(at + segment.length);
        packet.set(addresses.subarray(0, at));
        packet.set(segment, at);
        setTransportChecksum(packet, 0, family, protocol, at, segment.length);
        assert.equal(transportChecksum(packet, 0, family, protocol, at, segment.length), 0);
        if (protocol === 17) assert.notEqual(read16(packet, at + 6), 0);
      },
    ),
  );
});

test('transport checksum: a UDP sum of zero is sent as all ones (RFC 768)', () => {
  // Addresses and ports 0; the length is summed twice, protocol once: the payload word makes the sum ffff.
  const packet = new Uint8Array(8 + 10);
  write16(packet, 8 + 4, 10);
  write16(packet, 8 + 8, 0xffff - 10 - 10 - 17);
  setTransportChecksum(packet, 0, 4, 17, 8, 10);
  assert.equal(read16(packet, 8 + 6), 0xffff);
});

test('transport checksum: ICMP sums its message alone; SCTP and GRE have no such field', () => {
  const packet = hex('01020304 05060708 0800 0000 1234 0001');
  setTransportChecksum(packet, 0, 4, 1, 8, 8);
  assert.equal(internetChecksum(packet, 8, 8), 0);
  assert.equal(checksumFieldOf(132), -1);
  assert.equal(checksumFieldOf(47), -1);
});
