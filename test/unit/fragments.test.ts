/** Virtual reassembly: who gets the first fragment's ports, and which fragments are refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DROP_REASONS } from '../../src/batch/drop-reason.js';
import { RowFlag } from '../../src/batch/packet-batch.js';
import { parseRows } from '../../src/batch/parse.js';
import { FragmentTable } from '../../src/conntrack/fragments.js';
import { Random } from '../fuzz/mutate.js';
import { fragments4, fragments6, icmp4, ip4, ip6, loadBatch, tagged, tcp4, udp4, udp6 } from './frames.js';

const batch = loadBatch([]);
const SECOND = 1_000_000_000n;
const START = 1_700_000_000n * SECOND;
const newTable = () => new FragmentTable(FragmentTable.allocate());

/** Resolves one frame; says its ports, fault and whether its transport counts as known. */
function resolve(table: FragmentTable, frame: Uint8Array, timeNs = START) {
  loadBatch([frame], { batch, timeNs });
  parseRows(batch, 0, 1);
  table.resolve(batch, 0);
  return {
    ports: `${batch.srcPort[0]}>${batch.dstPort[0]}`,
    fault: DROP_REASONS[batch.fault[0]!]!,
    transport: (batch.flags[0]! & RowFlag.Transport) !== 0,
    hash: batch.hash[0]!,
    icmpId: batch.icmpId[0]!,
  };
}
const piece = (offset: number, size: number, more: boolean, fields = {}) =>
  ip4(17, new Uint8Array(size).fill(9), { id: 1, fragmentOffset: offset, more, ...fields });
const datagram = (fields = {}) => udp4({ sport: 7, dport: 8, id: 1, payload: new Uint8Array(100), ...fields });

test("fragments: later ones take the first one's ports and hash", () => {
  const table = newTable();
  const [first, ...later] = fragments4(datagram(), 32).map((frame) => resolve(table, frame));
  assert.equal(first!.ports, '7>8');
  assert.equal(later.length, 3);
  for (const row of later) assert.deepEqual(row, { ...first, transport: true });
});

test('fragments: the same for IPv6', () => {
  const table = newTable();
  const rows = fragments6(udp6({ sport: 7, dport: 8, payload: new Uint8Array(100) }), 32, 0xfeedface).map((frame) =>
    resolve(table, frame),
  );
  assert.deepEqual(
    rows.map(({ ports, fault }) => [ports, fault]),
    new Array(4).fill(['7>8', 'none']),
  );
  assert.equal(new Set(rows.map(({ hash }) => hash)).size, 1);
});

test('fragments: one that comes before its first stays without ports, the next ones have them', () => {
  const table = newTable();
  const [first, second, third] = fragments4(datagram(), 40);
  assert.deepEqual(
    ['0>0', false],
    [resolve(table, second!)].flatMap(({ ports, transport }) => [ports, transport]),
  );
  assert.equal(resolve(table, first!).ports, '7>8');
  assert.equal(resolve(table, third!).ports, '7>8');
});

test('fragments: identification, addresses, protocol and VLAN tell datagrams apart', () => {
  const table = newTable();
  const [first] = fragments4(datagram(), 40);
  resolve(table, first!);
  assert.equal(resolve(table, piece(5, 40, true, { id: 2 })).ports, '0>0');
  assert.equal(resolve(table, piece(5, 40, true, { src: '10.0.0.3' })).ports, '0>0');
  assert.equal(resolve(table, piece(5, 40, true, { src: '10.0.0.2', dst: '10.0.0.1' })).ports, '0>0');
  assert.equal(resolve(table, tagged(piece(5, 40, true), 3)).ports, '0>0');
  assert.equal(resolve(table, ip4(6, new Uint8Array(40), { id: 1, fragmentOffset: 5, more: true })).ports, '0>0');
  assert.equal(resolve(table, piece(5, 40, true)).ports, '7>8');
});

test("fragments: an echo's identifier and type are known to its later fragments", () => {
  const table = newTable();
  const rows = fragments4(icmp4({ id: 0xabcd, payload: new Uint8Array(64) }), 32).map((frame) => resolve(table, frame));
  for (const row of rows) assert.deepEqual([row.ports, row.icmpId, row.hash], ['0>2048', 0xabcd, rows[0]!.hash]);
});

test('fragments: a piece that overlaps another is refused, an exact duplicate is not (RFC 5722; RFC 8200 section 4.5)', () => {
  const overlapping: [number, number][] = [
    [3, 40], // into the first
    [4, 8], // inside it, at its end
    [0, 48], // over it
    [0, 32], // its beginning
  ];
  for (const [offset, size] of overlapping) {
    const table = newTable();
    resolve(table, fragments4(datagram(), 40)[0]!);
    assert.equal(resolve(table, piece(offset, size, true)).fault, 'fragment-overlap', `${offset} × 8, ${size}`);
  }
  const table = newTable();
  const [first, second] = fragments4(datagram(), 40);
  for (const frame of [first, first, second, second, first]) assert.equal(resolve(table, frame!).fault, 'none');
});

test('fragments: pieces that touch do not overlap', () => {
  const table = newTable();
  for (const frame of [piece(10, 40, true), piece(0, 40, true), piece(5, 40, true), piece(15, 3, false)])
    assert.equal(resolve(table, frame).fault, 'none');
});

test('fragments: overlap is judged by payload behind the extension headers', () => {
  const table = newTable();
  const at = (offset: number, more: boolean) =>
    ip6(17, new Uint8Array(16), {
      extensions: [
        { type: 60, content: new Uint8Array(14) },
        { type: 44, fragment: { offset, more, id: 5 } },
      ],
    });
  assert.equal(resolve(table, at(2, true)).fault, 'none');
  assert.equal(resolve(table, at(4, true)).fault, 'none');
  assert.equal(resolve(table, at(3, true)).fault, 'fragment-overlap');
});

