/**
 * The only door to the addon. Every kernel has a TypeScript reference of the same name and arguments; SEINE_NATIVE=off runs
 * those. An addon that is missing or does not fit is an error, never a silent fallback. To add a kernel: write the
 * reference, native/NAME.{h,cc} without N-API, a checked wrapper in native/addon.cc, and a line in both objects below.
 */
import { createRequire } from 'node:module';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { composeRows } from '../batch/compose.js';
import { DROP_REASONS } from '../batch/drop-reason.js';
import { COLUMN_OFFSET, COLUMNS_SIZE, type PacketBatch } from '../batch/packet-batch.js';
import { parseRows } from '../batch/parse.js';
import { E, ENTRY_WORDS } from '../conntrack/entry.js';
import { type ReplayContext, replayRows } from '../conntrack/replay.js';
import { Timeout } from '../conntrack/timeouts.js';
import { tupleHash } from '../flow/tuple-hash.js';
import { internetChecksum, updateChecksum16 } from '../wire/checksum.js';

export interface Kernels {
  parseRows(batch: PacketBatch, first: number, count: number): void;
  /** Returns how many rows it left in `slow` (conntrack/replay.ts). */
  replayRows(context: ReplayContext, batch: PacketBatch, rows: Int32Array, count: number, slow: Int32Array): number;
  composeRows(
    batch: PacketBatch,
    table: Uint8Array,
    rows: Int32Array,
    count: number,
    out: Uint8Array,
    outAt: number,
    sizes: Uint32Array,
  ): number;
  internetChecksum(octets: Uint8Array, offset: number, length: number, initial?: number): number;
  updateChecksum16(checksum: number, before: number, after: number): number;
  tupleHash(
    address: Uint32Array,
    at: number,
    family: 4 | 6,
    protocol: number,
    srcPort: number,
    dstPort: number,
  ): number;
}

export const references: Kernels = {
  parseRows,
  replayRows,
  composeRows,
  internetChecksum,
  updateChecksum16,
  tupleHash,
};

/** Does this process run the native kernels? */
export const nativeEnabled = process.env.SEINE_NATIVE !== 'off';

// biome-ignore lint/suspicious/noExplicitAny: the addon's functions are typed by `Kernels` below
type Addon = Record<string, (...args: any[]) => any>;

function load(): Addon {
  // dist/src/native → the package's root, where node-gyp builds.
  const path = fileURLToPath(new URL('../../../build/Release/seine.node', import.meta.url));
  if (!existsSync(path)) throw new Error('the native addon is not built: run `npm rebuild`, or set SEINE_NATIVE=off');
  const addon = createRequire(import.meta.url)(path) as Addon;
  const layout = addon.layout!() as {
    columns: Record<string, number>;
    size: number;
    reasons: Record<string, number>;
    entry: Record<string, number>;
  };
  const differs = (what: string): never => {
    throw new Error(`the native addon was built for another ${what}: run \`npm rebuild\``);
  };
  for (const [name, offset] of Object.entries(COLUMN_OFFSET))
    if (layout.columns[name] !== offset) differs(`column ${name}`);
  if (layout.size !== COLUMNS_SIZE) differs('column block');
  DROP_REASONS.forEach((name, code) => {
    if (layout.reasons[name] !== code) differs(`drop reason ${name}`);
  });
  const { words, ...fields } = layout.entry;
  if (words !== ENTRY_WORDS) differs('table entry');
  for (const [name, at] of Object.entries(fields)) if (E[name as keyof typeof E] !== at) differs(`entry word ${name}`);
  addon.setTimeoutIndices!(Timeout);
  return addon;
}

let addon: Addon | null = null;
const theAddon = (): Addon => {
  addon ??= load();
  return addon;
};

/** The native kernels, also where SEINE_NATIVE=off: for tests that hold them against the references. */
export function nativeKernels(): Kernels {
  const a = theAddon();
  return {
    parseRows: (batch, first, count) => a.parseRows!(batch.block, batch.data, first, count),
    replayRows: (c, batch, rows, count, slow) =>
      a.replayRows!(batch.block, c.table.words, c.epochs, c.timeouts, c.recordTimeouts, c.classes, rows, count, slow),
    composeRows: (batch, table, rows, count, out, outAt, sizes) =>
      a.composeRows!(batch.block, batch.data, table, rows, count, out, outAt, sizes),
    internetChecksum: (octets, offset, length, initial = 0) => a.checksum!(octets, offset, length, initial),
    updateChecksum16: (checksum, before, after) => a.updateChecksum16!(checksum, before, after),
    tupleHash: (address, at, family, protocol, srcPort, dstPort) =>
      a.tupleHash!(address, at, family, protocol, srcPort, dstPort),
  };
}

export const kernels: Kernels = nativeEnabled ? nativeKernels() : references;

/** dup(2): a descriptor of its own for the thread that takes a connection over. Not a kernel: used in both modes. */
export const duplicateDescriptor = (fd: number): number => theAddon().duplicateDescriptor!(fd);

/** Asks for huge pages behind a table (madvise(2)): fewer TLB misses. A hint, which the kernel may not take. */
export const adviseHugePages = (words: Uint32Array): boolean =>
  nativeEnabled ? (theAddon().adviseHugePages!(words) as boolean) : false;
