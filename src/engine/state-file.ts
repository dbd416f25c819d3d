/**
 * A file whose pages are shared memory: what an engine keeps there outlives its process. One page of header says what
 * the rest is; regions follow in the order in which they were asked for. The page cache holds what a killed process
 * stored last, so that nothing is written out by hand; a machine that went down may have kept some pages and not others,
 * so that a file of an earlier boot is taken only when its service ended in order.
 *
 * A file that is not wholly what this service would have made itself (version, layout, sizes, damage) is refused: emptied
 * and made anew, never trusted in part. What the regions hold is checked by whoever reads them.
 */
import { createHash } from 'node:crypto';
import { closeSync, constants, fchmodSync, fstatSync, fsyncSync, ftruncateSync, openSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { SeineError } from '../errors.js';
import { lockFile, mapFile, reserveFile } from '../native/kernels.js';
import { crc32c } from '../wire/crc32c.js';

/** Raise it when the meaning of a region changes without any of its sizes or offsets. */
const STATE_VERSION = 1;
const MAGIC = [0x6e696573, 0x74732d65] as const; // "seine-st"
const HEADER_OCTETS = 4096;
const PAGE = 4096;
/** Large regions begin where a huge page may. */
const HUGE_PAGE = 2 * 1024 * 1024;

/** Words of the header. Those before `clean` don't change while the file lives, and are what the checksum covers. */
const W = {
  magic: 0,
  version: 2,
  checksum: 3,
  shards: 4,
  max: 5,
  regions: 6,
  layout: 8, // 8 words: SHA-256 of the layout's text
  boot: 16, // 4 words: the kernel's boot id
  createdMs: 20, // u64
  end: 24,
  clean: 64, // 1: the service ended in order
} as const;

export interface StateRegion {
  name: string;
  octets: number;
}
export interface StateShape {
  shards: number;
  max: number;
  regions: readonly StateRegion[];
  /** Text of every constant that gives the regions' contents their meaning. */
  layout: string;
}

/** `auto` lies in memory, by the Unix socket's path: a service that is started again finds its own. */
export function statePath(setting: string, unixSocket: string | null): string {
  if (setting !== 'auto') return resolve(setting);
  if (unixSocket === null)
    throw new SeineError(
      'SEINE_ERR_CONFIG_INVALID',
      'stateFile: auto names the file by listen.unix, which is null; write a path',
    );
  return `/dev/shm/seine-${createHash('sha256').update(resolve(unixSocket)).digest('hex').slice(0, 16)}`;
}

const bootId = (): Buffer => {
  try {
    return Buffer.from(readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').replace(/[^0-9a-f]/g, ''), 'hex');
  } catch {
    return Buffer.alloc(0); // no such kernel: every boot looks the same
  }
};
const align = (at: number, octets: number): number => {
  const unit = octets >= HUGE_PAGE ? HUGE_PAGE : PAGE;
  return Math.ceil(at / unit) * unit;
};

export class StateFile {
  /** The file's contents are another process's, to be recovered; else every region is zeros. */
  readonly inherited: boolean;
  /** Why what was there could not be taken; null = it was, or there was nothing. */
  readonly refusal: string | null;
  private readonly memory = new Map<string, SharedArrayBuffer>();
  private readonly header: Int32Array;
  private open = true;

  /**
   * Opens or makes the file, and locks it for as long as it is open. Throws SEINE_ERR_IO where it can't be had, or
   * SEINE_ERR_ADDRESS_IN_USE where another service has it.
   */
  constructor(
    readonly path: string,
    readonly shape: StateShape,
  ) {
    const fail: (what: string, cause?: unknown) => never = (what, cause) => {
      throw new SeineError('SEINE_ERR_IO', `stateFile: ${path}: ${what}`, { cause });
    };
    const offsets = new Map<string, number>();
    let size = HEADER_OCTETS;
    for (const { name, octets } of shape.regions) {
      offsets.set(name, align(size, octets));
      size = offsets.get(name)! + octets;
    }
    size = Math.ceil(size / PAGE) * PAGE;
    try {
      this.fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    } catch (error) {
      fail(`it can't be opened: ${(error as Error).message}; name a file in a folder of this user's`, error);
    }
    try {
      const about = fstatSync(this.fd);
      if (!about.isFile()) fail('it is no regular file; name another');
      if (about.uid !== process.geteuid?.()) fail(`it belongs to user ${about.uid}; remove it, or name another`);
      if (!lockFile(this.fd, true))
        throw new SeineError(
          'SEINE_ERR_ADDRESS_IN_USE',
          `stateFile: ${path}: another service has it open; give each service a file of its own`,
        );
      this.refusal = about.size === 0 ? null : this.refusalOf(about.size, about.mode, size);
      this.inherited = about.size > 0 && this.refusal === null;
      if (!this.inherited) {
        fchmodSync(this.fd, 0o600);
        ftruncateSync(this.fd, 0);
      }
      try {
        ftruncateSync(this.fd, size);
        reserveFile(this.fd, size);
      } catch (error) {
        ftruncateSync(this.fd, 0);
        fail(
          `no room for its ${Math.ceil(size / 1048576)} MiB (${(error as Error).message}); lower conntrack.max or workers, or name a file elsewhere`,
          error,
        );
      }
      const head = mapFile(this.fd, 0, HEADER_OCTETS);
      this.header = new Int32Array(head);
      for (const { name, octets } of shape.regions) this.memory.set(name, mapFile(this.fd, offsets.get(name)!, octets));
      if (!this.inherited) this.writeHeader();
      Atomics.store(this.header, W.clean, 0);
      fsyncSync(this.fd); // before anything is stored: a power cut must not find the mark
    } catch (error) {
      closeSync(this.fd);
      throw error;
    }
  }
  private readonly fd: number;

  region(name: string): SharedArrayBuffer {
    const memory = this.memory.get(name);
    if (memory === undefined) throw new Error(`the state file has no region ${name}`);
    return memory;
  }

  /** The header's words as this service writes them. */
  private wanted(): Int32Array {
    const { shards, max, regions, layout } = this.shape;
    const words = new Int32Array(W.end);
    words.set(MAGIC, W.magic);
    words[W.version] = STATE_VERSION;
    words[W.shards] = shards;
    words[W.max] = max;
    words[W.regions] = regions.length;
    const text = `${layout}\n${regions.map(({ name, octets }) => `${name} ${octets}`).join('\n')}`;
    const digest = createHash('sha256').update(text).digest();
    for (let i = 0; i < 8; i++) words[W.layout + i] = digest.readInt32LE(i * 4);
    const boot = bootId();
    for (let i = 0; i < 4 && i * 4 + 4 <= boot.length; i++) words[W.boot + i] = boot.readInt32LE(i * 4);
    return words;
  }
  private checksumOf(words: Int32Array): number {
    const octets = new Uint8Array(Int32Array.from(words).buffer);
    octets.fill(0, W.checksum * 4, W.checksum * 4 + 4);
    return crc32c(octets, 0, W.end * 4) | 0;
  }
  private writeHeader(): void {
    const words = this.wanted();
    const now = BigInt(Date.now());
    words[W.createdMs] = Number(now & 0xffffffffn) | 0;
    words[W.createdMs + 1] = Number(now >> 32n);
    words[W.checksum] = this.checksumOf(words);
    this.header.set(words);
  }

  private refusalOf(found: number, mode: number, size: number): string | null {
    if (found < HEADER_OCTETS) return `it has ${found} octets, too few for a header`;
    if ((mode & 0o077) !== 0) return `others may write or read it (mode ${(mode & 0o777).toString(8)})`;
    const words = new Int32Array(new Int32Array(mapFile(this.fd, 0, HEADER_OCTETS)).subarray(0, W.clean + 1));
    const wanted = this.wanted();
    if (words[W.magic] !== MAGIC[0] || words[W.magic + 1] !== MAGIC[1]) return 'it is no state file of seine';
    if (words[W.version] !== STATE_VERSION) return `it is of version ${words[W.version]}, not ${STATE_VERSION}`;
    if (words[W.checksum] !== this.checksumOf(words.slice(0, W.end))) return 'the checksum of its header is wrong';
    if (words[W.shards] !== wanted[W.shards])
      return `it was made for ${words[W.shards]} workers, not ${wanted[W.shards]}`;
    if (words[W.max] !== wanted[W.max])
      return `it was made for conntrack.max ${words[W.max]! >>> 0}, not ${wanted[W.max]! >>> 0}`;
    for (let i = 0; i < 8; i++)
      if (words[W.layout + i] !== wanted[W.layout + i]) return 'it was made by a version with another layout';
    if (found !== size) return `it has ${found} octets, not ${size}`;
    const sameBoot = [0, 1, 2, 3].every((i) => words[W.boot + i] === wanted[W.boot + i]);
    if (!sameBoot && words[W.clean] !== 1) return 'the machine went down while it was in use';
    return null;
  }

  /** Lets go of the file as it is: to the next process it looks as after a crash. */
  abandon(): void {
    if (!this.open) return;
    this.open = false;
    // A mapping that is not collected yet would hold the lock.
    lockFile(this.fd, false);
    closeSync(this.fd);
  }

  /** Gives the file to the next process. Its regions are not to be written any more. */
  close(): void {
    if (!this.open) return;
    // The boot that the next process finds may be another; this one's pages are all written then.
    fsyncSync(this.fd);
    const boot = this.wanted();
    for (let i = 0; i < 4; i++) this.header[W.boot + i] = boot[W.boot + i]!;
    this.header[W.checksum] = this.checksumOf(this.header.slice(0, W.end));
    Atomics.store(this.header, W.clean, 1);
    fsyncSync(this.fd);
    this.abandon();
  }
}
