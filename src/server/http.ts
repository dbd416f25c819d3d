/** The HTTP front end (contract §6), read-only: metrics, health, listings as JSON, and a page that shows them. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import type { Engine } from '../engine/engine.js';
import { SeineError } from '../errors.js';
import type { Metrics } from '../metrics/registry.js';
import { readSelection } from '../metrics/selection.js';
import { PAGE } from './page.js';
import { type RecentFlows, ruleRows } from './rows.js';
import { type Listener, tellTrouble } from './unix-listener.js';

/** Connections that one listing shows at most; the header x-seine-more says that there are more. */
const LISTED_MAX = 10_000;

const json = (value: unknown): string =>
  JSON.stringify(value, (_, entry) => (typeof entry === 'bigint' ? `\u0001${entry}\u0001` : entry)).replace(
    /"\\u0001(-?\d+)\\u0001"/g,
    '$1',
  );

const HEADERS = {
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'content-security-policy':
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'",
} as const;

/** Octets that are handed to a socket before others have their turn. */
const SLICE = 1 << 17;

/** A large body, in slices: the sockets and timers of this thread are not held up by it. */
async function sendParts(
  request: IncomingMessage,
  response: ServerResponse,
  type: string,
  parts: readonly Uint8Array[],
): Promise<void> {
  response.writeHead(200, {
    ...HEADERS,
    'content-type': type,
    'content-length': parts.reduce((sum, { length }) => sum + length, 0),
  });
  if (request.method !== 'HEAD') {
    for (const part of parts) {
      for (let at = 0; at < part.length; at += SLICE) {
        if (response.destroyed) return;
        if (response.write(part.subarray(at, at + SLICE))) await setImmediate();
        else await drained(response);
      }
    }
  }
  response.end();
}
/** Resolves when there is room again, or when the other side is gone. */
const drained = (response: ServerResponse): Promise<void> =>
  new Promise((resolve) => {
    const done = () => {
      response.off('drain', done);
      response.off('close', done);
      resolve();
    };
    response.once('drain', done);
    response.once('close', done);
  });

function listing(engine: Engine, flows: RecentFlows, what: string, more: () => void): unknown {
  switch (what) {
    case 'ports':
      return engine.ports();
    case 'policies':
      return engine.policies();
    case 'rules':
      return ruleRows(engine);
    case 'services':
      return engine.services();
    case 'drops':
      return engine.drops();
    case 'workers':
      return engine.workers();
    case 'exporters':
      return engine.exporters();
    case 'settings':
      return engine.config;
    case 'flows':
      return flows.list();
    case 'connections': {
      const list = [];
      for (const each of engine.connections()) {
        if (list.length === LISTED_MAX) {
          more();
          break;
        }
        list.push(each);
      }
      return list;
    }
    default:
      return undefined;
  }
}

export async function listenHttp(
  engine: Engine,
  address: string,
  metrics: Metrics,
  flows: RecentFlows,
): Promise<Listener> {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d+)$/.exec(address);
  if (match === null)
    throw new SeineError('SEINE_ERR_CONFIG_INVALID', `listen.http: ${JSON.stringify(address)}: HOST:PORT belongs here`);
  const send = (request: IncomingMessage, response: ServerResponse, code: number, type: string, body: string) => {
    response.writeHead(code, {
      ...HEADERS,
      'content-type': type,
      'content-length': Buffer.byteLength(body),
      ...(code === 405 ? { allow: 'GET, HEAD' } : {}),
    });
    response.end(request.method === 'HEAD' ? undefined : body);
  };
  const server = createServer((request, response) => {
    void (async () => {
      try {
        const [path, query] = (request.url ?? '/').split('?', 2) as [string, string | undefined];
        if (request.method !== 'GET' && request.method !== 'HEAD')
          send(request, response, 405, 'application/json', json({ error: 'read-only: GET or HEAD' }));
        else if (path === '/metrics') {
          const { contentType, body } = await metrics.metrics(request.headers.accept, readSelection(query ?? ''));
          await sendParts(request, response, contentType, typeof body === 'string' ? [Buffer.from(body)] : body);
        } else if (path === '/healthz') send(request, response, 200, 'text/plain; charset=utf-8', 'ok\n');
        else if (path === '/readyz') {
          const ready = engine.ready();
          send(
            request,
            response,
            ready ? 200 : 503,
            'text/plain; charset=utf-8',
            ready ? 'ready\n' : 'not ready: workers are starting\n',
          );
        } else if (path === '/') send(request, response, 200, 'text/html; charset=utf-8', PAGE);
        else {
          const what = /^\/api\/v1\/([a-z]+)$/.exec(path)?.[1];
          const list =
            what === undefined
              ? undefined
              : listing(engine, flows, what, () => response.setHeader('x-seine-more', 'true'));
          if (list === undefined)
            send(
              request,
              response,
              404,
              'application/json',
              json({
                error: `no such path; /metrics, /healthz, /readyz, / and /api/v1/{ports,connections,flows,policies,rules,services,drops,workers,exporters,settings} are`,
              }),
            );
          else send(request, response, 200, 'application/json', json(list));
        }
      } catch (error) {
        if (!response.headersSent)
          send(request, response, 500, 'application/json', json({ error: (error as Error).message }));
        else response.destroy();
      }
    })();
  });
  server.on('clientError', (_, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n');
    else socket.destroy();
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        new SeineError(
          error.code === 'EADDRINUSE' ? 'SEINE_ERR_ADDRESS_IN_USE' : 'SEINE_ERR_IO',
          `listen.http: ${address}: can't listen: ${error.message}`,
        ),
      ),
    );
    server.listen(Number(match[3]), match[1] ?? (match[2] || '127.0.0.1'), resolve);
  });
  server.removeAllListeners('error').on('error', tellTrouble(`listen.http: ${address}`));
  const bound = server.address() as AddressInfo;
  const host = bound.family === 'IPv6' ? `[${bound.address}]` : bound.address;
  return {
    address: `http://${host}:${bound.port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
