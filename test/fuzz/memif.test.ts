/**
 * memif: a hostile client has its connection closed with the reason, and nobody else notices: after each attack two
 * well-behaved clients exchange a frame, octet by octet as it should leave. The attacks are in memif_hostile.py.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { A, B, C, expectedOut, havePython, runPython, startMemif, until } from '../interop/memif-service.js';
import { udp4 } from '../unit/frames.js';
import { fuzzSeed } from './mutate.js';

const NATIVE = fileURLToPath(new URL('../../../native', import.meta.url));
const SCRIPT = fileURLToPath(new URL('../../../test/fuzz/memif_hostile.py', import.meta.url));
const ROUNDS = process.env.SEINE_SLOW === '1' ? 3000 : 150;

/** What the server tells each attacker. */
const SIZE = /^a control message has another size$/;
const NUMBER = /^a control message brings a wrong number of descriptors$/;
const BEFORE = /^a control message before INIT$/;
const TYPE = /^a control message of unknown type$/;
const MEMORY = /^a region is not a memory file$/;
const OUTSIDE = /^a frame lies outside its region$/;
const BUFFER = /^a buffer lies outside its region$/;
const RING = /^a ring lies outside its region$/;
const AHEAD = /^a ring's head is ahead of its tail by more than its size$/;
const REASONS: Readonly<Record<string, RegExp>> = {
  '127 octets': SIZE,
  '129 octets': SIZE,
  '1 octet': SIZE,
  '60,000 octets': SIZE,
  'type 0': TYPE,
  'type 99': TYPE,
  'an ACK': TYPE,
  'a HELLO': TYPE,
  'a CONNECTED': TYPE,
  'region before INIT': BEFORE,
  'ring before INIT': BEFORE,
  'CONNECT before INIT': BEFORE,
  'INIT twice': /^a second INIT$/,
  'INIT with a descriptor': NUMBER,
  'version 1': /^incompatible memif version$/,
  'IP mode': /^only Ethernet mode is served$/,
  'id 0': /^the interface id is no port number$/,
  'id 65533': /^the interface id is no port number$/,
  'id 2^32 - 1': /^the interface id is no port number$/,
  'a taken id': /^already connected$/,
  'region without descriptor': NUMBER,
  'region with two descriptors': NUMBER,
  'region with 200 descriptors': /^a control message brings too many descriptors$/,
  'region 1 first': /^a region's index is out of turn$/,
  'region 0 twice': /^a region's index is out of turn$/,
  'region of size 0': /^a region's size is out of bounds$/,
  'region larger than its file': /^a region is larger than its file$/,
  'region of 2^64 - 1': /^a region's size is out of bounds$/,
  'region of 2^63': /^a region's size is out of bounds$/,
  'region in a socket': MEMORY,
  'region in an eventfd': MEMORY,
  'region in /dev/zero': MEMORY,
  'region on a disk': MEMORY,
  'region read-only': /^a region can't be mapped$/,
  'ring without descriptor': NUMBER,
  'ring with two descriptors': NUMBER,
  'ring in region 5': /^a ring lies in no region$/,
  'ring in region 65535': /^a ring lies in no region$/,
  'ring behind its region': RING,
  'ring at 2^32 - 8': RING,
  'ring at an odd offset': RING,
  'ring across the end': RING,
  'ring of 2^15': /^a ring is too large$/,
  'ring of 2^255': /^a ring is too large$/,
  'ring larger than its region': RING,
  'ring 1 first': /^a ring's index is out of turn$/,
  'ring 0 twice': /^a ring's index is out of turn$/,
  '17 rings': /^a ring's index is out of turn$/,
  'ring with private headers': /^private headers are not served$/,
  'ring with a pipe': /^a ring's interrupt is no eventfd$/,
  'ring with a file': /^a ring's interrupt is no eventfd$/,
  'CONNECT without rings': /^an interface without rings$/,
  'a wrong cookie': /^a ring has another cookie$/,
  'region after CONNECT': /^a control message after CONNECT$/,
  'CONNECT twice': /^a control message after CONNECT$/,
  'head ahead by 65': AHEAD,
  'head ahead by 40,000': AHEAD,
  'head behind': AHEAD,
  'frame in region 7': OUTSIDE,
  'frame in region 65535': OUTSIDE,
  'frame across the end': OUTSIDE,
  'frame behind its region': OUTSIDE,
  'frame at 2^32 - 1': OUTSIDE,
  'frame of 2^32 - 1': OUTSIDE,
  'frame of 2^32 - 1 at 2^32 - 1': OUTSIDE,
  'frame across the end, chained': OUTSIDE,
  'a chain without end': /^a frame is longer than its ring$/,
  'buffer in region 7': BUFFER,
  'buffer across the end': BUFFER,
  'buffer of 2^32 - 1': BUFFER,
  'buffers ahead': AHEAD,
  'frames taken away': /^pages of a region were taken away$/,
  'all taken away': /^pages of a region were taken away$/,
  'all taken away from a receiver': /^pages of a region were taken away$/,
};
/** Attacks that are no breach of the protocol, only not served. */
const POLITE = ['version 1', 'IP mode', 'id 0', 'id 65533', 'id 2^32 - 1', 'a taken id'];

