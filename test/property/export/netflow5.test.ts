/** NetFlow v5 over arbitrary records: sums are exact, times are right, sequences have no gap. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Netflow5Datagram, Netflow5Encoder, splitCount, splitShare } from '../../../src/export/netflow5.js';
import { decode } from '../../unit/export/decode.js';
import { packed } from '../../unit/export/record.js';

const U64 = (1n << 64n) - 1n;
const LARGEST_PACKET = 65_535n;
const YEAR_NS = 365n * 86_400n * 1_000_000_000n;

/** Octets that so many packets may have: from 20 to 65,535 each. */
const counters = (packetsMax: bigint) =>
  fc.bigInt({ min: 1n, max: packetsMax }).chain((packets) =>
    fc.record({
      packets: fc.constant(packets),
      octets: fc.bigInt({
        min: packets * 20n > U64 ? U64 : packets * 20n,
        max: packets * LARGEST_PACKET > U64 ? U64 : packets * LARGEST_PACKET,
      }),
    }),
  );

test('netflow5: any 64-bit counters of real packets split into pieces that fit, none without a packet', () => {
  fc.assert(
    fc.property(counters(U64), fc.bigInt({ min: 0n, max: U64 }), ({ packets, octets }, where) => {
      const count = splitCount(packets, octets);
      assert.ok(count >= 1n && count <= packets);
      for (const index of [0n, where % count, count - 1n]) {
        const share = splitShare(packets, index, count);
        assert.ok(share >= 1 && share <= 0xffffffff);
        assert.ok(splitShare(octets, index, count) <= 0xffffffff);
      }
    }),
  );
});

test('netflow5: what a collector reads is what was handed in: sums, order, and times to the millisecond', () => {
  // Flows up to 49 days long, over a century; the clock is never behind a record's end.
  const record = fc.record({
    startNs: fc.bigInt({ min: 0n, max: 100n * YEAR_NS }),
    lengthNs: fc.bigInt({ min: 0n, max: 49n * 86_400n * 1_000_000_000n }),
    counters: counters(1n << 22n),
    src: fc.nat(0xffffffff),
  });
  fc.assert(
    fc.property(
      fc.array(record, { minLength: 1, maxLength: 80 }),
      fc.bigInt({ min: 0n, max: YEAR_NS }),
      (list, laterNs) => {
        const records = list.map(({ startNs, lengthNs, counters: { packets, octets }, src }) => ({
          src,
          startNs,
          endNs: startNs + lengthNs,
          exportNs: startNs + lengthNs,
          packets,
          octets,
        }));
        const nowNs = records.reduce((max, { endNs }) => (endNs > max ? endNs : max), 0n) + laterNs;
        const datagrams: Netflow5Datagram[] = [];
        const encoder = new Netflow5Encoder(
          { engineId: 1, engineType: 2, addToInterface: false, icmpPort: 'destination', octets: 'layer3' },
          (datagram) => datagrams.push(datagram),
          (reason) => assert.fail(reason),
        );
        encoder.push(packed(...records), nowNs);
        encoder.flush();
        const read = datagrams.flatMap(({ octets }) => decode(octets).records);
        let at = 0;
        for (const { src, startNs, endNs, packets, octets } of records) {
          const pieces = read.slice(at, at + Number(splitCount(packets, octets)));
          at += pieces.length;
          assert.equal(
            pieces.reduce((sum, piece) => sum + BigInt(piece.packets), 0n),
            packets,
          );
          assert.equal(
            pieces.reduce((sum, piece) => sum + BigInt(piece.octets), 0n),
            octets,
          );
          for (const piece of pieces) {
            assert.ok(piece.packets > 0);
            assert.equal(piece.src, src);
            assert.deepEqual([piece.firstMs, piece.lastMs], [Number(startNs / 1_000_000n), Number(endNs / 1_000_000n)]);
          }
        }
        assert.equal(at, read.length);
        assert.equal(
          datagrams.reduce((sum, { flows }) => sum + flows, 0),
          records.length,
        );
        assert.ok(datagrams.every((datagram) => datagram.records >= 1 && datagram.records <= 30));
      },
    ),
    { numRuns: 60 },
  );
});
