/**
 * Pods and Nodes to what forwarding.ts reads, kept between changes: a pod that comes, goes or moves costs its own addresses; a
 * changed Node costs everything anew. Sources: contract "Ports", behaviour §2 Routing.
 */
import { MutableAddressMap } from '../flow/address-map.js';
import { parseAddress, parseCidr, parseMac } from '../flow/ip-address.js';
import type { ClusterObjects, Pod } from '../objects/model.js';
import type { PortTable } from '../objects/ports.js';
import { type ForwardingData, gatewayMacOf, type NodePeer, PortKind, Route } from './forwarding.js';

/** First address of a CIDR's range: network + 1 (Antrea's gateway). */
function firstAddress(words: readonly number[], family: 4 | 6): number[] {
  const first = [...words];
  const last = family === 4 ? 0 : 3;
  first[last] = (first[last]! + 1) >>> 0;
  return first;
}
const wholeOf = (family: 4 | 6): number => (family === 4 ? 32 : 128);
const keyOf = (family: 4 | 6, words: readonly number[]): string => (family === 4 ? String(words[0]) : words.join());
/** A remote pod lies behind the tunnel, also on a node that is not among the objects: node 0xffffff has no address. */
const NO_NODE = 0xffffff;

interface Settings {
  /** null: every pod and node is here. */
  node: string | null;
  tunnelPort: number;
}

export class ForwardingTables {
  private readonly routes = new MutableAddressMap();
  private readonly owners = new MutableAddressMap();
  private readonly ownNode = new MutableAddressMap();
  private readonly peers = new MutableAddressMap();
  private readonly nodes: NodePeer[] = [];
  private readonly nodeIndex = new Map<string, number>();
  /** Whole addresses that Nodes route: some that pods may override, and some that only local pods may. */
  private readonly lowRoutes = new Map<string, number>();
  private readonly highRoutes = new Map<string, number>();
  /** Addresses of local pods, as text. */
  private localPorts = new Map<string, number>();
  private readonly gatewayMac: number[];
  /** As workers get it. */
  data: ForwardingData;

  constructor(
    objects: ClusterObjects,
    private table: PortTable,
    private readonly settings: Settings,
  ) {
    const { node } = settings;
    const self = node === null ? undefined : objects.nodes.get(node);
    this.gatewayMac = gatewayMacOf(node ?? '', self?.annotations['seine.dev/mac']);
    this.addNodes(objects);
    for (const pod of objects.pods.values()) {
      const value = this.remoteRoute(pod);
      if (value === 0) continue;
      for (const ip of pod.ips) {
        const parsed = parseAddress(ip);
        if (parsed === null || this.highRoutes.has(keyOf(parsed.family, parsed.words))) continue;
        this.routes.set(parsed.family, parsed.words, wholeOf(parsed.family), value);
      }
    }
    this.localPorts = addressesOf(table);
    for (const [ip, port] of this.localPorts) {
      const { family, words } = parseAddress(ip)!;
      this.routes.set(family, words, wholeOf(family), (Route.LocalPod << 24) | port);
      this.owners.set(family, words, wholeOf(family), port);
    }
    this.data = this.publish(objects);
  }

  private addNodes(objects: ClusterObjects): void {
    const { node } = this.settings;
    const { routes, ownNode, peers, nodes, nodeIndex: index } = this;
    const self = node === null ? undefined : objects.nodes.get(node);
    const others = [...objects.nodes.values()].filter((other) => other.name !== node);
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
    const route = (family: 4 | 6, words: readonly number[], length: number, value: number, high: boolean) => {
      routes.set(family, words, length, value);
      if (length === wholeOf(family)) (high ? this.highRoutes : this.lowRoutes).set(keyOf(family, words), value);
    };
    if (node !== null) {
      for (const other of others) {
        const number = index.get(other.name)!;
        for (const cidr of other.podCIDRs) {
          const parsed = parseCidr(cidr);
          if (parsed) route(parsed.family, parsed.words, parsed.prefixLength, (Route.Tunnel << 24) | number, false);
        }
        for (const ip of other.internalIPs) {
          const parsed = parseAddress(ip);
          if (parsed) peers.set(parsed.family, parsed.words, wholeOf(parsed.family), number);
        }
      }
      for (const cidr of self?.podCIDRs ?? []) {
        const parsed = parseCidr(cidr);
        if (parsed) route(parsed.family, parsed.words, parsed.prefixLength, Route.NoSuchEndpoint << 24, false);
      }
    }
    for (const each of objects.nodes.values()) {
      const trusted = node === null || each.name === node;
      for (const ip of each.internalIPs) {
        const parsed = parseAddress(ip);
        if (!parsed) continue;
        const { family, words } = parsed;
        if (trusted) ownNode.set(family, words, wholeOf(family), 1);
        if (each.name === node) route(family, words, wholeOf(family), Route.OwnNode << 24, true);
      }
      if (!trusted || (node === null && objects.nodes.size !== 1)) continue;
      for (const cidr of each.podCIDRs) {
        const parsed = parseCidr(cidr);
        if (!parsed) continue;
        const gateway = firstAddress(parsed.words, parsed.family);
        ownNode.set(parsed.family, gateway, wholeOf(parsed.family), 1);
        route(parsed.family, gateway, wholeOf(parsed.family), Route.GatewayAddress << 24, true);
      }
    }
  }
  /** Where a pod of another node lies; 0: it is none, or has no address of its own. */
  private remoteRoute({ hostNetwork, nodeName, phase }: Pod): number {
    const { node } = this.settings;
    if (node === null || hostNetwork || nodeName === null || nodeName === node) return 0;
    if (phase === 'Succeeded' || phase === 'Failed') return 0;
    return (Route.Tunnel << 24) | (this.nodeIndex.get(nodeName) ?? NO_NODE);
  }

