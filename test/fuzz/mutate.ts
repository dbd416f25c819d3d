/**
 * Seeded frames for fuzzing: sound ones of every kind that Parse names, and mutations of them that know where the link
 * header, VLAN tags, IP options, extension headers, fragment fields and tunnel headers stand. The same seed gives the same
 * frames on every machine; a failing run prints its seed.
 */
import { internetChecksum } from '../../src/wire/checksum.js';
import { EtherType, type VlanTag } from '../../src/wire/ethernet.js';
import { GENEVE_CRITICAL } from '../../src/wire/geneve.js';
import { Icmp6Type } from '../../src/wire/icmp6.js';
import { IgmpType, writeIgmp } from '../../src/wire/igmp.js';
import { isExtension, NextHeader } from '../../src/wire/ipv6.js';
import { writeMld } from '../../src/wire/mld.js';
import { read16, write16 } from '../../src/wire/octets.js';
import { maximumSegmentSize, type TcpOption, windowScale } from '../../src/wire/tcp.js';
import { setTransportChecksum } from '../../src/wire/transport-checksum.js';
import {
  arp,
  carriedPacket,
  concat,
  type Extension,
  ethernet,
  fragments4,
  fragments6,
  geneve4,
  gre4,
  type Ip4Fields,
  type Ip6Fields,
  icmp4,
  icmp6,
  ip4,
  ip6,
  linkSize,
  nd,
  neighbourAdvertisement,
  neighbourSolicitation,
  Protocol,
  sctp4,
  sctp6,
  sealed6,
  tcp4,
  tcp6,
  udp4,
  udp6,
  vxlan4,
  words,
} from '../unit/frames.js';

/** splitmix32: a small generator whose every seed is good, 0 included. Not for secrets. */
export class Random {
  private state: number;
  constructor(readonly seed: number) {
    this.state = seed >>> 0;
  }
  /** 32 bits. */
  next(): number {
    this.state = (this.state + 0x9e3779b9) >>> 0;
    let z = this.state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  }
  /** 0 … bound − 1. */
  below(bound: number): number {
    return Math.floor((this.next() / 0x100000000) * bound);
  }
  /** True once in `n`. */
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
  octets(size: number): Uint8Array {
    const out = new Uint8Array(size);
    for (let i = 0; i < size; i++) out[i] = this.next();
    return out;
  }
}

/** A fresh seed, or SEINE_FUZZ_SEED's: to be printed by whoever uses it. */
export const fuzzSeed = (): number => {
  const given = process.env.SEINE_FUZZ_SEED;
  return (given === undefined ? Math.floor(Math.random() * 0x100000000) : Number(given)) >>> 0;
};

// Few addresses and ports, so that random frames meet again in connections, fragments and replies.
const HOSTS4 = [
  '10.0.0.1',
  '10.0.0.2',
  '10.0.0.3',
  '10.0.1.7',
  '192.0.2.9',
  '224.0.0.251',
  '255.255.255.255',
  '0.0.0.0',
];
const HOSTS6 = ['fd00::1', 'fd00::2', 'fd00::1:7', '2001:db8::9', 'fe80::1', 'ff02::1', '::', 'fd00:0:0:1::5'];
const PORTS = [0, 1, 53, 80, 443, 4789, 6081, 7471, 40_000, 65_535];
const MACS = ['02:00:00:00:00:01', '02:00:00:00:00:02', 'aa:bb:cc:dd:ee:ff', 'ff:ff:ff:ff:ff:ff', '33:33:00:00:00:01'];
const FLAGS = ['S', 'SA', 'A', 'PA', 'FA', 'R', 'RA', 'FPA', 'SEC'];
const TPIDS = [EtherType.Vlan, EtherType.ServiceVlan, EtherType.OldServiceVlan];
/** Values at which lengths, offsets and types turn. */
const EDGES = [0, 1, 2, 4, 5, 7, 8, 19, 20, 39, 40, 63, 64, 127, 128, 255, 256, 0x7fff, 0x8000, 0xfff8, 0xffff];
const ETHER_TYPES = [0x0800, 0x0806, 0x86dd, 0x8100, 0x88a8, 0x9100, 0x8847, 0x8864, 0x6558, 0, 46, 1500, 1536, 0xffff];
const PROTOCOLS = [0, 1, 2, 4, 6, 17, 41, 43, 44, 47, 50, 51, 58, 59, 60, 132, 135, 255];

