/** Packet in, verdict line out, through the whole engine: at least one for each drop reason that a replay can reach. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { DROP_REASONS } from '../../src/batch/drop-reason.js';
import { transportChecksum } from '../../src/wire/checksum.js';
import {
  concat,
  ethernet,
  file,
  type FrameFields,
  ipv4,
  mac,
  Octets,
  type Packet,
  pcap,
  readAll,
  tcp4,
  udp,
  udp4,
} from '../unit/capture/captures.js';
import { type Replayed, runReplay, type VerdictLine } from './run-replay.js';

const MANIFEST = `
{kind: Node, apiVersion: v1, metadata: {name: node-1, annotations: {seine.dev/mac: "02:00:00:00:01:01"}}, spec: {podCIDRs: [10.10.1.0/24, "fd00:1::/64"]}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}
---
{kind: Node, apiVersion: v1, metadata: {name: node-2, annotations: {seine.dev/mac: "02:00:00:00:01:02"}}, spec: {podCIDRs: [10.10.2.0/24, "fd00:2::/64"]}, status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}}
---
{kind: Pod, apiVersion: v1, metadata: {name: db, namespace: default, labels: {app: db}, annotations: {seine.dev/mac: "02:00:00:00:00:03"}}, spec: {nodeName: node-1, containers: [{name: c, image: i}]}, status: {phase: Running, podIPs: [{ip: 10.10.1.3}, {ip: "fd00:1::3"}]}}
---
{kind: Pod, apiVersion: v1, metadata: {name: web, namespace: default, labels: {app: web}, annotations: {seine.dev/mac: "02:00:00:00:00:04"}}, spec: {nodeName: node-1, containers: [{name: c, image: i}]}, status: {phase: Running, podIPs: [{ip: 10.10.1.4}, {ip: "fd00:1::4"}]}}
---
{kind: Pod, apiVersion: v1, metadata: {name: locked, namespace: strict, labels: {app: locked}, annotations: {seine.dev/mac: "02:00:00:00:00:05"}}, spec: {nodeName: node-1, containers: [{name: c, image: i}]}, status: {phase: Running, podIPs: [{ip: 10.10.1.5}, {ip: "fd00:1::5"}]}}
---
{kind: Pod, apiVersion: v1, metadata: {name: far, namespace: default, labels: {app: far}}, spec: {nodeName: node-2, containers: [{name: c, image: i}]}, status: {phase: Running, podIPs: [{ip: 10.10.2.4}]}}
---
{kind: NetworkPolicy, apiVersion: networking.k8s.io/v1, metadata: {name: db-from-web, namespace: default}, spec: {podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}]}}
---
{kind: NetworkPolicy, apiVersion: networking.k8s.io/v1, metadata: {name: deny-egress, namespace: strict}, spec: {podSelector: {}, policyTypes: [Egress]}}
`;
const CONFIG = { node: 'node-1' };
const WEB = { src: '10.10.1.4', srcMac: '02:00:00:00:00:04', dstMac: '02:00:00:00:00:03' };
const DB = '10.10.1.3';
const LOCKED = { src: '10.10.1.5', srcMac: '02:00:00:00:00:05' };
const FIN = 1,
  SYN = 2,
  RST = 4,
  ACK = 16;

const from = (source: FrameFields, packet: Uint8Array, etherType = 0x0800): Uint8Array =>
  ethernet(packet, etherType, source);
/** A changed copy, `offset` octets into the IP header. */
function changed(frame: Uint8Array, offset: number, ...octets: number[]): Uint8Array {
  const copy = frame.slice();
  copy.set(octets, 14 + offset);
  return copy;
}
function ipv6(src: string, dst: string, next: number, payload: Uint8Array, hopLimit = 64): Uint8Array {
  return new Octets(false)
    .u8(0x60, 0, 0, 0)
    .u16(payload.length)
    .u8(next, hopLimit)
    .raw(ip6(src))
    .raw(ip6(dst))
    .raw(payload)
    .done();
}
/** Only what these tests write: a head, `::`, a tail. */
function ip6(text: string): Uint8Array {
  const [head = '', tail = ''] = text.split('::');
  const groups = (part: string) => (part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16)));
  const [left, right] = [groups(head), groups(tail)];
  const all = [...left, ...new Array<number>(8 - left.length - right.length).fill(0), ...right];
  return Uint8Array.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}
