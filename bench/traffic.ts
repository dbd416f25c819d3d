/** Pods and TCP flows of the engine rows, and their frames: 60 octets (64 with the frame check sequence), right checksums. */
import { tcpFrame, udpFrame } from '../src/flow/build-frame.js';
import { parseAddress } from '../src/flow/ip-address.js';
import { shardOf, tupleHash } from '../src/flow/tuple-hash.js';
import type { ClusterObjects, Pod } from '../src/objects/model.js';
import { emptyObjects } from '../src/objects/store.js';

export const PODS = 64;
const FIRST_POD_PORT = 3;
export const TUNNEL_PORT = 1;
const SYN = 2;
const ACK = 16;
const NODES = { here: '192.168.7.1', there: '192.168.7.2' };

/** 64 pods on this node, 64 on another; policies of both directions select them all, so that every connection has rules. */
export function cluster(family: 4 | 6): ClusterObjects {
  const objects = emptyObjects();
  const pods = new Map<string, Pod>();
  for (const here of [true, false]) {
    for (let p = 0; p < PODS; p++) {
      const name = `${here ? 'a' : 'z'}${String(p).padStart(3, '0')}`;
      pods.set(`bench/${name}`, {
        namespace: 'bench',
        name,
        labels: { app: here ? 'a' : 'z' },
        annotations: {},
        nodeName: here ? 'here' : 'there',
        hostNetwork: false,
        phase: 'Running',
        ips: [podAddress(family, here, p)],
        namedPorts: [],
        serviceAccount: null,
      });
    }
  }
  const node = (name: keyof typeof NODES) => ({
    name,
    labels: {},
    annotations: {},
    podCIDRs: [],
    internalIPs: [NODES[name]],
  });
  const ports = [
    { protocol: 'TCP' as const, port: 443 },
    { protocol: 'TCP' as const, port: 80 },
  ];
  const peers = [{ podSelector: { matchLabels: { app: 'a' } } }, { podSelector: { matchLabels: { app: 'z' } } }];
  return {
    ...objects,
    pods,
    nodes: new Map((['here', 'there'] as const).map((name) => [name, node(name)])),
    networkPolicies: new Map([
      [
        'bench/web',
        {
          namespace: 'bench',
          name: 'web',
          annotations: {},
          podSelector: {},
          ingress: [{ peers, ports }],
          egress: [{ peers, ports }],
        },
      ],
    ]),
  };
}
const podAddress = (family: 4 | 6, here: boolean, pod: number): string =>
  family === 4 ? `10.${here ? 1 : 2}.0.${pod + 1}` : `fd00::${here ? 1 : 2}:${(pod + 1).toString(16)}`;

export interface Flows {
  count: number;
  family: 4 | 6;
  /** Servers are on the other node: requests leave, and replies come, by the tunnel. */
  remote: boolean;
  source: Uint8Array;
  destination: Uint8Array;
  clientPort: Uint16Array;
}

/** `count` flows from local pods, of those whose connections lie in `shard` of `shards`. */
export function makeFlows(
  count: number,
  {
    family = 4,
    remote = false,
    shard = 0,
    shards = 1,
  }: { family?: 4 | 6; remote?: boolean; shard?: number; shards?: number },
): Flows {
  const flows: Flows = {
    count,
    family,
    remote,
    source: new Uint8Array(count),
    destination: new Uint8Array(count),
    clientPort: new Uint16Array(count),
  };
  const address = new Uint32Array(8);
  let made = 0;
  for (let i = 0; made < count; i++) {
    const source = i % PODS;
    const turn = Math.floor(i / PODS);
    const destination = (source + 1 + (turn % (PODS - 1))) % PODS;
    const clientPort = 1024 + Math.floor(turn / (PODS - 1));
    if (clientPort > 0xffff) throw new RangeError('so many flows have no ports');
    if (shards > 1) {
      address.set(parseAddress(podAddress(family, true, source))!.words, 0);
      address.set(parseAddress(podAddress(family, !remote, destination))!.words, 4);
      if (shardOf(tupleHash(address, 0, family, 6, clientPort, SERVER_PORT), shards) !== shard) continue;
    }
    flows.source[made] = source;
    flows.destination[made] = destination;
    flows.clientPort[made++] = clientPort;
  }
  return flows;
}
const SERVER_PORT = 443;