function link(rng: Random): { srcMac: string; dstMac: string; vlan: VlanTag[] } {
  const tags = rng.oneIn(4) ? 1 + rng.below(2) : 0;
  return {
    srcMac: rng.pick(MACS.slice(0, 3)),
    dstMac: rng.pick(MACS),
    vlan: Array.from({ length: tags }, () => ({
      tpid: rng.pick(TPIDS),
      priority: rng.below(8),
      dropEligible: rng.oneIn(2),
      vid: rng.below(4096),
    })),
  };
}
function fields4(rng: Random): Ip4Fields {
  return {
    ...link(rng),
    src: rng.pick(HOSTS4),
    dst: rng.pick(HOSTS4),
    tos: rng.below(256),
    id: rng.below(8),
    ttl: rng.pick([0, 1, 2, 64, 255]),
    df: rng.oneIn(4),
    ipOptions: rng.oneIn(5) ? rng.octets(4 * rng.below(11)) : new Uint8Array(0),
  };
}
function fields6(rng: Random): Ip6Fields {
  return {
    ...link(rng),
    src: rng.pick(HOSTS6),
    dst: rng.pick(HOSTS6),
    trafficClass: rng.below(256),
    flowLabel: rng.below(0x100000),
    hopLimit: rng.pick([0, 1, 2, 64, 255]),
    extensions: rng.oneIn(3) ? extensions(rng) : [],
  };
}
function extensions(rng: Random): Extension[] {
  const kinds = [NextHeader.HopByHop, NextHeader.DestinationOptions, NextHeader.Routing, NextHeader.Fragment];
  return Array.from({ length: 1 + rng.below(4) }, () => {
    const type = rng.pick(kinds);
    return type === NextHeader.Fragment
      ? { type, fragment: { offset: 0, more: false, id: rng.below(4) } } // atomic (RFC 6946)
      : { type, content: rng.octets(rng.below(24)) };
  });
}
function payload(rng: Random): Uint8Array {
  return rng.octets(rng.pick([0, 1, 8, 26, 64, 200]));
}
const ports = (rng: Random) => ({ sport: rng.pick(PORTS), dport: rng.pick(PORTS), payload: payload(rng) });
function tcpFields(rng: Random) {
  const options: TcpOption[] = [];
  if (rng.oneIn(2)) options.push(maximumSegmentSize(1460));
  if (rng.oneIn(2)) options.push(windowScale(rng.below(16)));
  if (rng.oneIn(4)) options.push({ kind: rng.below(250) + 4, data: rng.octets(rng.below(16)) });
  const [seq, ack] = [rng.below(4) * 1000, rng.below(4) * 1000];
  return { ...ports(rng), flags: rng.pick(FLAGS), seq, ack, window: rng.below(65_536), options };
}

