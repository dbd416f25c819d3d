/** Prometheus's own promtool reads our metrics, and has nothing to complain of. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { DROP_REASONS, STAGES, VERDICTS } from '../../src/batch/drop-reason.js';
import { createRegistry } from '../../src/metrics/registry.js';
import { counterIndex } from '../../src/metrics/shared-counters.js';
import { EXPORT_TOTALS, fakeEngine } from '../unit/metrics/fake-engine.js';
import { havePeers } from './peer.js';

test('promtool: check metrics has no complaint of any family with samples in it', async (t) => {
  if (!havePeers(t, ['promtool'], 'prometheus')) return;
  const { engine, blocks, applied } = fakeEngine();
  for (const code of VERDICTS.keys()) blocks[0]!.add(counterIndex.packets(code), 7);
  for (const stage of STAGES.keys()) {
    for (const reason of DROP_REASONS.keys()) blocks[1]!.add(counterIndex.drop(stage, reason), 1);
  }
  blocks[0]!.add(counterIndex.duration(0, 3), 9);
  blocks[0]!.add(counterIndex.durationNs(0), 123_456);
  applied(0.01);
  const { metrics } = createRegistry(engine, { exporters: () => [EXPORT_TOTALS] });
  const { body } = await metrics('text/plain');
  const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], { input: body, encoding: 'utf8' });
  assert.equal(stdout + stderr, '');
  assert.equal(status, 0);
});
