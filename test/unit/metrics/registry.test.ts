/** Metric families over counters in shared memory, in both text formats. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DropReason, Stage, Verdict } from '../../../src/batch/drop-reason.js';
import { wantsOpenMetrics } from '../../../src/metrics/openmetrics.js';
import { createRegistry } from '../../../src/metrics/registry.js';
import { counterIndex, DURATION_BUCKETS, TRANSPORTS } from '../../../src/metrics/shared-counters.js';
import { EXPORT_TOTALS, fakeEngine } from './fake-engine.js';

const OPEN = 'application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5';
const start = () => {
  const fake = fakeEngine();
  const { metrics, registry } = createRegistry(fake.engine, { exporters: () => [EXPORT_TOTALS] });
  const scrape = async (accept?: string) => (await metrics(accept)).body.split('\n');
  /** Samples of a family, without its comments. */
  const samples = async (name: string, accept?: string) =>
    (await scrape(accept)).filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  return { ...fake, metrics, registry, scrape, samples };
};

test('metrics: packets, octets and drops are the sums over threads', async () => {
  const { blocks, samples } = start();
  blocks[0]!.add(counterIndex.packets(Verdict.Forward), 10);
  blocks[1]!.add(counterIndex.packets(Verdict.Forward), 5);
  blocks[1]!.add(counterIndex.packets(Verdict.Drop), 2);
  blocks[0]!.add(counterIndex.octets(Verdict.Forward), 2 ** 40);
  blocks[0]!.add(counterIndex.octets(Verdict.Forward), 1);
  blocks[1]!.add(counterIndex.drop(Stage.SpoofGuard, DropReason.Spoofed), 2);
  assert.deepEqual(await samples('seine_packets_total'), [
    'seine_packets_total{verdict="forward"} 15',
    'seine_packets_total{verdict="drop"} 2',
    'seine_packets_total{verdict="reject"} 0',
    'seine_packets_total{verdict="consume"} 0',
  ]);
  assert.ok((await samples('seine_bytes_total')).includes(`seine_bytes_total{verdict="forward"} ${2 ** 40 + 1}`));
  assert.deepEqual(await samples('seine_dropped_packets_total'), [
    'seine_dropped_packets_total{stage="SpoofGuard",reason="spoofed"} 2',
  ]);
});

test('metrics: scraping twice adds nothing, in either format and in any order', async () => {
  const { blocks, samples, addRule } = start();
  blocks[0]!.add(counterIndex.packets(Verdict.Forward), 10);
  addRule(0, 1, 'packets', 3);
  for (const accept of [undefined, OPEN, OPEN, undefined]) {
    assert.equal((await samples('seine_packets_total', accept))[0], 'seine_packets_total{verdict="forward"} 10');
    assert.match((await samples('seine_rule_packets_total', accept))[0]!, /action="allow"\} 3$/);
  }
});

test('metrics: existing rules have a series each; a rule that is gone has none; a default deny is named so', async () => {
  const { addRule, rules, samples } = start();
  addRule(0, 1, 'packets', 5);
  addRule(1, 1, 'packets', 6);
  addRule(1, 2, 'connections', 1);
  addRule(0, 7, 'octets', 999);
  const allow = 'kind="NetworkPolicy",namespace="default",policy="web",rule="0",direction="ingress",action="allow"';
  const deny =
    'kind="NetworkPolicy",namespace="default",policy="web",rule="default-deny",direction="ingress",action="drop"';
  const named =
    'kind="AntreaClusterNetworkPolicy",namespace="",policy="a\\"b\\\\c",rule="no-dns",direction="egress",action="reject"';
  for (const accept of [undefined, OPEN]) {
    assert.deepEqual(await samples('seine_rule_packets_total', accept), [
      `seine_rule_packets_total{${allow}} 11`,
      `seine_rule_packets_total{${deny}} 0`,
      `seine_rule_packets_total{${named}} 0`,
    ]);
  }
  assert.equal((await samples('seine_rule_connections_total'))[1], `seine_rule_connections_total{${deny}} 1`);
  assert.equal((await samples('seine_rule_bytes_total'))[2], `seine_rule_bytes_total{${named}} 999`);
  assert.deepEqual(await samples('seine_policy_rules'), ['seine_policy_rules 3']);
  rules.splice(0, 2);
  assert.equal((await samples('seine_rule_packets_total')).length, 1);
});
test('metrics: two rules of the same labels are one series with their sum', async () => {
  const { addRule, rules, samples } = start();
  rules.splice(0, rules.length, rules[2]!, { ...rules[2]!, id: 8 });
  addRule(0, 7, 'packets', 1);
  addRule(0, 8, 'packets', 2);
  const all = await samples('seine_rule_packets_total');
  assert.equal(all.length, 1);
  assert.match(all[0]!, / 3$/);
});

