/**
 * Symmetric hash of a 5-tuple: the same for both directions of a connection. Reference of native/tuple_hash.cc.
 * CRC-32C over 32-bit words (wire/crc32c.ts, seed TUPLE_HASH_SEED, no final inversion), in this order: the lower endpoint's
 * address words, the higher's, the lower's port | the higher's << 16, the protocol; then one multiply-shift, since CRC is
 * linear. Endpoints are ordered by address words, then port. IPv4 feeds one word an address, IPv6 four.
 */
import { crc32cWord } from '../wire/crc32c.js';

export const TUPLE_HASH_SEED = 0x9e3779b9;

export function tupleHash(
  address: Uint32Array,
  at: number,
  family: 4 | 6,
  protocol: number,
  srcPort: number,
  dstPort: number,
): number {
  const words = family === 6 ? 4 : 1;
  let order = 0;
  for (let i = 0; i < words && order === 0; i++) order = address[at + i]! - address[at + 4 + i]!;
  if (order === 0) order = srcPort - dstPort;
  const low = order <= 0 ? at : at + 4;
  const high = order <= 0 ? at + 4 : at;
  let crc = TUPLE_HASH_SEED;
  for (let i = 0; i < words; i++) crc = crc32cWord(crc, address[low + i]!);
  for (let i = 0; i < words; i++) crc = crc32cWord(crc, address[high + i]!);
  crc = crc32cWord(crc, order <= 0 ? (srcPort | (dstPort << 16)) >>> 0 : (dstPort | (srcPort << 16)) >>> 0);
  crc = crc32cWord(crc, protocol);
  crc = Math.imul(crc ^ (crc >>> 16), 0x85ebca6b);
  return (crc ^ (crc >>> 13)) >>> 0;
}

/** The shard that owns a hash, of `shards`: by its high bits, as tables index by the low ones. */
export const shardOf = (hash: number, shards: number): number => Math.floor(((hash >>> 16) * shards) / 65536);
