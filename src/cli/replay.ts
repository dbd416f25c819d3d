/**
 * `seine replay`: recorded packets through the same engine as `serve`, on the capture's clock (contract §1). Options and
 * outputs are here; the run is capture/replay.ts.
 */
import { stat } from 'node:fs/promises';
import type { SingleBar } from 'cli-progress';
import type { Command } from 'commander';
import { Output } from '../capture/output.js';
import { CaptureReader } from '../capture/reader.js';
import { type ReplaySummary, replay } from '../capture/replay.js';
import type { Config } from '../config/config.js';
import { Engine } from '../engine/engine.js';
import { SeineError } from '../errors.js';
import { Exporter } from '../export/exporter.js';
import { collect, loadGiven, tellWarnings } from './load-objects.js';

interface Options {
  config?: string;
  objects: string[];
  verdicts?: string;
  flows?: string;
  write?: string;
  summary?: string;
  netflow: string[];
  decapsulate?: boolean;
  inPort?: number;
}

/** A cut-off capture: everything before the cut counts, and the shell is told. */
const EXIT_CUT_OFF = 2;
/**
 * `workers: auto`: one, judging in the main thread, since handing batches over costs more than the judging. More are used
 * where the configuration says so.
 */
const AUTO_WORKERS = 1;
const PORT_MAX = 65_535;

const portNumber = (text: string): number => {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > PORT_MAX) {
    throw new SeineError(
      'SEINE_ERR_USAGE',
      `--in-port ${text}: an OpenFlow port number from 0 to ${PORT_MAX} belongs there`,
    );
  }
  return port;
};
const warn = (line: string): void => tellWarnings([line]);

export function register(program: Command): void {
  program
    .command('replay')
    .description("run recorded packets through the engine, on the captures' clock")
    .argument('<capture...>', 'pcap or pcapng files, plain or .gz; - for standard input')
    .option('--config <file>', 'configuration')
    .option('--objects <path>', 'file or folder of Kubernetes objects (repeatable)', collect, [])
    .option('--verdicts <file>', 'one JSON line per packet; - for standard output')
    .option('--flows <file>', 'one JSON line per flow record; - for standard output')
    .option('--write <file>', 'pcapng of packets as they leave; - for standard output')
    .option('--netflow <host:port>', 'export flow records to a NetFlow collector (repeatable)', collect, [])
    .option('--summary <file>', 'one JSON object of totals; - for standard output')
    .option('--decapsulate', 'judge and record packets inside VXLAN, Geneve, GRE and STT instead of their carriers')
    .option('--in-port <number>', 'in-port of all packets, instead of one taken from the source address', portNumber)
    .action(run);
}

async function run(captures: string[], options: Options): Promise<void> {
  const { verdicts, flows, write, summary } = options;
  if ([verdicts, flows, write, summary].filter((path) => path === '-').length > 1) {
    throw new SeineError('SEINE_ERR_USAGE', 'more than one output is -; give the others files');
  }
  if (captures.filter((path) => path === '-').length > 1) {
    throw new SeineError('SEINE_ERR_USAGE', 'the capture - is given twice; standard input can be read once');
  }
  const { config, objects, warnings } = loadGiven(options.config, options.objects, undefined, AUTO_WORKERS);
  tellWarnings(warnings);
  const total = await sizeOf(captures);
  const exporter = options.netflow.length === 0 ? null : exporterTo(config, options.netflow);
  const engine = await Engine.start({ config, objects, mode: 'replay' });
  engine.onWarning = warn;
  const opened: Output[] = [];
  const reader = new CaptureReader(captures, { onWarning: warn });
  try {
    const open = async (path: string | undefined): Promise<Output | null> => {
      if (path === undefined) return null;
      const output = await Output.open(path);
      opened.push(output);
      return output;
    };
    const outputs = { verdicts: await open(verdicts), flows: await open(flows), write: await open(write) };
    const summaryOutput = await open(summary);
    const progress = await Progress.over(reader, total);
    let result: ReplaySummary;
    try {
      result = await replay(engine, reader, {
        ...outputs,
        exportRecords: exporter === null ? null : (words, nowNs) => exportRecords(exporter, words, nowNs),
        decapsulate: options.decapsulate ?? false,
        inPort: options.inPort ?? null,
        onProgress: () => progress.update(),
      });
    } finally {
      progress.stop();
    }
    if (exporter !== null) {
      await exporter.close();
      reportExport(exporter);
    }
    summaryOutput?.putAscii(`${JSON.stringify(result)}\n`);
    if (opened.length === 0 && exporter === null) process.stdout.write(summaryTable(result));
    if (reader.cutOff) process.exitCode = EXIT_CUT_OFF;
  } finally {
    await reader.close();
    await exporter?.close();
    for (const output of opened) await output.close();
    await engine.close();
  }
}

