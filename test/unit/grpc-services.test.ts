/** Health and reflection beside the engine's own services, as their own definitions describe them. */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { credentials, loadPackageDefinition, type ServiceClientConstructor } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { parseConfig } from '../../src/config/read.js';
import { Engine } from '../../src/engine/engine.js';
import { listenGrpc } from '../../src/server/grpc.js';

const require = createRequire(import.meta.url);
const packageFolder = (name: string): string => {
  const main = require.resolve(name);
  return main.slice(0, main.lastIndexOf(join('node_modules', name)) + join('node_modules', name).length);
};

test('grpc: health says SERVING, reflection lists the services and describes them', async (t) => {
  const engine = await Engine.start({ config: parseConfig({ workers: 1 }, 'test').config });
  const listener = await listenGrpc(engine, '127.0.0.1:0');
  t.after(async () => {
    await listener.close();
    await engine.close();
  });
  const load = (path: string) => loadPackageDefinition(loadSync(path, { defaults: true, oneofs: true })) as never;
  const { grpc: healthPackage } = load(join(packageFolder('grpc-health-check'), 'proto/health/v1/health.proto')) as {
    grpc: { health: { v1: { Health: ServiceClientConstructor } } };
  };
  const health = new healthPackage.health.v1.Health(listener.address, credentials.createInsecure());
  const status = await new Promise((resolve, reject) =>
    (health as never as { check(r: object, c: (e: Error | null, v: { status: unknown }) => void): void }).check(
      { service: 'seine.v1.Datapath' },
      (error, reply) => (error ? reject(error) : resolve(reply.status)),
    ),
  );
  assert.ok(status === 1 || status === 'SERVING', String(status));
  health.close();

  const { grpc: reflectionPackage } = load(
    join(dirname(require.resolve('@grpc/reflection')), '../proto/grpc/reflection/v1/reflection.proto'),
  ) as { grpc: { reflection: { v1: { ServerReflection: ServiceClientConstructor } } } };
  const reflection = new reflectionPackage.reflection.v1.ServerReflection(
    listener.address,
    credentials.createInsecure(),
  );
  interface Reply {
    listServicesResponse?: { service: { name: string }[] };
    fileDescriptorResponse?: { fileDescriptorProto: Buffer[] };
  }
  const stream = (
    reflection as never as { serverReflectionInfo(): NodeJS.ReadWriteStream & { write(r: object): void } }
  ).serverReflectionInfo();
  const replies: Reply[] = [];
  stream.on('data', (reply: Reply) => replies.push(reply));
  stream.write({ listServices: '' });
  stream.write({ fileContainingSymbol: 'seine.v1.Datapath' });
  while (replies.length < 2) await new Promise((resolve) => setTimeout(resolve, 10));
  stream.end();
  const names = replies[0]!.listServicesResponse!.service.map(({ name }) => name);
  for (const name of ['seine.v1.Datapath', 'seine.v1.Control', 'grpc.health.v1.Health'])
    assert.ok(names.includes(name), `${name} in ${names}`);
  assert.ok(replies[1]!.fileDescriptorResponse!.fileDescriptorProto.some((octets) => octets.includes('ProcessStream')));
  reflection.close();
});