const arp = (senderMac: string, sender: number[], target: number[], size = 28): Uint8Array =>
  new Octets(false)
    .u16(1)
    .u16(0x0800)
    .u8(6, 4)
    .u16(1)
    .raw(mac(senderMac))
    .u8(...sender)
    .raw(new Uint8Array(6))
    .u8(...target)
    .done()
    .subarray(0, size);
function solicitation(sourceMac: string, target: string, hopLimit = 255): Uint8Array {
  const message = new Octets(false).u8(135, 0).u16(0).u32(0).raw(ip6(target)).u8(1, 1).raw(mac(sourceMac)).done();
  const packet = ipv6('fd00:1::4', 'ff02::1:ff00:3', 58, message, hopLimit);
  const checksum = transportChecksum(packet, 8, 6, 58, 40, message.length);
  packet[42] = checksum >>> 8;
  packet[43] = checksum & 0xff;
  return ethernet(packet, 0x86dd, { srcMac: sourceMac, dstMac: '33:33:ff:00:00:03' });
}

type Expected = Partial<VerdictLine>;
interface Case {
  name: string;
  packet: Packet;
  expected: Expected;
}
const seen = new Set<string>();
const drop = (reason: string, stage: string): Expected => ({
  verdict: 'drop',
  reason,
  stage,
  outPort: 65_533,
  outPortName: null,
});

/** Runs all cases in one capture, a millisecond apart, and checks each line's given members. */
function golden(
  title: string,
  cases: readonly Case[],
  options: Omit<Parameters<typeof runReplay>[0], 'captures'>,
  check?: (replayed: Replayed) => void | Promise<void>,
): void {
  test(`golden: ${title}`, async (t) => {
    const packets = cases.map(({ packet }, i) => ({
      timeNs: 1_700_000_000_000_000_000n + BigInt(i) * 1_000_000n,
      ...packet,
    }));
    const replayed = await runReplay({ captures: [file(pcap(packets))], ...options });
    assert.equal(replayed.error, null);
    assert.equal(replayed.verdicts.length, cases.length);
    for (const [i, { name, expected }] of cases.entries()) {
      await t.test(name, () => {
        const line = replayed.verdicts[i]!;
        assert.equal(line.packet, i + 1);
        const actual = Object.fromEntries(Object.keys(expected).map((key) => [key, line[key as keyof VerdictLine]]));
        assert.deepEqual(actual, expected);
      });
      const { reason } = replayed.verdicts[i]!;
      if (reason !== null) seen.add(reason);
    }
    const { summary, verdicts } = replayed;
    assert.equal(summary.packets, cases.length);
    assert.equal(
      summary.octets,
      cases.reduce((sum, { packet }) => sum + (packet.original ?? packet.octets.length), 0),
    );
    const denied = verdicts.filter(({ verdict }) => verdict === 'drop' || verdict === 'reject').length;
    assert.equal(
      Object.values(summary.drops).reduce((sum, count) => sum + count, 0),
      denied,
    );
    await check?.(replayed);
  });
}

const good = from(WEB, udp4({ ...WEB, dst: '203.0.113.9' }));
const goodTcp = from(WEB, tcp4({ ...WEB, dst: '203.0.113.9' }));
const webFlow = { src: '10.10.1.4', dst: '203.0.113.9', protocol: 17, srcPort: 1000, dstPort: 2000 };

