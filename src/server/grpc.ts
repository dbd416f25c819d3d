/**
 * The gRPC front end (contract §5): Datapath, Control, health (grpc.health.v1) and server reflection. One server a listener:
 * on plain TCP, changes are refused (contract §6); the Unix listener takes them.
 */
import { chmodSync } from 'node:fs';
import {
  Server,
  ServerCredentials,
  type sendUnaryData,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  status,
  type UntypedHandleCall,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { ReflectionService } from '@grpc/reflection';
import { HealthImplementation, protoPath as healthProto } from 'grpc-health-check';
import { checkBatch } from '../batch/limits.js';
import type { PacketBatch } from '../batch/packet-batch.js';
import { loadSeine, PROTO_OPTIONS, PROTO_PATH } from '../client/control.js';
import { copyOutput, type Engine, fillBatch } from '../engine/engine.js';
import type { BatchInput, BatchOutput, Dispatcher } from '../engine/engine-view.js';
import { SeineError } from '../errors.js';
import { emissionCount } from '../pipeline/emitter.js';
import { flowRow, passes, ruleRows } from './rows.js';
import { clearStaleSocket, type Listener, SOCKET_MODE } from './unix-listener.js';

interface PacketBatchMessage {
  batchId: string;
  data: Buffer;
  length: number[];
  inPort: number[];
  timeNs: string[];
  returnPackets: boolean;
}
interface VerdictBatchMessage {
  batchId: string;
  verdict: Uint8Array;
  outPort: ArrayLike<number>;
  reason: Uint8Array;
  ct: Uint8Array;
  rule: ArrayLike<number>;
  data?: Uint8Array;
  length?: number[];
  emit?: { outPort: number[]; length: number[]; data: Uint8Array };
}

const toServiceError = (error: unknown): { code: status; details: string } =>
  error instanceof SeineError
    ? { code: status[error.grpcStatus as keyof typeof status] as status, details: error.message }
    : { code: status.INTERNAL, details: (error as Error).message };

/** Batches of one stream that may be under way; past them the stream is not read from. */
const STREAM_WINDOW = 8;

/** Calls that one connection may have open at once: what is received of them waits in memory. */
const CALLS_PER_CONNECTION = 256;
/** Octets of one request: on TCP a batch of 3 MiB, on the Unix listener also the manifest of a whole large cluster. */
const RECEIVE_LIMIT = 8 << 20;
const RECEIVE_LIMIT_UNIX = 256 << 20;
/** Records that wait for a slow watcher of flows, before its stream is ended. */
const WATCH_BACKLOG = 65_536;

/** Batches for those that wait, first come first served: so a stream's batches are submitted in its order. */
class Admission {
  private readonly waiting: ((batch: PacketBatch) => void)[] = [];
  private asked = false;
  constructor(private readonly dispatcher: Dispatcher) {}
  take(use: (batch: PacketBatch) => void): void {
    this.waiting.push(use);
    this.admit();
  }
  private admit(): void {
    while (this.waiting.length > 0) {
      const batch = this.dispatcher.acquire();
      if (batch !== null) {
        this.waiting.shift()!(batch);
        continue;
      }
      if (this.asked) return;
      this.asked = true;
      this.dispatcher.whenFree(() => {
        this.asked = false;
        this.admit();
      });
      return;
    }
  }
}

function judge(
  engine: Engine,
  admission: Admission,
  message: PacketBatchMessage,
  done: (error: SeineError | null, reply: VerdictBatchMessage | null) => void,
): void {
  const input: BatchInput = {
    data: message.data,
    length: Uint32Array.from(message.length),
    inPort: Uint32Array.from(message.inPort),
    ...(message.timeNs.length > 0 ? { time: BigUint64Array.from(message.timeNs, BigInt) } : {}),
    returnPackets: message.returnPackets,
  };
  try {
    checkBatch(input.data, input.length, message.inPort.length, input.time?.length ?? null);
  } catch (error) {
    engine.counters().at(-1)!.count('batchesRefused');
    done(error as SeineError, null);
    return;
  }
  admission.take((batch) => {
    fillBatch(batch, input);
    engine.dispatcher.submit(batch, 'grpc', { stampTime: input.time === undefined }, (error) => {
      let reply: VerdictBatchMessage | null = null;
      if (error === null) {
        const { count } = batch;
        const extra: Pick<BatchOutput, 'data' | 'dataLength' | 'emit'> =
          message.returnPackets || emissionCount(batch) > 0
            ? copyOutput(batch, message.returnPackets, engine.rewrite)
            : {};
        reply = {
          batchId: message.batchId,
          verdict: Buffer.from(batch.verdict.slice(0, count).buffer),
          outPort: Array.from(batch.outPort.subarray(0, count)),
          reason: Buffer.from(batch.dropReason.slice(0, count).buffer),
          ct: Buffer.from(batch.ct.slice(0, count).buffer),
          rule: Array.from(batch.rule.subarray(0, count)),
          ...(extra.data === undefined ? {} : { data: Buffer.from(extra.data), length: Array.from(extra.dataLength!) }),
          ...(extra.emit === undefined
            ? {}
            : {
                emit: {
                  outPort: Array.from(extra.emit.outPort),
                  length: Array.from(extra.emit.length),
                  data: Buffer.from(extra.emit.data),
                },
              }),
        };
      }
      engine.dispatcher.release(batch);
      done(error as SeineError | null, reply);
    });
  });
}

function datapath(engine: Engine): UntypedServiceImplementation {
  const admission = new Admission(engine.dispatcher);
  return {
    process: (
      call: ServerUnaryCall<PacketBatchMessage, VerdictBatchMessage>,
      callback: sendUnaryData<VerdictBatchMessage>,
    ) => {
      judge(engine, admission, call.request, (error, reply) =>
        error !== null ? callback(toServiceError(error)) : callback(null, reply!),
      );
    },
    processStream: (call: ServerDuplexStream<PacketBatchMessage, VerdictBatchMessage>) => {
      let open = 0;
      let ended = false;
      let failed = false;
      let blocked = false;
      const next = () => {
        if (!blocked && open < STREAM_WINDOW && call.isPaused()) call.resume();
        if (ended && open === 0 && !failed) call.end();
      };
      call.on('data', (message: PacketBatchMessage) => {
        if (failed) return;
        open++;
        if (open >= STREAM_WINDOW) call.pause();
        judge(engine, admission, message, (error, reply) => {
          open--;
          if (failed) return;
          if (error !== null) {
            failed = true;
            call.emit('error', toServiceError(error));
            return;
          }
          if (!call.write(reply!) && !blocked) {
            blocked = true;
            call.pause();
            call.once('drain', () => {
              blocked = false;
              next();
            });
          }
          next();
        });
      });
      call.on('end', () => {
        ended = true;
        next();
      });
      call.on('cancelled', () => {
        failed = true;
      });
    },
  };
}

const orEmpty = (value: string | null): string => value ?? '';

function control(engine: Engine, mayChange: boolean): UntypedServiceImplementation {
  const unary =
    // biome-ignore lint/suspicious/noExplicitAny: requests are typed by the .proto, grpc-js's handlers by any
      (work: (request: any) => unknown | Promise<unknown>): UntypedHandleCall =>
      // biome-ignore lint/suspicious/noExplicitAny: as above
      (call: ServerUnaryCall<any, any>, callback: sendUnaryData<any>): void => {
        void (async () => {
          try {
            callback(null, await work(call.request));
          } catch (error) {
            callback(toServiceError(error));
          }
        })();
      };
  // biome-ignore lint/suspicious/noExplicitAny: as above
  const change = (work: (request: any) => unknown | Promise<unknown>) =>
    unary((request) => {
      if (!mayChange)
        throw new SeineError(
          'SEINE_ERR_PERMISSION',
          'changes are taken on the Unix listener only; connect to unix:PATH',
        );
      return work(request);
    });
  const later = (what: string) => (): never => {
    throw new SeineError('SEINE_ERR_UNIMPLEMENTED', `${what} is not in this version`);
  };
  const reply = (result: Awaited<ReturnType<Engine['apply']>>) => ({
    changes: result.changes.map((each) => ({ ...each, namespace: orEmpty(each.namespace) })),
    warnings: result.warnings,
    generation: String(result.generation),
  });
  return {
    apply: change(async ({ manifest, dryRun, prune }: { manifest: string; dryRun: boolean; prune: boolean }) =>
      reply(await engine.apply(manifest, { origin: 'manifest', dryRun, prune })),
    ),
    delete: change(async ({ kind, namespace, name }: { kind: string; namespace: string; name: string }) =>
      reply(await engine.delete(kind, namespace === '' ? null : namespace, name)),
    ),
    getSettings: unary(() => ({ json: JSON.stringify(engine.config) })),
    updateSettings: change(later('changing settings at run time')),
    listPorts: unary(() => ({ ports: engine.ports().map((port) => ({ ...port, mac: orEmpty(port.mac) })) })),
    listPolicies: unary(() => ({
      policies: engine.policies().map((each) => ({
        ...each,
        namespace: orEmpty(each.namespace),
        ingressRules: each.ingressRules ?? -1,
        egressRules: each.egressRules ?? -1,
      })),
    })),
    listRules: unary(() => ({
      rules: ruleRows(engine).map(({ rule, namespace, packets, octets, connections, ...rest }) => ({
        ...rest,
        namespace: orEmpty(namespace),
        rule: rule === null ? '' : String(rule),
        packets: String(packets),
        octets: String(octets),
        connections: String(connections),
      })),
    })),
    listServices: unary(() => ({
      services: engine.services().map(({ clusterIPs, ...rest }) => ({ ...rest, clusterIps: clusterIPs })),
    })),
    listWorkers: unary(() => ({
      workers: engine.workers().map((each) => ({ ...each, packets: String(each.packets) })),
    })),
    listExporters: unary(() => ({
      exporters: engine.exporters().map((each) => ({
        ...each,
        records: String(each.records),
        datagrams: String(each.datagrams),
        lost: String(each.lost),
      })),
    })),
    listDrops: unary(() => ({ drops: engine.drops().map((each) => ({ ...each, packets: String(each.packets) })) })),
    listConnections: (call: ServerWritableStream<object, object>) => {
      void (async () => {
        let written = 0;
        for (const each of engine.connections()) {
          if (call.cancelled) return;
          if (!passes(each, call.request)) continue;
          const room = call.write({
            ...each,
            vlan: each.vlan ?? -1,
            reason: orEmpty(each.reason),
            packets: each.packets.map(String),
            octets: each.octets.map(String),
            startNs: String(each.startNs),
            lastNs: String(each.lastNs),
            expiresNs: String(each.expiresNs),
          });
          if (!room) await new Promise((resolve) => call.once('drain', resolve));
          else if (++written % 1024 === 0) await new Promise((resolve) => setImmediate(resolve));
        }
        call.end();
      })().catch((error) => call.emit('error', toServiceError(error)));
    },
    watchFlows: (call: ServerWritableStream<object, object>) => {
      const stop = engine.watchRecords((records) => {
        for (const record of records) {
          const row = flowRow(engine, record);
          if (!passes(row, call.request)) continue;
          if (call.writableLength > WATCH_BACKLOG) {
            stop();
            call.emit(
              'error',
              toServiceError(
                new SeineError(
                  'SEINE_ERR_BUSY',
                  `${WATCH_BACKLOG} flow records wait for this watcher to read; watch again, or fewer by a filter`,
                ),
              ),
            );
            return;
          }
          call.write({
            ...row,
            packets: String(row.packets),
            octets: String(row.octets),
            startNs: String(row.startNs),
            endNs: String(row.endNs),
            ingressPolicy: orEmpty(row.ingressPolicy),
            egressPolicy: orEmpty(row.egressPolicy),
            reason: orEmpty(row.reason),
          });
        }
      });
      call.on('cancelled', stop);
      call.on('close', stop);
    },
    trace: unary(later('Trace')),
  };
}

const isLoopback = (address: string): boolean => /^(127\.\d+\.\d+\.\d+|localhost|\[::1\]):\d+$/.test(address);

/** Listens on one address: `unix:PATH`, or HOST:PORT on loopback. */
export async function listenGrpc(engine: Engine, address: string): Promise<Listener> {
  const unix = address.startsWith('unix:');
  if (!unix && !/^.+:\d+$/.test(address)) {
    throw new SeineError(
      'SEINE_ERR_CONFIG_INVALID',
      `listen.grpc: ${JSON.stringify(address)}: unix:PATH or HOST:PORT belongs here`,
    );
  }
  if (!unix && !isLoopback(address)) {
    throw new SeineError(
      'SEINE_ERR_CONFIG_INVALID',
      `listen.grpc: ${address}: plain TCP is served on loopback only, such as 127.0.0.1:50051`,
    );
  }
  const path = address.slice('unix:'.length);
  if (unix) await clearStaleSocket(path);
  const server = new Server({
    'grpc.max_receive_message_length': unix ? RECEIVE_LIMIT_UNIX : RECEIVE_LIMIT,
    'grpc.max_concurrent_streams': CALLS_PER_CONNECTION,
    'grpc.max_send_message_length': 32 << 20,
    'grpc.so_reuseport': 0,
  });
  const { Datapath, Control } = loadSeine();
  server.addService(Datapath.service, datapath(engine));
  server.addService(Control.service, control(engine, unix));
  const health = new HealthImplementation({
    '': 'SERVING',
    'seine.v1.Datapath': 'SERVING',
    'seine.v1.Control': 'SERVING',
  });
  health.addToServer(server);
  new ReflectionService({ ...loadSync(PROTO_PATH, PROTO_OPTIONS), ...loadSync(healthProto) }).addToServer(server);
  const port = await new Promise<number>((resolve, reject) => {
    const before = process.umask(0o117);
    server.bindAsync(address, ServerCredentials.createInsecure(), (error, bound) => {
      process.umask(before);
      if (error !== null) {
        const taken = /EADDRINUSE|address already in use/i.test(error.message);
        reject(
          new SeineError(
            taken ? 'SEINE_ERR_ADDRESS_IN_USE' : 'SEINE_ERR_IO',
            `listen.grpc: ${address}: can't listen: ${error.message}`,
          ),
        );
      } else resolve(bound);
    });
  });
  if (unix) chmodSync(path, SOCKET_MODE);
  return {
    address: unix ? address : address.replace(/:\d+$/, `:${port}`),
    close: () =>
      new Promise((resolve) => {
        health.setStatus('', 'NOT_SERVING');
        const force = setTimeout(() => server.forceShutdown(), 1500);
        server.tryShutdown(() => {
          clearTimeout(force);
          resolve();
        });
      }),
  };
}
