/**
 * A sliding window over a capture's octets: a file, standard input, or either compressed with gzip (RFC 1952, by its magic).
 * It lies in the data of the batch that is being filled, so that its records become rows where they are; what was begun
 * there moves on with the window to the next batch.
 */
import { closeSync, constants, fstatSync, openSync, read, readSync, type Stats } from 'node:fs';
import { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { createGunzip } from 'node:zlib';
import { SeineError } from '../errors.js';
import { MADE_HEADER_SIZE } from './link.js';
import type { RowWriter } from './rows.js';
import type { Scan } from './scan.js';

/** Octets of one read: they and the columns stay in a second-level cache of 1 MiB until they are judged (bench "seine replay"). */
const READ_SIZE = 512 * 1024;
/** Octets kept free before what follows a row's frame, for a link header that is made there. */
const ROOM_SIZE = 16;
if (ROOM_SIZE < MADE_HEADER_SIZE) throw new Error('a link header has no room');

/** What pcap.ts and pcapng.ts do: turn the window's records into rows until it runs out or the batch is full. */
export interface FormatReader {
  /** Throws SeineError (SEINE_ERR_CAPTURE_INVALID) with the packet's number and offset; rows taken before it stay. */
  scan(window: Window, writer: RowWriter): Scan;
}

/** More: what is wanted is there. Ended: the capture ends before that. Full: the batch's data has no room for it. */
export type Refill = 'more' | 'ended' | 'full';

const readLater = promisify(read);

export class Window {
  /** The data of the batch in hand. */
  octets: Uint8Array;
  view: DataView;
  start = ROOM_SIZE;
  end = ROOM_SIZE;
  /** Octets that must stand in the window before it is worth scanning again. */
  private wanted = 1;
  /** Octets to be passed over that are not in the window yet. */
  private passOver = 0;
  /** Octet of the (uncompressed) capture at which the window starts, less `start`. */
  private before = -ROOM_SIZE;
  private ended = false;
  /** What is read: a file (null: standard input, or decompressed octets), which blocks only where it is a regular one. */
  private fd: number | null = null;
  private regular = false;
  private chunks: AsyncIterator<Uint8Array> | null = null;
  private chunk: Uint8Array = new Uint8Array(0);
  /** The compressed stream ended before its end mark. */
  private cut = false;
  /** Octets of the source file that were read, for progress (compressed ones where it is). */
  rawRead = 0;

  private constructor(
    private readonly path: string,
    octets: Uint8Array,
  ) {
    this.octets = octets;
    this.view = viewOf(octets);
  }

  /** `octets`: the batch's data, of which those before `from` are rows'. */
  static async open(path: string, octets: Uint8Array, from: number): Promise<Window> {
    const window = new Window(path, octets);
    window.moveTo(from + ROOM_SIZE);
    if (path === '-') {
      window.chunks = (process.stdin as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
    } else {
      try {
        window.fd = openSync(path, constants.O_RDONLY);
        const stat: Stats = fstatSync(window.fd);
        if (stat.isDirectory()) throw new Error('is a folder; name capture files');
        window.regular = stat.isFile();
      } catch (error) {
        await window.close();
        throw new SeineError('SEINE_ERR_CAPTURE_INVALID', `${path}: can't be read: ${(error as Error).message}`);
      }
    }
    window.wanted = 2;
    await window.refill(from);
    const { start } = window;
    if (window.octets[start] === 0x1f && window.octets[start + 1] === 0x8b && window.end - start >= 2)
      window.decompress();
    return window;
  }

  /** Octet of the (uncompressed) capture at which the window starts. */
  get fileOffset(): number {
    return this.before + this.start;
  }
  /** Octets of a record that was begun stand there, or were asked for: the capture was cut off. */
  get leftOver(): boolean {
    return this.cut || this.end > this.start || this.passOver > 0;
  }

  /** Moves on to another batch's data; what stands in the window is copied there. */
  attach(octets: Uint8Array): void {
    if (octets === this.octets) return;
    octets.set(this.octets.subarray(this.start, this.end), ROOM_SIZE);
    this.octets = octets;
    this.view = viewOf(octets);
    this.shift(ROOM_SIZE);
  }

  take(count: number): void {
    this.start += count;
    this.wanted = 1;
  }
  /** The record at the window's start needs `count` octets. */
  want(count: number): void {
    this.wanted = Math.max(1, count);
  }
  /** Passes over `count` octets, whether they are there yet or not. */
  skip(count: number): void {
    const there = Math.min(count, this.end - this.start);
    this.start += there;
    this.passOver = count - there;
    this.wanted = 1;
  }

  /** Reads on until what is wanted is there. The octets before `kept` are rows'. */
  async refill(kept: number): Promise<Refill> {
    const first = kept + ROOM_SIZE;
    // Without rows all of the data is the window's; behind rows only an empty window moves, since a copy costs time.
    if (kept === 0 || this.start === this.end) this.moveTo(first);
    while (this.passOver > 0 || this.end - this.start < this.wanted) {
      if (this.octets.length - this.end < Math.max(this.wanted, 1)) return 'full';
      const count = await this.read(Math.min(Math.max(READ_SIZE, this.wanted), this.octets.length - this.end));
      if (count === 0) return 'ended';
      this.end += count;
      if (this.passOver > 0) {
        this.skip(this.passOver);
        if (this.start === this.end) this.moveTo(first);
      }
    }
    return 'more';
  }

  async close(): Promise<void> {
    const { fd } = this;
    this.fd = null;
    this.ended = true;
    await this.chunks?.return?.();
    this.chunks = null;
    if (fd !== null) closeSync(fd);
  }

  /** Puts the window's octets at `at`, where it is not already before. */
  private moveTo(at: number): void {
    if (this.start <= at) {
      if (this.start !== this.end) return;
    } else this.octets.copyWithin(at, this.start, this.end);
    this.shift(at);
  }
  private shift(at: number): void {
    this.before += this.start - at;
    this.end += at - this.start;
    this.start = at;
  }

  /** Reads at most `most` octets to the window's end; 0 when there are no more. */
  private async read(most: number): Promise<number> {
    if (this.ended) return 0;
    try {
      const count = this.chunks === null ? await this.readFile(most) : await this.readChunk(this.chunks, most);
      if (count === 0) this.ended = true;
      return count;
    } catch (error) {
      if (error instanceof SeineError) throw error;
      this.ended = true;
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'Z_BUF_ERROR') {
        this.cut = true;
        return 0;
      }
      const what = code?.startsWith('Z_') ? `its gzip data is damaged (${message})` : `can't be read: ${message}`;
      throw new SeineError('SEINE_ERR_CAPTURE_INVALID', `${this.path}: octet ${this.before + this.end}: ${what}`);
    }
  }

  /** A regular file is read by this very thread: handing over to another one costs more than the copy out of the page cache. */
  private async readFile(most: number): Promise<number> {
    const { octets, end } = this;
    const fd = this.fd!;
    const count = this.regular
      ? readSync(fd, octets, end, most, null)
      : (await readLater(fd, octets, end, most, null)).bytesRead;
    this.rawRead += count;
    return count;
  }

  private async readChunk(chunks: AsyncIterator<Uint8Array>, most: number): Promise<number> {
    while (this.chunk.length === 0) {
      const next = await chunks.next();
      if (next.done === true) return 0;
      this.chunk = next.value;
      if (this.fd === null) this.rawRead += next.value.length;
    }
    const count = Math.min(this.chunk.length, most);
    this.octets.set(this.chunk.subarray(0, count), this.end);
    this.chunk = this.chunk.subarray(count);
    return count;
  }

  /** The octets read so far, and what follows them, are gzip's. */
  private decompress(): void {
    const first = this.octets.slice(this.start, this.end);
    const before = this.chunks;
    const { fd, chunk: pending } = this;
    this.chunk = new Uint8Array(0);
    this.end = this.start;
    const count = (octets: number) => {
      this.rawRead += octets;
    };
    async function* compressed(): AsyncGenerator<Uint8Array> {
      yield first;
      if (pending.length > 0) yield pending;
      if (before !== null) {
        for (;;) {
          const next = await before.next();
          if (next.done === true) return;
          yield next.value;
        }
      }
      for (;;) {
        const { bytesRead, buffer } = await readLater(fd!, new Uint8Array(65_536), 0, 65_536, null);
        if (bytesRead === 0) return;
        count(bytesRead);
        yield buffer.subarray(0, bytesRead);
      }
    }
    const source = Readable.from(compressed());
    const gunzip = createGunzip();
    source.on('error', (error) => gunzip.destroy(error));
    this.chunks = (source.pipe(gunzip) as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
  }
}

const viewOf = (octets: Uint8Array): DataView => new DataView(octets.buffer, octets.byteOffset, octets.length);