golden(
  'malformed packets',
  [
    {
      name: 'a frame of 13 octets',
      packet: { octets: good.subarray(0, 13) },
      expected: { ...drop('frame-truncated', 'Parse'), flow: null, ct: [] },
    },
    {
      name: 'a frame longer than any batch takes',
      packet: { octets: good, original: 70_000 },
      expected: {
        ...drop('frame-too-long', 'Parse'),
        inPort: 4,
        inPortName: 'default/web',
        flow: webFlow,
        ct: [],
        policy: null,
      },
    },
    {
      name: 'an EtherType that is no IP',
      packet: { octets: from(WEB, new Uint8Array(46), 0x88cc) },
      expected: { ...drop('unsupported-ethertype', 'Parse'), flow: null, inPort: 4 },
    },
    {
      name: 'a tagged frame from a pod',
      packet: { octets: from(WEB, concat(Uint8Array.of(0, 5, 8, 0), udp4({ ...WEB, dst: DB })), 0x8100) },
      expected: { ...drop('vlan-tagged', 'Classifier'), inPort: 4 },
    },
    {
      name: 'an IPv4 header cut off',
      packet: { octets: good.subarray(0, 30) },
      expected: { ...drop('ip-header-truncated', 'Parse'), flow: null },
    },
    {
      name: 'IPv4 announced, version 5 there',
      packet: { octets: changed(good, 0, 0x55) },
      expected: drop('ip-bad-version', 'Parse'),
    },
    {
      name: 'an IHL of 4',
      packet: { octets: changed(good, 0, 0x44) },
      expected: drop('ip-bad-header-length', 'Parse'),
    },
    {
      name: 'a total length past the frame',
      packet: { octets: changed(good, 2, 0x05, 0xdc) },
      expected: drop('ip-length-exceeds-frame', 'Parse'),
    },
    {
      name: 'a wrong IPv4 header checksum',
      packet: { octets: changed(good, 8, 63) },
      expected: { ...drop('ip-bad-checksum', 'Parse'), flow: null },
    },
    {
      name: 'an extension header past the IPv6 payload',
      packet: { octets: from(WEB, ipv6('fd00:1::4', 'fd00:1::3', 60, Uint8Array.of(17, 9, 0, 0, 0, 0, 0, 0)), 0x86dd) },
      expected: {
        ...drop('ip6-bad-extension', 'Parse'),
        flow: { src: 'fd00:1::4', dst: 'fd00:1::3', protocol: 17, srcPort: 0, dstPort: 0 },
      },
    },
    {
      name: 'a fragment that is no multiple of 8 octets',
      packet: {
        octets: from(
          WEB,
          ipv4({ ...WEB, dst: '203.0.113.9', payload: udp(1, 2, new Uint8Array(5)), id: 7, fragment: 0x2000 }),
        ),
      },
      expected: drop('fragment-bad', 'Parse'),
    },
    {
      name: 'a first fragment of 24 octets',
      packet: {
        octets: from(
          WEB,
          ipv4({ ...WEB, dst: '203.0.113.9', payload: udp(1, 2, new Uint8Array(16)), id: 8, fragment: 0x2000 }),
        ),
      },
      expected: { verdict: 'forward', outPort: 2, outPortName: 'gw0' },
    },
    {
      name: 'a fragment that overlaps it',
      packet: {
        octets: from(WEB, ipv4({ ...WEB, dst: '203.0.113.9', payload: new Uint8Array(16), id: 8, fragment: 2 })),
      },
      expected: drop('fragment-overlap', 'Parse'),
    },
    {
      name: 'a TCP header of 12 octets',
      packet: { octets: from(WEB, ipv4({ ...WEB, dst: '203.0.113.9', protocol: 6, payload: new Uint8Array(12) })) },
      expected: drop('tcp-truncated', 'Parse'),
    },
    {
      name: 'a TCP data offset of 4',
      packet: { octets: changed(goodTcp, 32, 0x40) },
      expected: drop('tcp-bad-offset', 'Parse'),
    },
    {
      name: 'SYN and FIN together',
      packet: { octets: from(WEB, tcp4({ ...WEB, dst: '203.0.113.9', flags: SYN | FIN })) },
      expected: drop('tcp-invalid-flags', 'Parse'),
    },
    {
      name: 'a UDP header of 4 octets',
      packet: { octets: from(WEB, ipv4({ ...WEB, dst: '203.0.113.9', payload: new Uint8Array(4) })) },
      expected: drop('udp-truncated', 'Parse'),
    },
    {
      name: 'a UDP length past the packet',
      packet: { octets: changed(good, 24, 0, 200) },
      expected: { ...drop('udp-bad-length', 'Parse'), flow: webFlow },
    },
    {
      name: 'an ICMP header of 4 octets',
      packet: {
        octets: from(WEB, ipv4({ ...WEB, dst: '203.0.113.9', protocol: 1, payload: Uint8Array.of(8, 0, 0, 0) })),
      },
      expected: {
        ...drop('icmp-truncated', 'Parse'),
        flow: { src: '10.10.1.4', dst: '203.0.113.9', protocol: 1, srcPort: 0, dstPort: 2048 },
      },
    },
    {
      name: 'an SCTP header of 8 octets',
      packet: { octets: from(WEB, ipv4({ ...WEB, dst: '203.0.113.9', protocol: 132, payload: new Uint8Array(8) })) },
      expected: drop('sctp-truncated', 'Parse'),
    },
  ],
  { manifest: MANIFEST, config: CONFIG },
);

