/** The octets of captures: a file or standard input, gunzipped where they begin as gzip does. Reads ahead in large chunks. */
import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { SeineError } from '../errors.js';

const CHUNK_SIZE = 1 << 20;

export class ByteSource {
  private buffer: Buffer = Buffer.alloc(0);
  private at = 0;
  private ended = false;
  /** The stream broke off (gzip cut short): what was read counts. */
  broken: string | null = null;
  private iterator: AsyncIterator<Buffer> | null = null;
  /** Octets taken so far. */
  position = 0;

  constructor(readonly path: string) {}

  private async open(): Promise<void> {
    const raw: Readable = this.path === '-' ? process.stdin : createReadStream(this.path, { highWaterMark: CHUNK_SIZE });
    const iterator = raw[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    let first: Buffer = Buffer.alloc(0);
    try {
      while (first.length < 2) {
        const next = await iterator.next();
        if (next.done) break;
        first = Buffer.concat([first, next.value]);
      }
    } catch (error) {
      throw new SeineError('SEINE_ERR_CAPTURE_INVALID', `${this.path}: can't be read: ${(error as Error).message}`);
    }
    async function* rest(): AsyncGenerator<Buffer> {
      yield first;
      for (;;) {
        const next = await iterator.next();
        if (next.done) return;
        yield next.value;
      }
    }
    if (first.length >= 2 && first[0] === 0x1f && first[1] === 0x8b) {
      const gunzip = createGunzip({ chunkSize: CHUNK_SIZE });
      void (async () => {
        try {
          for await (const chunk of rest()) if (!gunzip.write(chunk)) await new Promise((resolve) => gunzip.once('drain', resolve));
          gunzip.end();
        } catch (error) {
          gunzip.destroy(error as Error);
        }
      })();
      this.iterator = gunzip[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    } else this.iterator = rest();
  }

  /** Are `size` octets there without waiting? */
  has(size: number): boolean {
    return this.buffer.length - this.at >= size;
  }

  /** Makes `size` octets available; false when the source ends before. */
  async need(size: number): Promise<boolean> {
    if (this.iterator === null) await this.open();
    while (!this.has(size) && !this.ended) {
      try {
        const next = await this.iterator!.next();
        if (next.done) this.ended = true;
        else {
          const left = this.buffer.subarray(this.at);
          this.buffer = left.length === 0 ? next.value : Buffer.concat([left, next.value]);
          this.at = 0;
        }
      } catch (error) {
        this.broken = (error as Error).message;
        this.ended = true;
      }
    }
    return this.has(size);
  }
  get remaining(): number {
    return this.buffer.length - this.at;
  }
  /** The octets available now; `take` moves past some of them. Valid until the next `need`. */
  view(): Buffer {
    return this.buffer;
  }
  get offset(): number {
    return this.at;
  }
  take(size: number): void {
    this.at += size;
    this.position += size;
  }
}
