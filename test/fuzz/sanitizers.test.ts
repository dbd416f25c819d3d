/** The kernels built with AddressSanitizer and UBSan, fed frames of a fresh seed: no octet read or written out of bounds. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { fuzzSeed, mutateFrame, Random, randomFrame } from './mutate.js';

const NATIVE = fileURLToPath(new URL('../../../native', import.meta.url));
const FRAMES = process.env.SEINE_SLOW === '1' ? 200_000 : 20_000;

test('native: sanitizers are silent over mutated frames', (t) => {
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
  const corpus = join(folder, 'corpus');
  const fd = openSync(corpus, 'w');
  for (let i = 0; i < FRAMES; ) {
    const parts: Uint8Array[] = [];
    for (let n = 0; n < 1000 && i < FRAMES; n++, i++) {
      const frame = rng.below(4) === 0 ? randomFrame(rng) : mutateFrame(rng, randomFrame(rng));
      const size = Buffer.alloc(4);
      size.writeUInt32LE(frame.length);
      parts.push(size, frame);
    }
    writeSync(fd, Buffer.concat(parts));
  }
  closeSync(fd);
  const program = join(folder, 'fuzz');
  const kernels = ['parse', 'tuple_hash', 'checksum', 'compose', 'replay', 'table'].map((name) =>
    join(NATIVE, `${name}.cc`),
  );
  execFileSync(
    'g++',
    [
      '-std=gnu++20',
      '-O1',
      '-g',
      '-fsanitize=address,undefined',
      '-fno-sanitize-recover=all',
      '-fno-omit-frame-pointer',
      join(NATIVE, 'test', 'fuzz_kernels.cc'),
      ...kernels,
      '-o',
      program,
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const run = spawnSync(program, [corpus], {
    encoding: 'utf8',
    env: { ...process.env, ASAN_OPTIONS: 'detect_leaks=1' },
  });
  // 3: compose wrote other than it said; 4: table and instruction differ; 5: many at once differ from one at a time.
  assert.equal(run.status, 0, `seed ${seed}: status ${run.status} ${run.stderr.slice(0, 4000)}`);
  const [, frames, sound, cut, replayed, batches] =
    /^(\d+) frames, (\d+) sound, (\d+) sound though cut, (\d+) replayed, (\d+) batches/.exec(run.stdout) ?? [];
  assert.equal(Number(frames), FRAMES);
  assert.ok(Number(sound) > FRAMES / 10, run.stdout);
  assert.ok(Number(cut) > FRAMES / 2, run.stdout);
  assert.ok(Number(replayed) > 0, run.stdout);
  assert.ok(Number(batches) > FRAMES / 200, run.stdout);
  t.diagnostic(run.stdout.trim());
});

test('native: the sanitizers see one octet too far (the check can fail)', (t) => {
  if (spawnSync('g++', ['--version']).status !== 0) {
    if (process.env.CI === 'true') assert.fail('g++ is missing');
    t.skip('NOT TESTED: g++ not found');
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'seine-asan-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const program = join(folder, 'canary');
  const source = 'int main(int c, char**) { char* p = new char[4]; char x = p[3 + c]; delete[] p; return x; }';
  execFileSync('g++', ['-x', 'c++', '-', '-fsanitize=address,undefined', '-o', program], { input: source });
  assert.notEqual(spawnSync(program, []).status, 0);
});
