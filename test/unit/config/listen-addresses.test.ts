/** Addresses of `listen`: what is taken, what is refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkListenAddresses } from '../../../src/config/listen-addresses.js';
import { parseConfig } from '../../../src/config/read.js';

const check = (listen: Record<string, unknown>): void =>
  checkListenAddresses(parseConfig({ listen }, 'c.yaml').config, 'c.yaml');

test('listen: the defaults, port 0, IPv6 loopback and none at all are taken', () => {
  check({});
  check({ unix: null, grpc: null, http: null });
  check({ grpc: ['unix:/run/seine.sock', '[::1]:0', 'localhost:50051'], http: '[::]:9464' });
});

for (const [listen, message] of [
  [{ grpc: ['nowhere'] }, /^c\.yaml: listen\.grpc\[0\]: found "nowhere"; unix:PATH or HOST:PORT belongs here$/],
  [{ grpc: ['unix:a', '0.0.0.0:50051'] }, /listen\.grpc\[1\]: .*loopback only/],
  [{ grpc: 'unix:' }, /a path belongs behind unix:/],
  [{ grpc: ['127.0.0.1:65536'] }, /HOST:PORT belongs here/],
  [{ http: '9464' }, /listen\.http: found "9464"; HOST:PORT belongs here/],
  [{ unix: '/'.padEnd(108, 'x') }, /listen\.unix: .*at most 107 octets/],
  [{ memif: '/'.padEnd(108, 'x') }, /listen\.memif: .*at most 107 octets/],
] as const) {
  test(`listen: ${JSON.stringify(listen).slice(0, 60)} is refused`, () => {
    assert.throws(() => check(listen), { code: 'SEINE_ERR_CONFIG_INVALID', message });
  });
}
