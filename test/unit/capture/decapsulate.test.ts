import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DropReason } from '../../../src/batch/drop-reason.js';
import { PacketBatch } from '../../../src/batch/packet-batch.js';
import { decapsulateRows } from '../../../src/capture/decapsulate.js';
import { CaptureReader } from '../../../src/capture/reader.js';
import { CaptureRows } from '../../../src/capture/rows.js';
import { internetChecksum } from '../../../src/wire/checksum.js';
import { concat, ethernet, file, ipv4, Octets, pcap, tcp4, udp, udp4 } from './captures.js';

const inner = ethernet(tcp4({ src: '10.1.0.1', dst: '10.1.0.2' }), 0x0800, {
  srcMac: '02:00:00:00:00:0a',
  dstMac: '02:00:00:00:00:0b',
});
const innerIp = inner.subarray(14);
const outer = (protocol: number, payload: Uint8Array, fragment = 0): Uint8Array =>
  ethernet(ipv4({ src: '192.0.2.1', dst: '192.0.2.2', protocol, payload, fragment }));
const vxlan = (frame: Uint8Array, flags = 8) =>
  outer(17, udp(50_000, 4789, concat(Uint8Array.of(flags, 0, 0, 0, 0, 0, 0, 0), frame)));
const geneve = (payload: Uint8Array, { first = 0, second = 0, protocol = 0x6558, options = new Uint8Array(0) } = {}) =>
  outer(
    17,
    udp(
      50_000,
      6081,
      new Octets(false)
        .u8(first | (options.length / 4), second)
        .u16(protocol)
        .u32(0)
        .raw(options)
        .raw(payload)
        .done(),
    ),
  );
const gre = (payload: Uint8Array, protocol: number, flags = 0, fields = new Uint8Array(0)) =>
  outer(47, new Octets(false).u16(flags).u16(protocol).raw(fields).raw(payload).done());
const stt = (payload: Uint8Array, { frameLength = 18 + payload.length, place = 0, version = 0, flags = 0x18 } = {}) =>
  outer(
    6,
    new Octets(false)
      .u16(50_000)
      .u16(7471)
      .u16(frameLength)
      .u16(place)
      .u32(1)
      .u8(0x50, flags)
      .u16(65_535)
      .u32(0)
      .u8(version, 0, 0, 0)
      .u16(0)
      .u16(0)
      .u32(0)
      .u32(0)
      .u16(0)
      .raw(payload)
      .done(),
  );

interface Opened {
  frames: Uint8Array[];
  wireLengths: number[];
  frameOctets: number[];
  drops: [number, number, number | undefined][];
}
async function open(...packets: { octets: Uint8Array; original?: number }[]): Promise<Opened> {
  const reader = new CaptureReader([file(pcap(packets))], { onWarning: assert.fail });
  const batch = new PacketBatch();
  const rows = new CaptureRows();
  await reader.fill(batch, rows);
  await reader.close();
  decapsulateRows(batch, rows);
  return {
    frames: Array.from({ length: batch.count }, (_, row) =>
      batch.data.slice(batch.offset[row]!, batch.offset[row]! + batch.length[row]!),
    ),
    wireLengths: [...batch.wireLength.subarray(0, batch.count)],
    frameOctets: [...batch.frameOctets.subarray(0, batch.count)],
    drops: rows.early.map(({ beforeRow, reason, flow }) => [beforeRow, reason, flow?.dstPort]),
  };
}

const madeInner = ethernet(innerIp, 0x0800, { srcMac: '00:00:00:00:00:00', dstMac: '00:00:00:00:00:00' });
const CARRIERS: [string, Uint8Array, Uint8Array][] = [
  ['VXLAN (RFC 7348)', vxlan(inner), inner],
  ['VXLAN with reserved bits set (RFC 7348 section 5)', vxlan(inner, 0xff), inner],
  ['Geneve (RFC 8926)', geneve(inner), inner],
  [
    'Geneve with an option that is not critical',
    geneve(inner, { options: Uint8Array.of(1, 2, 0x01, 1, 9, 9, 9, 9) }),
    inner,
  ],
  ['Geneve carrying IPv4', geneve(innerIp, { protocol: 0x0800 }), madeInner],
  ['GRE carrying Ethernet', gre(inner, 0x6558), inner],
  ['GRE with a key (RFC 2890)', gre(inner, 0x6558, 0x2000, new Uint8Array(4)), inner],
  ['GRE carrying IPv4', gre(innerIp, 0x0800), madeInner],
  ['STT', stt(inner), inner],
  ['STT with flags that TCP does not know', stt(inner, { flags: 0 }), inner],
];
for (const [name, carrier, expected] of CARRIERS) {
  test(`decapsulate: ${name} is opened; octets stay the carrier's`, async () => {
    const opened = await open({ octets: carrier });
    assert.deepEqual(opened.frames, [expected]);
    assert.deepEqual(opened.wireLengths, [expected.length]);
    assert.deepEqual(opened.frameOctets, [carrier.length]);
    assert.deepEqual(opened.drops, []);
  });
}

