/** Addresses as text and words. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatAddress, formatMac, parseAddress, parseCidr, parseMac } from '../../../src/flow/ip-address.js';

const canonical = (text: string) => {
  const address = parseAddress(text);
  assert.notEqual(address, null, text);
  return formatAddress(address!.words, 0, address!.family);
};

test('ip-address: the texts of RFC 5952 sections 1, 4 and 5 become its recommended form', () => {
  const forms: Record<string, string> = {
    '2001:db8:0:0:1:0:0:1': '2001:db8::1:0:0:1',
    '2001:0db8:0:0:1:0:0:1': '2001:db8::1:0:0:1',
    '2001:db8::1:0:0:1': '2001:db8::1:0:0:1',
    '2001:DB8:0:0:1::1': '2001:db8::1:0:0:1',
    '2001:0db8::0001': '2001:db8::1',
    '2001:db8:0:0:0:0:2:1': '2001:db8::2:1',
    '2001:db8:0:1:1:1:1:1': '2001:db8:0:1:1:1:1:1', // one group of zeros is not shortened
    '2001:0:0:1:0:0:0:1': '2001:0:0:1::1', // the longest run
    '2001:db8:aaaa:bbbb:cccc:dddd:eeee:AAAA': '2001:db8:aaaa:bbbb:cccc:dddd:eeee:aaaa',
    '::ffff:192.0.2.1': '::ffff:192.0.2.1',
    '0:0:0:0:0:0:0:0': '::',
    '::1': '::1',
    '1::': '1::',
    '1:2:3:4:5:6:7::': '1:2:3:4:5:6:7:0',
    '64:ff9b::192.0.2.33': '64:ff9b::c000:221',
  };
  for (const [text, form] of Object.entries(forms)) assert.equal(canonical(text), form, text);
});

test('ip-address: text that is no address is refused', () => {
  const wrong = [
    ...[
      '',
      '1',
      '1.2.3',
      '1.2.3.4.5',
      '01.2.3.4',
      '256.1.1.1',
      '1.2.3.-4',
      ' 1.2.3.4',
      '1.2.3.4 ',
      '1.2.3.4/8',
      '1..2.3',
    ],
    ...[':', ':::', '1:2:3:4:5:6:7', '1:2:3:4:5:6:7:8:9', '1::2::3', '12345::', 'g::', '::1%eth0', '1:2:3:4:5:6:7:8::'],
    ...['::1.2.3', '::1.2.3.4.5', '1.2.3.4::', ':1.2.3.4', '::ffff:1.2.3.4:5', '1:', ':1', '[::1]', '::01.2.3.4'],
  ];
  for (const text of wrong) assert.equal(parseAddress(text), null, text);
});

test("ip-address: format and parse are each other's inverse", () => {
  const word = fc.oneof(fc.nat(0xffffffff), fc.constantFrom(0, 1, 0x10000, 0xffff));
  fc.assert(
    fc.property(fc.tuple(word, word, word, word), fc.constantFrom(4, 6), (words, family) => {
      const expected = family === 4 ? [words[0], 0, 0, 0] : [...words];
      assert.deepEqual(parseAddress(formatAddress(words, 0, family)), { family, words: expected });
    }),
  );
});

test('ip-address: a prefix has its host bits cleared, and says that there were some', () => {
  assert.deepEqual(parseCidr('10.1.2.3/8'), {
    family: 4,
    words: [0x0a000000, 0, 0, 0],
    prefixLength: 8,
    hadHostBits: true,
  });
  assert.deepEqual(parseCidr('fd00:0:0:1::/64'), {
    family: 6,
    words: [0xfd000000, 1, 0, 0],
    prefixLength: 64,
    hadHostBits: false,
  });
  assert.deepEqual(parseCidr('255.255.255.255/0')!.words, [0, 0, 0, 0]);
  for (const text of ['10.0.0.0', '10.0.0.0/33', '::/129', '10.0.0.0/', '10.0.0.0/08', '10.0.0.0/-1', '/8', '1/8'])
    assert.equal(parseCidr(text), null, text);
});

test('ip-address: a MAC is six pairs of digits with colons', () => {
  assert.equal(formatMac(parseMac('AA:bb:0c:00:ee:FF')!), 'aa:bb:0c:00:ee:ff');
  for (const text of [
    '',
    'aa:bb:cc:dd:ee',
    'aa-bb-cc-dd-ee-ff',
    'a:b:c:d:e:f',
    'aa:bb:cc:dd:ee:ff:00',
    'gg:bb:cc:dd:ee:ff',
  ])
    assert.equal(parseMac(text), null, text);
});
