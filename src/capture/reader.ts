/**
 * Captures as batches: pcap and pcapng, files, standard input (`-`) or gzip, one after the other, in bounded memory. Which
 * octets make a frame is link.ts's; what is wrong with a frame is Parse's.
 */
import { BATCH_ROWS, type PacketBatch } from '../batch/packet-batch.js';
import { SeineError } from '../errors.js';
import { isPcapMagic, PCAP_HEADER_SIZE, PcapReader } from './pcap.js';
import { PcapngReader, SECTION_HEADER } from './pcapng.js';
import { type CaptureRows, RowWriter, Scan } from './rows.js';
import { type FormatReader, Window } from './window.js';

export interface CaptureReaderOptions {
  /** A capture was cut off in mid-record, in one sentence. What was read before it stands. */
  onWarning(message: string): void;
  /** Packets that one fill gives at most. */
  rowsPerBatch?: number;
}

export class CaptureReader {
  /** A capture was cut off: the caller ends with exit code 2. */
  cutOff = false;
  private readonly writer = new RowWriter();
  private next = 0;
  private window: Window | null = null;
  private format: FormatReader | null = null;
  private failure: unknown = null;
  private readBefore = 0;

  constructor(
    private readonly paths: readonly string[],
    private readonly options: CaptureReaderOptions,
  ) {}

  /** Packets so far, those judged early included. */
  get packets(): number {
    return this.writer.packets;
  }
  /** Octets of the capture files read so far (as they lie on disk). */
  get octetsRead(): number {
    return this.readBefore + (this.window?.rawRead ?? 0);
  }

  /**
   * Fills the batch's data, offset, length, wireLength, frameOctets, timeNs and count, sets inPort to 0, and `rows`. Returns
   * the packets taken (rows and early drops); 0 at the end of the last capture. An invalid capture throws SeineError
   * (SEINE_ERR_CAPTURE_INVALID) once what came before the fault was given out.
   */
  async fill(batch: PacketBatch, rows: CaptureRows): Promise<number> {
    const { writer } = this;
    writer.begin(batch, rows, Math.min(BATCH_ROWS, this.options.rowsPerBatch ?? BATCH_ROWS));
    const before = writer.packets;
    if (this.failure === null) {
      try {
        await this.fillFrom(writer);
      } catch (error) {
        this.failure = error;
      }
    }
    if (this.failure !== null && writer.packets === before) throw this.failure;
    return writer.packets - before;
  }

  async close(): Promise<void> {
    const window = this.window;
    this.window = null;
    await window?.close();
  }

  private async fillFrom(writer: RowWriter): Promise<void> {
    for (;;) {
      if (this.window === null || this.format === null) {
        if (this.next >= this.paths.length) return;
        await this.openNext(this.paths[this.next++]!);
      }
      const window = this.window!;
      writer.setWindow(window.octets);
      let stopped: Scan;
      try {
        stopped = this.format!.scan(window, writer);
      } finally {
        writer.flush();
      }
      if (stopped === Scan.Full) return;
      if (await window.refill()) continue;
      if (window.leftOver) {
        this.cutOff = true;
        this.options.onWarning(
          `${this.paths[this.next - 1]}: is cut off at octet ${window.fileOffset}, in or before packet ${writer.packets + 1}; the ${writer.packets} packets before it count`,
        );
      }
      this.readBefore += window.rawRead;
      await this.close();
      this.format = null;
    }
  }

  private async openNext(path: string): Promise<void> {
    const window = await Window.open(path);
    this.window = window;
    const invalid = (what: string) =>
      new SeineError('SEINE_ERR_CAPTURE_INVALID', `${path}: ${what}; give a pcap or pcapng file, plain or .gz`);
    window.moveTo(window.start, PCAP_HEADER_SIZE);
    const whole = await window.refill();
    if (window.end === 0) throw invalid('is empty');
    if (window.end < 4) throw invalid(`has only ${window.end} octets`);
    const magic = window.view.getUint32(0);
    if (magic === SECTION_HEADER) this.format = new PcapngReader(path);
    else if (!isPcapMagic(magic))
      throw invalid(`begins with ${magic.toString(16).padStart(8, '0')}, which is no capture's magic`);
    else if (!whole) throw invalid(`is cut off in its file header (${window.end} of ${PCAP_HEADER_SIZE} octets)`);
    else this.format = new PcapReader(window, path);
  }
}
