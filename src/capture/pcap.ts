/**
 * pcap files (draft-ietf-opsawg-pcap): a 24-octet header, then records of 16 octets and the packet. Magic a1b2c3d4 has
 * microseconds, a1b23c4d nanoseconds, both in the writer's byte order.
 */
import { SeineError } from '../errors.js';
import type { FormatReader, Window } from './window.js';
import { type LinkReader, linkReader, unsupportedLink } from './link.js';
import { interfaceWords, type RowWriter } from './rows.js';
import { CAPTURED_MAX_SIZE, Format, PCAP_RECORD_HEADER_SIZE, Scan } from './scan.js';
import { fromSeconds } from './time-words.js';

export const PCAP_HEADER_SIZE = 24;

const MICROSECONDS = 0xa1b2c3d4,
  NANOSECONDS = 0xa1b23c4d;
const MODIFIED = 0xa1b2cd34;

/** Is this the magic of a pcap file, read in big-endian order? */
export const isPcapMagic = (big: number): boolean => pcapKind(big) !== null;
function pcapKind(big: number): { magic: number; little: boolean } | null {
  const swapped = ((big >>> 24) | ((big >>> 8) & 0xff00) | ((big << 8) & 0xff0000) | ((big << 24) & 0xff000000)) >>> 0;
  for (const magic of [MICROSECONDS, NANOSECONDS, MODIFIED]) {
    if (big === magic) return { magic, little: false };
    if (swapped === magic) return { magic, little: true };
  }
  return null;
}

export class PcapReader implements FormatReader {
  private readonly little: boolean;
  private readonly nsPerUnit: number;
  private readonly link: LinkReader;
  private readonly interfaces: Uint32Array;

  /** `window` holds at least the file's header, which is taken from it. */
  constructor(
    window: Window,
    private readonly path: string,
  ) {
    const kind = pcapKind(window.view.getUint32(window.start))!;
    if (kind.magic === MODIFIED) {
      throw new SeineError(
        'SEINE_ERR_CAPTURE_INVALID',
        `${path}: is a modified pcap (magic a1b2cd34), which is not read; convert it with editcap -F pcap`,
      );
    }
    this.little = kind.little;
    this.nsPerUnit = kind.magic === NANOSECONDS ? 1 : 1000;
    // The upper half has the length of a frame check sequence, which is padding to everything here.
    const linkType = window.view.getUint32(window.start + 20, this.little) & 0xffff;
    const link = linkReader(linkType);
    if (link === null) throw new SeineError('SEINE_ERR_CAPTURE_INVALID', `${path}: ${unsupportedLink(linkType)}`);
    this.link = link;
    this.interfaces = Uint32Array.from(interfaceWords(link, this.nsPerUnit));
    window.take(PCAP_HEADER_SIZE);
  }

  scan(window: Window, writer: RowWriter): Scan {
    for (;;) {
      const stopped = writer.scan(window, Format.Pcap, this.little, this.interfaces);
      if (stopped === Scan.Full) return stopped;
      const { view, start } = window;
      const there = window.end - start;
      if (stopped === Scan.NeedMore) {
        const captured = there < PCAP_RECORD_HEADER_SIZE ? 0 : view.getUint32(start + 8, this.little);
        window.want(PCAP_RECORD_HEADER_SIZE + captured);
        return stopped;
      }
      if (!this.other(window, writer)) return Scan.Full;
    }
  }

  /** A record that is damaged, or a frame that is too long; false when the batch is full. */
  private other(window: Window, writer: RowWriter): boolean {
    const { view, start } = window;
    const { little } = this;
    const captured = view.getUint32(start + 8, little);
    if (captured > CAPTURED_MAX_SIZE) {
      throw new SeineError(
        'SEINE_ERR_CAPTURE_INVALID',
        `${this.path}: packet ${writer.packets + 1} (octet ${window.fileOffset}): its captured length ${captured} is above ${CAPTURED_MAX_SIZE}; the file is damaged here: cut it before this packet`,
      );
    }
    fromSeconds(view.getUint32(start, little), view.getUint32(start + 4, little) * this.nsPerUnit);
    const original = view.getUint32(start + 12, little);
    if (!writer.row(start + PCAP_RECORD_HEADER_SIZE, captured, original, 0, this.link)) return false;
    window.take(PCAP_RECORD_HEADER_SIZE + captured);
    return true;
  }
}
