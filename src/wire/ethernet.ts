/** Ethernet II (IEEE 802.3 clause 3) with 802.1Q and 802.1ad tags. Preamble and frame check sequence are not in a frame. */
import { Fault } from './fault.js';
import { read16, write16 } from './octets.js';

export const ETHERNET_HEADER_SIZE = 14;
export const VLAN_TAG_SIZE = 4;
/** Tags that are looked through; a third one makes the frame non-IP. */
export const VLAN_TAGS_MAX = 2;
/** Below this, the type field is an 802.3 length and an LLC header follows. */
export const ETHER_TYPE_MIN = 0x600;
export const EtherType = {
  Ip4: 0x0800,
  Arp: 0x0806,
  TransparentEthernet: 0x6558,
  Vlan: 0x8100,
  Ip6: 0x86dd,
  ServiceVlan: 0x88a8,
  OldServiceVlan: 0x9100,
} as const;
const DESTINATION = 0;
const SOURCE = 6;
const TYPE = 12;

export interface VlanTag {
  tpid: number;
  priority: number;
  dropEligible: boolean;
  vid: number;
}
export interface EthernetHeader {
  destination: Uint8Array;
  source: Uint8Array;
  tags: VlanTag[];
  etherType: number;
}

export const isVlanTag = (etherType: number): boolean =>
  etherType === EtherType.Vlan || etherType === EtherType.ServiceVlan || etherType === EtherType.OldServiceVlan;

export function checkEthernet(frame: Uint8Array, offset: number, end = frame.length): Fault {
  if (end - offset < ETHERNET_HEADER_SIZE) return Fault.Truncated;
  let at = offset + TYPE;
  for (let tags = 0; tags < VLAN_TAGS_MAX && isVlanTag(read16(frame, at)); tags++) {
    at += VLAN_TAG_SIZE;
    if (end - at < 2) return Fault.Truncated;
  }
  return Fault.None;
}

/** Octets of the link header, tags included. */
export const ethernetHeaderSize = (header: Pick<EthernetHeader, 'tags'>): number =>
  ETHERNET_HEADER_SIZE + header.tags.length * VLAN_TAG_SIZE;

export function readEthernet(frame: Uint8Array, offset: number): EthernetHeader {
  const tags: VlanTag[] = [];
  let at = offset + TYPE;
  let etherType = read16(frame, at);
  while (tags.length < VLAN_TAGS_MAX && isVlanTag(etherType)) {
    const control = read16(frame, at + 2);
    tags.push({
      tpid: etherType,
      priority: control >>> 13,
      dropEligible: (control & 0x1000) !== 0,
      vid: control & 0xfff,
    });
    at += VLAN_TAG_SIZE;
    etherType = read16(frame, at);
  }
  return {
    destination: frame.slice(offset + DESTINATION, offset + DESTINATION + 6),
    source: frame.slice(offset + SOURCE, offset + SOURCE + 6),
    tags,
    etherType,
  };
}

/** Returns the octets written. */
export function writeEthernet(out: Uint8Array, offset: number, header: EthernetHeader): number {
  out.set(header.destination, offset + DESTINATION);
  out.set(header.source, offset + SOURCE);
  let at = offset + TYPE;
  for (const tag of header.tags) {
    write16(out, at, tag.tpid);
    write16(out, at + 2, (tag.priority << 13) | (tag.dropEligible ? 0x1000 : 0) | tag.vid);
    at += VLAN_TAG_SIZE;
  }
  write16(out, at, header.etherType);
  return at + 2 - offset;
}
