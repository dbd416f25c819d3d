/** Unsigned big-endian integers in octets. Network order is read and written here and nowhere outside wire/. */
export const read16 = (octets: Uint8Array, at: number): number => (octets[at]! << 8) | octets[at + 1]!;
export const read24 = (octets: Uint8Array, at: number): number =>
  (octets[at]! << 16) | (octets[at + 1]! << 8) | octets[at + 2]!;
export const read32 = (octets: Uint8Array, at: number): number =>
  ((octets[at]! << 24) | (octets[at + 1]! << 16) | (octets[at + 2]! << 8) | octets[at + 3]!) >>> 0;

export function write16(octets: Uint8Array, at: number, value: number): void {
  octets[at] = value >>> 8;
  octets[at + 1] = value;
}
export function write24(octets: Uint8Array, at: number, value: number): void {
  octets[at] = value >>> 16;
  octets[at + 1] = value >>> 8;
  octets[at + 2] = value;
}
export function write32(octets: Uint8Array, at: number, value: number): void {
  octets[at] = value >>> 24;
  octets[at + 1] = value >>> 16;
  octets[at + 2] = value >>> 8;
  octets[at + 3] = value;
}

/** An IPv6 address as four host-order words. */
export type Ip6Words = readonly [number, number, number, number];
export const readIp6 = (octets: Uint8Array, at: number): Ip6Words => [
  read32(octets, at),
  read32(octets, at + 4),
  read32(octets, at + 8),
  read32(octets, at + 12),
];
export function writeIp6(octets: Uint8Array, at: number, words: ArrayLike<number>): void {
  for (let i = 0; i < 4; i++) write32(octets, at + i * 4, words[i]!);
}