const policy = { kind: 'NetworkPolicy', namespace: 'default', name: 'db-from-web', direction: 'ingress' };
const farToDb = ethernet(tcp4({ src: '10.10.2.4', dst: DB, dstPort: 5432 }));
golden(
  'policies, forwarding and answers',
  [
    {
      name: 'an allowed SYN is new, and names the rule that let it in',
      packet: { octets: from(WEB, tcp4({ ...WEB, dst: DB, dstPort: 5432, seq: 99 })) },
      expected: {
        time: '1700000000.000000000',
        inPort: 4,
        inPortName: 'default/web',
        outPort: 3,
        outPortName: 'default/db',
        verdict: 'forward',
        reason: null,
        stage: 'Output',
        ct: ['new', 'tracked'],
        policy: { ...policy, rule: 0, action: 'allow' } as VerdictLine['policy'],
        flow: { src: '10.10.1.4', dst: DB, protocol: 6, srcPort: 40_000, dstPort: 5432 },
      },
    },
    {
      name: 'its reply passes without a policy',
      packet: {
        octets: ethernet(
          tcp4({ src: DB, dst: '10.10.1.4', srcPort: 5432, dstPort: 40_000, flags: SYN | ACK, seq: 500, ack: 100 }),
          0x0800,
          { srcMac: '02:00:00:00:00:03' },
        ),
      },
      expected: { inPort: 3, outPort: 4, verdict: 'forward', ct: ['established', 'reply', 'tracked'], policy: null },
    },
    {
      name: 'another port is denied by default',
      packet: { octets: from(WEB, tcp4({ ...WEB, dst: DB, dstPort: 22 })) },
      expected: {
        ...drop('ingress-default-deny', 'IngressSecurity'),
        ct: ['new', 'tracked'],
        policy: { ...policy, rule: null, action: 'drop' } as VerdictLine['policy'],
      },
    },
    {
      name: 'its retransmission stays denied',
      packet: { octets: from(WEB, tcp4({ ...WEB, dst: DB, dstPort: 22 })) },
      expected: {
        verdict: 'drop',
        reason: 'ingress-default-deny',
        policy: { ...policy, rule: null, action: 'drop' } as VerdictLine['policy'],
      },
    },
    {
      name: 'another node’s pod comes by the tunnel and is denied',
      packet: { octets: farToDb },
      expected: { verdict: 'drop', reason: 'ingress-default-deny', inPort: 1, inPortName: 'tun0' },
    },
    {
      name: 'a pod without egress is denied on its way out',
      packet: { octets: from(LOCKED, udp4({ ...LOCKED, dst: '203.0.113.9' })) },
      expected: {
        ...drop('egress-default-deny', 'EgressSecurity'),
        inPort: 5,
        inPortName: 'strict/locked',
        policy: {
          kind: 'NetworkPolicy',
          namespace: 'strict',
          name: 'deny-egress',
          rule: null,
          direction: 'egress',
          action: 'drop',
        },
      },
    },
    {
      name: 'a pod to another node leaves by the tunnel',
      packet: { octets: from(WEB, udp4({ ...WEB, dst: '10.10.2.4' })) },
      expected: { verdict: 'forward', outPort: 1, outPortName: 'tun0', policy: null },
    },
    {
      name: 'with a TTL of 1 it does not',
      packet: { octets: from(WEB, udp4({ ...WEB, dst: '10.10.2.4', ttl: 1, srcPort: 7 })) },
      expected: { verdict: 'reject', reason: 'ttl-exceeded', outPort: 65_533 },
    },
    {
      name: 'this node’s podCIDR without such a pod',
      packet: { octets: from(WEB, udp4({ ...WEB, dst: '10.10.1.77' })) },
      expected: drop('no-such-endpoint', 'Routing'),
    },
    {
      name: 'a pod with another pod’s MAC',
      packet: { octets: from({ ...WEB, srcMac: '02:00:00:00:00:05' }, udp4({ ...WEB, dst: DB })) },
      expected: drop('spoofed', 'SpoofGuard'),
    },
    {
      name: 'ARP for the gateway is answered',
      packet: {
        octets: ethernet(arp(WEB.srcMac, [10, 10, 1, 4], [10, 10, 1, 1]), 0x0806, {
          srcMac: WEB.srcMac,
          dstMac: 'ff:ff:ff:ff:ff:ff',
        }),
      },
      expected: { verdict: 'consume', reason: null, outPort: 65_534, outPortName: null, flow: null, inPort: 4 },
    },
    {
      name: 'ARP with another pod’s address',
      packet: {
        octets: ethernet(arp('02:00:00:00:00:05', [10, 10, 1, 4], [10, 10, 1, 1]), 0x0806, { srcMac: WEB.srcMac }),
      },
      expected: { verdict: 'drop', reason: 'spoofed' },
    },
    {
      name: 'ARP that is cut off',
      packet: { octets: ethernet(arp(WEB.srcMac, [10, 10, 1, 4], [10, 10, 1, 1], 20), 0x0806, WEB) },
      expected: { verdict: 'drop', reason: 'arp-malformed', flow: null },
    },
    {
      name: 'a Neighbour Solicitation is answered',
      packet: { octets: solicitation(WEB.srcMac, 'fd00:1::3') },
      expected: { verdict: 'consume', outPort: 65_534 },
    },
    {
      name: 'one with a hop limit of 64 is none (RFC 4861 section 7.1.1)',
      packet: { octets: solicitation(WEB.srcMac, 'fd00:1::3', 64) },
      expected: { verdict: 'drop', reason: 'nd-malformed' },
    },
    {
      name: 'a RST of a connection that there is not',
      packet: { octets: from(WEB, tcp4({ ...WEB, dst: '203.0.113.9', srcPort: 50_000, flags: RST })) },
      expected: { verdict: 'drop', reason: 'conntrack-invalid', ct: ['invalid', 'tracked'] },
    },
    {
      name: 'a reply out of the blue from outside is judged as the gateway’s',
      packet: { octets: ethernet(udp4({ src: '203.0.113.9', dst: '10.10.1.4' })) },
      expected: { inPort: 2, inPortName: 'gw0', outPort: 4, verdict: 'forward' },
    },
  ],
  { manifest: MANIFEST, config: CONFIG },
  async (replayed) => {
    // What left: an interface per out-port, encapsulated on the tunnel, with answers of the engine's own.
    const written = await readAll([replayed.written]);
    assert.equal(written.error, null);
    const forwarded = replayed.verdicts.filter(({ verdict }) => verdict === 'forward').length;
    assert.equal(written.packets.length, forwarded + replayed.summary.emitted);
    assert.ok(replayed.summary.emitted >= 3, 'ARP and ND replies, and the ICMP time exceeded');
    const tunnelled = written.packets.filter(
      ({ frame }) => frame[23] === 17 && frame[36] === 0x12 && frame[37] === 0xb5,
    );
    assert.equal(tunnelled.length, 1);
    const flows = replayed.flows.filter(({ dstPort }) => dstPort === 5432 && replayed.verdicts.length > 0);
    assert.deepEqual(
      flows.map(({ src, packets, ingressPolicy, action }) => [src, packets, ingressPolicy, action]),
      [
        ['10.10.1.4', 1, 'default/db-from-web', 'allow'],
        ['10.10.2.4', 1, 'default/db-from-web', 'drop'],
      ],
    );
    const denied = replayed.flows.find(({ dstPort }) => dstPort === 22);
    assert.equal(denied?.packets, 2);
    assert.equal(denied?.outPort, 65_533);
  },
);

