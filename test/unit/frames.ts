/**
 * Frames for tests, with right lengths and checksums, built on the writers of src/wire (which test/unit/wire holds against
 * octets taken from the RFCs). Every builder takes what matters to its test and fills in the rest.
 */
import { PacketBatch } from '../../src/batch/packet-batch.js';
import { parseAddress, parseMac } from '../../src/flow/ip-address.js';
import { ARP_SIZE, ArpOperation, writeArp } from '../../src/wire/arp.js';
import { EtherType, ethernetHeaderSize, type VlanTag, writeEthernet } from '../../src/wire/ethernet.js';
import { IPV6_FRAGMENT_SIZE, writeFragment } from '../../src/wire/fragment.js';
import { type GeneveHeader, geneveOfFrame, writeGeneve } from '../../src/wire/geneve.js';
import { writeGre } from '../../src/wire/gre.js';
import { writeIcmp } from '../../src/wire/icmp.js';
import { Icmp6Type, writeIcmp6 } from '../../src/wire/icmp6.js';
import { ipv4HeaderSize, readIpv4, writeIpv4 } from '../../src/wire/ipv4.js';
import { NextHeader, readIpv6, walkExtensions, writeExtension, writeIpv6 } from '../../src/wire/ipv6.js';
import { type NdMessage, type NdOption, NdOptionType, writeNd } from '../../src/wire/nd.js';
import type { Ip6Words } from '../../src/wire/octets.js';
import { type SctpChunk, SctpChunkType, writeSctp } from '../../src/wire/sctp.js';
import { TcpFlag, type TcpOption, writeTcp } from '../../src/wire/tcp.js';
import { setTransportChecksum } from '../../src/wire/transport-checksum.js';
import { writeUdp } from '../../src/wire/udp.js';
import { VXLAN_PORT, writeVxlan } from '../../src/wire/vxlan.js';

export const Protocol = { Icmp: 1, Igmp: 2, Tcp: 6, Udp: 17, Gre: 47, Esp: 50, Ah: 51, Icmp6: 58, Sctp: 132 } as const;
const NOTHING = new Uint8Array(0);

export interface LinkFields {
  srcMac?: string;
  dstMac?: string;
  /** VLAN ids, outermost first; a whole tag where its TPID or priority matters. */
  vlan?: number | (number | VlanTag)[];
}
export interface Ip4Fields extends LinkFields {
  src?: string;
  dst?: string;
  tos?: number;
  id?: number;
  ttl?: number;
  df?: boolean;
  more?: boolean;
  /** In 8-octet units. */
  fragmentOffset?: number;
  ipOptions?: Uint8Array;
}
/** An extension header before the transport: its type and content (for Fragment: see `fragment6`). */
export interface Extension {
  type: number;
  content?: Uint8Array;
  fragment?: { offset: number; more: boolean; id: number };
}
export interface Ip6Fields extends LinkFields {
  src?: string;
  dst?: string;
  trafficClass?: number;
  flowLabel?: number;
  hopLimit?: number;
  extensions?: Extension[];
}
export interface PortFields {
  sport?: number;
  dport?: number;
  payload?: Uint8Array;
}
export interface TcpFields extends PortFields {
  /** TcpFlag bits, or letters of FSRPAUEC. */
  flags?: number | string;
  seq?: number;
  ack?: number;
  window?: number;
  options?: TcpOption[];
}
export interface IcmpFields {
  type?: number;
  code?: number;
  /** Identifier and sequence number of an echo, or octets 4–7 as `rest`. */
  id?: number;
  seq?: number;
  rest?: number;
  payload?: Uint8Array;
}

export function mac(text: string): Uint8Array {
  const octets = parseMac(text);
  if (octets === null) throw new Error(`${text} is no MAC`);
  return octets;
}
export function words(text: string): Ip6Words {
  const address = parseAddress(text);
  if (address === null) throw new Error(`${text} is no address`);
  return address.words as unknown as Ip6Words;
}
export const tcpFlags = (letters: string): number =>
  [...letters].reduce((bits, letter) => {
    const bit = 'FSRPAUEC'.indexOf(letter);
    if (bit < 0) throw new Error(`${letter} is no TCP flag`);
    return bits | (1 << bit);
  }, 0);

