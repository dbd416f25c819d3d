/**
 * The baseline of the transport rows: a service that sends every message back as it came, and the client of `seine load` to it.
 * `echo.js serve unix|grpc|unjudged PATH`, `echo.js load unix|grpc PATH CONTROL OPTIONS`: OPTIONS is a Load as JSON, CONTROL the gRPC
 * address of the service whose pods the frames are between. Prints one line of JSON.
 */
import { Socket } from 'node:net';
import { Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import { PacketBatch } from '../src/batch/packet-batch.js';
import { RewriteTable } from '../src/batch/rewrite-table.js';
import { type Batch, type Load, makeBatches } from '../src/cli/load-batches.js';
import { GrpcSender, type Sender, UnixSender } from '../src/cli/load-sender.js';
import { listPods } from '../src/cli/load.js';
import { BATCHES_PER_PARTICIPANT } from '../src/engine/fabric.js';
import { SharedCounters } from '../src/metrics/shared-counters.js';
import { UnixConnection } from '../src/server/unix-connection.js';
import { listenUnix } from '../src/server/unix-listener.js';
import type { WorkerContext } from '../src/worker/worker.js';

const READ_SIZE = 1 << 16;

/** Whole messages of a stream, without copies but of those that a read cut off. */
class Messages {
  private rest = Buffer.allocUnsafeSlow(READ_SIZE);
  /** What was taken from the rest may still wait to be sent while the next rest gathers. */
  private other = Buffer.allocUnsafeSlow(READ_SIZE);
  private held = 0;
  constructor(private readonly take: (octets: Buffer, start: number, end: number) => void) {}
  received(octets: Buffer, size: number): void {
    let at = 0;
    while (this.held > 0) {
      const wanted = this.held < 4 ? 4 : 4 + this.rest.readUInt32LE(0);
      if (this.held >= 4 && this.held === wanted) {
        this.take(this.rest, 0, wanted);
        [this.rest, this.other] = [this.other, this.rest];
        this.held = 0;
        break;
      }
      if (at === size) return;
      at += this.hold(octets, at, Math.min(size, at + wanted - this.held));
    }
    while (size - at >= 4) {
      const end = at + 4 + octets.readUInt32LE(at);
      if (end > size) break;
      this.take(octets, at, end);
      at = end;
    }
    if (at < size) this.hold(octets, at, size);
  }
  private hold(octets: Buffer, from: number, to: number): number {
    if (this.held + to - from > this.rest.length) {
      const larger = Buffer.allocUnsafeSlow((this.held + to - from) * 2);
      this.rest.copy(larger, 0, 0, this.held);
      this.rest = larger;
    }
    octets.copy(this.rest, this.held, from, to);
    this.held += to - from;
    return to - from;
  }
}

/** Raw `onread`: 64 KiB a read, one write a message; a client that does not read is not read from. */
function serveUnix(path: string): Promise<unknown> {
  return listenUnix(path, (fd) => {
    const messages = new Messages((octets, start, end) => socket.write(octets.subarray(start, end)));
    const buffer = Buffer.allocUnsafeSlow(READ_SIZE);
    const socket: Socket = new Socket({
      fd,
      onread: {
        buffer,
        callback: (size: number): boolean => {
          messages.received(buffer, size);
          // What the socket did not take lies in the buffer until it has: nothing is read over it.
          if (socket.writableLength > 0) socket.pause();
          return true;
        },
      },
    } as never);
    socket.on('drain', () => socket.resume());
    socket.on('error', () => socket.destroy());
    socket.resume();
  });
}

/** The service's own connections over an engine that forwards everything unseen: what the transport alone costs. */
function serveUnjudged(path: string): Promise<unknown> {
  const free = Array.from({ length: BATCHES_PER_PARTICIPANT }, () => new PacketBatch());
  const waiting: (() => void)[] = [];
  const dispatcher: Pick<
    WorkerContext['dispatcher'],
    'counters' | 'acquire' | 'release' | 'whenFree' | 'answered' | 'submit'
  > = {
    counters: new SharedCounters(),
    acquire: () => free.pop() ?? null,
    release: (batch) => {
      free.push(batch);
      waiting.shift()?.();
    },
    whenFree: (callback) => void waiting.push(callback),
    answered: () => {},
    submit: (batch, _transport, _options, done) => {
      batch.emitWords[0] = 0;
      batch.verdict.fill(1, 0, batch.count);
      done(null);
    },
  };
  const context = { dispatcher, rewrite: new RewriteTable(), shards: 1 } as unknown as WorkerContext;
  return listenUnix(path, (fd) => void new UnixConnection(fd, context, () => {}));
}

const asIs = (octets: Buffer): Buffer => octets;
function serveGrpc(path: string): Promise<void> {
  const server = new Server({ 'grpc.max_receive_message_length': 8 << 20 });
  server.addService(
    {
      ProcessStream: {
        path: '/seine.v1.Datapath/ProcessStream',
        requestStream: true,
        responseStream: true,
        requestDeserialize: asIs,
        requestSerialize: asIs,
        responseDeserialize: asIs,
        responseSerialize: asIs,
      },
    },
    {
      ProcessStream: (call: ServerDuplexStream<Buffer, Buffer>) => {
        call.on('data', (message: Buffer) => {
          if (!call.write(message)) {
            call.pause();
            call.once('drain', () => call.resume());
          }
        });
        call.on('end', () => call.end());
      },
    },
  );
  return new Promise((resolve, reject) => {
    server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    );
  });
}

/** The same requests as to the service; an answer is the request. */
class UnixEchoSender extends UnixSender {
  private readonly messages = new Messages((octets, start) => this.echoed(octets, start));
  protected override received(octets: Buffer): void {
    this.messages.received(octets, octets.length);
    this.pump();
  }
  private echoes = 0;
  private echoed(octets: Buffer, start: number): void {
    const id = this.echoes++;
    if (octets.readUInt32BE(start + this.idAtOf(id)) !== id) this.fail(new Error('an echo out of order'));
    this.answered(id, FORWARD, 0, this.load.batch);
  }
}
class GrpcEchoSender extends GrpcSender {
  private echoes = 0;
  protected override message(): void {
    this.answered(this.echoes++, FORWARD, 0, this.load.batch);
    this.pump();
  }
}
/** Stands for the verdicts, which an echo has none of. */
const FORWARD = new Uint8Array(4096).fill(1);

async function load(transport: string, path: string, control: string, options: Load): Promise<void> {
  const batches: Batch[] = makeBatches(options, await listPods(control));
  const sender: Sender =
    transport === 'unix'
      ? await UnixEchoSender.open(options, batches, path)
      : new GrpcEchoSender(options, batches, `unix:${path}`);
  const seconds = await sender.run(() => {});
  sender.close();
  const { answered, offered, latency } = sender.totals;
  process.stdout.write(
    `${JSON.stringify({
      packetsPerSecond: answered / seconds,
      lost: offered - answered,
      latencyUs: { p50: latency.percentile(0.5), p99: latency.percentile(0.99) },
    })}\n`,
  );
}

const [what, transport, path, control, options] = process.argv.slice(2);
if (what === 'serve') {
  await (transport === 'unix' ? serveUnix(path!) : transport === 'unjudged' ? serveUnjudged(path!) : serveGrpc(path!));
  process.stdout.write('ready\n');
} else await load(transport!, path!, control!, JSON.parse(options!) as Load);