const MAKERS: readonly ((rng: Random, depth: number) => Uint8Array)[] = [
  (rng) => tcp4({ ...fields4(rng), ...tcpFields(rng) }),
  (rng) => tcp6({ ...fields6(rng), ...tcpFields(rng) }),
  (rng) => udp4({ ...fields4(rng), ...ports(rng) }),
  (rng) => udp6({ ...fields6(rng), ...ports(rng) }),
  (rng) => sctp4({ ...fields4(rng), sport: rng.pick(PORTS), dport: rng.pick(PORTS), tag: rng.next() }),
  (rng) => sctp6({ ...fields6(rng), sport: rng.pick(PORTS), dport: rng.pick(PORTS), tag: rng.next() }),
  (rng) =>
    icmp4({
      ...fields4(rng),
      type: rng.pick([0, 8, 9, 10, 13, 14, 15, 16, 17, 18]),
      id: rng.below(4),
      payload: payload(rng),
    }),
  (rng) => icmp6({ ...fields6(rng), type: rng.pick([128, 129]), id: rng.below(4), payload: payload(rng) }),
  (rng, depth) =>
    icmp4({
      ...fields4(rng),
      type: rng.pick([3, 4, 5, 11, 12]),
      code: rng.below(16),
      rest: rng.pick([0, 1400]),
      payload: carriedPacket(anyIp(rng, depth, 4), rng.pick([20, 28, 48, 548])),
    }),
  (rng, depth) =>
    icmp6({
      ...fields6(rng),
      type: 1 + rng.below(4),
      code: rng.below(8),
      rest: rng.pick([0, 1280]),
      payload: carriedPacket(anyIp(rng, depth, 6), rng.pick([40, 48, 68, 1232])),
    }),
  (rng) => arp({ ...link(rng), operation: 1 + rng.below(2), senderIp: rng.pick(HOSTS4), targetIp: rng.pick(HOSTS4) }),
  (rng) => neighbourSolicitation({ ...fields6(rng), hopLimit: 255, target: rng.pick(HOSTS6) }),
  (rng) => neighbourAdvertisement({ ...fields6(rng), hopLimit: 255, target: rng.pick(HOSTS6) }),
  (rng) => {
    const options = rng.oneIn(2) ? [{ type: 1, data: rng.octets(6) }] : [];
    const [target, destination] = [words(rng.pick(HOSTS6)), words(rng.pick(HOSTS6))];
    const solicitation = { type: Icmp6Type.RouterSolicitation, options } as const;
    const redirect = { type: Icmp6Type.Redirect, target, destination, options } as const;
    const timers = { hopLimit: 64, flags: 0, routerLifetimeS: 1800, reachableTimeMs: 0, retransTimerMs: 0 };
    const advertisement = { type: Icmp6Type.RouterAdvertisement, ...timers, options } as const;
    return nd(rng.pick([solicitation, redirect, advertisement]), fields6(rng));
  },
  (rng) => {
    const message = new Uint8Array(200);
    const group = words(rng.pick(HOSTS6));
    const record = { type: 1 + rng.below(6), group, sources: rng.oneIn(2) ? [words('fd00::9')] : [] };
    const size = rng.oneIn(2)
      ? writeMld(message, 0, { version: 2, type: Icmp6Type.MulticastListenerReport2, records: [record] })
      : writeMld(message, 0, { version: 1, type: 130 + rng.below(3), maxResponseDelayMs: 1000, group });
    return sealed6(Protocol.Icmp6, message.slice(0, size), fields6(rng));
  },
  (rng) => {
    const message = new Uint8Array(200);
    const group = words(rng.pick(HOSTS4))[0];
    const size = rng.oneIn(2)
      ? writeIgmp(message, 0, { version: 2, type: IgmpType.Report2, maxResponse: 0, group })
      : writeIgmp(message, 0, { version: 3, type: IgmpType.Report3, records: [{ type: 4, group, sources: [1] }] });
    return ip4(Protocol.Igmp, message.slice(0, size), fields4(rng));
  },
  (rng) =>
    (rng.oneIn(2) ? ip4 : ip6)(rng.pick([Protocol.Esp, Protocol.Ah, 4, 41, 59, 89, 103, 112]), rng.octets(40), {}),
  (rng) =>
    rng.pick(
      fragments4(udp4({ ...fields4(rng), df: false, ...ports(rng), payload: rng.octets(120) }), 8 * (1 + rng.below(8))),
    ),
  (rng) =>
    rng.pick(
      fragments4(
        tcp4({ ...fields4(rng), df: false, ...tcpFields(rng), payload: rng.octets(120) }),
        8 * (1 + rng.below(8)),
      ),
    ),
  (rng) =>
    rng.pick(
      fragments6(
        udp6({ ...fields6(rng), extensions: [], ...ports(rng), payload: rng.octets(120) }),
        8 * (1 + rng.below(8)),
        rng.below(8),
      ),
    ),
  (rng, depth) => vxlan4(randomFrame(rng, depth + 1), { vni: rng.below(4), outer: fields4(rng) }),
  (rng, depth) => {
    const option = { optionClass: rng.below(65_536), type: rng.below(256), data: rng.octets(4 * rng.below(5)) };
    const critical = { ...option, type: option.type | GENEVE_CRITICAL };
    const options = rng.pick([[], [option], [option, critical]]);
    const header = { protocolType: EtherType.TransparentEthernet, vni: rng.below(4), options };
    return geneve4(randomFrame(rng, depth + 1), { header, outer: fields4(rng) });
  },
  (rng, depth) => gre4(randomFrame(rng, depth + 1), { key: rng.oneIn(2) ? rng.below(4) : null, outer: fields4(rng) }),
  (rng) => ethernet(rng.pick([0x8847, 0x8863, 0x8864, 0x88cc, 46, 0x1234]), rng.octets(46), link(rng)),
];
const IP4_MAKERS = [0, 2, 4, 6];
const IP6_MAKERS = [1, 3, 5, 7];
const TUNNELS_FROM = MAKERS.length - 4;
const DEPTH_MAX = 2;

