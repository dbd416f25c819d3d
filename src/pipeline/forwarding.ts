/**
 * Where a destination address lies, and who may say to be whom: compiled from Pods and Nodes off the path (forwarding-tables.ts),
 * read by the stages. Shared typed arrays, so that handing it to workers copies little.
 */
import { Port } from '../batch/drop-reason.js';
import { AddressMap, type AddressMapData } from '../flow/address-map.js';
import { parseMac } from '../flow/ip-address.js';
import { crc32c } from '../wire/crc32c.js';

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

/** ForwardingData ready for look-ups. */
export class Forwarding {
  readonly metering: boolean;
  readonly portKind: Uint8Array;
  readonly portMac: Map<number, number[]>;
  readonly portByMac: Map<string, number>;
  readonly podPorts: number[];
  /** For native code, 8 octets a port number: MAC, 1 where it is known, PortKind. */
  readonly ports: Uint8Array;
  private readonly routes: AddressMap;
  private readonly owners: AddressMap;
  private readonly ownNode: AddressMap;
  private readonly peers: AddressMap;

  /** `alike`: with the same ports, so that what is made of them need not be made again. */
  constructor(
    readonly data: ForwardingData,
    alike: Forwarding | null = null,
  ) {
    this.metering = data.metering;
    this.routes = new AddressMap(data.routes);
    this.owners = new AddressMap(data.owners);
    this.ownNode = new AddressMap(data.ownNodeAddresses);
    this.peers = new AddressMap(data.peers);
    this.portKind = alike?.portKind ?? new Uint8Array(65536);
    this.portMac = alike?.portMac ?? new Map();
    this.portByMac = alike?.portByMac ?? new Map();
    this.podPorts = alike?.podPorts ?? [];
    this.ports = alike?.ports ?? new Uint8Array(65536 * 8);
    if (alike !== null) return;
    for (const { port, kind, mac } of data.ports) {
      this.portKind[port] = kind;
      this.ports[port * 8 + 7] = kind;
      if (mac !== null) {
        this.ports.set(mac, port * 8);
        this.ports[port * 8 + 6] = 1;
        this.portMac.set(port, mac);
        this.portByMac.set(mac.join(':'), port);
      }
      if (kind === PortKind.Pod) this.podPorts.push(port);
    }
  }
  /** With what is new of its data. */
  changed(news: Partial<ForwardingData>): Forwarding {
    return new Forwarding({ ...this.data, ...news }, news.ports === undefined ? this : null);
  }
  /** The maps as native code reads them. */
  get routeMap(): AddressMapData {
    return this.data.routes;
  }
  get ownerMap(): AddressMapData {
    return this.data.owners;
  }
  get ownNodeMap(): AddressMapData {
    return this.data.ownNodeAddresses;
  }
  get peerMap(): AddressMapData {
    return this.data.peers;
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
