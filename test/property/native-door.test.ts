/** The door to the addon: what happens when it is missing, broken or of another build, and what a descriptor of its own is. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  cpSync,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { SeineError } from '../../src/errors.js';
import { cpuFeatures, duplicateDescriptor } from '../../src/native/kernels.js';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/** Imports the kernels of a package whose addon is `addon` (null: not built); what it says, and its exit code. */
function importWith(t: TestContext, addon: string | Uint8Array | null, native: string | undefined) {
  const folder = mkdtempSync(join(tmpdir(), 'seine-door-'));
  t.after(() => rmSync(folder, { recursive: true }));
  cpSync(join(ROOT, 'dist', 'src'), join(folder, 'dist', 'src'), { recursive: true });
  cpSync(join(ROOT, 'package.json'), join(folder, 'package.json'));
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  if (addon !== null) {
    mkdirSync(join(folder, 'build', 'Release'), { recursive: true });
    writeFileSync(join(folder, 'build', 'Release', 'seine.node'), addon);
  }
  const { SEINE_NATIVE: _, ...env } = process.env;
  const url = pathToFileURL(join(folder, 'dist', 'src', 'native', 'kernels.js')).href;
  const script = `import(${JSON.stringify(url)}).then(
    (door) => console.log(door.nativeEnabled, door.kernels === door.references),
    (error) => { console.log(error.name, error.code, error.message); process.exitCode = 1; })`;
  const run = spawnSync(process.execPath, ['-e', script], {
    encoding: 'utf8',
    env: native === undefined ? env : { ...env, SEINE_NATIVE: native },
  });
  return { status: run.status, said: run.stdout.trim() };
}
const built = () => readFileSync(join(ROOT, 'build', 'Release', 'seine.node'));

test('native: an addon that is not built is an error that says npm rebuild, and no fallback', (t) => {
  const { status, said } = importWith(t, null, undefined);
  assert.equal(status, 1);
  assert.match(said, /^SeineError SEINE_ERR_IO .*seine\.node: the native addon is not built: run `npm rebuild`$/);
});

test('native: an addon that does not load is an error that says why, and no fallback', (t) => {
  const { status, said } = importWith(t, 'not an object file', undefined);
  assert.equal(status, 1);
  assert.match(said, /^SeineError SEINE_ERR_IO .*the native addon does not load \(.+\): run `npm rebuild`$/s);
});

test('native: an addon of another layout is refused with the name of what differs', (t) => {
  // The name of a column, changed in the object file, is a column that this build does not know.
  const addon = Buffer.from(built());
  const at = addon.indexOf('\0frameOctets\0');
  assert.ok(at > 0);
  addon.write('frameOctats', at + 1);
  const { status, said } = importWith(t, addon, undefined);
  assert.equal(status, 1);
  assert.match(said, /built for another value of (columns|direction) frameOct[ea]ts: run `npm rebuild`$/);
});

test('native: SEINE_NATIVE=off runs the references without an addon; unset runs the addon', (t) => {
  assert.deepEqual(importWith(t, null, 'off'), { status: 0, said: 'false true' });
  assert.deepEqual(importWith(t, built(), undefined), { status: 0, said: 'true false' });
});

test('native: a duplicated descriptor is open after the first is closed; one that is not open is a SeineError', () => {
  const fd = openSync(fileURLToPath(import.meta.url), 'r');
  const own = duplicateDescriptor(fd);
  const { ino } = fstatSync(fd);
  closeSync(fd);
  assert.equal(fstatSync(own).ino, ino);
  closeSync(own);
  for (const bad of [own, -1, 2 ** 31, Number.NaN])
    assert.throws(
      () => duplicateDescriptor(bad),
      (error) => error instanceof SeineError && error.code === 'SEINE_ERR_IO',
    );
});

test('native: cpuFeatures names the forms of the kernels', () => {
  const { crc32c, checksum } = cpuFeatures();
  assert.ok(['instruction', 'table'].includes(crc32c));
  assert.ok(['avx2', 'words'].includes(checksum));
});
