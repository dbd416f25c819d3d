/**
 * Link types of captures (tcpdump.org's LINKTYPE_ registry) and how their headers become Ethernet's: 14 octets with zero
 * MACs and the EtherType. Linux cooked headers keep their source MAC where it has six octets; their destination MAC is not
 * in the capture and stays zero.
 */
export const MADE_HEADER_SIZE = 14;

/** The kinds of link headers, as native/capture.cc knows them. */
export const LinkKind = { Ethernet: 0, Raw: 1, Raw4: 2, Raw6: 3, Loopback: 4, Cooked1: 5, Cooked2: 6 } as const;

export interface LinkReader {
  readonly kind: number;
  /** Is the link's own header replaced by Ethernet's? */
  readonly replaces: boolean;
  /** Octets of the link's own header that go; Ethernet: 0. */
  readonly headerSize: number;
  /**
   * Puts an Ethernet header right before the packet behind the link header at `at`. `length` ≥ headerSize octets are there,
   * and the MADE_HEADER_SIZE octets before `at` may be overwritten.
   */
  writeEthernet(data: Uint8Array, at: number, length: number): void;
}

const ETHER_IP4 = 0x0800,
  ETHER_IP6 = 0x86dd;
const AF_INET = 2;
/** AF_INET6 of Linux, Windows, NetBSD and OpenBSD, FreeBSD, macOS. */
const AF_INET6: readonly number[] = [10, 23, 24, 28, 30];
const ARPHRD_NETLINK = 824;

function put(data: Uint8Array, packet: number, etherType: number): void {
  data.fill(0, packet - MADE_HEADER_SIZE, packet - 2);
  data[packet - 2] = etherType >>> 8;
  data[packet - 1] = etherType & 0xff;
}
const u16 = (data: Uint8Array, at: number): number => (data[at]! << 8) | data[at + 1]!;

export const ETHERNET: LinkReader = {
  kind: LinkKind.Ethernet,
  replaces: false,
  headerSize: 0,
  writeEthernet: () => {},
};

/** The version nibble tells the family; what is no IPv6 is announced as IPv4, so that Parse names what is wrong with it. */
const RAW: LinkReader = {
  kind: LinkKind.Raw,
  replaces: true,
  headerSize: 0,
  writeEthernet: (data, at, length) => put(data, at, length > 0 && data[at]! >>> 4 === 6 ? ETHER_IP6 : ETHER_IP4),
};
const RAW_4: LinkReader = {
  kind: LinkKind.Raw4,
  replaces: true,
  headerSize: 0,
  writeEthernet: (data, at) => put(data, at, ETHER_IP4),
};
const RAW_6: LinkReader = {
  kind: LinkKind.Raw6,
  replaces: true,
  headerSize: 0,
  writeEthernet: (data, at) => put(data, at, ETHER_IP6),
};

/** An address family of 32 bits, in the byte order of the machine that captured: small numbers, so either order is told. */
const LOOPBACK: LinkReader = {
  kind: LinkKind.Loopback,
  replaces: true,
  headerSize: 4,
  writeEthernet: (data, at) => {
    const big = ((data[at]! << 24) | (data[at + 1]! << 16) | (data[at + 2]! << 8) | data[at + 3]!) >>> 0;
    const little = ((data[at + 3]! << 24) | (data[at + 2]! << 16) | (data[at + 1]! << 8) | data[at]!) >>> 0;
    const family = Math.min(big, little);
    put(data, at + 4, family === AF_INET ? ETHER_IP4 : AF_INET6.includes(family) ? ETHER_IP6 : 0);
  },
};

/** The fields come out first: the made header overlaps the one that it replaces. */
function putCooked(data: Uint8Array, packet: number, etherType: number, address: number, addressLength: number): void {
  const mac = addressLength === 6 ? data.slice(address, address + 6) : null;
  put(data, packet, etherType);
  if (mac !== null) data.set(mac, packet - 8);
}
const etherTypeOf = (hardware: number, protocol: number): number => (hardware === ARPHRD_NETLINK ? 0 : protocol);

const COOKED_1: LinkReader = {
  kind: LinkKind.Cooked1,
  replaces: true,
  headerSize: 16,
  writeEthernet: (data, at) =>
    putCooked(data, at + 16, etherTypeOf(u16(data, at + 2), u16(data, at + 14)), at + 6, u16(data, at + 4)),
};
const COOKED_2: LinkReader = {
  kind: LinkKind.Cooked2,
  replaces: true,
  headerSize: 20,
  writeEthernet: (data, at) =>
    putCooked(data, at + 20, etherTypeOf(u16(data, at + 8), u16(data, at)), at + 12, data[at + 11]!),
};

const KINDS: readonly LinkReader[] = [ETHERNET, RAW, RAW_4, RAW_6, LOOPBACK, COOKED_1, COOKED_2];
export const linkOfKind = (kind: number): LinkReader => KINDS[kind]!;

const READERS: ReadonlyMap<number, LinkReader> = new Map([
  [1, ETHERNET],
  [0, LOOPBACK],
  [108, LOOPBACK],
  [12, RAW],
  [14, RAW],
  [101, RAW],
  [228, RAW_4],
  [229, RAW_6],
  [113, COOKED_1],
  [276, COOKED_2],
]);
/** Names of link types that people meet and that are not read, for the message. */
const OTHERS: ReadonlyMap<number, string> = new Map([
  [9, 'PPP'],
  [50, 'PPP in HDLC framing'],
  [51, 'PPPoE'],
  [104, 'Cisco HDLC'],
  [105, 'IEEE 802.11'],
  [119, 'Prism'],
  [127, 'IEEE 802.11 with radiotap'],
  [147, 'USER0'],
  [189, 'Linux USB'],
  [192, 'PPI'],
  [195, 'IEEE 802.15.4'],
  [220, 'Linux USB, padded'],
  [239, 'NFLOG'],
  [249, 'USBPcap'],
  [251, 'Bluetooth LE'],
  [253, 'netlink'],
]);

export const linkReader = (linkType: number): LinkReader | null => READERS.get(linkType) ?? null;
export function unsupportedLink(linkType: number): string {
  const name = OTHERS.get(linkType);
  return `link type ${linkType}${name === undefined ? '' : ` (${name})`} is not read; Ethernet (1), raw IP (12, 14, 101, 228, 229), null/loopback (0, 108) and Linux cooked (113, 276) are: capture on such an interface or convert with editcap -T`;
}
