/**
 * Recorded packets through the engine, with several batches in flight: reads captures, gets them judged, and writes what came
 * of it in capture order. The engine judges; the lines, files and records of contract §1 are made here.
 */
import { DROP_REASONS, Port, STAGES, Verdict, VERDICTS } from '../batch/drop-reason.js';
import { BATCH_ROWS, type PacketBatch } from '../batch/packet-batch.js';
import { ThreadDispatcher } from '../engine/dispatcher.js';
import { composedBound, type Engine, emissions } from '../engine/engine.js';
import { RECORD_WORDS } from '../flow/flow-record.js';
import { RecordOrder } from '../export/record-order.js';
import { counterIndex } from '../metrics/shared-counters.js';
import { kernels } from '../native/kernels.js';
import { emissionCount } from '../pipeline/emitter.js';
import { decapsulateRows } from './decapsulate.js';
import { FlowLines } from './flow-lines.js';
import type { Output } from './output.js';
import { PcapngWriter } from './pcapng-writer.js';
import type { CaptureReader } from './reader.js';
import { CaptureRows, type EarlyDrop } from './rows.js';
import { VerdictLines } from './verdict-lines.js';

/** Records are delivered up to one tick of the engine's timers late (Engine.stableNs). */
const RECORD_TICK_NS = 1n << 30n;

/** Batches between two turns of the event loop, which sends records and writes outputs: nothing else here waits for it. */
const BATCHES_A_TURN = 4;
const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export interface ReplayOptions {
  verdicts: Output | null;
  flows: Output | null;
  write: Output | null;
  /** Takes records in their order, and the clock in ns. Resolves when more may come. */
  exportRecords: ((words: Uint32Array, nowNs: bigint) => Promise<void>) | null;
  decapsulate: boolean;
  /** In-port of all packets; null: from source addresses, or the capture's interface when only metering. */
  inPort: number | null;
  /** Told after each batch. */
  onProgress?: (packets: number) => void;
}

export interface ReplaySummary {
  packets: number;
  octets: number;
  verdicts: Record<string, number>;
  drops: Record<string, number>;
  connections: { created: number; peak: number; active: number };
  flowRecords: number;
  emitted: number;
  seconds: number;
  packetsPerSecond: number;
}

/** A batch on its way: what stands behind `batch` is done in order. */
interface Flight {
  batch: PacketBatch;
  rows: CaptureRows;
  judged: boolean;
}

/** Runs all of the reader's packets; throws SeineError when a capture is invalid (what was read before counts) or a worker is lost. */
export async function replay(engine: Engine, reader: CaptureReader, options: ReplayOptions): Promise<ReplaySummary> {
  return new Replay(engine, reader, options).run();
}

class Replay {
  /** Of packets that no engine saw. */
  private readonly earlyCounts = new Array<number>(DROP_REASONS.length).fill(0);
  private earlyOctets = 0;
  /** The engine's counters before the first packet. */
  private readonly before: Totals;
  private emitted = 0;
  private flowRecords = 0;
  private readonly order = new RecordOrder();
  private readonly flights: Flight[] = [];
  private readonly rowsOf = new Map<PacketBatch, CaptureRows>();
  private readonly verdictLines: VerdictLines | null;
  private readonly flowLines: FlowLines | null;
  private readonly writer: PcapngWriter | null;
  private readonly rows1 = new Int32Array(BATCH_ROWS);
  private readonly sizes = new Uint32Array(BATCH_ROWS);
  private composed = new Uint8Array(0);
  private failure: Error | null = null;
  private whenIdle: (() => void) | null = null;
  private readonly metering: boolean;

  constructor(
    private readonly engine: Engine,
    private readonly reader: CaptureReader,
    private readonly options: ReplayOptions,
  ) {
    this.metering = engine.metering();
    this.before = totalsOf(engine);
    const { inPort } = options;
    reader.setInPort(inPort ?? (this.metering ? 1 : 0), inPort === null && this.metering);
    const names = { portName: (port: number) => engine.portName(port), rule: (id: number) => engine.rule(id) };
    this.verdictLines = options.verdicts === null ? null : new VerdictLines(options.verdicts, names);
    this.flowLines = options.flows === null ? null : new FlowLines(options.flows, names);
    this.writer = options.write === null ? null : new PcapngWriter(options.write, names.portName);
  }

