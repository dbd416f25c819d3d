/** `seine serve`: the service, until SIGTERM or SIGINT, which drain it. */
import type { Command } from 'commander';
import { EXAMPLE_CLUSTER, EXAMPLE_NODE } from '../config/example-cluster.js';
import type { StateStatus } from '../engine/engine-view.js';
import { Engine } from '../engine/engine.js';
import { SeineError } from '../errors.js';
import { Exporter } from '../export/exporter.js';
import { MetricsThread } from '../metrics/metrics-thread.js';
import { DemoTraffic } from './demo-traffic.js';
import { listenGrpc } from '../server/grpc.js';
import { listenHttp } from '../server/http.js';
import { listenMemif } from '../server/memif-listener.js';
import { RecentFlows } from '../server/rows.js';
import { type Listener, listenUnix } from '../server/unix-listener.js';
import { collect, loadGiven, tellWarnings } from './load-objects.js';

interface Options {
  config?: string;
  objects: string[];
  example?: boolean;
  demo?: boolean;
}

export function register(program: Command): void {
  program
    .command('serve')
    .description('run the service until SIGTERM or SIGINT')
    .option('--config <file>', 'configuration file')
    .option('--objects <path>', 'file or folder of manifests (repeatable)', collect, [])
    .option('--example', 'serve the built-in example cluster')
    .option('--demo', "keep sending traffic between the example cluster's pods")
    .action((options: Options) => run(options));
}

async function run(options: Options): Promise<void> {
  const example = options.example || options.demo;
  const { config, objects, warnings } = loadGiven(
    options.config,
    options.objects,
    example ? { text: EXAMPLE_CLUSTER, origin: 'example cluster' } : undefined,
  );
  if (example && config.node === null) config.node = EXAMPLE_NODE;
  if (options.demo && config.listen.unix === null)
    throw new SeineError('SEINE_ERR_USAGE', '--demo sends through listen.unix, which is null: name a socket');
  tellWarnings(warnings);
  const engine = await Engine.start({
    config,
    objects,
    holdRecords: true,
    workerEntry: new URL('../server/worker-entry.cjs', import.meta.url),
  });
  const exporter = new Exporter(config, 'serve');
  engine.exporterStats = () => exporter.stats();
  if (config.netflow.targets.length > 0) {
    engine.exportRecords({
      push: (words) => void exporter.push(words, engine.nowNs()),
      progress: (sending, done) => exporter.progress(sending, done),
    });
  }
  const flows = new RecentFlows(engine);
  engine.deliverRecords();
  const listeners: Listener[] = [];
  let demo: DemoTraffic | null = null;
  let metrics: MetricsThread | null = null;
  try {
    const { unix, grpc, memif, http } = config.listen;
    if (unix !== null) listeners.push(await listenUnix(unix, (fd) => engine.adoptDescriptor(fd)));
    if (memif !== null) listeners.push(await listenMemif(memif, (fd, hub) => engine.adoptDescriptor(fd, hub)));
    for (const address of grpc) listeners.push(await listenGrpc(engine, address));
    if (http !== null) {
      metrics = new MetricsThread(engine, () => [exporter.totals()]);
      listeners.push(await listenHttp(engine, http, metrics, flows));
    }
    if (options.demo) demo = await DemoTraffic.start(`unix:${unix}`, engine);
  } catch (error) {
    await Promise.all(listeners.map((listener) => listener.close()));
    await metrics?.close();
    await engine.close();
    await exporter.close();
    engine.closeState();
    throw error;
  }
  tell(engine, listeners, options, config.listen.http !== null ? (listeners.at(-1)?.address ?? '') : '');

  await new Promise<void>((done) => {
    let stopping = false;
    const stop = () => {
      if (stopping) return;
      stopping = true;
      process.stderr.write('seine: draining\n');
      done();
    };
    process.on('SIGTERM', stop);
    process.on('SIGINT', stop);
  });
  await demo?.stop();
  // Front ends first, so that nothing new comes; then what is in hand is answered and recorded, then records leave.
  await Promise.all(listeners.map((listener) => listener.close()));
  await metrics?.close();
  await engine.close();
  exporter.flush();
  await exporter.close();
  engine.closeState();
  process.exit(0);
}

/** What was found in the state file. */
function stateLines(state: StateStatus | null): string[] {
  if (state === null) return [];
  if (!state.restored) return [`  state in ${state.path}, begun afresh`];
  const lost = [
    [state.recordsLost, 'flow records are lost'],
    [state.recordsInDoubt, 'flow records were being sent and are not sent again'],
    [state.entriesMended, 'entries were set right'],
    [state.entriesDropped, 'entries could not be kept'],
  ] as const;
  return [
    `  state in ${state.path}: ${state.connections} connections taken up; ${state.batchesLost} batches were in flight and are lost`,
    ...lost.filter(([count]) => count > 0).map(([count, what]) => `    ${count} ${what}`),
  ];
}

function tell(engine: Engine, listeners: readonly Listener[], options: Options, page: string): void {
  const ports = engine.ports().filter(({ kind }) => kind === 'pod').length;
  const what = engine.metering()
    ? 'no Pod among the objects: packets are only metered'
    : `${ports} local pods, ${engine.policies().length} policies, ${engine.rules().length} rules`;
  const lines = [
    `seine serves: ${what}; ${engine.config.workers} workers`,
    ...listeners.map(({ address }) => `  listens on ${address}`),
    ...stateLines(engine.state()),
  ];
  const grpc = listeners.find(
    ({ address }) => address.startsWith('unix:') && engine.config.listen.grpc.includes(address),
  )?.address;
  const server = grpc === undefined || grpc === 'unix:seine-grpc.sock' ? '' : ` --server ${grpc}`;
  lines.push('', 'Try next:');
  lines.push(`  npx seine get drops${server}`);
  lines.push(`  npx seine get policies${server}`);
  if (page !== '') lines.push(`  curl -s ${page}/metrics | grep seine_packets_total    (the page: ${page}/)`);
  else lines.push(`  npx seine get workers${server}`);
  if (options.example && !options.demo)
    lines.push(
      '',
      'No packets yet: `npm start -- --demo` keeps sending some, `npx seine load --duration 5` sends many.',
    );
  process.stdout.write(`${lines.join('\n')}\n`);
}
