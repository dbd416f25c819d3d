/** What an ICMP or ICMPv6 error carries: the head of the packet that it is about (RFC 792, RFC 4443 section 2.4). */
import { Kind, type PacketBatch } from '../batch/packet-batch.js';
import { E, Status } from '../conntrack/entry.js';
import { expired } from '../conntrack/flow-accounting.js';
import type { ConnectionTable } from '../conntrack/table.js';

const carried = new Uint32Array(8);
const EXTENSIONS = new Set([0, 43, 60, 44]);

/** The live connection whose packet the error carries (entry × 2 + direction of the carried packet), −1 = none. */
export function carriedConnection(batch: PacketBatch, row: number, table: ConnectionTable): number {
  const { data } = batch;
  const start = batch.offset[row]!;
  const end = start + batch.length[row]!;
  let at = start + batch.l4Offset[row]! + 8;
  carried.fill(0);
  let protocol: number;
  const u16 = (offset: number) => (data[offset]! << 8) | data[offset + 1]!;
  const u32 = (offset: number) => ((u16(offset) << 16) | u16(offset + 2)) >>> 0;
  let family: number;
  if (batch.kind[row] === Kind.Ip4) {
    family = 4;
    if (at + 20 > end || data[at]! >>> 4 !== 4) return -1;
    const ihl = (data[at]! & 0xf) * 4;
    if (ihl < 20 || (u16(at + 6) & 0x1fff) !== 0) return -1;
    protocol = data[at + 9]!;
    carried[0] = u32(at + 12);
    carried[4] = u32(at + 16);
    at += ihl;
  } else {
    family = 6;
    if (at + 40 > end || data[at]! >>> 4 !== 6) return -1;
    protocol = data[at + 6]!;
    for (let i = 0; i < 8; i++) carried[i] = u32(at + 8 + i * 4);
    at += 40;
    while (EXTENSIONS.has(protocol)) {
      if (at + 8 > end) return -1;
      if (protocol === 44 && (u16(at + 2) & 0xfff8) !== 0) return -1;
      const size = protocol === 44 ? 8 : (data[at + 1]! + 1) * 8;
      protocol = data[at]!;
      at += size;
    }
  }
  let ports = 0;
  let discriminator = 0;
  let ways = 3;
  if (protocol === 1 || protocol === 58) {
    if (at + 8 > end) return -1;
    const type = data[at]!;
    discriminator = u16(at + 4);
    const request =
      protocol === 58
        ? type === 129
          ? 128
          : type
        : type === 0
          ? 8
          : type === 14
            ? 13
            : type === 16
              ? 15
              : type === 18
                ? 17
                : type;
    ways = request === type ? 1 : 2;
    ports = ways === 1 ? ((request << 8) << 16) >>> 0 : request << 8;
  } else if (protocol === 6 || protocol === 17 || protocol === 132) {
    if (at + 4 > end) return -1;
    ports = (u16(at) | (u16(at + 2) << 16)) >>> 0;
  }
  const key = (protocol | (family << 8) | (batch.vlan[row]! << 16)) >>> 0;
  const found = table.find(batch.hash[row]!, carried, 0, ports, key, discriminator, ways);
  if (found < 0) return -1;
  const word = table.at(found >> 1);
  if ((table.words[word + E.status]! & Status.Denied) !== 0) return -1;
  return expired(table.words, word, batch.timeNs[row * 2]!, batch.timeNs[row * 2 + 1]!) ? -1 : found;
}