test('fragments: a datagram is forgotten 30 s after its first piece', () => {
  const table = newTable();
  const [first, second, third] = fragments4(datagram(), 40);
  resolve(table, first!);
  assert.equal(resolve(table, second!, START + 30n * SECOND - 1n).ports, '7>8');
  assert.equal(resolve(table, third!, START + 30n * SECOND).ports, '0>0');
});

test('fragments: a faulty first one gives no ports away', () => {
  const table = newTable();
  const [first, second] = fragments4(tcp4({ id: 1, flags: 'SF', payload: new Uint8Array(60) }), 40);
  assert.equal(resolve(table, first!).fault, 'tcp-invalid-flags');
  assert.deepEqual([resolve(table, second!).ports], ['0>0']);
});

test('fragments: a fragment-bad piece takes no part', () => {
  const table = newTable();
  assert.equal(resolve(table, piece(5, 41, true)).fault, 'fragment-bad');
  assert.equal(resolve(table, piece(5, 40, true)).fault, 'none');
});

test('fragments: tables over one memory know what the others know', () => {
  const memory = FragmentTable.allocate();
  const [first, second] = fragments4(datagram(), 40);
  resolve(new FragmentTable(memory), first!);
  assert.equal(resolve(new FragmentTable(memory), second!).ports, '7>8');
});

test("fragments: a flood of datagrams never takes the newest one's ports", () => {
  const table = newTable();
  for (let id = 0; id < 20_000; id++) {
    const time = START + BigInt(id) * 1000n;
    const [first, second] = fragments4(
      datagram({ id: id & 0xffff, src: `10.${id & 63}.0.1`, payload: new Uint8Array(8) }),
      8,
    );
    resolve(table, first!, time);
    assert.equal(resolve(table, second!, time).ports, '7>8');
  }
});

test('fragments: pieces in any order: none overlaps, and those behind the first have its ports', () => {
  fc.assert(
    fc.property(fc.nat(0xffffffff), fc.integer({ min: 1, max: 12 }), (seed, units) => {
      const rng = new Random(seed);
      const table = newTable();
      const pieces = fragments4(datagram({ payload: new Uint8Array(300) }), units * 8).map((frame, index) => ({
        frame,
        index,
      }));
      for (let i = pieces.length - 1; i > 0; i--) {
        const j = rng.below(i + 1);
        [pieces[i], pieces[j]] = [pieces[j]!, pieces[i]!];
      }
      let known = false;
      for (const { frame, index } of pieces) {
        known ||= index === 0;
        const row = resolve(table, frame);
        assert.deepEqual([row.fault, row.ports], ['none', known ? '7>8' : '0>0']);
      }
    }),
    { numRuns: 40 },
  );
});

test('fragments: a complete datagram is forgotten, so that its identification may come round (RFC 4963)', () => {
  const table = newTable();
  for (const frame of fragments4(datagram(), 40)) assert.equal(resolve(table, frame).fault, 'none');
  // Another datagram of the same identification, cut elsewhere.
  const again = fragments4(datagram({ sport: 9, payload: new Uint8Array(200) }), 64);
  for (const frame of again)
    assert.deepEqual(
      [resolve(table, frame)].map(({ fault, ports }) => [fault, ports]),
      [['none', '9>8']],
    );
});

test('fragments: overlap is found however many pieces a datagram has', () => {
  const table = newTable();
  for (let unit = 0; unit < 8000; unit += 2) assert.equal(resolve(table, piece(unit, 8, true)).fault, 'none');
  for (const unit of [0, 4000, 7998]) assert.equal(resolve(table, piece(unit, 16, true)).fault, 'fragment-overlap');
  assert.equal(resolve(table, piece(3999, 8, true)).fault, 'none');
});

test('fragments: a second end, or a piece beyond the end, is fragment-bad', () => {
  const table = newTable();
  assert.equal(resolve(table, piece(10, 20, false)).fault, 'none'); // ends at 100
  assert.equal(resolve(table, piece(13, 8, true)).fault, 'fragment-bad');
  assert.equal(resolve(table, piece(14, 20, false)).fault, 'fragment-bad');
  assert.equal(resolve(table, piece(5, 8, false)).fault, 'fragment-bad');
  assert.equal(resolve(table, piece(10, 20, false)).fault, 'none'); // a duplicate
  assert.equal(resolve(table, piece(10, 19, false)).fault, 'fragment-overlap');
});

test('fragments: a full bucket of datagrams that are later than this packet gives way without a crash', () => {
  const table = new FragmentTable(FragmentTable.allocate(8));
  for (let id = 0; id < 8; id++) resolve(table, piece(1, 8, true, { id }), START + SECOND);
  assert.equal(resolve(table, piece(1, 8, true, { id: 99 }), START).fault, 'none');
});

test('fragments: a later IPv6 piece that names another next header gets no ports', () => {
  const table = newTable();
  const [first, second] = fragments6(udp6({ sport: 7, dport: 8, payload: new Uint8Array(100) }), 32, 1);
  resolve(table, first!);
  second![54] = 50; // ESP
  assert.deepEqual(
    [resolve(table, second!)].map(({ ports, transport }) => [ports, transport]),
    [['0>0', false]],
  );
});

test('fragments: a lock that a dead worker holds is taken over', () => {
  const memory = FragmentTable.allocate();
  new Int32Array(memory)[0] = 1;
  assert.equal(resolve(new FragmentTable(memory), fragments4(datagram(), 40)[0]!).ports, '7>8');
});