  async run(): Promise<ReplaySummary> {
    const started = process.hrtime.bigint();
    const unsubscribe = this.engine.onPackedRecords((words) => {
      this.flowRecords += words.length / RECORD_WORDS;
      if (this.flowLines !== null || this.options.exportRecords !== null) this.order.add(words);
    });
    let invalid: unknown = null;
    try {
      await this.judgeAll();
    } catch (error) {
      invalid = error;
    }
    await this.idle();
    if (this.failure === null) {
      await this.engine.finish();
      await this.flushRecords(null);
      for (const output of this.outputs()) await output.drain();
    }
    unsubscribe();
    if (this.failure !== null) throw this.failure;
    if (invalid !== null) throw invalid;
    return this.summary(Number(process.hrtime.bigint() - started) / 1e9);
  }

  private async judgeAll(): Promise<void> {
    let batches = 0;
    while (this.failure === null) {
      const batch = await this.acquire();
      const rows = this.rowsFor(batch);
      let taken: number;
      try {
        taken = await this.reader.fill(batch, rows);
      } catch (error) {
        this.engine.dispatcher.release(batch);
        throw error;
      }
      if (taken === 0) {
        this.engine.dispatcher.release(batch);
        return;
      }
      if (this.options.decapsulate) decapsulateRows(batch, rows);
      this.submit(batch, rows);
      for (const output of this.outputs()) if (output.isFull) await output.drain();
      if (++batches % BATCHES_A_TURN === 0) await nextTurn();
      if (this.order.worthFlushing) await this.flushRecords(this.engine.stableNs() - RECORD_TICK_NS);
      this.options.onProgress?.(this.reader.packets);
    }
  }

  private async acquire(): Promise<PacketBatch> {
    for (;;) {
      const batch = this.engine.dispatcher.acquire();
      if (batch !== null) return batch;
      await new Promise<void>((resolve) => this.engine.dispatcher.whenFree(resolve));
    }
  }
  private rowsFor(batch: PacketBatch): CaptureRows {
    let rows = this.rowsOf.get(batch);
    if (rows === undefined) {
      rows = new CaptureRows();
      this.rowsOf.set(batch, rows);
    }
    return rows;
  }
  private outputs(): Output[] {
    const { verdicts, flows, write } = this.options;
    return [verdicts, flows, write].filter((output) => output !== null);
  }

  private submit(batch: PacketBatch, rows: CaptureRows): void {
    const { count } = batch;
    const flight: Flight = { batch, rows, judged: count === 0 };
    this.flights.push(flight);
    if (count === 0) {
      // Nothing but early drops: no engine sees it, but its lines have their place.
      this.advance();
      return;
    }
    const assignInPorts = this.options.inPort === null && !this.metering;
    this.engine.dispatcher.submit(
      batch,
      'replay',
      { stampTime: false, assignInPorts, allColumns: this.outputs().length > 0 },
      (error) => {
        this.failure ??= error;
        flight.judged = true;
        this.advance();
      },
    );
  }

  private advance(): void {
    while (this.flights.length > 0 && this.flights[0]!.judged) {
      const { batch, rows } = this.flights.shift()!;
      if (this.failure === null) {
        try {
          this.judged(batch, rows);
        } catch (error) {
          this.failure = error as Error;
        }
      }
      this.engine.dispatcher.release(batch);
    }
    if (this.flights.length === 0) this.whenIdle?.();
  }
  private async idle(): Promise<void> {
    if (this.flights.length > 0) {
      await new Promise<void>((resolve) => {
        this.whenIdle = resolve;
      });
    }
  }

  private judged(batch: PacketBatch, rows: CaptureRows): void {
    for (const drop of rows.early) {
      this.earlyCounts[drop.reason]!++;
      this.earlyOctets += drop.frameOctets;
    }
    if (batch.count > 0) this.emitted += emissionCount(batch);
    this.verdictLines?.batch(batch, rows, (drop) => this.inPortOf(drop));
    if (this.writer !== null && batch.count > 0) this.writeFrames(batch, rows, this.writer);
  }

  private inPortOf(drop: EarlyDrop): number {
    if (this.options.inPort !== null) return this.options.inPort;
    if (this.metering) return 1 + drop.interfaceId;
    const { dispatcher } = this.engine;
    if (drop.flow === null || !(dispatcher instanceof ThreadDispatcher) || dispatcher.forwarding === null)
      return Port.Gateway;
    return dispatcher.forwarding.inPortOf(drop.flow.address, 0, drop.flow.family);
  }

