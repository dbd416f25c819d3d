/**
 * Baseline: DPDK's rte_acl (Debian's dpdk-dev), its AVX2 look-up over the same rules and headers, in a process of its own
 * that does a round when asked, so that rounds interleave with ours. bench/rte_acl.c is compiled when the bench runs.
 */
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { type Rule, TUPLE_WORDS } from './generate-rules.js';

const SOURCE = fileURLToPath(new URL('../../bench/rte_acl.c', import.meta.url));

export class RteAcl {
  private constructor(
    private readonly folder: string,
    private readonly process: ChildProcessWithoutNullStreams,
    private readonly lines: AsyncIterator<string>,
    private readonly reader: Interface,
    readonly buildMs: number,
  ) {}

  /** null where DPDK's headers are not installed or the processor lacks AVX2: said on stderr. Rules in order of precedence. */
  static async start(rules: readonly Rule[], headers: Uint32Array): Promise<RteAcl | null> {
    const folder = mkdtempSync(join(tmpdir(), 'seine-acl-'));
    try {
      const flags = execFileSync('pkg-config', ['--cflags', '--libs', 'libdpdk'], {
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      const program = join(folder, 'rte_acl');
      execFileSync('gcc', ['-O2', '-march=native', SOURCE, '-o', program, ...flags.toString().trim().split(/\s+/)], {
        stdio: 'ignore',
      });
      const words = rules.flatMap((r) => [
        ...[r.src, r.srcLength, r.dst, r.dstLength, ...r.srcPorts, ...r.dstPorts, r.protocol, r.protocolMask],
      ]);
      const count = headers.length / TUPLE_WORDS;
      const file = Uint32Array.from([rules.length, count]);
      writeFileSync(
        join(folder, 'in'),
        Buffer.concat(
          [file, Uint32Array.from(words), headers].map((a) => Buffer.from(a.buffer, a.byteOffset, a.byteLength)),
        ),
      );
      const child = spawn(program, [join(folder, 'in'), join(folder, 'out')], { stdio: ['pipe', 'pipe', 'pipe'] });
      child.stderr.resume();
      const reader = createInterface({ input: child.stdout });
      const lines = reader[Symbol.asyncIterator]();
      const built = Number((await next(lines)) ?? Number.NaN);
      if (Number.isNaN(built)) throw new Error('rte_acl ended');
      return new RteAcl(folder, child, lines, reader, built / 1e6);
    } catch {
      rmSync(folder, { recursive: true });
      process.stderr.write(
        'bench: no rte_acl baseline: needs gcc, pkg-config and Debian’s dpdk-dev; tuple space search instead\n',
      );
      return null;
    }
  }
  /** Nanoseconds a header, of all headers once. */
  async round(): Promise<number> {
    this.process.stdin.write('\n');
    const line = await next(this.lines);
    if (line === undefined) throw new Error('rte_acl ended');
    return Number(line);
  }
  /** After a round: of each header the place of its first rule, or −1. */
  results(): Int32Array {
    const octets = readFileSync(join(this.folder, 'out'));
    return new Int32Array(new Uint8Array(octets).buffer).map((found) => found - 1);
  }
  close(): void {
    this.process.stdin.end();
    this.reader.close();
    rmSync(this.folder, { recursive: true });
  }
}

async function next(lines: AsyncIterator<string>): Promise<string | undefined> {
  for (;;) {
    const { done, value } = await lines.next();
    if (done === true) return undefined;
    // EAL may write lines of its own.
    if (/^[\d.]+$/.test(value)) return value;
  }
}
