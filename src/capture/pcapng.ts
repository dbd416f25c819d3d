/**
 * pcapng files (draft-ietf-opsawg-pcapng): sections of blocks, each section with its own byte order and interfaces. Read are
 * Section Header, Interface Description, Enhanced Packet, Simple Packet and the obsolete Packet Block; others are passed over.
 */
import { SeineError } from '../errors.js';
import { type LinkReader, linkReader, unsupportedLink } from './link.js';
import { interfaceWords, type RowWriter } from './rows.js';
import { CAPTURED_MAX_SIZE, Format, INTERFACE_WORDS, PACKET_OPTIONS_MAX_SIZE, Scan } from './scan.js';
import { fromBigInt, fromUnits, setTime } from './time-words.js';
import type { FormatReader, Window } from './window.js';

export const SECTION_HEADER = 0x0a0d0d0a;
export const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
export const INTERFACE_DESCRIPTION = 1,
  PACKET = 2,
  SIMPLE_PACKET = 3,
  ENHANCED_PACKET = 6;
/** if_tsresol: a power of ten, or of two with the top bit; if_tsoffset: seconds to add (section 4.2). */
const OPTION_END = 0,
  OPTION_TSRESOL = 9,
  OPTION_TSOFFSET = 14;

/** Octets of a section's or an interface's header block: far above what any program writes. */
const HEADER_BLOCK_MAX_SIZE = 512 * 1024;
/** In-ports are 16 bits, and the topmost have meanings of their own. */
const INTERFACES_MAX = 65_000;

interface Interface {
  link: LinkReader;
  snapLength: number;
  /** ns per unit where that is a whole number of at most 10^6, and no offset; 0: the long way. */
  factor: number;
  resolution: number;
  offsetSeconds: bigint;
}

export class PcapngReader implements FormatReader {
  private little = false;
  private interfaces: Interface[] = [];
  /** Their words for the scan of ordinary packets. */
  private interfaceWords = new Uint32Array(0);
  private wordsRoom = new Uint32Array(8 * INTERFACE_WORDS);

  constructor(private readonly path: string) {}

  scan(window: Window, writer: RowWriter): Scan {
    for (;;) {
      const stopped = writer.scan(window, Format.Pcapng, this.little, this.interfaceWords);
      if (stopped === Scan.Full) return stopped;
      const next = this.block(window, writer);
      if (next !== Scan.Other) return next;
    }
  }

  /** Deals with the one block at the window's start; Other: with the next one, too. */
  private block(window: Window, writer: RowWriter): Scan {
    const { view, start: at } = window;
    const there = window.end - at;
    if (there < 12) {
      window.want(12);
      return Scan.NeedMore;
    }
    const type = view.getUint32(at, this.little);
    // The type reads the same in both orders.
    if (type === SECTION_HEADER) this.readByteOrder(window, at, writer);
    const size = view.getUint32(at + 4, this.little);
    if (size < 12 || (size & 3) !== 0) {
      this.fail(window, writer, `a block of ${size} octets; blocks have a multiple of 4, at least 12`);
    }
    const isPacket = type === ENHANCED_PACKET || type === SIMPLE_PACKET || type === PACKET;
    if (!isPacket && type !== SECTION_HEADER && type !== INTERFACE_DESCRIPTION) {
      window.skip(size);
      return size > there ? Scan.NeedMore : Scan.Other;
    }
    const most = isPacket ? CAPTURED_MAX_SIZE + PACKET_OPTIONS_MAX_SIZE : HEADER_BLOCK_MAX_SIZE;
    if (size > most) this.fail(window, writer, `a block of ${size} octets (type ${type}), above ${most}`);
    if (size > there) {
      window.want(size);
      return Scan.NeedMore;
    }
    if (view.getUint32(at + size - 4, this.little) !== size) {
      this.fail(window, writer, 'the two lengths of a block differ');
    }
    if (isPacket) {
      const taken =
        type === SIMPLE_PACKET ? this.simple(window, at, size, writer) : this.timed(window, at, size, type, writer);
      if (!taken) return Scan.Full;
    } else {
      if (type === SECTION_HEADER) this.interfaces = [];
      else this.interface(window, at, size, writer);
      this.interfaceWords = this.wordsRoom.subarray(0, this.interfaces.length * INTERFACE_WORDS);
    }
    window.take(size);
    return Scan.Other;
  }

  private readByteOrder(window: Window, at: number, writer: RowWriter): void {
    const magic = window.view.getUint32(at + 8);
    if (magic === BYTE_ORDER_MAGIC) this.little = false;
    else if (magic === 0x4d3c2b1a) this.little = true;
    else this.fail(window, writer, `a section whose byte-order magic is ${magic.toString(16)}; 1a2b3c4d belongs there`);
  }

