/**
 * SpoofGuard: what comes from a pod must bear its addresses, in ARP and Neighbour Discovery payloads too. Requests of pods
 * for the gateway, for pods and for other nodes' podCIDRs are answered here (RFC 826, RFC 4861 section 7.2.4), as Antrea
 * does; other group frames are flooded. MACs are checked only where they are known.
 */
import { DropReason, Port, Verdict } from '../../batch/drop-reason.js';
import { Kind, type PacketBatch, RowFlag } from '../../batch/packet-batch.js';
import { transportChecksum } from '../../wire/checksum.js';
import { PortKind, Route } from '../forwarding.js';
import type { Shard } from '../shard.js';
import { flood } from './output.js';

/** Antrea's MAC of everything behind the tunnel. */
const TUNNEL_MAC = [0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
const ARP_SIZE = 28;
const NEIGHBOUR_SOLICITATION = 135,
  NEIGHBOUR_ADVERTISEMENT = 136;

export const name = 'SpoofGuard';
export function process(batch: PacketBatch, shard: Shard): void {
  if (shard.metering) {
    meterNonIp(batch);
    return;
  }
  const { live, liveCount, flags, inPort, kind } = batch;
  for (let i = 0; i < liveCount; i++) {
    const row = live[i]!;
    const fromPod = shard.forwarding.portKind[inPort[row]!] === PortKind.Pod;
    if ((flags[row]! & RowFlag.Arp) !== 0) arp(batch, shard, row, fromPod);
    else if (fromPod && !bearsOwnAddress(batch, shard, row)) batch.dropReason[row] = DropReason.Spoofed;
    else if (kind[row] === Kind.Ip6 && (flags[row]! & RowFlag.NeighbourDiscovery) !== 0)
      neighbour(batch, shard, row, fromPod);
  }
}

/** Metering: what is not IP passes as it is. */
function meterNonIp(batch: PacketBatch): void {
  for (let i = 0; i < batch.liveCount; i++) {
    const row = batch.live[i]!;
    if (batch.kind[row] !== Kind.NonIp) continue;
    batch.outPort[row] = (batch.flags[row]! & RowFlag.GroupDestination) !== 0 ? Port.Flood : Port.Local;
    batch.verdict[row] = Verdict.Forward;
  }
}

function macMatches(batch: PacketBatch, shard: Shard, row: number, at: number): boolean {
  const mac = shard.forwarding.portMac.get(batch.inPort[row]!);
  if (mac === undefined || mac.every((octet, i) => batch.data[at + i] === octet)) return true;
  // A capture of a link type without MACs was given zeros.
  return shard.settings.replay && mac.every((_, i) => batch.data[at + i] === 0);
}

function bearsOwnAddress(batch: PacketBatch, shard: Shard, row: number): boolean {
  const { address, kind, offset } = batch;
  if (!macMatches(batch, shard, row, offset[row]! + 6)) return false;
  const family = kind[row] === Kind.Ip6 ? 6 : 4;
  if (shard.forwarding.ownerPort(address, row * 8, family) === batch.inPort[row]) return true;
  // :: and fe80::/10 are what Neighbour Discovery and MLD speak with.
  if (family !== 6 || (batch.flags[row]! & RowFlag.NeighbourDiscovery) === 0) return false;
  const first = address[row * 8]!;
  const unspecified =
    first === 0 && address[row * 8 + 1] === 0 && address[row * 8 + 2] === 0 && address[row * 8 + 3] === 0;
  return unspecified || first >>> 22 === 0xfe80 >>> 6;
}

const words = new Uint32Array(8);
const u32 = (data: Uint8Array, at: number): number =>
  ((data[at]! << 24) | (data[at + 1]! << 16) | (data[at + 2]! << 8) | data[at + 3]!) >>> 0;

/** The MAC with which requests for the address at words[0…3] are answered; null: unknown, to be flooded. */
function macOf(shard: Shard, family: 4 | 6): readonly number[] | null {
  const route = shard.forwarding.route(words, 0, family);
  switch (route >>> 24) {
    case Route.GatewayAddress:
      return shard.forwarding.data.gatewayMac;
    case Route.Tunnel:
      return TUNNEL_MAC;
    case Route.LocalPod:
      return shard.forwarding.portMac.get(route & 0xffffff) ?? null;
    default:
      return null;
  }
}

function arp(batch: PacketBatch, shard: Shard, row: number, fromPod: boolean): void {
  const { data } = batch;
  const start = batch.offset[row]!;
  const at = start + batch.l3Offset[row]!;
  const end = start + batch.length[row]!;
  const ethernetIp4 = end - at >= ARP_SIZE && u32(data, at) === 0x00010800 && data[at + 4] === 6 && data[at + 5] === 4;
  if (!ethernetIp4) {
    batch.dropReason[row] = DropReason.ArpMalformed;
    return;
  }
  const operation = (data[at + 6]! << 8) | data[at + 7]!;
  words.fill(0);
  words[0] = u32(data, at + 14);
  if (fromPod) {
    // Sender protocol address 0 is a probe (RFC 5227).
    const owned = words[0] === 0 || shard.forwarding.ownerPort(words, 0, 4) === batch.inPort[row];
    if (!owned || !macMatches(batch, shard, row, start + 6) || !macMatches(batch, shard, row, at + 8)) {
      batch.dropReason[row] = DropReason.Spoofed;
      return;
    }
  }
  const target = u32(data, at + 24);
  const sender = words[0];
  words[0] = target;
  if (fromPod && operation === 1 && target !== sender) {
    const mac = macOf(shard, 4);
    if (mac !== null) {
      const frame = data.slice(start, at + ARP_SIZE);
      const body = at - start;
      frame.set(data.subarray(start + 6, start + 12), 0);
      frame.set(mac, 6);
      frame[body + 7] = 2;
      frame.set(mac, body + 8);
      frame.set(data.subarray(at + 24, at + 28), body + 14);
      frame.set(data.subarray(at + 8, at + 14), body + 18);
      frame.set(data.subarray(at + 14, at + 18), body + 24);
      consume(batch, row);
      shard.emitter.frame(batch, row, batch.inPort[row]!, frame, 'arp-reply');
      return;
    }
  }
  pass(batch, shard, row, 4);
}

function neighbour(batch: PacketBatch, shard: Shard, row: number, fromPod: boolean): void {
  const { data } = batch;
  const start = batch.offset[row]!;
  const at = start + batch.l4Offset[row]!;
  const end = Math.min(start + batch.length[row]!, start + batch.l3Offset[row]! + batch.ipLength[row]!);
  const type = batch.dstPort[row]! >>> 8;
  if (type !== NEIGHBOUR_SOLICITATION && type !== NEIGHBOUR_ADVERTISEMENT) {
    pass(batch, shard, row, 6);
    return;
  }
  // RFC 4861 7.1.1, 7.1.2: at least 24 octets, hop limit 255.
  if (end - at < 24 || batch.ttl[row] !== 255) {
    batch.dropReason[row] = DropReason.NdMalformed;
    return;
  }
  let option = at + 24;
  let linkLayer = -1;
  while (option + 8 <= end) {
    const size = data[option + 1]! * 8;
    if (size === 0 || option + size > end) {
      batch.dropReason[row] = DropReason.NdMalformed;
      return;
    }
    if (data[option] === (type === NEIGHBOUR_SOLICITATION ? 1 : 2)) linkLayer = option + 2;
    option += size;
  }
  for (let i = 0; i < 4; i++) words[i] = u32(data, at + 8 + i * 4);
  if (fromPod) {
    if (linkLayer >= 0 && !macMatches(batch, shard, row, linkLayer)) {
      batch.dropReason[row] = DropReason.Spoofed;
      return;
    }
    if (type === NEIGHBOUR_ADVERTISEMENT) {
      const linkLocal = words[0]! >>> 22 === 0xfe80 >>> 6;
      if (!linkLocal && shard.forwarding.ownerPort(words, 0, 6) !== batch.inPort[row]) {
        batch.dropReason[row] = DropReason.Spoofed;
        return;
      }
    }
  }
  const source = batch.address.subarray(row * 8, row * 8 + 4);
  const probing = source.every((word) => word === 0); // duplicate address detection: not for us to answer
  const mac = fromPod && type === NEIGHBOUR_SOLICITATION && !probing ? macOf(shard, 6) : null;
  if (mac === null) {
    pass(batch, shard, row, 6);
    return;
  }
  const l3 = batch.l3Offset[row]!;
  const frame = new Uint8Array(l3 + 40 + 32);
  frame.set(data.subarray(start, start + l3));
  frame.set(data.subarray(start + 6, start + 12), 0);
  frame.set(mac, 6);
  frame[l3] = 0x60;
  frame[l3 + 5] = 32;
  frame[l3 + 6] = 58;
  frame[l3 + 7] = 255;
  frame.set(data.subarray(at + 8, at + 24), l3 + 8);
  frame.set(data.subarray(start + l3 + 8, start + l3 + 24), l3 + 24);
  const body = l3 + 40;
  frame[body] = NEIGHBOUR_ADVERTISEMENT;
  frame[body + 4] = 0x60; // solicited, override
  frame.set(data.subarray(at + 8, at + 24), body + 8);
  frame[body + 24] = 2;
  frame[body + 25] = 1;
  frame.set(mac, body + 26);
  const checksum = transportChecksum(frame, l3 + 8, 6, 58, body, 32);
  frame[body + 2] = checksum >>> 8;
  frame[body + 3] = checksum & 0xff;
  consume(batch, row);
  shard.emitter.frame(batch, row, batch.inPort[row]!, frame, 'nd-reply');
}

function consume(batch: PacketBatch, row: number): void {
  batch.verdict[row] = Verdict.Consume;
  batch.outPort[row] = Port.Local;
}

/** To the pod that has the target where it is known, else to all. */
function pass(batch: PacketBatch, shard: Shard, row: number, family: 4 | 6): void {
  batch.verdict[row] = Verdict.Forward;
  const unicast = (batch.data[batch.offset[row]!]! & 1) === 0;
  let route = 0;
  if (unicast && family === 6) route = shard.forwarding.route(batch.address, row * 8 + 4, 6);
  else if (unicast) route = shard.forwarding.route(words, 0, 4);
  if (unicast && route >>> 24 === Route.LocalPod) batch.outPort[row] = route & 0xffffff;
  else if (unicast) batch.outPort[row] = Port.Gateway;
  else {
    batch.outPort[row] = Port.Flood;
    flood(batch, shard, row);
  }
}