/** Makes frames of flows by patching ports into one frame for each pair of pods, direction and step. */
export class FrameMaker {
  private readonly templates = new Map<number, { octets: Uint8Array; sum: number; at: number; inPort: number }>();
  constructor(private readonly flows: Flows) {}

  /** Steps 0–2: SYN, SYN+ACK, ACK; 3 and 4: a segment of the client's and one of the server's. The frame is overwritten by the next. */
  frame(flow: number, step: number): { octets: Uint8Array; inPort: number } {
    const { source, destination, clientPort } = this.flows;
    const key = (source[flow]! * PODS + destination[flow]!) * 5 + step;
    let template = this.templates.get(key);
    if (template === undefined) {
      template = this.make(source[flow]!, destination[flow]!, step);
      this.templates.set(key, template);
    }
    const { octets, at } = template;
    const reply = step === 1 || step === 4;
    const port = clientPort[flow]!;
    const l4 = at + (reply ? 2 : 0);
    octets[l4] = port >>> 8;
    octets[l4 + 1] = port & 0xff;
    // RFC 1624: the sum without the port, and the port.
    let sum = template.sum + port;
    sum = (sum & 0xffff) + (sum >>> 16);
    const checksum = ~((sum & 0xffff) + (sum >>> 16)) & 0xffff;
    octets[at + 16] = checksum >>> 8;
    octets[at + 17] = checksum & 0xff;
    return template;
  }

  private make(source: number, destination: number, step: number) {
    const { family, remote } = this.flows;
    const reply = step === 1 || step === 4;
    const client = podAddress(family, true, source);
    const server = podAddress(family, !remote, destination);
    const zero = new Uint8Array(6);
    const inner = tcpFrame({
      srcMac: zero,
      dstMac: zero,
      src: reply ? server : client,
      dst: reply ? client : server,
      srcPort: reply ? SERVER_PORT : 0,
      dstPort: reply ? 0 : SERVER_PORT,
      payload: step < 3 || family === 6 ? 0 : 6,
      seq: (reply ? 5000 : 1000) + (step === 2 || step > 2 ? 1 : 0),
      ack: step === 0 ? 0 : reply ? 1001 : 5001,
      flags: step === 0 ? SYN : step === 1 ? SYN | ACK : ACK,
    });
    const l4 = family === 6 ? 54 : 34;
    const sum = ~((inner[l4 + 16]! << 8) | inner[l4 + 17]!) & 0xffff;
    if (!remote || !reply)
      return { octets: inner, sum, at: l4, inPort: FIRST_POD_PORT + (reply ? destination : source) };
    const octets = udpFrame({
      srcMac: zero,
      dstMac: zero,
      src: NODES.there,
      dst: NODES.here,
      srcPort: 49152 + (source ^ destination),
      dstPort: 4789,
      payload: 8 + inner.length,
    });
    octets.fill(0, 40, 42); // no checksum, as VXLAN's senders do it (RFC 7348 section 5)
    octets[42] = 0x08;
    octets.set(inner, 50);
    return { octets, sum, at: 50 + l4, inPort: TUNNEL_PORT };
  }
}

/** 0 … count − 1 in an order that a seed gives. */
export function shuffled(count: number, seed: number): Uint32Array {
  const order = new Uint32Array(count);
  for (let i = 0; i < count; i++) order[i] = i;
  let state = seed >>> 0 || 1;
  for (let i = count - 1; i > 0; i--) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    const j = (state >>> 0) % (i + 1);
    const kept = order[i]!;
    order[i] = order[j]!;
    order[j] = kept;
  }
  return order;
}
