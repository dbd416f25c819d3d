/** The state file itself: kept over a process, locked, and refused wherever it is not what this service would have made. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { StateFile, type StateShape, statePath } from '../../../src/engine/state-file.js';
import type { SeineError } from '../../../src/errors.js';

const SHAPE: StateShape = {
  shards: 2,
  max: 100,
  layout: 'x',
  regions: [
    { name: 'small', octets: 1000 },
    { name: 'large', octets: 5_000_000 },
  ],
};
function path(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'seine-state-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, 'state');
}
const words = (file: StateFile) => new Int32Array(file.region('large'));

test('state-file: what is stored is there after an orderly end, and after none', (t) => {
  const at = path(t);
  const first = new StateFile(at, SHAPE);
  assert.deepEqual([first.inherited, first.refusal], [false, null]);
  assert.equal(statSync(at).mode & 0o777, 0o600);
  words(first)[1_000_000] = 42;
  first.close();
  const second = new StateFile(at, SHAPE);
  assert.deepEqual([second.inherited, second.refusal, words(second)[1_000_000]], [true, null, 42]);
  words(second)[1_000_000] = 43;
  second.abandon();
  const third = new StateFile(at, SHAPE);
  assert.deepEqual([third.inherited, third.refusal, words(third)[1_000_000]], [true, null, 43]);
  third.close();
});

test('state-file: two services never share one', (t) => {
  const at = path(t);
  const first = new StateFile(at, SHAPE);
  assert.throws(
    () => new StateFile(at, SHAPE),
    (error: SeineError) =>
      error.code === 'SEINE_ERR_ADDRESS_IN_USE' && /^stateFile: .*another service/.test(error.message),
  );
  first.close();
  new StateFile(at, SHAPE).close();
});

test('state-file: another version, layout, size or number, damage: refused, and begun afresh', (t) => {
  const at = path(t);
  const make = () => {
    rmSync(at, { force: true });
    const file = new StateFile(at, SHAPE);
    words(file).fill(7);
    file.close();
  };
  const damage = (offset: number, value: number) => {
    const octets = readFileSync(at);
    octets[offset] = value;
    writeFileSync(at, octets);
  };
  const cases: [string, RegExp, () => void, StateShape?][] = [
    ['too short', /too few/, () => truncateSync(at, 100)],
    ['cut off', /octets, not/, () => truncateSync(at, 8192)],
    ['longer', /octets, not/, () => truncateSync(at, 50_000_000)],
    ['no magic', /no state file/, () => damage(0, 0)],
    ['a version', /of version 9/, () => damage(8, 9)],
    ['header', /checksum/, () => damage(20, 0xee)],
    ['text', /no state file/, () => writeFileSync(at, 'x'.repeat(10_000))],
    ['workers', /2 workers, not 3/, () => {}, { ...SHAPE, shards: 3 }],
    ['max', /conntrack\.max 100, not 200/, () => {}, { ...SHAPE, max: 200 }],
    ['layout', /another layout/, () => {}, { ...SHAPE, layout: 'y' }],
    ['regions', /another layout/, () => {}, { ...SHAPE, regions: SHAPE.regions.slice(1) }],
    ['mode', /others may/, () => chmodSync(at, 0o666)],
  ];
  for (const [what, why, spoil, shape] of cases) {
    make();
    spoil();
    const file = new StateFile(at, shape ?? SHAPE);
    assert.equal(file.inherited, false, what);
    assert.match(file.refusal ?? '', why, what);
    assert.ok(
      words(file).every((word) => word === 0),
      `${what}: nothing of it is left`,
    );
    assert.equal(statSync(at).mode & 0o777, 0o600);
    file.close();
    const next = new StateFile(at, shape ?? SHAPE);
    assert.deepEqual([next.inherited, next.refusal], [true, null], what);
    next.close();
  }
});

test('state-file: no regular file, no folder, no room: an error that names the setting', (t) => {
  const at = path(t);
  const is = (pattern: RegExp) => (error: SeineError) =>
    error.code === 'SEINE_ERR_IO' && error.message.startsWith('stateFile: ') && pattern.test(error.message);
  assert.throws(() => new StateFile('/dev/null', SHAPE), is(/no regular file/));
  assert.throws(() => new StateFile(join(at, 'none', 'state'), SHAPE), is(/can't be opened/));
  symlinkSync('/etc/passwd', at);
  assert.throws(() => new StateFile(at, SHAPE), is(/can't be opened/));
  rmSync(at);
  const huge = { ...SHAPE, regions: [{ name: 'large', octets: 2 ** 52 }] };
  assert.throws(() => new StateFile(at, huge), is(/no room/));
  assert.equal(statSync(at).size, 0, 'and nothing is taken');
});

test('state-file: auto is named by the Unix socket, and only by it', () => {
  assert.match(statePath('auto', '/run/seine.sock'), /^\/dev\/shm\/seine-[0-9a-f]{16}$/);
  assert.equal(statePath('auto', '/run/seine.sock'), statePath('auto', '/run/../run/seine.sock'));
  assert.notEqual(statePath('auto', '/run/seine.sock'), statePath('auto', '/run/other.sock'));
  assert.throws(() => statePath('auto', null), /stateFile: auto names the file by listen\.unix/);
  assert.equal(statePath('/a/b', null), '/a/b');
});