export function concat(...parts: Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Octets as hex, blanks allowed. */
export const hex = (text: string): Uint8Array => {
  const digits = text.replace(/\s+/g, '');
  return Uint8Array.from({ length: digits.length / 2 }, (_, i) => Number.parseInt(digits.slice(i * 2, i * 2 + 2), 16));
};

/** An Ethernet frame around `payload`. */
export function ethernet(etherType: number, payload: Uint8Array, fields: LinkFields = {}): Uint8Array {
  const { vlan = [], srcMac = '02:00:00:00:00:01', dstMac = '02:00:00:00:00:02' } = fields;
  const tags = (typeof vlan === 'number' ? [vlan] : vlan).map((tag) =>
    typeof tag === 'number' ? { tpid: EtherType.Vlan, priority: 0, dropEligible: false, vid: tag } : tag,
  );
  const header = { destination: mac(dstMac), source: mac(srcMac), tags, etherType };
  const out = new Uint8Array(ethernetHeaderSize(header) + payload.length);
  out.set(payload, writeEthernet(out, 0, header));
  return out;
}

/** An IPv4 packet without link header. */
export function packet4(protocol: number, payload: Uint8Array, fields: Ip4Fields = {}): Uint8Array {
  const options = fields.ipOptions ?? NOTHING;
  const out = new Uint8Array(20 + Math.ceil(options.length / 4) * 4 + payload.length);
  const at = writeIpv4(out, 0, {
    tos: fields.tos ?? 0,
    totalLength: out.length,
    identification: fields.id ?? 0,
    dontFragment: fields.df ?? false,
    moreFragments: fields.more ?? false,
    fragmentOffset: fields.fragmentOffset ?? 0,
    ttl: fields.ttl ?? 64,
    protocol,
    source: words(fields.src ?? '10.0.0.1')[0],
    destination: words(fields.dst ?? '10.0.0.2')[0],
    options,
  });
  out.set(payload, at);
  return out;
}

/** An IPv6 packet without link header; `protocol` follows the extension headers. */
export function packet6(protocol: number, payload: Uint8Array, fields: Ip6Fields = {}): Uint8Array {
  const extensions = fields.extensions ?? [];
  const headers = extensions.map((extension, i) => {
    const next = extensions[i + 1]?.type ?? protocol;
    const header = new Uint8Array(Math.max(8, Math.ceil(((extension.content?.length ?? 0) + 2) / 8) * 8));
    if (extension.type === NextHeader.Fragment) {
      const { offset, more, id } = extension.fragment ?? { offset: 0, more: false, id: 0 };
      writeFragment(header, 0, { nextHeader: next, fragmentOffset: offset, moreFragments: more, identification: id });
    } else writeExtension(header, 0, next, extension.content ?? NOTHING);
    return header;
  });
  const body = concat(...headers, payload);
  const out = new Uint8Array(40 + body.length);
  writeIpv6(out, 0, {
    trafficClass: fields.trafficClass ?? 0,
    flowLabel: fields.flowLabel ?? 0,
    payloadLength: body.length,
    nextHeader: extensions[0]?.type ?? protocol,
    hopLimit: fields.hopLimit ?? 64,
    source: words(fields.src ?? 'fd00::1'),
    destination: words(fields.dst ?? 'fd00::2'),
  });
  out.set(body, 40);
  return out;
}

export const ip4 = (protocol: number, payload: Uint8Array, fields: Ip4Fields = {}): Uint8Array =>
  ethernet(EtherType.Ip4, packet4(protocol, payload, fields), fields);
export const ip6 = (protocol: number, payload: Uint8Array, fields: Ip6Fields = {}): Uint8Array =>
  ethernet(EtherType.Ip6, packet6(protocol, payload, fields), fields);

/** Builds the packet, then fills in the transport's checksum. */
function sealed4(protocol: number, segment: Uint8Array, fields: Ip4Fields): Uint8Array {
  const packet = packet4(protocol, segment, fields);
  setTransportChecksum(packet, 12, 4, protocol, packet.length - segment.length, segment.length);
  return ethernet(EtherType.Ip4, packet, fields);
}
export function sealed6(protocol: number, segment: Uint8Array, fields: Ip6Fields): Uint8Array {
  const packet = packet6(protocol, segment, fields);
  setTransportChecksum(packet, 8, 6, protocol, packet.length - segment.length, segment.length);
  return ethernet(EtherType.Ip6, packet, fields);
}

export function tcpSegment(fields: TcpFields = {}): Uint8Array {
  const { payload = NOTHING, options = [], flags = TcpFlag.Syn } = fields;
  const header = new Uint8Array(60);
  const size = writeTcp(header, 0, {
    sourcePort: fields.sport ?? 40_000,
    destinationPort: fields.dport ?? 80,
    sequence: fields.seq ?? 1000,
    acknowledgment: fields.ack ?? 0,
    flags: typeof flags === 'string' ? tcpFlags(flags) : flags,
    window: fields.window ?? 65_535,
    checksum: 0,
    urgentPointer: 0,
    options,
  });
  return concat(header.subarray(0, size), payload);
}
export function udpDatagram(fields: PortFields = {}): Uint8Array {
  const { payload = NOTHING } = fields;
  const out = new Uint8Array(8 + payload.length);
  const at = writeUdp(out, 0, {
    sourcePort: fields.sport ?? 40_000,
    destinationPort: fields.dport ?? 53,
    length: out.length,
    checksum: 0,
  });
  out.set(payload, at);
  return out;
}
export function sctpPacket(fields: SctpFields = {}): Uint8Array {
  const out = new Uint8Array(65_535);
  const header = {
    sourcePort: fields.sport ?? 40_000,
    destinationPort: fields.dport ?? 3868,
    verificationTag: fields.tag ?? 0,
  };
  const init = { type: SctpChunkType.Init, flags: 0, data: hex('00000001 0000ffff 000a 000a 00000001') };
  return out.slice(0, writeSctp(out, 0, header, fields.chunks ?? [init]));
}
export interface SctpFields {
  sport?: number;
  dport?: number;
  tag?: number;
  chunks?: SctpChunk[];
}
const restOf = (fields: IcmpFields): number => fields.rest ?? (((fields.id ?? 1) << 16) | (fields.seq ?? 1)) >>> 0;

export const tcp4 = (fields: Ip4Fields & TcpFields = {}): Uint8Array =>
  sealed4(Protocol.Tcp, tcpSegment(fields), fields);
export const tcp6 = (fields: Ip6Fields & TcpFields = {}): Uint8Array =>
  sealed6(Protocol.Tcp, tcpSegment(fields), fields);
export const udp4 = (fields: Ip4Fields & PortFields = {}): Uint8Array =>
  sealed4(Protocol.Udp, udpDatagram(fields), fields);
export const udp6 = (fields: Ip6Fields & PortFields = {}): Uint8Array =>
  sealed6(Protocol.Udp, udpDatagram(fields), fields);
export const sctp4 = (fields: Ip4Fields & SctpFields = {}): Uint8Array =>
  ip4(Protocol.Sctp, sctpPacket(fields), fields);
export const sctp6 = (fields: Ip6Fields & SctpFields = {}): Uint8Array =>
  ip6(Protocol.Sctp, sctpPacket(fields), fields);

/** An echo request unless said otherwise. */
export function icmp4(fields: Ip4Fields & IcmpFields = {}): Uint8Array {
  const { type = 8, code = 0, payload = NOTHING } = fields;
  const out = new Uint8Array(8 + payload.length);
  writeIcmp(out, 0, { type, code, rest: restOf(fields) }, payload);
  return ip4(Protocol.Icmp, out, fields);
}
export function icmp6(fields: Ip6Fields & IcmpFields = {}): Uint8Array {
  const { type = Icmp6Type.EchoRequest, code = 0, payload = NOTHING } = fields;
  const out = new Uint8Array(8 + payload.length);
  writeIcmp6(out, 0, { type, code, rest: restOf(fields) });
  out.set(payload, 8);
  return sealed6(Protocol.Icmp6, out, fields);
}

/** The IP packet of a frame, for what an ICMP error carries: at most `size` octets. */
export function carriedPacket(frame: Uint8Array, size = 548): Uint8Array {
  const at = linkSize(frame);
  return frame.slice(at, Math.min(frame.length, at + size));
}

export function nd(message: NdMessage, fields: Ip6Fields = {}): Uint8Array {
  const out = new Uint8Array(1500);
  return sealed6(Protocol.Icmp6, out.slice(0, writeNd(out, 0, message)), { hopLimit: 255, ...fields });
}
const linkLayer = (type: number, address: string): NdOption => ({ type, data: mac(address) });
export function neighbourSolicitation(fields: Ip6Fields & { target: string }): Uint8Array {
  const options = [linkLayer(NdOptionType.SourceLinkLayer, fields.srcMac ?? '02:00:00:00:00:01')];
  return nd({ type: Icmp6Type.NeighbourSolicitation, target: words(fields.target), options }, fields);
}
export function neighbourAdvertisement(fields: Ip6Fields & { target: string; ndFlags?: number }): Uint8Array {
  const options = [linkLayer(NdOptionType.TargetLinkLayer, fields.srcMac ?? '02:00:00:00:00:01')];
  const { target, ndFlags = 0x60 } = fields;
  return nd({ type: Icmp6Type.NeighbourAdvertisement, flags: ndFlags, target: words(target), options }, fields);
}

export interface ArpFields extends LinkFields {
  operation?: number;
  senderMac?: string;
  senderIp?: string;
  targetMac?: string;
  targetIp?: string;
}
export function arp(fields: ArpFields = {}): Uint8Array {
  const { srcMac = '02:00:00:00:00:01' } = fields;
  const out = new Uint8Array(ARP_SIZE);
  writeArp(out, 0, {
    operation: fields.operation ?? ArpOperation.Request,
    senderMac: mac(fields.senderMac ?? srcMac),
    senderIp: words(fields.senderIp ?? '10.0.0.1')[0],
    targetMac: mac(fields.targetMac ?? '00:00:00:00:00:00'),
    targetIp: words(fields.targetIp ?? '10.0.0.2')[0],
  });
  return ethernet(EtherType.Arp, out, { dstMac: 'ff:ff:ff:ff:ff:ff', ...fields, srcMac });
}

/** Octets of a sound frame's link header. */
export function linkSize(frame: Uint8Array): number {
  let at = 12;
  for (let tags = 0; tags < 2; tags++, at += 4) {
    const type = (frame[at]! << 8) | frame[at + 1]!;
    if (type !== EtherType.Vlan && type !== EtherType.ServiceVlan && type !== EtherType.OldServiceVlan) break;
  }
  return at + 2;
}

/** `frame` with one more tag, outermost. */
export function tagged(frame: Uint8Array, vid: number, tpid: number = EtherType.Vlan): Uint8Array {
  return concat(
    frame.subarray(0, 12),
    Uint8Array.of(tpid >>> 8, tpid & 0xff, vid >>> 8, vid & 0xff),
    frame.subarray(12),
  );
}

export interface TunnelFields {
  vni?: number;
  sport?: number;
  outer?: Ip4Fields;
}
export function vxlan4(inner: Uint8Array, fields: TunnelFields = {}): Uint8Array {
  const header = new Uint8Array(8);
  writeVxlan(header, 0, fields.vni ?? 0);
  return udp4({ sport: fields.sport ?? 40_000, dport: VXLAN_PORT, payload: concat(header, inner), ...fields.outer });
}
export function geneve4(inner: Uint8Array, fields: TunnelFields & { header?: GeneveHeader } = {}): Uint8Array {
  const header = new Uint8Array(260);
  const size = writeGeneve(header, 0, fields.header ?? geneveOfFrame(fields.vni ?? 0));
  const payload = concat(header.subarray(0, size), inner);
  return udp4({ sport: fields.sport ?? 40_000, dport: 6081, payload, ...fields.outer });
}
export function gre4(inner: Uint8Array, fields: { key?: number | null; outer?: Ip4Fields } = {}): Uint8Array {
  const out = new Uint8Array(16 + inner.length);
  const header = {
    protocolType: EtherType.TransparentEthernet,
    checksum: false,
    key: fields.key === undefined ? 0 : fields.key,
    sequence: null,
  };
  const size = writeGre(out, 0, header, out.length);
  return ip4(Protocol.Gre, concat(out.subarray(0, size), inner), fields.outer);
}

/** Cuts a sound IPv4 frame into fragments whose payloads are `size` octets (a multiple of 8), the last one less. */
export function fragments4(frame: Uint8Array, size: number): Uint8Array[] {
  const link = linkSize(frame);
  const header = readIpv4(frame, link);
  const headerSize = ipv4HeaderSize(frame, link);
  const payload = frame.subarray(link + headerSize, link + header.totalLength);
  const out: Uint8Array[] = [];
  for (let at = 0; at < payload.length; at += size) {
    const piece = payload.subarray(at, at + size);
    const fragment = new Uint8Array(link + headerSize + piece.length);
    fragment.set(frame.subarray(0, link));
    writeIpv4(fragment, link, {
      ...header,
      totalLength: headerSize + piece.length,
      fragmentOffset: at / 8,
      moreFragments: at + size < payload.length,
    });
    fragment.set(piece, link + headerSize);
    out.push(fragment);
  }
  return out;
}

/** The same for IPv6; headers up to and with routing stay in front of the fragment header (RFC 8200 section 4.5). */
export function fragments6(frame: Uint8Array, size: number, id: number): Uint8Array[] {
  const link = linkSize(frame);
  const header = readIpv6(frame, link);
  const end = link + 40 + header.payloadLength;
  const chain = walkExtensions(frame, link + 40, header.nextHeader, end);
  if (chain.fragmentAt >= 0 || header.nextHeader !== chain.protocol)
    throw new Error('fragment a frame without extensions');
  const payload = frame.subarray(link + 40, end);
  const out: Uint8Array[] = [];
  for (let at = 0; at < payload.length; at += size) {
    const piece = payload.subarray(at, at + size);
    const fragment = new Uint8Array(link + 40 + IPV6_FRAGMENT_SIZE + piece.length);
    fragment.set(frame.subarray(0, link));
    writeIpv6(fragment, link, {
      ...header,
      payloadLength: IPV6_FRAGMENT_SIZE + piece.length,
      nextHeader: NextHeader.Fragment,
    });
    writeFragment(fragment, link + 40, {
      nextHeader: header.nextHeader,
      fragmentOffset: at / 8,
      moreFragments: at + size < payload.length,
      identification: id,
    });
    fragment.set(piece, link + 40 + IPV6_FRAGMENT_SIZE);
    out.push(fragment);
  }
  return out;
}

/** Puts frames into a batch, one behind the other, and sets the columns that a front end sets. Nothing is parsed. */
export function loadBatch(
  frames: readonly Uint8Array[],
  options: { batch?: PacketBatch; inPort?: number; timeNs?: bigint | readonly bigint[]; wireLength?: number } = {},
): PacketBatch {
  const { batch = new PacketBatch(), inPort = 0, timeNs = 0n } = options;
  let at = 0;
  for (const [row, frame] of frames.entries()) {
    const time = typeof timeNs === 'bigint' ? timeNs : timeNs[row]!;
    batch.data.set(frame, at);
    batch.offset[row] = at;
    batch.length[row] = frame.length;
    batch.wireLength[row] = options.wireLength ?? frame.length;
    batch.frameOctets[row] = batch.wireLength[row]!;
    batch.inPort[row] = inPort;
    batch.timeNs[row * 2] = Number(time & 0xffffffffn);
    batch.timeNs[row * 2 + 1] = Number(time >> 32n);
    at += frame.length;
  }
  batch.count = frames.length;
  return batch;
}