  /** Frames as they leave, each row's own before those that the engine made of it. */
  private writeFrames(batch: PacketBatch, rows: CaptureRows, writer: PcapngWriter): void {
    const { engine } = this;
    const rows1 = this.rows1;
    const sizes = this.sizes;
    let forwarded = 0;
    for (let row = 0; row < batch.count; row++) {
      if (batch.verdict[row] !== Verdict.Forward) continue;
      if (batch.outPort[row] === Port.Flood && !this.metering) continue;
      rows1[forwarded++] = row;
    }
    const bound = composedBound(batch);
    if (this.composed.length < bound) this.composed = new Uint8Array(bound);
    if (kernels.composeRows(batch, engine.rewrite.octets, rows1, forwarded, this.composed, 0, sizes) < 0) {
      throw new Error('the bound of composed frames is too small');
    }
    const made = emissionCount(batch) === 0 ? [] : emissions(batch, engine.rewrite);
    let nextMade = 0;
    let at = 0;
    const writeMade = (before: number): void => {
      for (; nextMade < made.length && made[nextMade]!.row < before; nextMade++) {
        const { row, outPort, octets } = made[nextMade]!;
        writer.packet(
          outPort,
          rows.ownTime[row * 2]!,
          rows.ownTime[row * 2 + 1]!,
          octets,
          0,
          octets.length,
          octets.length,
        );
      }
    };
    for (let i = 0; i < forwarded; i++) {
      const row = rows1[i]!;
      const size = sizes[i]!;
      writeMade(row);
      if (size === 0) continue;
      // What a snap length cut off is missing on leaving, too.
      const missing = Math.max(0, batch.wireLength[row]! - batch.length[row]!);
      writer.packet(
        batch.outPort[row]!,
        rows.ownTime[row * 2]!,
        rows.ownTime[row * 2 + 1]!,
        this.composed,
        at,
        size,
        size + missing,
      );
      at += size;
    }
    writeMade(BATCH_ROWS);
  }

  private async flushRecords(beforeNs: bigint | null): Promise<void> {
    if (this.order.count === 0 || (beforeNs !== null && beforeNs <= 0n)) return;
    const words = this.order.flush(beforeNs);
    if (words.length === 0) return;
    this.flowLines?.records(words);
    if (this.options.exportRecords !== null) await this.options.exportRecords(words, this.engine.stableNs());
  }

  private summary(seconds: number): ReplaySummary {
    const after = totalsOf(this.engine);
    const since = (which: 'verdicts' | 'drops') => after[which].map((count, code) => count - this.before[which][code]!);
    const verdicts = since('verdicts');
    const drops = since('drops').map((count, reason) => count + this.earlyCounts[reason]!);
    for (const count of this.earlyCounts) verdicts[Verdict.Drop]! += count;
    const named = (names: readonly string[], counts: readonly number[], keep: (code: number) => boolean) =>
      Object.fromEntries(counts.flatMap((count, code) => (keep(code) ? [[names[code]!, count]] : [])));
    const packets = verdicts.reduce((sum, count) => sum + count, 0);
    const { created, peak, active } = this.engine.summary();
    return {
      packets,
      octets: after.octets - this.before.octets + this.earlyOctets,
      verdicts: named(VERDICTS, verdicts, (code) => code !== Verdict.Unspecified),
      drops: named(DROP_REASONS, drops, (code) => drops[code]! > 0),
      connections: { created: Number(created), peak, active },
      flowRecords: this.flowRecords,
      emitted: this.emitted,
      seconds,
      packetsPerSecond: seconds > 0 ? Math.round(packets / seconds) : 0,
    };
  }
}

/** Packets by verdict and by drop reason, and octets, that the engine has counted so far. */
interface Totals {
  verdicts: number[];
  drops: number[];
  octets: number;
}
function totalsOf(engine: Engine): Totals {
  const blocks = engine.counters();
  const total = (index: number) => Number(blocks.reduce((sum, block) => sum + block.read(index), 0n));
  return {
    verdicts: VERDICTS.map((_, code) => total(counterIndex.packets(code))),
    drops: DROP_REASONS.map((_, reason) =>
      STAGES.reduce((sum, _name, stage) => sum + total(counterIndex.drop(stage, reason)), 0),
    ),
    octets: VERDICTS.reduce((sum, _, code) => sum + total(counterIndex.octets(code)), 0),
  };
}
