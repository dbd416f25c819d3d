/**
 * Rows of /metrics at size: full tables, thousands of rules. A whole service's engine in this process; batches of 32 packets go
 * through it one after another, and show by their longest round trip how far a scrape holds up the main thread and a worker.
 */
import { createHash } from 'node:crypto';
import { parseConfig } from '../src/config/read.js';
import { Engine } from '../src/engine/engine.js';
import { parseMacOrZero, udpFrame } from '../src/flow/build-frame.js';
import { MetricsThread } from '../src/metrics/metrics-thread.js';
import { createRegistry } from '../src/metrics/registry.js';
import { EVERYTHING, type Selection } from '../src/metrics/selection.js';
import { readManifest } from '../src/objects/read.js';
import { applyObjects, emptyObjects } from '../src/objects/store.js';
import { median, type Row, type RowGroup, rounded } from './harness.js';

const PODS = 3;
const podIp = (n: number): string => `10.10.0.${n + 2}`;

function objects(rules: number) {
  const pods = Array.from({ length: PODS }, (_, n) => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: `p${n}`, namespace: 'default' },
    spec: {},
    status: { phase: 'Running', podIP: podIp(n), podIPs: [{ ip: podIp(n) }] },
  }));
  const RULES_A_POLICY = 100;
  const policies = Array.from({ length: Math.ceil(rules / RULES_A_POLICY) }, (_, p) => ({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: `policy-${p}`, namespace: 'default' },
    spec: {
      podSelector: {},
      policyTypes: ['Ingress'],
      ingress: Array.from({ length: Math.min(RULES_A_POLICY, rules - p * RULES_A_POLICY) }, (_, r) => ({
        ports: [{ protocol: 'UDP', port: 1 + p * RULES_A_POLICY + r }],
      })),
    },
  }));
  const manifest = JSON.stringify({ apiVersion: 'v1', kind: 'List', items: [...pods, ...policies] });
  return applyObjects(emptyObjects(), readManifest(manifest, 'bench').inputs).objects;
}

const NO_RULES: Selection = { names: [], exclude: ['seine_rule_*'] };
const digestOf = (body: string | readonly Uint8Array[]): string => {
  const text = typeof body === 'string' ? body : Buffer.concat(body).toString();
  return createHash('sha256').update(text.split('\n').sort().join('\n')).digest('hex').slice(0, 16);
};

export const metricsRows: RowGroup = {
  rows: [
    '/metrics, 1 Mi connections, 10,000 rules',
    '/metrics, 1 Mi connections, without the rule families',
    '/metrics, 1 Mi connections, 10,000 rules: main thread and worker held up',
  ],
  async run(quick): Promise<Row[]> {
    const connections = quick ? 1 << 14 : 1 << 20;
    const rules = quick ? 500 : 10_000;
    const { config } = parseConfig(
      {
        workers: 1,
        // Nothing ends by itself meanwhile.
        conntrack: {
          max: connections * 2,
          maxPerEndpoint: connections * 2,
          timeouts: { udpFirst: 86_400, udpSingle: 86_400, udpMultiple: 86_400 },
        },
        netflow: { idleTimeout: 3600, activeTimeout: 3600 },
      },
      'bench',
    );
    const engine = await Engine.start({ config, objects: objects(rules) });
    const thread = new MetricsThread(engine);
    try {
      const ports = engine.ports().filter(({ kind }) => kind === 'pod');
      const batchOf = (first: number, count: number, dstPort: number) => {
        const frames = Array.from({ length: count }, (_, i) => {
          const n = first + i;
          const [from, to] = [ports[n % PODS]!, ports[(n + 1) % PODS]!];
          return udpFrame({
            srcMac: parseMacOrZero(from.mac),
            dstMac: parseMacOrZero(to.mac),
            src: from.ips[0]!,
            dst: to.ips[0]!,
            srcPort: 1024 + (n % 60_000),
            dstPort,
            payload: 18,
          });
        });
        return {
          data: Buffer.concat(frames),
          length: Uint32Array.from(frames, ({ length }) => length),
          inPort: Uint32Array.from(frames, (_, i) => ports[(first + i) % PODS]!.port),
        };
      };
      for (let n = 0; n < connections; ) {
        const count = Math.min(4000, connections - n, 60_000 - (n % 60_000));
        await engine.process(batchOf(n, count, 1 + Math.floor(n / 60_000)));
        n += count;
      }
      const held = engine.connectionTotals().reduce((sum, { count }) => sum + count, 0);
      if (held !== connections) throw new Error(`${held} connections are in the table instead of ${connections}`);

      // The same text as from a registry in this thread, but for what time alone changes.
      const steady: Selection = {
        names: ['seine_*'],
        exclude: ['seine_policy_apply_*', 'seine_worker_busy_seconds_total'],
      };
      const digest = digestOf((await thread.metrics(undefined, steady)).body);
      if (digestOf((await createRegistry(engine).metrics(undefined, steady)).body) !== digest)
        throw new Error('the thread says other than a registry in the main thread');

      const small = batchOf(0, 32, 1);
      /** Until `ended`: the longest round trip of a batch, and the longest turn of this thread's event loop, ms. */
      const watch = async (ended: () => boolean): Promise<number> => {
        let longest = 0;
        while (!ended()) {
          const started = performance.now();
          await engine.process(small);
          await new Promise((resolve) => setImmediate(resolve));
          longest = Math.max(longest, performance.now() - started);
        }
        return longest;
      };
      const scrape = async (selection: Selection): Promise<{ ms: number; longest: number }> => {
        let done = false;
        const started = performance.now();
        const scraped = thread.metrics(undefined, selection).then(() => {
          done = true;
          return performance.now() - started;
        });
        const longest = await watch(() => done);
        return { ms: await scraped, longest };
      };
      const rounds = quick ? 2 : 11;
      const [all, fewer, busy, calm]: number[][] = [[], [], [], []];
      for (let round = 0; round < rounds + 1; round++) {
        const whole = await scrape(EVERYTHING);
        const until = performance.now() + whole.ms;
        const without = await watch(() => performance.now() >= until);
        // Alone, as a service that only waits is scraped.
        const started = performance.now();
        await thread.metrics();
        const alone = performance.now() - started;
        const startedFewer = performance.now();
        await thread.metrics(undefined, NO_RULES);
        if (round === 0) continue; // code is compiled
        all!.push(alone);
        fewer!.push(performance.now() - startedFewer);
        busy!.push(whole.longest);
        calm!.push(without);
      }
      const row = (index: number, value: number, target: string, met: boolean, rest: Partial<Row> = {}): Row => ({
        row: this.rows[index]!,
        value: rounded(value),
        unit: 'ms',
        baseline: null,
        baselineValue: null,
        ratio: null,
        target,
        met: quick || met,
        digest,
        ...rest,
      });
      const more = Math.max(0.001, median(busy!) - median(calm!));
      return [
        row(0, median(all!), '≤ 250', median(all!) <= 250),
        row(1, median(fewer!), '≤ 50', median(fewer!) <= 50),
        row(2, more, '≤ 1', more <= 1, {
          baseline: 'longest round trip of 32 packets, unscraped',
          baselineValue: rounded(median(calm!)),
          ratio: rounded(median(busy!) / median(calm!)),
        }),
      ];
    } finally {
      await thread.close();
      await engine.close();
    }
  },
};