golden(
  '--in-port of a port that there is not',
  [
    {
      name: 'unknown-port',
      packet: { octets: good },
      expected: { ...drop('unknown-port', 'Classifier'), inPort: 999, inPortName: null },
    },
  ],
  { manifest: MANIFEST, config: CONFIG, inPort: 999 },
);

const vxlan = (flags: number, frame: Uint8Array) =>
  ethernet(
    ipv4({
      src: '192.0.2.2',
      dst: '192.0.2.1',
      payload: udp(40_000, 4789, concat(Uint8Array.of(flags, 0, 0, 0, 0, 0, 0, 0), frame)),
    }),
  );
golden(
  '--decapsulate',
  [
    {
      name: 'the packet inside is judged, from the tunnel',
      packet: { octets: vxlan(8, farToDb) },
      expected: {
        verdict: 'drop',
        reason: 'ingress-default-deny',
        inPort: 1,
        flow: { src: '10.10.2.4', dst: DB, protocol: 6, srcPort: 40_000, dstPort: 5432 },
      },
    },
    {
      name: 'a carrier without the I flag',
      packet: { octets: vxlan(0, farToDb) },
      expected: {
        ...drop('tunnel-malformed', 'Classifier'),
        inPort: 2,
        inPortName: 'gw0',
        flow: { src: '192.0.2.2', dst: '192.0.2.1', protocol: 17, srcPort: 40_000, dstPort: 4789 },
      },
    },
    {
      name: 'an unknown critical option of Geneve',
      packet: {
        octets: ethernet(
          ipv4({
            src: '192.0.2.2',
            dst: '192.0.2.1',
            payload: udp(40_000, 6081, concat(Uint8Array.of(1, 0x40, 0x65, 0x58, 0, 0, 0, 0, 0, 1, 0x80, 0), farToDb)),
          }),
        ),
      },
      expected: drop('tunnel-critical-option', 'Classifier'),
    },
    {
      name: 'what is in no tunnel is judged as it is',
      packet: { octets: good },
      expected: { verdict: 'forward', inPort: 4, outPort: 2 },
    },
  ],
  { manifest: MANIFEST, config: CONFIG, decapsulate: true },
);

