/**
 * A file, or standard output (`-`), written in large pieces: fill `octets` from `at` on after reserve(), and let drain()
 * write what is full. Lines are put together octet by octet: at a million packets a second a string each would cost more
 * than the packet's judging.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { SeineError } from '../errors.js';

const PIECE_SIZE = 1024 * 1024;
/** Octets waiting to be written above which a writer should await drain(). */
const WAITING_MAX_SIZE = 4 * PIECE_SIZE;

const ascii = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0));
/** JSON of a value in ASCII (others as \u escapes), as octets. */
export const jsonOctets = (value: unknown): Uint8Array =>
  ascii(
    JSON.stringify(value).replace(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`),
  );
export const asciiOctets = ascii;

export class Output {
  octets = new Uint8Array(PIECE_SIZE);
  at = 0;
  private waiting: Uint8Array[] = [];
  private waitingSize = 0;
  private writing: Promise<void> | null = null;
  private failure: SeineError | null = null;

  private constructor(
    readonly path: string,
    private readonly file: FileHandle | null,
  ) {
    if (file === null) process.stdout.on('error', this.onError);
  }

  static async open(path: string): Promise<Output> {
    if (path === '-') return new Output('standard output', null);
    try {
      return new Output(path, await open(path, 'w'));
    } catch (error) {
      throw new SeineError(
        'SEINE_ERR_IO',
        `${path}: can't be written: ${(error as Error).message}; name a file in a folder that exists`,
      );
    }
  }

  /** Room for `size` ≤ 1 MiB octets at `octets[at]`. */
  reserve(size: number): void {
    if (this.at + size <= PIECE_SIZE) return;
    this.cut();
  }

  put(octets: Uint8Array): void {
    let at = this.at;
    const to = this.octets;
    const { length } = octets;
    for (let i = 0; i < length; i++) to[at++] = octets[i]!;
    this.at = at;
  }
  /** A whole number from 0 to 2^53 − 1 in decimal. */
  putNumber(value: number): void {
    const to = this.octets;
    if (value < 10) {
      to[this.at++] = 48 + value;
      return;
    }
    let digits = 2;
    for (let bound = 100; bound <= value; bound *= 10) digits++;
    let at = this.at + digits;
    this.at = at;
    let left = value;
    while (left > 0xffffffff) {
      const tens = Math.floor(left / 10);
      to[--at] = 48 + (left - tens * 10);
      left = tens;
    }
    while (digits > 0 && left > 0) {
      const tens = (left / 10) >>> 0;
      to[--at] = 48 + (left - tens * 10);
      left = tens;
    }
  }
  /** Exactly `width` digits, zeros in front. */
  putPadded(value: number, width: number): void {
    const to = this.octets;
    let left = value;
    for (let i = width - 1; i >= 0; i--) {
      const tens = (left / 10) >>> 0;
      to[this.at + i] = 48 + (left - tens * 10);
      left = tens;
    }
    this.at += width;
  }
  putAscii(text: string): void {
    const to = this.octets;
    let at = this.at;
    for (let i = 0; i < text.length; i++) to[at++] = text.charCodeAt(i);
    this.at = at;
  }

  get isFull(): boolean {
    return this.waitingSize >= WAITING_MAX_SIZE;
  }

  /** Writes full pieces; resolves when few octets wait. Throws what writing threw. */
  async drain(): Promise<void> {
    while (this.waitingSize > 0) await (this.writing ?? this.start());
    if (this.failure !== null) throw this.failure;
  }

  async close(): Promise<void> {
    this.cut();
    await this.drain();
    if (this.file === null) process.stdout.off('error', this.onError);
    else await this.file.close();
    if (this.failure !== null) throw this.failure;
  }

  private cut(): void {
    if (this.at === 0) return;
    this.waiting.push(this.octets.subarray(0, this.at));
    this.waitingSize += this.at;
    this.octets = new Uint8Array(PIECE_SIZE);
    this.at = 0;
    if (this.writing === null) void this.start();
  }

  private start(): Promise<void> {
    this.writing = this.writeWaiting().finally(() => {
      this.writing = null;
    });
    return this.writing;
  }
  private async writeWaiting(): Promise<void> {
    for (;;) {
      const piece = this.waiting.shift();
      if (piece === undefined) return;
      try {
        if (this.failure === null) await this.write(piece);
      } catch (error) {
        this.onError(error as Error);
      }
      this.waitingSize -= piece.length;
    }
  }
  private async write(piece: Uint8Array): Promise<void> {
    if (this.file === null) {
      await new Promise<void>((resolve, reject) => {
        process.stdout.write(piece, (error) => (error ? reject(error) : resolve()));
      });
      return;
    }
    for (let at = 0; at < piece.length; ) at += (await this.file.write(piece, at, piece.length - at)).bytesWritten;
  }
  private readonly onError = (error: Error): void => {
    this.failure ??= new SeineError('SEINE_ERR_IO', `${this.path}: can't be written: ${error.message}`);
  };
}