const anyIp = (rng: Random, depth: number, family: 4 | 6): Uint8Array =>
  MAKERS[rng.pick(family === 4 ? IP4_MAKERS : IP6_MAKERS)]!(rng, depth + 1);

/** A sound frame of any kind; tunnels hold such frames in turn, at most DEPTH_MAX deep. */
export function randomFrame(rng: Random, depth = 0): Uint8Array {
  let maker = rng.below(MAKERS.length);
  if (depth >= DEPTH_MAX && maker >= TUNNELS_FROM) maker = rng.below(TUNNELS_FROM);
  return MAKERS[maker]!(rng, depth);
}

/** Where the headers of a frame stand, as far as it still has them; −1 for what is not there. */
interface Places {
  l3: number;
  family: number;
  /** Behind the IPv4 header, or behind the extension chain. */
  l4: number;
  protocol: number;
  extensions: number[];
}
function placesOf(frame: Uint8Array): Places {
  const none = { l3: -1, family: 0, l4: -1, protocol: -1, extensions: [] };
  if (frame.length < 34) return none;
  const l3 = linkSize(frame);
  const type = read16(frame, l3 - 2);
  if (type === EtherType.Ip4 && frame.length - l3 >= 20)
    return { l3, family: 4, l4: l3 + (frame[l3]! & 0xf) * 4, protocol: frame[l3 + 9]!, extensions: [] };
  if (type !== EtherType.Ip6 || frame.length - l3 < 40) return none;
  const chain: number[] = [];
  let protocol = frame[l3 + 6]!;
  let at = l3 + 40;
  while (isExtension(protocol) && at + 8 <= frame.length) {
    chain.push(at);
    const size = protocol === NextHeader.Fragment ? 8 : (frame[at + 1]! + 1) * 8;
    protocol = frame[at]!;
    at += size;
  }
  return { l3, family: 6, l4: at, protocol, extensions: chain };
}

const poke = (frame: Uint8Array, at: number, value: number): void => {
  if (at >= 0 && at < frame.length) frame[at] = value;
};
const poke16 = (frame: Uint8Array, at: number, value: number): void => {
  if (at >= 0 && at + 1 < frame.length) write16(frame, at, value);
};

/** Removes `remove` octets at `at` and puts `insert` there. */
const replace = (octets: Uint8Array, at: number, remove: number, insert: Uint8Array): Uint8Array =>
  concat(octets.subarray(0, at), insert, octets.subarray(Math.min(octets.length, at + remove)));

/** Changes that need to know nothing: for MessagePack and batch framing as well. Never returns the octets it was given. */
export function mutateOctets(rng: Random, octets: Uint8Array): Uint8Array {
  const copy = octets.slice();
  const at = rng.below(copy.length + 1);
  switch (rng.below(8)) {
    case 0:
      for (let flips = 1 + rng.below(4); flips > 0 && copy.length > 0; flips--) {
        const bit = rng.below(copy.length * 8);
        copy[bit >>> 3] = copy[bit >>> 3]! ^ (1 << (bit & 7));
      }
      return copy;
    case 1:
      poke(copy, at, rng.pick(EDGES));
      return copy;
    case 2:
      poke16(copy, at, rng.pick(EDGES));
      return copy;
    case 3:
      return copy.slice(0, at);
    case 4:
      return replace(copy, at, 0, rng.octets(1 + rng.below(16)));
    case 5:
      return replace(copy, at, 1 + rng.below(16), new Uint8Array(0));
    case 6: // a stretch twice
      return replace(copy, at, 0, copy.slice(at, at + 1 + rng.below(40)));
    default:
      copy.set(rng.octets(Math.min(copy.length - at, 1 + rng.below(8))), at);
      return copy;
  }
}

