/**
 * Captures as batches: pcap and pcapng, files, standard input (`-`) or gzip, one after the other, in bounded memory. Which
 * octets make a frame is link.ts's; what is wrong with a frame is Parse's.
 */
import { BATCH_ROWS, type PacketBatch } from '../batch/packet-batch.js';
import { SeineError } from '../errors.js';
import { isPcapMagic, PCAP_HEADER_SIZE, PcapReader } from './pcap.js';
import { PcapngReader, SECTION_HEADER } from './pcapng.js';
import { type CaptureRows, RowWriter } from './rows.js';
import { Scan } from './scan.js';
import { type FormatReader, Window } from './window.js';

/** Packets that are worth a batch: a call's fixed costs are small beside them. */
const ENOUGH_PACKETS = 1024;

/** Octets that a batch's data must have left for another file to begin in it. */
const OPEN_ROOM_SIZE = 1024 * 1024;

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
   * Fills the batch's data, offset, length, wireLength, frameOctets, timeNs, inPort and count, and `rows`. Returns
   * the packets taken (rows and early drops); 0 at the end of the last capture. An invalid capture throws SeineError
   * (SEINE_ERR_CAPTURE_INVALID) once what came before the fault was given out.
   */
  async fill(batch: PacketBatch, rows: CaptureRows): Promise<number> {
    const { writer } = this;
    writer.begin(batch, rows, Math.min(BATCH_ROWS, this.options.rowsPerBatch ?? BATCH_ROWS));
    if (this.failure === null) {
      try {
        await this.fillFrom(writer, batch.data);
      } catch (error) {
        this.failure = error;
      }
    }
    if (this.failure !== null && writer.taken === 0) throw this.failure;
    return writer.taken;
  }

  /** In-port of the rows: `inPort`, and with `perInterface` the number of the packet's interface more. */
  setInPort(inPort: number, perInterface: boolean): void {
    this.writer.inPort = inPort;
    this.writer.perInterface = perInterface;
  }

  async close(): Promise<void> {
    const window = this.window;
    this.window = null;
    await window?.close();
  }

  private async fillFrom(writer: RowWriter, data: Uint8Array): Promise<void> {
    this.window?.attach(data);
    for (;;) {
      if (this.window === null || this.format === null) {
        if (this.next >= this.paths.length) return;
        // What opening a file reads must find room behind the rows.
        if (data.length - writer.dataEnd < OPEN_ROOM_SIZE) return;
        await this.openNext(this.paths[this.next++]!, data, writer.dataEnd);
      }
      const window = this.window!;
      if (this.format!.scan(window, writer) === Scan.Full) return;
      if (writer.taken >= ENOUGH_PACKETS) return;
      const refill = await window.refill(writer.dataEnd);
      if (refill === 'more') continue;
      if (refill === 'full') return;
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

  private async openNext(path: string, data: Uint8Array, from: number): Promise<void> {
    const window = await Window.open(path, data, from);
    this.window = window;
    const invalid = (what: string) =>
      new SeineError('SEINE_ERR_CAPTURE_INVALID', `${path}: ${what}; give a pcap or pcapng file, plain or .gz`);
    window.want(PCAP_HEADER_SIZE);
    const whole = (await window.refill(from)) === 'more';
    const size = window.end - window.start;
    if (size === 0) throw invalid('is empty');
    if (size < 4) throw invalid(`has only ${size} octets`);
    const magic = window.view.getUint32(window.start);
    if (magic === SECTION_HEADER) this.format = new PcapngReader(path);
    else if (!isPcapMagic(magic))
      throw invalid(`begins with ${magic.toString(16).padStart(8, '0')}, which is no capture's magic`);
    else if (!whole) throw invalid(`is cut off in its file header (${size} of ${PCAP_HEADER_SIZE} octets)`);
    else this.format = new PcapReader(window, path);
  }
}
