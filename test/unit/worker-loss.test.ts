/** A worker that is lost is replaced: batches in its hands are answered with an error, its shard's connections are kept. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../../src/config/read.js';
import { Engine } from '../../src/engine/engine.js';
import type { SeineError } from '../../src/errors.js';
import { udp4 } from './frames.js';

test('engine: a lost worker is replaced, its shard kept, every batch answered once', async (t) => {
  const { config } = parseConfig({ workers: 2 }, 'test');
  const engine = await Engine.start({
    config,
    workerEntry: new URL('../../src/server/worker-entry.cjs', import.meta.url),
  });
  t.after(() => engine.close());
  const warnings: string[] = [];
  engine.onWarning = (line) => warnings.push(line);
  const frames = Array.from({ length: 64 }, (_, i) =>
    udp4({ src: '10.0.0.1', dst: '10.0.0.2', sport: 1000 + i, dport: 53 }),
  );
  const replies = frames.map((_, i) => udp4({ src: '10.0.0.2', dst: '10.0.0.1', sport: 53, dport: 1000 + i }));
  const send = (list: Uint8Array[]) =>
    engine.process({ data: Buffer.concat(list), length: Uint32Array.from(list, ({ length }) => length), inPort: 3 });
  await send(frames);
  const before = [...engine.connections()].length;
  // A descriptor that is none: the worker that gets it throws outside of any batch.
  engine.adoptDescriptor(1_000_000);
  const answers = await Promise.all(
    Array.from({ length: 30 }, () =>
      send(frames).then(
        () => 'judged',
        (error: SeineError) => error.code,
      ),
    ),
  );
  for (const answer of answers) assert.ok(answer === 'judged' || answer === 'SEINE_ERR_WORKER_LOST', answer);
  while (!engine.ready()) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(
    engine.workers().reduce((sum, { restarts }) => sum + restarts, 0),
    1,
  );
  assert.equal(warnings.length, 1);
  assert.equal([...engine.connections()].length, before, 'the connections are still there');
  const { verdict, ct } = await send(replies);
  assert.ok(verdict.every((code) => code === 1));
  assert.ok(
    ct.every((bits) => (bits & 4) !== 0),
    'and know their replies',
  );
});
