/** How lists are printed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from 'yaml';
import { present } from '../../../src/cli/get.js';
import { parseFormat, table, toJson, toYaml } from '../../../src/cli/output.js';

test('output: columns are aligned, numbers to the right, what is absent is a dash', () => {
  const rows = [
    { name: 'a', clusterIPs: ['10.0.0.1', 'fd00::1'], packets: 5n, reason: null },
    { name: 'long-name', clusterIPs: [], packets: 12_345n, reason: 'spoofed' },
  ];
  assert.equal(
    table(rows, ['name', 'packets', 'clusterIPs', 'reason']),
    'NAME       PACKETS  CLUSTER IPS       REASON\na                5  10.0.0.1,fd00::1  -\nlong-name    12345  -                 spoofed\n',
  );
});

test('output: an empty table is its header', () => {
  assert.equal(table([], ['stage', 'reason']), 'STAGE  REASON\n');
});

test('output: integers beyond 2^53 keep every digit, in JSON and YAML, and stay integers', () => {
  const value = { octets: 18_446_744_073_709_551_615n, list: [-1n, 2n] };
  assert.equal(toJson(value), '{\n  "octets": 18446744073709551615,\n  "list": [\n    -1,\n    2\n  ]\n}');
  assert.deepEqual(parse(toYaml(value), { intAsBigInt: true }), value);
});

test('output: a format that is none is refused', () => {
  assert.throws(() => parseFormat('xml'), {
    code: 'SEINE_ERR_USAGE',
    message: /-o xml: table, json or yaml belongs here/,
  });
});

test('get: counters become integers, times have nine decimals, empty texts are null, ports get their names', () => {
  const row = {
    src: '10.0.0.1',
    inPort: 3,
    outPort: 65533,
    packets: ['9007199254740993', '0'],
    startNs: '1701234567123456789',
    lastNs: '5',
    reason: '',
  };
  assert.deepEqual(present('connections', row, new Map([[3, 'default/web']])), {
    src: '10.0.0.1',
    inPort: 3,
    inPortName: 'default/web',
    outPort: 65533,
    outPortName: null,
    packets: [9_007_199_254_740_993n, 0n],
    start: '1701234567.123456789',
    last: '0.000000005',
    reason: null,
    vlan: null,
  });
});

test('get: a rule is its index as a number, its name, or null for the default deny', () => {
  const rule = (row: object) => present('rules', row, new Map()).rule;
  assert.equal(rule({ rule: '0' }), 0);
  assert.equal(rule({ rule: 'allow-dns' }), 'allow-dns');
  assert.equal(rule({ id: 1 }), null);
});