/** NetFlow goes to the collectors of the command line, with the configuration's other settings. */
const exporterTo = (config: Config, targets: string[]): Exporter =>
  new Exporter({ ...config, netflow: { ...config.netflow, targets } }, 'replay');

async function exportRecords(exporter: Exporter, words: Uint32Array, nowNs: bigint): Promise<void> {
  if (!exporter.push(words, nowNs)) await exporter.drained();
}
/** Nothing is lost silently: what no collector got is told, by reason. */
function reportExport(exporter: Exporter): void {
  for (const { format, reason, records } of exporter.totals().lost) {
    if (records > 0) warn(`${records} flow records were not exported as ${format}: ${reason}`);
  }
  for (const { target, lost } of exporter.stats()) {
    if (lost > 0n) warn(`${target}: ${lost} flow records did not reach it`);
  }
}

/** Octets of all captures together; null where one is a stream. */
async function sizeOf(captures: readonly string[]): Promise<number | null> {
  let total = 0;
  for (const path of captures) {
    const file = path === '-' ? null : await stat(path).catch(() => null);
    if (file === null || !file.isFile()) return null;
    total += file.size;
  }
  return total;
}

/** A bar on stderr when that is a terminal. */
class Progress {
  private bar: SingleBar | null = null;
  static async over(reader: CaptureReader, total: number | null): Promise<Progress> {
    const shown = process.stderr.isTTY && total !== null && total > 0;
    return new Progress(reader, total ?? 0, shown ? (await import('cli-progress')).default : null);
  }
  private constructor(
    private readonly reader: CaptureReader,
    private readonly total: number,
    library: typeof import('cli-progress') | null,
  ) {
    if (library === null) return;
    this.bar = new library.SingleBar({
      stream: process.stderr,
      format: 'replay {bar} {percentage}% | {packets} packets | {eta_formatted} left',
      clearOnComplete: true,
      hideCursor: true,
      etaBuffer: 100,
    });
    this.bar.start(total, 0, { packets: 0 });
  }
  update(): void {
    this.bar?.update(Math.min(this.reader.octetsRead, this.total), { packets: this.reader.packets });
  }
  stop(): void {
    this.bar?.stop();
    this.bar = null;
  }
}

function summaryTable(summary: ReplaySummary): string {
  const { connections, seconds } = summary;
  const rows: [string, string | number][] = [
    ['packets', summary.packets],
    ['octets', summary.octets],
    ...Object.entries(summary.verdicts).map(([name, count]): [string, number] => [`  ${name}`, count]),
    ...Object.entries(summary.drops).map(([name, count]): [string, number] => [`    ${name}`, count]),
    ['connections created', connections.created],
    ['  peak', connections.peak],
    ['  active', connections.active],
    ['flow records', summary.flowRecords],
    ['packets emitted', summary.emitted],
    ['seconds', seconds.toFixed(3)],
    ['packets per second', summary.packetsPerSecond],
  ];
  const left = Math.max(...rows.map(([name]) => name.length));
  const right = Math.max(...rows.map(([, value]) => String(value).length));
  return rows.map(([name, value]) => `${name.padEnd(left)}  ${String(value).padStart(right)}\n`).join('');
}
