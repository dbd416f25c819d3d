/**
 * What Output needs to rewrite and encapsulate frames, in shared memory: the MAC behind each port, and the tunnel to each
 * node. native/compose.cc reads the same octets. Written off the path when objects change.
 */
export const PORT_ENTRY_SIZE = 8; // MAC (6), known (1), spare
export const NODES_MAX = 4096; // index 0 is this node and has no tunnel
export const NODE_ENTRY_SIZE = 64;
/** Offsets in a node's entry. Addresses in network order; IPv4 in the first four octets. */
export const N = {
  family: 0, // 4, 6, or 0: no tunnel
  flags: 1, // NodeFlag
  port: 2, // UDP destination port, u16 big-endian
  vni: 4, // u32 big-endian, 24 bits used
  ttl: 8,
  local: 16,
  remote: 32,
  sourceMac: 48,
  destinationMac: 54,
} as const;
export const NodeFlag = { UdpChecksum: 1, DontFragment: 2 } as const;
const NODES_AT = 65536 * PORT_ENTRY_SIZE;
export const REWRITE_TABLE_SIZE = NODES_AT + NODES_MAX * NODE_ENTRY_SIZE;

export interface Tunnel {
  family: 4 | 6;
  local: readonly number[];
  remote: readonly number[];
  sourceMac: readonly number[] | null;
  destinationMac: readonly number[] | null;
  port: number;
  vni: number;
  ttl: number;
  udpChecksum: boolean;
  dontFragment: boolean;
}

export class RewriteTable {
  readonly octets: Uint8Array;
  constructor(readonly memory: SharedArrayBuffer = new SharedArrayBuffer(REWRITE_TABLE_SIZE)) {
    this.octets = new Uint8Array(memory);
  }
  setPort(port: number, mac: readonly number[] | null): void {
    const at = port * PORT_ENTRY_SIZE;
    this.octets.fill(0, at, at + PORT_ENTRY_SIZE);
    if (mac === null) return;
    this.octets.set(mac, at);
    this.octets[at + 6] = 1;
  }
  setNode(index: number, tunnel: Tunnel | null): void {
    const at = nodeAt(index);
    this.octets.fill(0, at, at + NODE_ENTRY_SIZE);
    if (tunnel === null) return;
    const { octets } = this;
    octets[at + N.flags] =
      (tunnel.udpChecksum ? NodeFlag.UdpChecksum : 0) | (tunnel.dontFragment ? NodeFlag.DontFragment : 0);
    octets[at + N.port] = tunnel.port >>> 8;
    octets[at + N.port + 1] = tunnel.port & 0xff;
    octets.set(
      [tunnel.vni >>> 24, (tunnel.vni >>> 16) & 0xff, (tunnel.vni >>> 8) & 0xff, tunnel.vni & 0xff],
      at + N.vni,
    );
    octets[at + N.ttl] = tunnel.ttl;
    for (const [field, words] of [
      [N.local, tunnel.local],
      [N.remote, tunnel.remote],
    ] as const) {
      for (let i = 0; i < (tunnel.family === 6 ? 4 : 1); i++) {
        const word = words[i]!;
        octets.set([word >>> 24, (word >>> 16) & 0xff, (word >>> 8) & 0xff, word & 0xff], at + field + i * 4);
      }
    }
    if (tunnel.sourceMac) octets.set(tunnel.sourceMac, at + N.sourceMac);
    if (tunnel.destinationMac) octets.set(tunnel.destinationMac, at + N.destinationMac);
    octets[at + N.family] = tunnel.family;
  }
}
export const nodeAt = (index: number): number => NODES_AT + index * NODE_ENTRY_SIZE;
