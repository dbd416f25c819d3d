/**
 * A sliding window over a capture's octets: a file, standard input, or either compressed with gzip (RFC 1952, by its magic).
 * Memory is bounded: one buffer, larger than any record.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { SeineError } from '../errors.js';
import type { RowWriter, Scan } from './rows.js';

/** A record (256 KiB and its header) always fits. */
const WINDOW_SIZE = 1024 * 1024;
const READ_AHEAD_SIZE = 512 * 1024;

/** What pcap.ts and pcapng.ts do: turn the window's records into rows until it runs out or the batch is full. */
export interface FormatReader {
  /** Throws SeineError (SEINE_ERR_CAPTURE_INVALID) with the packet's number and offset; rows taken before it stay. */
  scan(window: Window, writer: RowWriter): Scan;
}

export class Window {
  readonly octets = new Uint8Array(WINDOW_SIZE);
  readonly view = new DataView(this.octets.buffer);
  start = 0;
  end = 0;
  /** Octets that must stand in the window before it is worth scanning again. */
  private wanted = 1;
  /** Octets to be passed over that are not in the window yet. */
  private passOver = 0;
  private droppedBefore = 0;
  private ended = false;
  private file: FileHandle | null = null;
  private chunks: AsyncIterator<Uint8Array> | null = null;
  private chunk: Uint8Array = new Uint8Array(0);
  /** The compressed stream ended before its end mark. */
  private cut = false;
  /** Octets of the source file that were read, for progress (compressed ones where it is). */
  rawRead = 0;

  private readonly ahead = [new Uint8Array(READ_AHEAD_SIZE), new Uint8Array(READ_AHEAD_SIZE)];
  private aheadNow = 0;
  private aheadRead: ReturnType<FileHandle['read']> | null = null;
  private current: Uint8Array = this.ahead[0]!;
  private aheadAt = 0;
  private aheadEnd = 0;

  private constructor(private readonly path: string) {}

  static async open(path: string): Promise<Window> {
    const window = new Window(path);
    if (path === '-') {
      window.chunks = (process.stdin as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
    } else {
      try {
        window.file = await open(path, 'r');
        if ((await window.file.stat()).isDirectory()) throw new Error('is a folder; name capture files');
      } catch (error) {
        await window.close();
        throw new SeineError('SEINE_ERR_CAPTURE_INVALID', `${path}: can't be read: ${(error as Error).message}`);
      }
    }
    window.wanted = 2;
    await window.refill();
    if (window.octets[0] === 0x1f && window.octets[1] === 0x8b && window.end >= 2) window.decompress();
    return window;
  }

  /** Octet of the (uncompressed) capture at which the window starts. */
  get fileOffset(): number {
    return this.droppedBefore + this.start;
  }
  /** Octets of a record that was begun stand there, or were asked for: the capture was cut off. */
  get leftOver(): boolean {
    return this.cut || this.end > this.start || this.passOver > 0;
  }

  take(count: number): void {
    this.start += count;
  }
  /** Everything before `at` is done with; the record there needs `wanted` octets. */
  moveTo(at: number, wanted: number): void {
    this.start = at;
    this.wanted = Math.max(1, wanted);
  }
  /** Passes over `count` octets from `at` on, whether they are there yet or not. */
  skip(at: number, count: number): void {
    const there = Math.min(count, this.end - at);
    this.start = at + there;
    this.passOver = count - there;
    this.wanted = 1;
  }

  /** Reads on until what is wanted is there; false when the capture ends before that. */
  async refill(): Promise<boolean> {
    this.octets.copyWithin(0, this.start, this.end);
    this.droppedBefore += this.start;
    this.end -= this.start;
    this.start = 0;
    while (this.passOver > 0 || this.end < this.wanted) {
      const read = await this.read();
      if (read === 0) return false;
      this.end += read;
      if (this.passOver > 0) {
        const passed = Math.min(this.passOver, this.end);
        this.passOver -= passed;
        this.droppedBefore += passed;
        this.octets.copyWithin(0, passed, this.end);
        this.end -= passed;
      }
    }
    return true;
  }

  async close(): Promise<void> {
    const file = this.file;
    this.file = null;
    this.ended = true;
    await this.chunks?.return?.();
    this.chunks = null;
    await this.aheadRead?.catch(() => {});
    await file?.close();
  }

  private async read(): Promise<number> {
    if (this.ended) return 0;
    try {
      const read = this.chunks === null ? await this.readFile() : await this.readChunk(this.chunks);
      if (read === 0) this.ended = true;
      return read;
    } catch (error) {
      if (error instanceof SeineError) throw error;
      this.ended = true;
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'Z_BUF_ERROR') {
        this.cut = true;
        return 0;
      }
      const what = code?.startsWith('Z_') ? `its gzip data is damaged (${message})` : `can't be read: ${message}`;
      throw new SeineError(
        'SEINE_ERR_CAPTURE_INVALID',
        `${this.path}: octet ${this.droppedBefore + this.end}: ${what}`,
      );
    }
  }

  /**
   * What the file holds next. The read after it is begun at once, into a buffer of its own, so that reading overlaps with
   * judging what was read (bench row "seine replay").
   */
  private async readFile(): Promise<number> {
    const file = this.file!;
    if (this.aheadAt === this.aheadEnd) {
      this.aheadRead ??= file.read(this.ahead[this.aheadNow]!, 0, READ_AHEAD_SIZE);
      const { bytesRead } = await this.aheadRead;
      this.aheadAt = 0;
      this.aheadEnd = bytesRead;
      this.aheadRead = null;
      if (bytesRead === 0) return 0;
      this.current = this.ahead[this.aheadNow]!;
      this.aheadNow = 1 - this.aheadNow;
      this.aheadRead = file.read(this.ahead[this.aheadNow]!, 0, READ_AHEAD_SIZE);
      this.aheadRead.catch(() => {}); // told when it is awaited
    }
    const count = Math.min(this.aheadEnd - this.aheadAt, WINDOW_SIZE - this.end);
    this.octets.set(this.current.subarray(this.aheadAt, this.aheadAt + count), this.end);
    this.aheadAt += count;
    this.rawRead += count;
    return count;
  }

  private async readChunk(chunks: AsyncIterator<Uint8Array>): Promise<number> {
    while (this.chunk.length === 0) {
      const next = await chunks.next();
      if (next.done === true) return 0;
      this.chunk = next.value;
      if (this.file === null) this.rawRead += next.value.length;
    }
    const count = Math.min(this.chunk.length, WINDOW_SIZE - this.end);
    this.octets.set(this.chunk.subarray(0, count), this.end);
    this.chunk = this.chunk.subarray(count);
    return count;
  }

  /** The octets read so far, and what follows them, are gzip's. */
  private decompress(): void {
    const ahead = this.current.slice(this.aheadAt, this.aheadEnd);
    const inFlight = this.aheadRead;
    const into = this.ahead[this.aheadNow]!;
    this.aheadRead = null;
    this.aheadAt = this.aheadEnd;
    const first = this.octets.slice(0, this.end);
    const before = this.chunks;
    const file = this.file;
    const pending = this.chunk;
    this.chunk = new Uint8Array(0);
    this.start = 0;
    this.end = 0;
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
      if (ahead.length > 0) yield ahead;
      if (inFlight !== null) {
        const { bytesRead } = await inFlight;
        if (bytesRead === 0) return;
        count(bytesRead);
        yield into.slice(0, bytesRead);
      }
      for (;;) {
        const { bytesRead, buffer } = await file!.read(new Uint8Array(65_536), 0, 65_536);
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
