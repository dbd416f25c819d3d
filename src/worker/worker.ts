/**
 * A shard's thread: one long piscina task. It judges slices that owners of batches send over rings, and owns the batches of
 * the clients whose descriptors it was given. It talks to the main thread by one port: generations in, what finds no room in the ring of
 * flow records out.
 */
import { threadId } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';
import { PacketBatch, SHARDS_MAX } from '../batch/packet-batch.js';
import type { Recovery } from '../conntrack/recover.js';
import { RewriteTable } from '../batch/rewrite-table.js';
import { ThreadDispatcher, Message } from '../engine/dispatcher.js';
import { type Fabric, incarnationsOf, ringOffset } from '../engine/fabric.js';
import { Doorbell, Ring } from '../engine/ring.js';
import { SeineError } from '../errors.js';
import type { Generation, ShardSettings } from '../pipeline/shard.js';
import { type Fault, withFault } from './fault.js';
import { ShardRunner } from './shard-runner.js';

export interface WorkerTask {
  fabric: Fabric;
  settings: ShardSettings;
  generation: Generation;
  /** A fault of a test's making (worker/fault.ts). */
  fault: Fault | null;
  /** The shard's memory was another thread's, or another process's, before. */
  takeUp: boolean;
  port: MessagePort;
}
export type ToWorker =
  | { type: 'swap'; generation: Generation }
  | { type: 'adopt'; fd: number; memifHub?: number }
  | { type: 'records'; idleTimeout: number; activeTimeout: number }
  | { type: 'finish'; low: number; high: number }
  | { type: 'lost'; shard: number }
  | { type: 'drain' }
  | { type: 'stop' };
export type FromWorker =
  | { type: 'ready'; threadId: number; recovery: Recovery | null }
  | { type: 'swapped'; generation: number }
  | { type: 'spilled'; words: Uint32Array }
  | { type: 'finished' }
  /** A descriptor was received: it is this thread's from now on. */
  | { type: 'taken'; fd: number }
  | { type: 'clients'; count: number }
  | { type: 'failed'; message: string }
  | { type: 'drained' }
  | { type: 'stopped' };

/** What the thread that owns a client's descriptor gives to its connection. */
export interface WorkerContext {
  dispatcher: ThreadDispatcher;
  rewrite: RewriteTable;
  shards: number;
}
export interface Adopted {
  /** Stops reading; resolves when everything in hand is answered and the connection is closed. */
  drain(): Promise<void>;
  /** The thread ends now: answers what is in hand with an error, synchronously. */
  abandon(error: SeineError): void;
}
/** Makes a connection of a descriptor; calls `closed` when it is gone. `memifHub`: it is a memif client's (server/memif-server.ts). */
export type Adopt = (fd: number, context: WorkerContext, closed: () => void, memifHub?: number) => Adopted;

/** How often an idle shard looks for records and connections that are due. */
const SWEEP_INTERVAL_MS = 200;