type FieldEdit = (rng: Random, frame: Uint8Array, places: Places) => Uint8Array;

const linkEdits: readonly FieldEdit[] = [
  (rng, frame) => {
    poke16(frame, frame.length < 34 ? 12 : linkSize(frame) - 2, rng.pick(ETHER_TYPES));
    return frame;
  },
  // One more tag: a third makes the frame non-IP, a cut one truncated.
  (rng, frame) => {
    const tag = new Uint8Array(4);
    write16(tag, 0, rng.pick(TPIDS));
    write16(tag, 2, rng.below(65_536));
    return frame.length < 12 ? frame : replace(frame, 12, 0, tag);
  },
  (_, frame) => (frame.length > 18 && linkSize(frame) > 14 ? replace(frame, 12, 4, new Uint8Array(0)) : frame),
  (rng, frame) => {
    poke(frame, 0, rng.below(256));
    return frame;
  },
];

const ip4Edits: readonly FieldEdit[] = [
  (rng, frame, { l3 }) => {
    poke(frame, l3, rng.oneIn(2) ? 0x40 | rng.below(16) : rng.below(256));
    return frame;
  },
  (rng, frame, { l3 }) => {
    const total = read16(frame, l3 + 2);
    poke16(frame, l3 + 2, rng.oneIn(2) ? total + rng.below(17) - 8 : rng.pick(EDGES));
    return frame;
  },
  // Fragment fields: identification from the small pool, so that pieces meet.
  (rng, frame, { l3 }) => {
    poke16(frame, l3 + 4, rng.below(8));
    poke16(frame, l3 + 6, (rng.oneIn(2) ? 0x2000 : 0) | (rng.oneIn(4) ? rng.below(0x2000) : rng.below(20)));
    return frame;
  },
  (rng, frame, { l3 }) => {
    poke(frame, l3 + 9, rng.pick(PROTOCOLS));
    return frame;
  },
  // Options put in: header length and total length follow.
  (rng, frame, { l3 }) => {
    const room = 15 - (frame[l3]! & 0xf);
    if (room < 1) return frame;
    const size = 4 * (1 + rng.below(room));
    frame[l3] = frame[l3]! + size / 4;
    write16(frame, l3 + 2, (read16(frame, l3 + 2) + size) & 0xffff);
    return replace(frame, Math.min(frame.length, l3 + 20), 0, rng.octets(size));
  },
  (rng, frame, { l3 }) => {
    poke16(frame, l3 + 10, rng.oneIn(2) ? 0 : rng.below(65_536));
    return frame;
  },
];

const ip6Edits: readonly FieldEdit[] = [
  (rng, frame, { l3 }) => {
    poke(frame, l3, rng.below(256));
    return frame;
  },
  (rng, frame, { l3 }) => {
    const length = read16(frame, l3 + 4);
    poke16(frame, l3 + 4, rng.oneIn(2) ? length + rng.below(17) - 8 : rng.pick(EDGES));
    return frame;
  },
  (rng, frame, { l3, extensions }) => {
    poke(frame, rng.pick([l3 + 6, ...extensions]), rng.pick(PROTOCOLS));
    return frame;
  },
  (rng, frame, { extensions }) => {
    if (extensions.length > 0) poke(frame, rng.pick(extensions) + 1, rng.pick([0, 1, 2, 31, 255]));
    return frame;
  },
  // An extension header put in front of what is there, the payload length grown with it.
  (rng, frame, { l3 }) => {
    const type = rng.pick([
      NextHeader.HopByHop,
      NextHeader.Routing,
      NextHeader.Fragment,
      NextHeader.DestinationOptions,
    ]);
    const header = rng.octets(8 * (1 + rng.below(3)));
    header[0] = frame[l3 + 6]!;
    header[1] = type === NextHeader.Fragment ? 0 : header.length / 8 - 1;
    if (type === NextHeader.Fragment) write16(header, 2, (rng.below(20) << 3) | rng.below(2));
    frame[l3 + 6] = type;
    write16(frame, l3 + 4, (read16(frame, l3 + 4) + header.length) & 0xffff);
    return replace(frame, l3 + 40, 0, header);
  },
];

