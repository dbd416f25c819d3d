/** gRPC client of the Control service, for commands: errors of the server become SeineErrors with its sentence. */
import {
  credentials,
  loadPackageDefinition,
  Metadata,
  type ServiceClientConstructor,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { fileURLToPath } from 'node:url';
import { readConfig } from '../config/read.js';
import { type ErrorCode, SeineError } from '../errors.js';

/** The interface's definition: src/api lies beside dist in a checkout and in the package. */
export const PROTO_PATH = fileURLToPath(new URL('../../../src/api/seine/v1/seine.proto', import.meta.url));
export const PROTO_OPTIONS = {
  keepCase: false,
  longs: String,
  enums: String,
  defaults: true,
  arrays: true,
  oneofs: false,
} as const;

export function loadSeine(): { Datapath: ServiceClientConstructor; Control: ServiceClientConstructor } {
  const loaded = loadPackageDefinition(loadSync(PROTO_PATH, PROTO_OPTIONS)) as unknown as {
    seine: { v1: { Datapath: ServiceClientConstructor; Control: ServiceClientConstructor } };
  };
  return loaded.seine.v1;
}

/** gRPC address of the configured (or default) Unix socket. */
export function defaultControlAddress(configPath?: string): string {
  const { config } = readConfig(configPath ?? null);
  const unix = config.listen.grpc.find((address) => address.startsWith('unix:'));
  const first = unix ?? config.listen.grpc[0];
  if (first === undefined)
    throw new SeineError('SEINE_ERR_USAGE', 'the configuration names no gRPC listener; give --server');
  return first;
}

const CODES: Partial<Record<status, ErrorCode>> = {
  [status.INVALID_ARGUMENT]: 'SEINE_ERR_USAGE',
  [status.NOT_FOUND]: 'SEINE_ERR_NOT_FOUND',
  [status.PERMISSION_DENIED]: 'SEINE_ERR_PERMISSION',
  [status.UNAVAILABLE]: 'SEINE_ERR_UNAVAILABLE',
  [status.UNIMPLEMENTED]: 'SEINE_ERR_UNIMPLEMENTED',
  [status.RESOURCE_EXHAUSTED]: 'SEINE_ERR_BUSY',
};
export function fromServiceError(error: ServiceError, address: string): SeineError {
  const unreachable = error.code === status.UNAVAILABLE && /connect|ENOENT|REFUSED|resolv/i.test(error.details ?? '');
  const text = unreachable
    ? `no service answers at ${address}: start one with \`seine serve\`, or name another with --server`
    : (error.details ?? error.message);
  return new SeineError(CODES[error.code] ?? 'SEINE_ERR_IO', text);
}

export interface ControlClient {
  call(method: string, request: object): Promise<unknown>;
  /** Ends with the server's stream, or quietly when `stop` is aborted. */
  stream(method: string, request: object, stop?: AbortSignal): AsyncIterable<object>;
  close(): void;
}

type Method = (request: object, ...rest: unknown[]) => AsyncIterable<object> & { cancel(): void };

/** `address`: unix:PATH or HOST:PORT. */
export function connectControl(address: string): ControlClient {
  const { Control } = loadSeine();
  const client = new Control(address, credentials.createInsecure(), { 'grpc.max_receive_message_length': 64 << 20 });
  const method = (name: string): Method => (client as unknown as Record<string, Method>)[name]!.bind(client) as Method;
  return {
    call: (name, request) =>
      new Promise((resolve, reject) => {
        const deadline = Date.now() + 60_000;
        method(name)(request, new Metadata(), { deadline }, (error: ServiceError | null, reply: unknown) => {
          if (error) reject(fromServiceError(error, address));
          else resolve(reply);
        });
      }),
    async *stream(name, request, stop) {
      const call = method(name)(request);
      stop?.addEventListener('abort', () => call.cancel());
      try {
        for await (const row of call) yield row;
      } catch (error) {
        if (stop?.aborted && (error as ServiceError).code === status.CANCELLED) return;
        throw fromServiceError(error as ServiceError, address);
      }
    },
    close: () => client.close(),
  };
}
