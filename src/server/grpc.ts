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
  type ServiceDefinition,
  status,
  type UntypedHandleCall,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { ReflectionService } from '@grpc/reflection';
import { HealthImplementation, protoPath as healthProto } from 'grpc-health-check';
import { HEAD_WORDS, HeadFlag, verdictsBound } from '../batch/head.js';
import type { PacketBatch } from '../batch/packet-batch.js';
import { fillFromProtobuf, packedSize, WireWriter } from '../batch/protobuf.js';
import { loadSeine, PROTO_OPTIONS, PROTO_PATH } from '../client/control.js';
import { copyOutput, type Engine } from '../engine/engine.js';
import type { BatchOutput, Dispatcher } from '../engine/engine-view.js';
import { SeineError } from '../errors.js';
import { kernels } from '../native/kernels.js';
import { emissionCount } from '../pipeline/emitter.js';
import { flowRow, passes, ruleRows } from './rows.js';
import { clearStaleSocket, type Listener, SOCKET_MODE } from './unix-listener.js';

const toServiceError = (error: unknown): { code: status; details: string } =>
  error instanceof SeineError
    ? { code: status[error.grpcStatus as keyof typeof status] as status, details: error.message }
    : { code: status.INTERNAL, details: (error as Error).message };

/** Batches of one stream that may be under way, and octets of their messages; past either the stream is not read from. */
const STREAM_WINDOW = 32;
const STREAM_OCTETS = 8 << 20;

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

/** Judges a PacketBatch message; `done` gets a VerdictBatch message. */
function judge(
  engine: Engine,
  admission: Admission,
  message: Buffer,
  done: (error: SeineError | null, reply: Buffer | null) => void,
): void {
  admission.take((batch) => {
    const { dispatcher } = engine;
    const head = new Uint32Array(HEAD_WORDS);
    if (kernels.readProtobuf(batch, message, 0, message.length, head) === 0) {
      let error: unknown = null;
      try {
        fillFromProtobuf(batch, message, 0, message.length, head);
      } catch (refusal) {
        error = refusal;
      }
      dispatcher.release(batch);
      if (!(error instanceof SeineError)) throw error ?? new Error('a kernel refused what its reference takes');
      engine.counters().at(-1)!.count('batchesRefused');
      done(error, null);
      return;
    }
    const stampTime = (head[2]! & HeadFlag.Timed) === 0;
    dispatcher.submit(batch, 'grpc', { stampTime }, (error) => {
      const reply = error === null ? verdictBatch(engine, batch, head) : null;
      dispatcher.release(batch);
      done(error as SeineError | null, reply);
    });
  });
}

/** The VerdictBatch message of a judged batch. */
function verdictBatch(engine: Engine, batch: PacketBatch, head: Uint32Array): Buffer {
  const { count } = batch;
  const returnPackets = (head[2]! & HeadFlag.ReturnPackets) !== 0;
  const extra: Pick<BatchOutput, 'data' | 'dataLength' | 'emit'> =
    returnPackets || emissionCount(batch) > 0 ? copyOutput(batch, returnPackets, engine.rewrite) : {};
  const { data, dataLength, emit } = extra;
  const bound =
    verdictsBound(count) +
    (data === undefined ? 0 : 32 + data.length + packedSize(dataLength!)) +
    (emit === undefined ? 0 : 32 + emit.data.length + packedSize(emit.outPort) + packedSize(emit.length));
  const reply = Buffer.allocUnsafe(bound);
  const size = kernels.writeProtobuf(batch, count, head, reply, 0);
  if (data === undefined && emit === undefined) return reply.subarray(0, size);
  const writer = new WireWriter(reply, size);
  if (data !== undefined) {
    writer.field(7, data);
    writer.packed(8, dataLength!);
  }
  if (emit !== undefined) {
    const part = new WireWriter(Buffer.allocUnsafe(bound), 0);
    part.packed(1, emit.outPort);
    part.packed(2, emit.length);
    part.field(3, emit.data);
    writer.field(9, part.octets.subarray(0, part.at));
  }
  return reply.subarray(0, writer.at);
}

/** Messages of the Datapath are read and written in place (batch/protobuf.ts): the library hands them on as they are. */
function datapathDefinition(): ServiceDefinition {
  const { service } = loadSeine().Datapath;
  const asIs = (octets: Buffer): Buffer => octets;
  return Object.fromEntries(
    Object.entries(service).map(([name, method]) => [
      name,
      { ...method, requestDeserialize: asIs, responseSerialize: asIs },
    ]),
  );
}

function datapath(engine: Engine): UntypedServiceImplementation {
  const admission = new Admission(engine.dispatcher);
  return {
    process: (call: ServerUnaryCall<Buffer, Buffer>, callback: sendUnaryData<Buffer>) => {
      judge(engine, admission, call.request, (error, reply) =>
        error !== null ? callback(toServiceError(error)) : callback(null, reply!),
      );
    },
    processStream: (call: ServerDuplexStream<Buffer, Buffer>) => {
      let received = 0;
      let answered = 0;
      let octets = 0;
      let ended = false;
      let failed = false;
      let blocked = false;
      /** The first batch that was refused ends the stream, when those before it are answered. */
      let refused: { batch: number; error: SeineError } | null = null;
      const next = () => {
        if (failed) return;
        if (refused !== null) {
          if (answered < refused.batch) return;
          failed = true;
          call.emit('error', toServiceError(refused.error));
          return;
        }
        const open = received - answered;
        if (!blocked && open < STREAM_WINDOW && octets < STREAM_OCTETS && call.isPaused()) call.resume();
        if (ended && open === 0) call.end();
      };
      call.on('data', (message: Buffer) => {
        if (failed || refused !== null) return;
        const batch = received++;
        octets += message.length;
        if (received - answered >= STREAM_WINDOW || octets >= STREAM_OCTETS) call.pause();
        judge(engine, admission, message, (error, reply) => {
          octets -= message.length;
          if (error !== null && (refused === null || batch < refused.batch)) refused = { batch, error };
          if (failed || (refused !== null && batch >= refused.batch)) {
            next();
            return;
          }
          answered++;
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
  const { Control } = loadSeine();
  server.addService(datapathDefinition(), datapath(engine));
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