test('metrics: batch durations are cumulative buckets whose last is the count', async () => {
  const { blocks, samples } = start();
  const unix = TRANSPORTS.indexOf('unix');
  blocks[0]!.add(counterIndex.duration(unix, 0), 4);
  blocks[1]!.add(counterIndex.duration(unix, 2), 3);
  blocks[1]!.add(counterIndex.duration(unix, DURATION_BUCKETS.length), 1);
  blocks[1]!.add(counterIndex.durationNs(unix), 2_500_000_000);
  for (const accept of [undefined, OPEN]) {
    const buckets = (await samples('seine_batch_duration_seconds_bucket', accept)).filter((line) =>
      line.includes('"unix"'),
    );
    assert.equal(buckets.length, DURATION_BUCKETS.length + 1);
    assert.deepEqual(
      buckets.map((line) => Number(line.split(' ').at(-1))),
      [4, 4, ...DURATION_BUCKETS.slice(2).map(() => 7), 8],
    );
    assert.match(buckets.at(-1)!, /le="\+Inf"/);
    assert.deepEqual(
      await samples('seine_batch_duration_seconds_sum', accept).then((all) => all[0]!.split(' ')[1]),
      '2.5',
    );
    assert.deepEqual(
      await samples('seine_batch_duration_seconds_count', accept).then((all) => all[0]!.split(' ')[1]),
      '8',
    );
  }
});

test('metrics: apply durations are observed as the engine tells of them', async () => {
  const { applied, samples } = start();
  applied(0.02);
  applied(3);
  assert.deepEqual(await samples('seine_policy_apply_duration_seconds_count'), [
    'seine_policy_apply_duration_seconds_count 2',
  ]);
});

test('metrics: exporters, workers and connections come as the engine and the exporter tell them', async () => {
  const { samples } = start();
  assert.deepEqual(await samples('seine_flow_records_total'), ['seine_flow_records_total{format="netflow5"} 90']);
  assert.deepEqual(await samples('seine_flow_records_lost_total'), [
    'seine_flow_records_lost_total{format="netflow5",reason="ipv6"} 4',
    'seine_flow_records_lost_total{format="netflow5",reason="refused"} 0',
  ]);
  assert.equal(
    (await samples('seine_flow_export_datagrams_total'))[1],
    'seine_flow_export_datagrams_total{format="netflow5",target="[::1]:2055"} 2',
  );
  assert.deepEqual(await samples('seine_worker_packets_total'), [
    'seine_worker_packets_total{worker="0"} 100',
    'seine_worker_packets_total{worker="1"} 200',
  ]);
  assert.deepEqual(await samples('seine_worker_busy_seconds_total'), [
    'seine_worker_busy_seconds_total{worker="0"} 0.5',
    'seine_worker_busy_seconds_total{worker="1"} 0.5',
  ]);
  assert.deepEqual(await samples('seine_worker_restarts_total'), ['seine_worker_restarts_total 1']);
  assert.deepEqual(await samples('seine_connections'), [
    'seine_connections{protocol="tcp",state="ESTABLISHED"} 3',
    'seine_connections{protocol="udp",state="new"} 2',
  ]);
  assert.deepEqual(await samples('seine_connections_limit'), ['seine_connections_limit 1048576']);
});

test('metrics: every family of the contract is there, and none that promtool refuses', async () => {
  const { scrape } = start();
  const families = new Set(
    (await scrape()).filter((line) => line.startsWith('# TYPE ')).map((line) => line.split(' ')[2]),
  );
  for (const name of [
    'seine_packets_total',
    'seine_bytes_total',
    'seine_dropped_packets_total',
    'seine_rule_packets_total',
    'seine_rule_bytes_total',
    'seine_rule_connections_total',
    'seine_connections',
    'seine_connections_limit',
    'seine_connections_created_total',
    'seine_connections_evicted_total',
    'seine_batches_total',
    'seine_batch_duration_seconds',
    'seine_worker_busy_seconds_total',
    'seine_worker_restarts_total',
    'seine_flow_records_total',
    'seine_flow_records_lost_total',
    'seine_flow_export_datagrams_total',
    'seine_policy_apply_duration_seconds',
    'seine_policy_rules',
    'process_cpu_seconds_total',
    'nodejs_eventloop_lag_seconds',
  ]) {
    assert.ok(families.has(name), name);
  }
  for (const name of families) assert.doesNotMatch(name!, /^nodejs_active_.*_total$/);
});

test('openmetrics: families lack _total, samples have it once, and # EOF ends the text', async () => {
  const { metrics } = start();
  const { contentType, body } = await metrics(OPEN);
  assert.equal(contentType, 'application/openmetrics-text; version=1.0.0; charset=utf-8');
  assert.ok(body.endsWith('\n# EOF\n'));
  assert.match(body, /^# TYPE seine_packets counter$/m);
  assert.match(body, /^seine_packets_total\{verdict="forward"\} 0$/m);
  assert.doesNotMatch(body, /_total_total/);
  assert.ok(!body.includes('\n\n'));
});
test('metrics: Prometheus text is the default, and a plain request gets it', async () => {
  const { metrics } = start();
  for (const accept of [undefined, '*/*', 'text/html,text/plain;q=0.9']) {
    assert.match((await metrics(accept)).contentType, /^text\/plain; version=0\.0\.4/);
  }
});
test('openmetrics: the larger weight decides', () => {
  assert.equal(wantsOpenMetrics(OPEN), true);
  assert.equal(wantsOpenMetrics('application/openmetrics-text;q=0.3, text/plain'), false);
  assert.equal(wantsOpenMetrics('application/openmetrics-text;q=0'), false);
  assert.equal(
    wantsOpenMetrics('Application/OpenMetrics-Text; version=1.0.0; q=0.75, text/plain;q=0.5, */*;q=0.1'),
    true,
  );
});