golden(
  'limits of connections',
  Array.from({ length: 6 }, (_, i) => ({
    name: i < 3 ? `connection ${i + 1} of a pod that may have three` : `connection ${i + 1} is one too many`,
    packet: { octets: from(WEB, udp4({ ...WEB, dst: '203.0.113.9', srcPort: 5000 + i })) },
    expected: i < 3 ? { verdict: 'forward' } : { verdict: 'drop', reason: 'endpoint-limit' },
  })),
  { manifest: MANIFEST, config: { ...CONFIG, conntrack: { maxPerEndpoint: 3 } } },
);

/** SYN, SYN+ACK and ACK of connection `i`, which makes it an established one. */
const handshake = (i: number): Packet[] => {
  const there = { ...WEB, dst: '203.0.113.9', srcPort: 6000 + i };
  const back = { src: '203.0.113.9', dst: WEB.src, srcPort: 80, dstPort: 6000 + i };
  return [
    from(WEB, tcp4({ ...there, seq: 1 })),
    ethernet(tcp4({ ...back, flags: SYN | ACK, seq: 9, ack: 2 })),
    from(WEB, tcp4({ ...there, flags: ACK, seq: 2, ack: 10 })),
  ].map((octets) => ({ octets }));
};
golden(
  'a table full of established connections',
  [
    ...Array.from({ length: 4 }, (_, i) => handshake(i))
      .flat()
      .map((packet, i) => ({ name: `packet ${i + 1} of the four`, packet, expected: { verdict: 'forward' } })),
    {
      name: 'a fifth finds no room, and its record says so',
      packet: { octets: from(WEB, tcp4({ ...WEB, dst: '203.0.113.9', srcPort: 7000 })) },
      expected: { verdict: 'drop', reason: 'conntrack-full' },
    },
  ],
  { manifest: MANIFEST, config: { ...CONFIG, conntrack: { max: 4, maxPerEndpoint: 100 } } },
  ({ flows }) => {
    assert.deepEqual(
      flows.filter(({ srcPort }) => srcPort === 7000).map(({ packets, endReason }) => [packets, endReason]),
      [[1, 'resources']],
    );
  },
);