const LEFT: [string, Uint8Array][] = [
  ['UDP to another port', ethernet(udp4({ dstPort: 53 }))],
  ['ERSPAN in GRE', gre(new Uint8Array(40), 0x88be, 0x1000, new Uint8Array(4))],
  ['GRE version 1 (PPTP)', gre(new Uint8Array(40), 0x880b, 0x3001, new Uint8Array(8))],
  ['a fragment of a carrier', outer(17, udp(50_000, 4789, new Uint8Array(24)), 0x2000)],
  ['a frame without IP', ethernet(new Uint8Array(46), 0x0806)],
  ['an STT segment behind the first', stt(inner, { place: 1400 })],
];
for (const [name, frame] of LEFT) {
  test(`decapsulate: ${name} is judged as it is`, async () => {
    assert.deepEqual(await open({ octets: frame }), {
      frames: [frame],
      wireLengths: [frame.length],
      frameOctets: [frame.length],
      drops: [],
    });
  });
}

const BROKEN: [string, Uint8Array, number][] = [
  ['VXLAN without the I flag', vxlan(inner, 0), DropReason.TunnelMalformed],
  ['VXLAN with less than a frame', vxlan(inner.subarray(0, 13)), DropReason.TunnelMalformed],
  ['Geneve of version 1', geneve(inner, { first: 0x40 }), DropReason.TunnelMalformed],
  ['Geneve with the O bit', geneve(inner, { second: 0x80 }), DropReason.TunnelMalformed],
  [
    'Geneve whose options pass its end',
    outer(17, udp(1, 6081, Uint8Array.of(0x3f, 0, 0x65, 0x58, 0, 0, 0, 0))),
    DropReason.TunnelMalformed,
  ],
  [
    'Geneve whose option passes the options',
    geneve(inner, { options: Uint8Array.of(1, 2, 1, 5) }),
    DropReason.TunnelMalformed,
  ],
  [
    'Geneve with an unknown critical option',
    geneve(inner, { second: 0x40, options: Uint8Array.of(1, 2, 0x81, 0) }),
    DropReason.TunnelCriticalOption,
  ],
  [
    'GRE with routing (RFC 2784 section 2.3)',
    gre(inner, 0x6558, 0x4000, new Uint8Array(4)),
    DropReason.TunnelMalformed,
  ],
  [
    'GRE cut within its key',
    outer(47, new Octets(false).u16(0x2000).u16(0x6558).u16(0).done()),
    DropReason.TunnelMalformed,
  ],
  ['GRE with a wrong checksum', gre(inner, 0x6558, 0x8000, new Uint8Array(4)), DropReason.TunnelMalformed],
  ['STT of version 1', stt(inner, { version: 1 }), DropReason.TunnelMalformed],
  ['STT with a length below its header', stt(inner, { frameLength: 10 }), DropReason.TunnelMalformed],
];
for (const [name, frame, reason] of BROKEN) {
  test(`decapsulate: ${name} is dropped, in its place, with the carrier's flow`, async () => {
    const plain = ethernet(udp4());
    const opened = await open({ octets: plain }, { octets: frame }, { octets: vxlan(inner) }, { octets: frame });
    assert.deepEqual(opened.frames, [plain, inner]);
    assert.deepEqual(
      opened.drops.map(([before, found]) => [before, found]),
      [
        [1, reason],
        [2, reason],
      ],
    );
    assert.ok(opened.drops.every(([, , dstPort]) => dstPort !== undefined));
  });
}

test('decapsulate: a right GRE checksum is accepted', async () => {
  const body = new Octets(false).u16(0x8000).u16(0x6558).u32(0).raw(inner).done();
  const checksum = internetChecksum(body, 0, body.length);
  body[4] = checksum >>> 8;
  body[5] = checksum & 0xff;
  assert.deepEqual((await open({ octets: outer(47, body) })).frames, [inner]);
});

test('decapsulate: a snap length that cuts the inner frame leaves its length on the wire', async () => {
  const carrier = vxlan(inner);
  const opened = await open({ octets: carrier.subarray(0, carrier.length - 10), original: carrier.length });
  assert.deepEqual(opened.frames, [inner.subarray(0, inner.length - 10)]);
  assert.deepEqual(opened.wireLengths, [inner.length]);
});

test('decapsulate: an STT frame in several segments counts with its whole length', async () => {
  const opened = await open({ octets: stt(inner, { frameLength: 18 + 3000 }) });
  assert.deepEqual(opened.frames, [inner]);
  assert.deepEqual(opened.wireLengths, [3000]);
});

test('decapsulate: Ethernet padding behind the carrier belongs to no inner frame', async () => {
  const opened = await open({ octets: concat(vxlan(inner), new Uint8Array(6)) });
  assert.deepEqual(opened.frames, [inner]);
  assert.deepEqual(opened.wireLengths, [inner.length]);
});
