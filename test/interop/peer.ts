/** Real programs that interop tests run: where one is missing the test is skipped loudly, and fails in CI. */
import { spawnSync } from 'node:child_process';
import type { TestContext } from 'node:test';

/** True where every program is there. Otherwise the test is skipped, or in CI fails; return then. */
export function havePeers(t: TestContext, programs: readonly string[], debianPackage: string): boolean {
  const missing = programs.filter((program) => spawnSync('sh', ['-c', `command -v ${program}`]).status !== 0);
  if (missing.length === 0) return true;
  const reason = `NOT TESTED: ${missing.join(', ')} not found; install Debian's ${debianPackage}`;
  if (process.env.CI === 'true') throw new Error(reason);
  t.skip(reason);
  return false;
}
