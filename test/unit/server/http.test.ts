/** The HTTP front end: read-only, and never brought down by what is asked. */
import assert from 'node:assert/strict';
import { createConnection } from 'node:net';
import { test } from 'node:test';
import { createRegistry } from '../../../src/metrics/registry.js';
import { listenHttp } from '../../../src/server/http.js';
import { RecentFlows } from '../../../src/server/rows.js';
import { EXPORT_TOTALS } from '../metrics/fake-engine.js';
import { startEngine } from './service.js';

test('http: listings, health and metrics; HEAD has no body; another method is 405, another path 404 in JSON', async (t) => {
  const { engine, closeAfter } = await startEngine(t, { example: true });
  const flows = new RecentFlows(engine);
  const listener = await listenHttp(
    engine,
    '127.0.0.1:0',
    createRegistry(engine, { exporters: () => [EXPORT_TOTALS] }),
    flows,
  );
  closeAfter(listener);
  const get = (path: string, init: RequestInit = {}) => fetch(`${listener.address}${path}`, init);
  const LISTS = 'ports connections flows policies rules services drops workers exporters'.split(' ');
  for (const list of LISTS) {
    const reply = await get(`/api/v1/${list}`);
    assert.equal(reply.status, 200, list);
    assert.match(reply.headers.get('content-type')!, /^application\/json/);
    assert.ok(Array.isArray(await reply.json()), list);
  }
  assert.equal(((await (await get('/api/v1/settings')).json()) as { ovsBridge: string }).ovsBridge, 'br-int');
  assert.equal(await (await get('/healthz')).text(), 'ok\n');
  assert.equal((await get('/readyz')).status, 200);
  assert.match(await (await get('/metrics')).text(), /^# HELP seine_/m);
  const open = await get('/metrics', { headers: { accept: 'application/openmetrics-text' } });
  assert.match(open.headers.get('content-type')!, /^application\/openmetrics-text/);
  assert.match(await open.text(), /# EOF\n$/);
  const page = await get('/');
  assert.match(await page.text(), /^<!doctype html>/i);
  assert.match(page.headers.get('content-security-policy')!, /default-src 'none'/);
  assert.equal(page.headers.get('x-content-type-options'), 'nosniff');
  const head = await get('/metrics', { method: 'HEAD' });
  assert.deepEqual([head.status, await head.text()], [200, '']);
  for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
    const reply = await get('/api/v1/ports', { method });
    assert.deepEqual([reply.status, reply.headers.get('allow')], [405, 'GET, HEAD'], method);
  }
  for (const path of [
    '/nothing',
    '/api/v1/constructor',
    '/api/v1/',
    '/api/v1/ports/1',
    '/%00',
    '/..%2f..%2fetc/passwd',
  ]) {
    const reply = await get(path);
    assert.equal(reply.status, 404, path);
    assert.match(((await reply.json()) as { error: string }).error, /no such path/);
  }
});

test('http: requests that are none are answered 400 or cut off; the next is served', async (t) => {
  const { engine, closeAfter } = await startEngine(t, { example: false });
  const listener = await listenHttp(
    engine,
    '127.0.0.1:0',
    createRegistry(engine, { exporters: () => [] }),
    new RecentFlows(engine),
  );
  closeAfter(listener);
  const port = Number(listener.address.split(':').at(-1));
  const bad = [
    'GET http://[::bad/ HTTP/1.1\r\nHost: \u0000\r\n\r\n',
    'GET //// HTTP/1.1\r\nHost: a b:c:d\r\nConnection: close\r\n\r\n',
    'GET / HTTP/1.1\r\nConnection: close\r\n\r\n',
    'GET \\..\\ HTTP/9.9\r\n\r\n',
    `GET /${'x'.repeat(100_000)} HTTP/1.1\r\nHost: a\r\n\r\n`,
    `${String.fromCharCode(22, 3, 1, 2, 0)}not TLS here\r\n\r\n`,
    'GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: ;;;q=nonsense,*/*;q=7\r\nConnection: close\r\n\r\n',
  ];
  for (const request of bad) {
    const answer = await new Promise<string>((resolve) => {
      let text = '';
      const socket = createConnection(port, '127.0.0.1', () => socket.write(request, 'latin1'));
      socket.on('data', (octets) => (text += octets));
      socket.on('error', () => {});
      socket.on('close', () => resolve(text));
    });
    assert.match(answer, /^(HTTP\/1\.1 (200|400|404|431)|$)/, JSON.stringify(request.slice(0, 40)));
    assert.equal((await fetch(`${listener.address}/healthz`)).status, 200);
  }
});