  private interface(window: Window, at: number, size: number, writer: RowWriter): void {
    const { view } = window;
    if (size < 20) this.fail(window, writer, `an interface description of ${size} octets; it has at least 20`);
    const linkType = view.getUint16(at + 8, this.little);
    const link = linkReader(linkType);
    if (link === null) this.fail(window, writer, `interface ${this.interfaces.length}: ${unsupportedLink(linkType)}`);
    if (this.interfaces.length >= INTERFACES_MAX) {
      this.fail(window, writer, `more than ${INTERFACES_MAX} interfaces in a section`);
    }
    let resolution = 6;
    let offsetSeconds = 0n;
    for (let option = at + 16; option + 4 <= at + size - 4; ) {
      const code = view.getUint16(option, this.little);
      const length = view.getUint16(option + 2, this.little);
      if (code === OPTION_END) break;
      if (option + 4 + length > at + size - 4) {
        this.fail(window, writer, `option ${code} of an interface passes its block's end`);
      }
      if (code === OPTION_TSRESOL && length === 1) resolution = view.getUint8(option + 4);
      if (code === OPTION_TSOFFSET && length === 8) offsetSeconds = view.getBigInt64(option + 4, this.little);
      option += 4 + ((length + 3) & ~3);
    }
    const whole = resolution >= 3 && resolution <= 9 && offsetSeconds === 0n;
    const factor = whole ? 10 ** (9 - resolution) : 0;
    const words = this.interfaces.length * INTERFACE_WORDS;
    if (words === this.wordsRoom.length) {
      const larger = new Uint32Array(words * 2);
      larger.set(this.wordsRoom);
      this.wordsRoom = larger;
    }
    this.wordsRoom.set(interfaceWords(link!, factor), words);
    this.interfaces.push({
      link: link!,
      snapLength: view.getUint32(at + 12, this.little),
      factor,
      resolution,
      offsetSeconds,
    });
  }

  /** Enhanced Packet Block (section 4.3) and Packet Block (appendix A), which differ in the interface's place. */
  private timed(window: Window, at: number, size: number, type: number, writer: RowWriter): boolean {
    const { view } = window;
    const { little } = this;
    if (size < 32) this.fail(window, writer, `a packet block of ${size} octets; it has at least 32`);
    const id = type === ENHANCED_PACKET ? view.getUint32(at + 8, little) : view.getUint16(at + 8, little);
    const from = this.interfaces[id];
    if (from === undefined) this.fail(window, writer, `it names interface ${id}, which the section does not describe`);
    const captured = view.getUint32(at + 20, little);
    if (captured > CAPTURED_MAX_SIZE || captured > size - 32) {
      this.fail(window, writer, `its captured length ${captured} passes its block's end or ${CAPTURED_MAX_SIZE}`);
    }
    timeOf(from!, view.getUint32(at + 12, little), view.getUint32(at + 16, little));
    return writer.row(at + 28, captured, view.getUint32(at + 24, little), id, from!.link);
  }

  /** Simple Packet Block (section 4.4): of interface 0, cut at its snap length, without a time: the clock's stands. */
  private simple(window: Window, at: number, size: number, writer: RowWriter): boolean {
    const from = this.interfaces[0];
    if (size < 16) this.fail(window, writer, `a simple packet block of ${size} octets; it has at least 16`);
    if (from === undefined) this.fail(window, writer, 'a packet comes before any interface description');
    const original = window.view.getUint32(at + 8, this.little);
    const cut = from!.snapLength === 0 ? original : Math.min(original, from!.snapLength);
    const captured = Math.min(cut, size - 16);
    if (captured > CAPTURED_MAX_SIZE)
      this.fail(window, writer, `its captured length ${captured} is above ${CAPTURED_MAX_SIZE}`);
    setTime(writer.latestLow, writer.latestHigh);
    return writer.row(at + 12, captured, original, 0, from!.link);
  }

  private fail(window: Window, writer: RowWriter, what: string): never {
    throw new SeineError(
      'SEINE_ERR_CAPTURE_INVALID',
      `${this.path}: packet ${writer.packets + 1} (octet ${window.fileOffset}): ${what}; the file is damaged here: cut it before this octet`,
    );
  }
}

/** Sets `time` to a block's timestamp in units of its interface's resolution. */
function timeOf(from: Interface, high: number, low: number): void {
  if (from.factor !== 0) {
    fromUnits(high, low, from.factor);
    return;
  }
  const units = (BigInt(high) << 32n) | BigInt(low);
  const power = from.resolution & 0x7f;
  const perSecond = from.resolution >= 0x80 ? 1n << BigInt(power) : 10n ** BigInt(power);
  fromBigInt((units * 1_000_000_000n) / perSecond + from.offsetSeconds * 1_000_000_000n);
}