golden(
  'verifyChecksums',
  [
    {
      name: 'a wrong TCP checksum makes a packet invalid, as in Open vSwitch',
      packet: { octets: changed(goodTcp, 36, 0xde, 0xad) },
      expected: { verdict: 'drop', reason: 'conntrack-invalid', ct: ['invalid', 'tracked'] },
    },
  ],
  {
    manifest: MANIFEST,
    config: { ...CONFIG, conntrack: { verifyChecksums: true } },
  },
);

golden(
  'without pods the engine only meters',
  [
    {
      name: 'a sound packet goes through to LOCAL, by interface',
      packet: { octets: good },
      expected: { verdict: 'forward', inPort: 1, inPortName: null, outPort: 65_534, outPortName: null, policy: null },
    },
    {
      name: 'a broadcast is flooded',
      packet: { octets: ethernet(udp4({ dst: '255.255.255.255' })) },
      expected: { verdict: 'forward', outPort: 65_535 },
    },
    {
      name: 'ARP is not answered',
      packet: {
        octets: ethernet(arp(WEB.srcMac, [10, 10, 1, 4], [10, 10, 1, 1]), 0x0806, { dstMac: 'ff:ff:ff:ff:ff:ff' }),
      },
      expected: { verdict: 'forward', outPort: 65_535, flow: null },
    },
    {
      name: 'an invalid RST passes, and ct tells',
      packet: { octets: ethernet(tcp4({ flags: RST })) },
      expected: { verdict: 'forward', ct: ['invalid', 'tracked'] },
    },
    {
      name: 'a malformed transport header passes',
      packet: { octets: changed(ethernet(udp4()), 24, 0, 200) },
      expected: { verdict: 'forward', reason: null },
    },
    {
      name: 'only an IP header that is not sound is dropped',
      packet: { octets: changed(good, 8, 63) },
      expected: drop('ip-bad-checksum', 'Parse'),
    },
  ],
  {},
);

/** Nothing in this build, or nothing that a replay can show, gives these; each says why. */
const UNREACHABLE: Record<string, string> = {
  'unknown-tunnel-peer': 'replay’s tunnel packets are decapsulated already',
  'no-endpoint': 'services come later',
  'egress-policy': 'NetworkPolicy v1 has no rule that denies',
  'ingress-policy': 'NetworkPolicy v1 has no rule that denies',
  'policy-reset': 'objects do not change during a replay',
  'mtu-exceeded': 'the MTU is not enforced yet',
  'transport-bad-checksum': 'a wrong checksum makes a packet conntrack-invalid',
};
after(() => {
  const missing = DROP_REASONS.filter(
    (reason) => reason !== 'none' && !seen.has(reason) && UNREACHABLE[reason] === undefined,
  );
  assert.deepEqual(missing, [], 'every drop reason that a replay reaches has a golden packet');
});