  /**
   * Takes up changed pods, Nodes being the same. `table`: ports as they are now; `podsAt`: who has an address now, in order of
   * coming. Returns what of `data` is new: readers must take it up before the next update. null: nothing.
   */
  update(
    objects: ClusterObjects,
    pods: readonly (Pod | undefined)[],
    table: PortTable,
    podsAt: (ip: string) => readonly Pod[],
  ): Partial<ForwardingData> | null {
    const ips = new Set(pods.flatMap((pod) => pod?.ips ?? []));
    const tableChanged = table !== this.table;
    const before = this.localPorts;
    if (tableChanged) {
      this.table = table;
      this.localPorts = addressesOf(table);
      for (const [ip, port] of before) if (this.localPorts.get(ip) !== port) ips.add(ip);
      for (const [ip, port] of this.localPorts) if (before.get(ip) !== port) ips.add(ip);
    }
    const metering = objects.pods.size === 0;
    // What is published must reach readers before the next change: so nothing is, where there is nothing new.
    if (ips.size === 0 && !tableChanged && metering === this.data.metering) return null;
    this.routes.begin();
    this.owners.begin();
    for (const ip of ips) {
      const parsed = parseAddress(ip);
      if (parsed === null) continue;
      const { family, words } = parsed;
      const whole = wholeOf(family);
      const key = keyOf(family, words);
      const port = this.localPorts.get(ip) ?? 0;
      let value = port === 0 ? (this.highRoutes.get(key) ?? 0) : (Route.LocalPod << 24) | port;
      if (value === 0) for (const pod of podsAt(ip)) value = this.remoteRoute(pod) || value;
      value ||= this.lowRoutes.get(key) ?? 0;
      if (value !== this.routes.get(family, words, whole)) {
        if (value === 0) this.routes.delete(family, words, whole);
        else this.routes.set(family, words, whole, value);
      }
      if (port !== this.owners.get(family, words, whole)) {
        if (port === 0) this.owners.delete(family, words, whole);
        else this.owners.set(family, words, whole, port);
      }
    }
    const news: Partial<ForwardingData> = {
      metering,
      routes: this.routes.publish(),
      owners: this.owners.publish(),
      ...(tableChanged ? { ports: portsOf(table) } : {}),
    };
    this.data = { ...this.data, ...news };
    return news;
  }

  private publish(objects: ClusterObjects): ForwardingData {
    return {
      metering: objects.pods.size === 0,
      routes: this.routes.publish(),
      owners: this.owners.publish(),
      ownNodeAddresses: this.ownNode.publish(),
      peers: this.peers.publish(),
      ports: portsOf(this.table),
      nodes: this.nodes,
      gatewayMac: this.gatewayMac,
      tunnelPort: this.settings.tunnelPort,
    };
  }
}

/** Of two local pods with one address that with the higher port has it. */
function addressesOf(table: PortTable): Map<string, number> {
  const ports = new Map<string, number>();
  for (const { kind, ips, port } of table.ports)
    if (kind === 'pod') for (const ip of ips) if (parseAddress(ip) !== null) ports.set(ip, port);
  return ports;
}
function portsOf(table: PortTable): ForwardingData['ports'] {
  return table.ports.map(({ port, kind, name, mac: text }) => {
    const mac = text === null ? null : parseMac(text);
    return {
      port,
      kind: kind === 'pod' ? PortKind.Pod : kind === 'gateway' ? PortKind.Gateway : PortKind.Tunnel,
      name,
      mac: mac === null ? null : Array.from(mac),
    };
  });
}

export const compileForwarding = (
  objects: ClusterObjects,
  table: PortTable,
  node: string | null,
  tunnelPort: number,
): ForwardingData => new ForwardingTables(objects, table, { node, tunnelPort }).data;
