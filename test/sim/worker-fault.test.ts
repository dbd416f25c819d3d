/** SEINE_FAULT, through the service: workers that crash in mid-batch are replaced and lose no connection; a slowed engine. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { connect } from '../../src/client/index.js';
import { ERRORS, SeineError } from '../../src/errors.js';
import { readFault } from '../../src/worker/fault.js';
import { tcp4 } from '../unit/frames.js';
import { eventually } from '../unit/server/service.js';
import { ServiceProcess } from './service-process.js';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const CONNECTIONS = 200;
const LIMIT = { timeout: 60_000 };
const ESTABLISHED = 1 << 1;

const frame = (i: number, reply: boolean, flags: string, seq: number, ack = 0): Uint8Array => {
  const [here, there] = ['10.0.0.1', '10.0.0.2'];
  return tcp4(
    reply
      ? { src: there, dst: here, sport: 80, dport: 1000 + i, flags, seq, ack }
      : { src: here, dst: there, sport: 1000 + i, dport: 80, flags, seq, ack },
  );
};
const batchOf = (make: (i: number) => Uint8Array) => {
  const frames = Array.from({ length: CONNECTIONS }, (_, i) => make(i));
  return { data: Buffer.concat(frames), length: Uint32Array.from(frames, ({ length }) => length), inPort: 3 };
};
const SYN = batchOf((i) => frame(i, false, 'S', 1000));
const SYN_ACK = batchOf((i) => frame(i, true, 'SA', 5000, 1001));
const ACK = batchOf((i) => frame(i, false, 'A', 1001, 5001));

for (const fault of ['worker-throw', 'worker-exit'] as const) {
  for (const workers of [1, 2]) {
    test(
      `${fault}, ${workers} workers: the batch in hand is answered with an error, connections are kept`,
      LIMIT,
      async (t) => {
        const service = await ServiceProcess.start(t, { workers, fault: `${fault}:5` });
        let client = await connect(`unix:${service.socket}`);
        for (const batch of [SYN, SYN_ACK, ACK]) await client.process(batch);
        // One at a time until a crash meets one: a client that is still writing may see the connection end before it reads.
        // Then many under way: each is answered, with verdicts or with an error.
        let lost = 0;
        const deadline = Date.now() + 30_000;
        while ((await service.total('seine_worker_restarts_total')) < workers || !(await service.ready())) {
          assert.ok(Date.now() < deadline, `a crash in each of ${workers} workers; stderr: ${service.stderr()}`);
          const answers = await Promise.allSettled(
            Array.from({ length: lost === 0 ? 1 : 8 }, () => client.process(ACK)),
          );
          for (const answer of answers) {
            if (answer.status === 'fulfilled') {
              assert.ok(answer.value.verdict.every((code) => code === 1));
              continue;
            }
            assert.ok(answer.reason instanceof SeineError, String(answer.reason));
            assert.equal(ERRORS[answer.reason.code].retry || answer.reason.code === 'SEINE_ERR_CLOSED', true);
            if (answer.reason.code === 'SEINE_ERR_WORKER_LOST') lost++;
          }
          // The connection went with the worker that owned it: a client connects anew.
          if (answers.some(({ status }) => status === 'rejected')) {
            await client.close();
            client = await connect(`unix:${service.socket}`);
          }
        }
        assert.ok(lost >= 1, 'the batch in hand was answered with SEINE_ERR_WORKER_LOST');
        assert.equal(await service.total('seine_worker_restarts_total'), workers, 'each crashed once and no more');
        assert.match(service.stderr(), /worker 0 was lost/);
        // What was established is so still: a first packet would be new.
        await client.close();
        client = await connect(`unix:${service.socket}`);
        const { verdict, ct } = await client.process(ACK);
        assert.ok(verdict.every((code) => code === 1));
        assert.ok(
          ct.every((bits) => (bits & ESTABLISHED) !== 0),
          'every connection is established still',
        );
        assert.equal(
          await service.total('seine_connections_created_total'),
          CONNECTIONS,
          'none was made a second time',
        );
        await client.close();
      },
    );
  }
}

test('SEINE_FAULT is refused unless NODE_ENV=test, and so is one that is not known: exit 2, one line', () => {
  for (const [env, told] of [
    [{ SEINE_FAULT: 'slow:10', NODE_ENV: 'production' }, /^seine: SEINE_FAULT=slow:10 .*NODE_ENV=test.*\n$/],
    [{ SEINE_FAULT: 'slow:1', NODE_ENV: 'test' }, /^seine: SEINE_FAULT=slow:1: no such fault; .*worker-exit.*\n$/],
    [{ SEINE_FAULT: 'worker-trow', NODE_ENV: 'test' }, /^seine: SEINE_FAULT=worker-trow: no such fault; .*\n$/],
  ] as const) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, 'check'], {
      encoding: 'utf8',
      env: { ...process.env, ...env },
    });
    assert.deepEqual([status, stdout], [2, '']);
    assert.match(stderr, told);
  }
  assert.deepEqual(readFault({ SEINE_FAULT: 'slow:10', NODE_ENV: 'test' }), { kind: 'slow', factor: 10 });
  assert.deepEqual(readFault({ SEINE_FAULT: 'worker-exit:7', NODE_ENV: 'test' }), { kind: 'worker-exit', batch: 7 });
  assert.equal(readFault({ SEINE_FAULT: '' }), null);
});

test('slow:10: batches take several times as long, and the worker sleeps meanwhile', LIMIT, async (t) => {
  const took: number[] = [];
  let busy = 0;
  for (const fault of [undefined, 'slow:10']) {
    const service = await ServiceProcess.start(t, { workers: 1, ...(fault === undefined ? {} : { fault }) });
    const client = await connect(`unix:${service.socket}`);
    for (let i = 0; i < 100; i++) await client.process(ACK);
    const before = service.cpuSeconds();
    const started = performance.now();
    for (let i = 0; i < 200; i++) await client.process(ACK);
    took.push((performance.now() - started) / 200);
    busy = (service.cpuSeconds() - before) / ((performance.now() - started) / 1000);
    await client.close();
    service.child.kill('SIGTERM');
    await eventually('it ends', () => service.child.exitCode !== null);
  }
  // The client's own time is in both: less than tenfold from outside.
  const [plain, slowed] = took as [number, number];
  t.diagnostic(`${plain.toFixed(3)} ms a batch, slowed ${slowed.toFixed(3)} ms, ${busy.toFixed(2)} of a processor`);
  assert.ok(slowed > plain * 2, `${slowed} ms after ${plain} ms a batch`);
  assert.ok(busy < 0.7, `${busy} of a processor is busy while the engine is slowed`);
});
