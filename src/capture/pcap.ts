/**
 * pcap files (draft-ietf-opsawg-pcap): a 24-octet header, then records of 16 octets and the packet. Magic a1b2c3d4 has
 * microseconds, a1b23c4d nanoseconds, both in the writer's byte order.
 */
import { SeineError } from '../errors.js';
import type { FormatReader, Window } from './window.js';
import { type LinkReader, linkReader, unsupportedLink } from './link.js';
import { type RowWriter, Scan } from './rows.js';
import { fromSeconds, time } from './time-words.js';

export const PCAP_HEADER_SIZE = 24;
const RECORD_HEADER_SIZE = 16;
/** Octets that one captured packet may have: tcpdump's own limit. */
export const CAPTURED_MAX_SIZE = 262_144;

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
    window.take(PCAP_HEADER_SIZE);
  }

  scan(window: Window, writer: RowWriter): Scan {
    const { view, end } = window;
    const little = this.little;
    const nsPerUnit = this.nsPerUnit;
    const link = this.link;
    let at = window.start;
    for (;;) {
      if (end - at < RECORD_HEADER_SIZE) {
        window.moveTo(at, RECORD_HEADER_SIZE);
        return Scan.NeedMore;
      }
      const captured = view.getUint32(at + 8, little);
      if (captured > CAPTURED_MAX_SIZE) {
        window.moveTo(at, 0);
        throw new SeineError(
          'SEINE_ERR_CAPTURE_INVALID',
          `${this.path}: packet ${writer.packets + 1} (octet ${window.fileOffset}): its captured length ${captured} is above ${CAPTURED_MAX_SIZE}; the file is damaged here: cut it before this packet`,
        );
      }
      if (end - at - RECORD_HEADER_SIZE < captured) {
        window.moveTo(at, RECORD_HEADER_SIZE + captured);
        return Scan.NeedMore;
      }
      fromSeconds(view.getUint32(at, little), view.getUint32(at + 4, little) * nsPerUnit);
      const original = view.getUint32(at + 12, little);
      if (!writer.row(at + RECORD_HEADER_SIZE, captured, original, time.low, time.high, 0, link)) {
        window.moveTo(at, 0);
        return Scan.Full;
      }
      at += RECORD_HEADER_SIZE + captured;
    }
  }
}
