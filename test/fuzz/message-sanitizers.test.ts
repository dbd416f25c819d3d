/** The message readers built with AddressSanitizer and UBSan, fed messages of a fresh seed, mutated and cut everywhere. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { encodeBatch, grpcBatch } from '../../src/client/index.js';
import { loadSeine } from '../../src/client/control.js';
import { fuzzSeed, mutateOctets, Random } from './mutate.js';

const NATIVE = fileURLToPath(new URL('../../../native', import.meta.url));
const MESSAGES = process.env.SEINE_SLOW === '1' ? 20_000 : 2000;

test('native: sanitizers are silent over mutated messages', (t) => {
  if (spawnSync('g++', ['--version']).status !== 0) {
    if (process.env.CI === 'true') assert.fail('g++ is missing');
    t.skip('NOT TESTED: g++ not found');
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'seine-asan-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const seed = fuzzSeed();
  t.diagnostic(`seed ${seed}`);
  const rng = new Random(seed);
  const encode = loadSeine().Datapath.service.Process!.requestSerialize;
  const parts: Uint8Array[] = [];
  for (let i = 0; i < MESSAGES; i++) {
    const frames = rng.oneIn(200) ? 4094 + rng.below(5) : 1 + rng.below(5);
    const length = Uint32Array.from({ length: frames }, () => 14 + rng.below(10));
    const batch = {
      data: rng.octets(length.reduce((sum, each) => sum + each, 0)),
      length,
      inPort: rng.oneIn(2) ? 3 : Uint32Array.from(length, () => rng.below(2 ** 32)),
      ...(rng.oneIn(2) ? {} : { time: BigUint64Array.from(length, () => BigInt(rng.next())) }),
    };
    const sound: Uint8Array = rng.oneIn(2) ? encodeBatch(i, batch).subarray(4) : encode(grpcBatch(i, batch));
    const message = rng.oneIn(3) ? sound : mutateOctets(rng, sound);
    const size = Buffer.alloc(4);
    size.writeUInt32LE(message.length);
    parts.push(size, message);
  }
  const corpus = join(folder, 'corpus');
  writeFileSync(corpus, Buffer.concat(parts));
  const program = join(folder, 'fuzz');
  execFileSync(
    'g++',
    [
      '-std=gnu++20',
      '-O1',
      '-g',
      '-fsanitize=address,undefined',
      '-fno-sanitize-recover=all',
      '-fno-omit-frame-pointer',
      join(NATIVE, 'test', 'fuzz_messages.cc'),
      join(NATIVE, 'message.cc'),
      '-o',
      program,
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const run = spawnSync(program, [corpus], { encoding: 'utf8' });
  // 3: a batch past its bounds; 4: more verdicts than the bound; 5: written between columns.
  assert.equal(run.status, 0, `seed ${seed}: status ${run.status} ${run.stderr.slice(0, 4000)}`);
  const [, messages, msgpack, protobuf] =
    /^(\d+) messages, (\d+) sound as MessagePack, (\d+) as protobuf/.exec(run.stdout) ?? [];
  assert.equal(Number(messages), MESSAGES);
  for (const sound of [msgpack, protobuf]) assert.ok(Number(sound) > MESSAGES / 10, run.stdout);
  t.diagnostic(run.stdout.trim());
});
