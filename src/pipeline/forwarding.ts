/**
 * Where a destination address lies, and who may say to be whom: compiled from Pods and Nodes off the path, read by the
 * stages. Shared typed arrays, so that handing it to workers copies little. Sources: contract "Ports", behaviour §2 Routing.
 */
import { Port } from '../batch/drop-reason.js';
import { AddressMap, AddressMapBuilder, type AddressMapData } from '../flow/address-map.js';
import { parseAddress, parseCidr, parseMac } from '../flow/ip-address.js';
import { crc32c } from '../wire/crc32c.js';
import type { ClusterObjects } from '../objects/model.js';
import type { PortTable } from '../objects/ports.js';

/** A route's kind (high octet of the map's value) and number (port, or node index). */
export const Route = {
  Gateway: 0, // anything else
  LocalPod: 1, // number = its port
  Tunnel: 2, // number = index of the node
  NoSuchEndpoint: 3, // this node's podCIDR without such a pod
  GatewayAddress: 4, // the gateway's own address: first of this node's podCIDR
  OwnNode: 5, // this node's InternalIP
} as const;

export const PortKind = { Unknown: 0, Tunnel: 1, Gateway: 2, Pod: 3 } as const;

export interface NodePeer {
  name: string;
  /** InternalIPs in words, null where the node has none of the family. */
  ip4: number[] | null;
  ip6: number[] | null;
  mac: number[] | null;
}
export interface ForwardingData {
  metering: boolean;
  routes: AddressMapData;
  /** Source checks: address of a local pod → its port. */
  owners: AddressMapData;
  /** InternalIPs of the nodes from which ingress to their pods is always allowed; of tunnel peers: their index + 1. */
  ownNodeAddresses: AddressMapData;
  peers: AddressMapData;
  ports: { port: number; kind: number; name: string; mac: number[] | null }[];
  nodes: NodePeer[]; // index 0 is this node
  gatewayMac: number[];
  /** UDP port of the tunnel. */
  tunnelPort: number;
}

/** This node's gateway MAC: its annotation, else 02 and five octets of a hash of its name. */
export function gatewayMacOf(nodeName: string, annotation: string | undefined): number[] {
  const given = annotation === undefined ? null : parseMac(annotation);
  if (given !== null) return Array.from(given);
  const name = new TextEncoder().encode(nodeName);
  const low = crc32c(name, 0, name.length);
  const high = crc32c(Uint8Array.from([...name, 0]), 0, name.length + 1);
  return [2, high & 0xff, (low >>> 24) & 0xff, (low >>> 16) & 0xff, (low >>> 8) & 0xff, low & 0xff];
}

/** First address of a CIDR's range: network + 1 (Antrea's gateway). */
function firstAddress(words: readonly number[], family: 4 | 6): number[] {
  const first = [...words];
  const last = family === 4 ? 0 : 3;
  first[last] = (first[last]! + 1) >>> 0;
  return first;
}

export function compileForwarding(
  objects: ClusterObjects,
  table: PortTable,
  node: string | null,
  tunnelPort: number,
): ForwardingData {
  const routes = new AddressMapBuilder();
  const owners = new AddressMapBuilder();
  const ownNode = new AddressMapBuilder();
  const peers = new AddressMapBuilder();
  const nodes: NodePeer[] = [];
  const self = node === null ? undefined : objects.nodes.get(node);
  const others = [...objects.nodes.values()].filter((other) => other.name !== node);
  const index = new Map<string, number>();
  for (const each of [self, ...others]) {
    const ips = (each?.internalIPs ?? []).map(parseAddress).filter((ip) => ip !== null);
    const mac = each?.annotations['seine.dev/mac'];
    if (each !== undefined) index.set(each.name, nodes.length);
    nodes.push({
      name: each?.name ?? node ?? '',
      ip4: ips.find((ip) => ip.family === 4)?.words.slice() ?? null,
      ip6: ips.find((ip) => ip.family === 6)?.words.slice() ?? null,
      mac: mac === undefined ? null : Array.from(parseMac(mac) ?? []),
    });
  }
  if (node !== null) {
    for (const other of others) {
      for (const cidr of other.podCIDRs) {
        const parsed = parseCidr(cidr);
        if (parsed)
          routes.add(parsed.family, parsed.words, parsed.prefixLength, (Route.Tunnel << 24) | index.get(other.name)!);
      }
      for (const ip of other.internalIPs) {
        const parsed = parseAddress(ip);
        if (parsed) peers.add(parsed.family, parsed.words, parsed.family === 4 ? 32 : 128, index.get(other.name)!);
      }
    }
    for (const cidr of self?.podCIDRs ?? []) {
      const parsed = parseCidr(cidr);
      if (parsed) routes.add(parsed.family, parsed.words, parsed.prefixLength, Route.NoSuchEndpoint << 24);
    }
  }
  for (const pod of objects.pods.values()) {
    if (node === null || pod.hostNetwork || pod.nodeName === null || pod.nodeName === node) continue;
    if (pod.phase === 'Succeeded' || pod.phase === 'Failed') continue;
    const peer = index.get(pod.nodeName);
    for (const ip of pod.ips) {
      const parsed = parseAddress(ip);
      // A pod on a node that is not among the objects still lies behind the tunnel: node 0xffffff has no address.
      if (parsed) {
        routes.add(
          parsed.family,
          parsed.words,
          parsed.family === 4 ? 32 : 128,
          (Route.Tunnel << 24) | (peer ?? 0xffffff),
        );
      }
    }
  }
  for (const each of objects.nodes.values()) {
    const trusted = node === null || each.name === node;
    for (const ip of each.internalIPs) {
      const parsed = parseAddress(ip);
      if (!parsed) continue;
      const length = parsed.family === 4 ? 32 : 128;
      if (trusted) ownNode.add(parsed.family, parsed.words, length, 1);
      if (each.name === node) routes.add(parsed.family, parsed.words, length, Route.OwnNode << 24);
    }
    if (!trusted || (node === null && objects.nodes.size !== 1)) continue;
    for (const cidr of each.podCIDRs) {
      const parsed = parseCidr(cidr);
      if (!parsed) continue;
      const gateway = firstAddress(parsed.words, parsed.family);
      const length = parsed.family === 4 ? 32 : 128;
      ownNode.add(parsed.family, gateway, length, 1);
      routes.add(parsed.family, gateway, length, Route.GatewayAddress << 24);
    }
  }
  const ports: ForwardingData['ports'] = [];
  for (const info of table.ports) {
    const kind = info.kind === 'pod' ? PortKind.Pod : info.kind === 'gateway' ? PortKind.Gateway : PortKind.Tunnel;
    const mac = info.mac === null ? null : parseMac(info.mac);
    ports.push({ port: info.port, kind, name: info.name, mac: mac === null ? null : Array.from(mac) });
    if (kind !== PortKind.Pod) continue;
    for (const ip of info.ips) {
      const parsed = parseAddress(ip);
      if (!parsed) continue;
      const length = parsed.family === 4 ? 32 : 128;
      routes.add(parsed.family, parsed.words, length, (Route.LocalPod << 24) | info.port);
      owners.add(parsed.family, parsed.words, length, info.port);
    }
  }
  return {
    metering: objects.pods.size === 0,
    routes: routes.build(),
    owners: owners.build(),
    ownNodeAddresses: ownNode.build(),
    peers: peers.build(),
    ports,
    nodes,
    gatewayMac: gatewayMacOf(node ?? '', self?.annotations['seine.dev/mac']),
    tunnelPort,
  };
}