const descriptors = (): number => readdirSync('/proc/self/fd').length;

async function attack(t: TestContext, workers: number): Promise<void> {
  if (!havePython(t)) return;
  const service = await startMemif(t, workers);
  const frame = udp4({ src: A.ip, dst: B.ip, srcMac: A.mac, sport: 1234, dport: 53 });
  const back = udp4({ src: A.ip, dst: C.ip, srcMac: A.mac, sport: 1234, dport: 53, payload: new Uint8Array(400) });
  const { frames } = await expectedOut([frame, back], [A.port, A.port]);
  assert.ok(frames[0] !== '' && frames[1] !== '');
  const seed = fuzzSeed();
  t.diagnostic(`seed ${seed}`);
  const before = descriptors();
  const found = (await runPython(SCRIPT, [service.socket, service.folder], {
    frame: Buffer.from(frame).toString('hex'),
    back: Buffer.from(back).toString('hex'),
    out: frames[0],
    seed,
    rounds: ROUNDS,
  })) as { results: Record<string, string | null>; harmless: Record<string, string | null>; closed: number };
  for (const [name, reason] of Object.entries(found.results))
    assert.match(reason ?? 'not closed', REASONS[name] ?? /^the table names it$/, name);
  assert.deepEqual(Object.keys(found.results).sort(), Object.keys(REASONS).sort());
  for (const [name, reason] of Object.entries(found.harmless)) assert.equal(reason, null, name);
  assert.ok(found.closed > ROUNDS / 10, `${found.closed} of ${ROUNDS} random clients were closed`);
  assert.ok(service.counter('memifViolations') >= Object.keys(REASONS).length - POLITE.length);
  await until('every client is gone', () => service.clients() === 0);
  assert.deepEqual(
    service.engine.workers().map(({ restarts }) => restarts),
    new Array(workers).fill(0),
  );
  // Of its own a worker keeps its epoll set, its eventfd, and the file that it signals by.
  const kept = descriptors() - before;
  assert.ok(kept <= workers * 3, `${kept} descriptors are kept: those that clients sent are closed`);
}

test('memif: a hostile client is disconnected, with the reason, and harms nobody else (one worker)', (t) =>
  attack(t, 1));
test('memif: the same where clients meet across workers', (t) => attack(t, 2));

test('memif: sanitizers are silent while a client writes to its rings at random', (t) => {
  if (spawnSync('g++', ['--version']).status !== 0) {
    if (process.env.CI === 'true') assert.fail('g++ is missing');
    t.skip('NOT TESTED: g++ not found');
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'seine-asan-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const program = join(folder, 'fuzz');
  const sources = [
    'memif_control',
    'memif_memory',
    'memif_poller',
    'memif_rings',
    'memif_signal',
    'compose',
    'checksum',
  ];
  execFileSync(
    'g++',
    [
      ...['-std=gnu++20', '-O1', '-g', '-fsanitize=address,undefined', '-fno-sanitize-recover=all'],
      ...['-fno-omit-frame-pointer', join(NATIVE, 'test', 'fuzz_memif.cc')],
      ...sources.map((name) => join(NATIVE, `${name}.cc`)),
      ...['-lpthread', '-o', program],
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const seed = fuzzSeed();
  t.diagnostic(`seed ${seed}`);
  const run = spawnSync(program, [String(seed), process.env.SEINE_SLOW === '1' ? '60000' : '3000'], {
    encoding: 'utf8',
    env: { ...process.env, ASAN_OPTIONS: 'detect_leaks=1' },
  });
  // 2: a frame was not made of the client's octets; 4: a row reaches beyond what was received; 5: a row was lost uncounted.
  assert.equal(run.status, 0, `seed ${seed}: status ${run.status} ${run.stderr.slice(0, 4000)}`);
  const [, clients, closed, frames, sent] =
    /^(\d+) clients, (\d+) closed, (\d+) frames, \d+ of bad size, (\d+) sent back/.exec(run.stdout) ?? [];
  assert.ok(Number(clients) > 3 && Number(closed) > Number(clients) / 2, run.stdout);
  assert.ok(Number(frames) > 100 && Number(sent) > 10, run.stdout);
  t.diagnostic(run.stdout.trim());
});
