/** Reads NetFlow v5 datagrams back, for tests. */
import assert from 'node:assert/strict';

/** The fields that tests look at. Times are absolute, as a collector works them out. */
export function decode(octets: Uint8Array) {
  const view = new DataView(octets.buffer, octets.byteOffset, octets.length);
  const count = view.getUint16(2);
  const uptime = view.getUint32(4);
  const bootMs = view.getUint32(8) * 1000 + Math.floor(view.getUint32(12) / 1e6) - uptime;
  const header = {
    version: view.getUint16(0),
    count,
    uptime,
    seconds: view.getUint32(8),
    nanoseconds: view.getUint32(12),
    sequence: view.getUint32(16),
    engineType: octets[20]!,
    engineId: octets[21]!,
    sampling: view.getUint16(22),
  };
  assert.equal(octets.length, 24 + 48 * count);
  const records = Array.from({ length: count }, (_, index) => {
    const o = 24 + 48 * index;
    return {
      src: view.getUint32(o),
      dst: view.getUint32(o + 4),
      nextHop: view.getUint32(o + 8),
      input: view.getUint16(o + 12),
      output: view.getUint16(o + 14),
      packets: view.getUint32(o + 16),
      octets: view.getUint32(o + 20),
      firstMs: bootMs + view.getUint32(o + 24),
      lastMs: bootMs + view.getUint32(o + 28),
      srcPort: view.getUint16(o + 32),
      dstPort: view.getUint16(o + 34),
      pad: octets[o + 36]!,
      tcpFlags: octets[o + 37]!,
      protocol: octets[o + 38]!,
      tos: octets[o + 39]!,
      asAndMasks: [view.getUint32(o + 40), view.getUint32(o + 44)],
    };
  });
  return { header, records };
}