/** ForwardingData ready for look-ups. */
export class Forwarding {
  readonly metering: boolean;
  readonly portKind = new Uint8Array(65536);
  readonly portMac = new Map<number, number[]>();
  readonly portByMac = new Map<string, number>();
  readonly podPorts: number[] = [];
  private readonly routes: AddressMap;
  private readonly owners: AddressMap;
  private readonly ownNode: AddressMap;
  private readonly peers: AddressMap;

  constructor(readonly data: ForwardingData) {
    this.metering = data.metering;
    this.routes = new AddressMap(data.routes);
    this.owners = new AddressMap(data.owners);
    this.ownNode = new AddressMap(data.ownNodeAddresses);
    this.peers = new AddressMap(data.peers);
    for (const { port, kind, mac } of data.ports) {
      this.portKind[port] = kind;
      if (mac !== null) {
        this.portMac.set(port, mac);
        this.portByMac.set(mac.join(':'), port);
      }
      if (kind === PortKind.Pod) this.podPorts.push(port);
    }
  }
  /** Route.* << 24 | number for the address whose four words begin at `at`. */
  route(address: Uint32Array, at: number, family: 4 | 6): number {
    return this.routes.lookup(address, at, family);
  }
  /** The port of the local pod that has this address, 0 = none. */
  ownerPort(address: Uint32Array, at: number, family: 4 | 6): number {
    return this.owners.lookup(address, at, family);
  }
  isOwnNode(address: Uint32Array, at: number, family: 4 | 6): boolean {
    return this.ownNode.lookup(address, at, family) !== 0;
  }
  /** Is this one of this node's own InternalIPs? */
  isSelf(address: Uint32Array, at: number, family: 4 | 6): boolean {
    return this.route(address, at, family) >>> 24 === Route.OwnNode;
  }
  get tunnelPort(): number {
    return this.data.tunnelPort;
  }
  /** Index of the other node whose InternalIP this is, 0 = none. */
  tunnelPeer(address: Uint32Array, at: number, family: 4 | 6): number {
    return this.peers.lookup(address, at, family);
  }
  /** This node's address, octets in network order, from which it answers; null: it has none of the family. */
  answerAddress(family: 4 | 6): Uint8Array | null {
    const self = this.data.nodes[0];
    const words = family === 6 ? self?.ip6 : self?.ip4;
    if (!words) return null;
    const octets = new Uint8Array(family === 6 ? 16 : 4);
    for (let i = 0; i < octets.length; i++) octets[i] = (words[i >>> 2]! >>> (24 - (i & 3) * 8)) & 0xff;
    return octets;
  }
  /** Replay's in-port: local pod → its port; remote pod or podCIDR → tunnel; else gateway. */
  inPortOf(address: Uint32Array, at: number, family: 4 | 6): number {
    const owner = this.ownerPort(address, at, family);
    if (owner !== 0) return owner;
    return this.route(address, at, family) >>> 24 === Route.Tunnel ? Port.Tunnel : Port.Gateway;
  }
}