export async function runWorker(task: WorkerTask, adopt: Adopt | null): Promise<void> {
  const { fabric, settings, port } = task;
  const participant = settings.shard + 1;
  const bells = new Int32Array(fabric.bells);
  const bellOf = fabric.batches.map((_, owner) => new Doorbell(bells, owner));
  const post = (message: FromWorker, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);
  const runner = new ShardRunner(
    fabric,
    settings,
    task.generation,
    {
      spilled: (words) => post({ type: 'spilled', words }, [words.buffer as ArrayBuffer]),
      ring: () => bellOf[0]!.ring(),
    },
    task.takeUp,
  );
  const shard = runner.state;
  const dispatcher = new ThreadDispatcher(fabric, participant);
  dispatcher.forwarding = shard.forwarding;
  dispatcher.replay = settings.replay;
  const context: WorkerContext = { dispatcher, rewrite: new RewriteTable(fabric.rewrite), shards: fabric.shards };
  const clients = new Set<Adopted>();
  const incarnation = Atomics.load(incarnationsOf(fabric), settings.shard);
  const judge = withFault(runner.judge, task.fault, incarnation);
  // Faults crash or slow what is judged row by row.
  const judgeWhole = task.fault === null ? runner.judgeWhole : null;
  dispatcher.local = { shard: settings.shard, judge, judgeWhole, account: runner.account };

  // Batches of other owners, and the rings that bring them.
  const others = fabric.batches.map((list, owner) =>
    owner === participant ? [] : list.map((memory) => new PacketBatch(memory)),
  );
  const incoming = fabric.batches.map(
    (_, owner) => new Ring(fabric.rings, ringOffset(fabric, owner, settings.shard, false)),
  );
  const back = fabric.batches.map(
    (_, owner) => new Ring(fabric.rings, ringOffset(fabric, owner, settings.shard, true)),
  );
  const message = new Int32Array(4);
  let failure: Error | null = null;
  const pump = () => {
    for (let owner = 0; owner < incoming.length; owner++) {
      while (incoming[owner]!.pop(message)) {
        const [mark, index, low, high] = message as unknown as [number, number, number, number];
        if (mark >>> 8 !== incarnation) continue; // sent to a worker that was lost, and answered with an error
        const kind = mark & 0xff;
        const batch = others[owner]![index]!;
        const phase = kind === Message.Judge ? 0 : SHARDS_MAX * 2;
        const start = batch.sliceBounds[phase + settings.shard * 2]!;
        const count = batch.sliceBounds[phase + settings.shard * 2 + 1]!;
        const rows = batch.sliceRows.subarray(start, start + count);
        try {
          if (kind === Message.Judge) {
            judge(batch, rows, count, low >>> 0, high >>> 0);
            shard.counters.count('rowsFromPeers', count);
          } else runner.account(batch, rows, count);
        } catch (error) {
          back[owner]!.push(Message.Failed | (incarnation << 8), index, 0, 0);
          bellOf[owner]!.ring();
          failure = error as Error;
          throw error;
        }
        for (let i = 0; i < count; i++) batch.owner[rows[i]!] = owner;
        back[owner]!.push(mark, index, 0, 0);
        bellOf[owner]!.ring();
      }
    }
    dispatcher.pump();
  };

  const doorbell = new Doorbell(bells, participant);
  const listening = doorbell.listen(pump);
  let stop: () => void = () => {};
  const stopped = new Promise<void>((resolve) => {
    stop = resolve;
  });

  const timer = setInterval(() => {
    if (!settings.replay) runner.sweepIdle();
  }, SWEEP_INTERVAL_MS);

  port.on('message', (received: ToWorker) => {
    switch (received.type) {
      case 'swap':
        shard.swap(received.generation);
        dispatcher.forwarding = shard.forwarding;
        post({ type: 'swapped', generation: received.generation.generation });
        break;
      case 'records':
        shard.setRecordTimeouts(received.idleTimeout, received.activeTimeout);
        break;
      case 'adopt': {
        post({ type: 'taken', fd: received.fd });
        if (adopt === null) throw new Error('this worker adopts no connections');
        const closed = () => {
          clients.delete(client);
          post({ type: 'clients', count: clients.size });
        };
        const client = adopt(received.fd, context, closed, received.memifHub);
        clients.add(client);
        post({ type: 'clients', count: clients.size });
        break;
      }
      case 'finish':
        runner.finish(received.low, received.high);
        post({ type: 'finished' });
        break;
      case 'lost':
        dispatcher.shardLost(received.shard);
        break;
      case 'drain':
        void Promise.all([...clients].map((client) => client.drain())).then(() => post({ type: 'drained' }));
        break;
      case 'stop':
        doorbell.stop();
        stop();
        break;
    }
  });
  // Whatever ends this thread, an error or process.exit: a client is told which of its batches were not judged.
  process.once('exit', () => {
    const error = new SeineError(
      'SEINE_ERR_WORKER_LOST',
      `the worker of shard ${settings.shard} was lost while it had the batch in hand; send it again`,
    );
    for (const client of clients) client.abandon(error);
  });
  post({ type: 'ready', threadId, recovery: runner.recovery });
  try {
    await Promise.race([stopped, listening.then(() => stopped)]);
  } catch (error) {
    // Clients and timers of this thread must not outlive its shard: the thread ends, and the engine runs another.
    post({ type: 'failed', message: (error as Error).message });
    setImmediate(() => process.exit(1));
    await new Promise(() => {});
  } finally {
    clearInterval(timer);
    if (failure === null) {
      post({ type: 'stopped' });
      port.close();
    }
  }
}
