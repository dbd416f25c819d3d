/** Captures through the real engine, as `seine replay` runs them; outputs come back parsed. */
import { readFileSync } from 'node:fs';
import { Output } from '../../src/capture/output.js';
import { CaptureReader } from '../../src/capture/reader.js';
import { type ReplaySummary, replay } from '../../src/capture/replay.js';
import { parseConfig } from '../../src/config/read.js';
import { Engine } from '../../src/engine/engine.js';
import { readManifest } from '../../src/objects/read.js';
import { applyObjects, emptyObjects } from '../../src/objects/store.js';
import { file } from '../unit/capture/captures.js';

export interface VerdictLine {
  packet: number;
  time: string;
  inPort: number;
  inPortName: string | null;
  outPort: number;
  outPortName: string | null;
  verdict: string;
  reason: string | null;
  stage: string;
  ct: string[];
  policy: null | {
    kind: string;
    namespace: string | null;
    name: string;
    rule: string | number | null;
    direction: string;
    action: string;
  };
  flow: null | { src: string; dst: string; protocol: number; srcPort: number; dstPort: number };
}
export interface FlowLine {
  src: string;
  dst: string;
  protocol: number;
  srcPort: number;
  dstPort: number;
  inPort: number;
  outPort: number;
  packets: number;
  octets: number;
  endReason: string;
  ingressPolicy: string | null;
  egressPolicy: string | null;
  action: string | null;
}
export interface Replayed {
  verdictText: string;
  verdicts: VerdictLine[];
  flowText: string;
  flows: FlowLine[];
  /** The pcapng of `--write`. */
  written: string;
  summary: ReplaySummary;
  cutOff: boolean;
  error: unknown;
}

export async function runReplay(options: {
  captures: string[];
  manifest?: string;
  config?: Record<string, unknown>;
  decapsulate?: boolean;
  inPort?: number;
  rowsPerBatch?: number;
}): Promise<Replayed> {
  const { config } = parseConfig({ workers: 1, ...options.config }, 'test');
  const { objects } = applyObjects(emptyObjects(), readManifest(options.manifest ?? '', 'test').inputs);
  const paths = {
    verdicts: file(new Uint8Array(0), 'verdicts'),
    flows: file(new Uint8Array(0), 'flows'),
    write: file(new Uint8Array(0), 'pcapng'),
  };
  const verdicts = await Output.open(paths.verdicts);
  const flows = await Output.open(paths.flows);
  const write = await Output.open(paths.write);
  const engine = await Engine.start({ config, objects, mode: 'replay' });
  const reader = new CaptureReader(options.captures, {
    onWarning: () => {},
    ...(options.rowsPerBatch === undefined ? {} : { rowsPerBatch: options.rowsPerBatch }),
  });
  let summary: ReplaySummary | null = null;
  let error: unknown = null;
  try {
    summary = await replay(engine, reader, {
      verdicts,
      flows,
      write,
      exportRecords: null,
      decapsulate: options.decapsulate ?? false,
      inPort: options.inPort ?? null,
    });
  } catch (failure) {
    error = failure;
  } finally {
    await reader.close();
    for (const output of [verdicts, flows, write]) await output.close();
    await engine.close();
  }
  const text = (path: string): string => readFileSync(path, 'utf8');
  const lines = <T>(path: string): T[] =>
    text(path)
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as T);
  return {
    verdictText: text(paths.verdicts),
    verdicts: lines<VerdictLine>(paths.verdicts),
    flowText: text(paths.flows),
    flows: lines<FlowLine>(paths.flows),
    written: paths.write,
    summary: summary ?? ({} as ReplaySummary),
    cutOff: reader.cutOff,
    error,
  };
}
