/** Internet checksum (RFC 1071), incremental update (RFC 1624) and pseudo headers. Reference of native/checksum.cc. */

/** One's complement sum of 16-bit big-endian words, not folded; an odd last octet is padded with zero. */
export function checksumAdd(octets: Uint8Array, offset: number, length: number, sum = 0): number {
  const end = offset + length;
  let at = offset;
  for (; at + 1 < end; at += 2) sum += (octets[at]! << 8) | octets[at + 1]!;
  if (at < end) sum += octets[at]! << 8;
  return sum;
}
/** Folds a sum to 16 bits. */
export function checksumFold(sum: number): number {
  while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
  return sum;
}
/** The checksum of `length` octets: the complement of their folded sum. 0 over octets that hold a right checksum. */
export const internetChecksum = (octets: Uint8Array, offset: number, length: number, initial = 0): number =>
  ~checksumFold(checksumAdd(octets, offset, length, initial)) & 0xffff;

/** RFC 1624 equation 3: the checksum after one 16-bit word changes. */
export const updateChecksum16 = (checksum: number, before: number, after: number): number =>
  ~checksumFold((~checksum & 0xffff) + (~before & 0xffff) + after) & 0xffff;

/** Sum of the pseudo header (RFC 793 section 3.1, RFC 8200 section 8.1): addresses stand at `addressAt` of the frame. */
export function pseudoHeaderSum(
  frame: Uint8Array,
  addressAt: number,
  family: 4 | 6,
  protocol: number,
  length: number,
): number {
  return checksumAdd(frame, addressAt, family === 6 ? 32 : 8, protocol + (length >>> 16) + (length & 0xffff));
}

/** Checksum of a transport segment with its pseudo header; the segment's own checksum field counts as it stands. */
export const transportChecksum = (
  frame: Uint8Array,
  addressAt: number,
  family: 4 | 6,
  protocol: number,
  at: number,
  length: number,
): number => internetChecksum(frame, at, length, pseudoHeaderSum(frame, addressAt, family, protocol, length));
