/**
 * Link layers of captures (tcpdump.org, LINKTYPE_ list). What is not Ethernet gets an Ethernet header in front of its network
 * layer: zero MACs (Linux cooked captures keep the source MAC) and the EtherType.
 */
export const LinkType = { Null: 0, Ethernet: 1, Loop: 108, Sll: 113, Ipv4: 228, Ipv6: 229, Sll2: 276 } as const;
const RAW = new Set([12, 14, 101]);

export const linkTypeIsKnown = (type: number): boolean => RAW.has(type) || Object.values(LinkType).some((known) => known === type);

export const ETHERNET_HEADER = 14;

export interface LinkHeader {
  /** Octets of the link header that the Ethernet header stands for; −1: the record is too short to tell. */
  size: number;
  etherType: number;
  /** Where the source MAC stands in the record, −1 = nowhere. */
  mac: number;
}
const result: LinkHeader = { size: 0, etherType: 0, mac: -1 };

/** Reads the link header of a record of `captured` octets at `at`. Not for Ethernet. The result is used again. */
export function readLinkHeader(type: number, data: Uint8Array, at: number, captured: number): LinkHeader {
  result.mac = -1;
  const ip = (offset: number): number => (captured > offset ? (data[at + offset]! >>> 4 === 6 ? 0x86dd : 0x0800) : 0x0800);
  if (RAW.has(type)) {
    result.size = 0;
    result.etherType = ip(0);
  } else if (type === LinkType.Ipv4 || type === LinkType.Ipv6) {
    result.size = 0;
    result.etherType = type === LinkType.Ipv4 ? 0x0800 : 0x86dd;
  } else if (type === LinkType.Null || type === LinkType.Loop) {
    // Four octets of the address family, in the capturing host's order (Null) or network order (Loop).
    result.size = captured < 4 ? -1 : 4;
    if (captured >= 4) {
      const little = data[at]! | (data[at + 1]! << 8);
      const big = (data[at + 2]! << 8) | data[at + 3]!;
      const family = little !== 0 ? little : big;
      result.etherType = family === 2 ? 0x0800 : family === 10 || family === 24 || family === 28 || family === 30 ? 0x86dd : 0xffff;
    }
  } else if (type === LinkType.Sll) {
    result.size = captured < 16 ? -1 : 16;
    if (captured >= 16) {
      result.etherType = (data[at + 14]! << 8) | data[at + 15]!;
      if (((data[at + 4]! << 8) | data[at + 5]!) === 6) result.mac = 6;
    }
  } else {
    result.size = captured < 20 ? -1 : 20;
    if (captured >= 20) {
      result.etherType = (data[at]! << 8) | data[at + 1]!;
      if (data[at + 11] === 6) result.mac = 12;
    }
  }
  return result;
}
