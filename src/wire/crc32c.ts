/** CRC-32C (Castagnoli; RFC 3720 appendix B.4): reflected, initial and final value all ones. "123456789" → e3069283. */
export const CRC32C_TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let crc = index;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) !== 0 ? 0x82f63b78 : 0);
  return crc >>> 0;
});

export function crc32c(octets: Uint8Array, offset: number, length: number): number {
  let crc = 0xffffffff;
  for (let i = offset; i < offset + length; i++) crc = (crc >>> 8) ^ CRC32C_TABLE[(crc ^ octets[i]!) & 0xff]!;
  return ~crc >>> 0;
}

/** One 32-bit word into a running CRC, low octet first: what SSE4.2's crc32 instruction does with a dword. */
export function crc32cWord(crc: number, word: number): number {
  let c = (crc ^ word) >>> 0;
  c = (c >>> 8) ^ CRC32C_TABLE[c & 0xff]!;
  c = (c >>> 8) ^ CRC32C_TABLE[c & 0xff]!;
  c = (c >>> 8) ^ CRC32C_TABLE[c & 0xff]!;
  c = (c >>> 8) ^ CRC32C_TABLE[c & 0xff]!;
  return c >>> 0;
}
