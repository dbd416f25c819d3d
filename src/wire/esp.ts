/** ESP (RFC 4303 section 2): only SPI and sequence number are in clear. */
import { Fault } from './fault.js';
import { read32, write32 } from './octets.js';

export const ESP_HEADER_SIZE = 8;
const SPI = 0;
const SEQUENCE = 4;

export interface EspHeader {
  spi: number;
  sequence: number;
}

export const checkEsp = (packet: Uint8Array, offset: number, end = packet.length): Fault =>
  end - offset < ESP_HEADER_SIZE ? Fault.Truncated : Fault.None;

export const readEsp = (packet: Uint8Array, offset: number): EspHeader => ({
  spi: read32(packet, offset + SPI),
  sequence: read32(packet, offset + SEQUENCE),
});

export function writeEsp(out: Uint8Array, offset: number, header: EspHeader): number {
  write32(out, offset + SPI, header.spi);
  write32(out, offset + SEQUENCE, header.sequence);
  return ESP_HEADER_SIZE;
}