/** Of the transport header, and of the tunnel header behind a UDP or GRE one. */
const transportEdits: readonly FieldEdit[] = [
  (rng, frame, { l4 }) => {
    poke16(frame, l4 + rng.pick([0, 2]), rng.pick(PORTS));
    return frame;
  },
  (rng, frame, { l4 }) => {
    poke(frame, l4 + 12, rng.below(256)); // TCP's data offset
    return frame;
  },
  (rng, frame, { l4 }) => {
    poke(frame, l4 + 13, rng.below(256)); // TCP's flags
    return frame;
  },
  (rng, frame, { l4 }) => {
    poke(frame, l4 + 20 + rng.below(20), rng.pick(EDGES) & 0xff); // TCP's options, or what an ICMP error carries
    return frame;
  },
  (rng, frame, { l4 }) => {
    poke16(frame, l4 + 4, rng.pick(EDGES)); // UDP's length
    return frame;
  },
  (rng, frame, { l4 }) => {
    poke16(frame, l4, rng.below(256) * 256 + rng.below(16)); // ICMP's type and code
    return frame;
  },
  (rng, frame, { l4 }) => {
    poke(frame, l4 + 8 + rng.below(12), rng.oneIn(2) ? rng.below(256) : rng.pick(EDGES) & 0xff); // VXLAN's, Geneve's header
    return frame;
  },
  (rng, frame, { l4 }) => {
    poke16(frame, l4, rng.below(65_536)); // GRE's flags
    return frame;
  },
  // The frame inside a tunnel, mutated by itself.
  (rng, frame, { l4, protocol }) => {
    const inner = protocol === Protocol.Udp ? l4 + 16 : protocol === Protocol.Gre ? l4 + 8 : frame.length;
    return inner >= frame.length ? frame : concat(frame.subarray(0, inner), mutateFrame(rng, frame.subarray(inner)));
  },
];

function editField(rng: Random, frame: Uint8Array): Uint8Array {
  const places = placesOf(frame);
  const copy = frame.slice();
  const edits = [linkEdits];
  if (places.family !== 0) edits.push(places.family === 4 ? ip4Edits : ip6Edits, transportEdits);
  return rng.pick(rng.pick(edits))(rng, copy, places);
}

/** Makes the checksums right again where headers allow it, so that what lies behind them is reached. */
function repair(frame: Uint8Array): void {
  const { l3, family, l4, protocol } = placesOf(frame);
  if (family === 4) {
    const size = (frame[l3]! & 0xf) * 4;
    if (size < 20 || l3 + size > frame.length) return;
    write16(frame, l3 + 10, 0);
    write16(frame, l3 + 10, internetChecksum(frame, l3, size));
  }
  const needs = { [Protocol.Tcp]: 20, [Protocol.Udp]: 8, [Protocol.Icmp]: 8, [Protocol.Icmp6]: 8 }[protocol];
  if (needs === undefined || family === 0 || l4 + needs > frame.length) return;
  setTransportChecksum(frame, l3 + (family === 4 ? 12 : 8), family as 4 | 6, protocol, l4, frame.length - l4);
}

/** One to four changes: field-aware ones, blind ones, or the head of this frame on the tail of another. */
export function mutateFrame(rng: Random, frame: Uint8Array): Uint8Array {
  let out: Uint8Array = frame.slice();
  for (let changes = 1 + rng.below(4); changes > 0; changes--) {
    const kind = rng.below(10);
    if (kind < 6) out = editField(rng, out);
    else if (kind < 9) out = mutateOctets(rng, out);
    else {
      const other = randomFrame(rng, DEPTH_MAX);
      out = concat(out.subarray(0, rng.below(out.length + 1)), other.subarray(rng.below(other.length)));
    }
  }
  if (rng.oneIn(2)) repair(out);
  return out;
}
