/**
 * pcapng files of packets as they leave (draft-ietf-opsawg-pcapng): one section, one interface per out-port in order of first
 * use, named after it; times in ns; an Enhanced Packet Block per packet.
 */
import { BYTE_ORDER_MAGIC, ENHANCED_PACKET, INTERFACE_DESCRIPTION, SECTION_HEADER } from './pcapng.js';
import type { Output } from './output.js';

const OPTION_IF_NAME = 2,
  OPTION_TSRESOL = 9,
  OPTION_USER_APPLICATION = 4;
const NANOSECONDS = 9;
const ENHANCED_PACKET_SIZE = 32;
const padded = (size: number): number => (size + 3) & ~3;
const encoder = new TextEncoder();

export class PcapngWriter {
  private readonly interfaces = new Map<number, number>();

  /** `nameOf`: an out-port's name, null where it has none. */
  constructor(
    private readonly output: Output,
    private readonly nameOf: (port: number) => string | null,
  ) {
    const application = encoder.encode('seine');
    const options = 4 + padded(application.length) + 4;
    const size = 28 + options;
    output.reserve(size);
    this.word(SECTION_HEADER);
    this.word(size);
    this.word(BYTE_ORDER_MAGIC);
    this.word(1); // version 1.0: u16 major, u16 minor
    this.word(0xffffffff);
    this.word(0xffffffff); // section length: not given
    this.option(OPTION_USER_APPLICATION, application);
    this.word(0);
    this.word(size);
  }

  /** One packet out of `port`: octets from … from + captured − 1 of `data`, `original` octets on the wire. */
  packet(
    port: number,
    timeLow: number,
    timeHigh: number,
    data: Uint8Array,
    from: number,
    captured: number,
    original: number,
  ): void {
    const id = this.interfaces.get(port) ?? this.describe(port);
    const size = ENHANCED_PACKET_SIZE + padded(captured);
    const { output } = this;
    output.reserve(size);
    this.word(ENHANCED_PACKET);
    this.word(size);
    this.word(id);
    this.word(timeHigh);
    this.word(timeLow);
    this.word(captured);
    this.word(original);
    output.octets.set(data.subarray(from, from + captured), output.at);
    output.octets.fill(0, output.at + captured, output.at + padded(captured));
    output.at += padded(captured);
    this.word(size);
  }

  private describe(port: number): number {
    const id = this.interfaces.size;
    this.interfaces.set(port, id);
    const name = encoder.encode(this.nameOf(port) ?? String(port));
    const size = 20 + 4 + padded(name.length) + 8 + 4;
    this.output.reserve(size);
    this.word(INTERFACE_DESCRIPTION);
    this.word(size);
    this.word(1); // link type Ethernet, reserved 0
    this.word(0); // no snap length
    this.option(OPTION_IF_NAME, name);
    this.option(OPTION_TSRESOL, Uint8Array.of(NANOSECONDS));
    this.word(0);
    this.word(size);
    return id;
  }

  private option(code: number, value: Uint8Array): void {
    const { output } = this;
    this.word(code | (value.length << 16));
    output.octets.fill(0, output.at, output.at + padded(value.length));
    output.octets.set(value, output.at);
    output.at += padded(value.length);
  }
  /** Little-endian. */
  private word(value: number): void {
    const { octets, at } = this.output;
    octets[at] = value & 0xff;
    octets[at + 1] = (value >>> 8) & 0xff;
    octets[at + 2] = (value >>> 16) & 0xff;
    octets[at + 3] = value >>> 24;
    this.output.at = at + 4;
  }
}
