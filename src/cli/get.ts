/** `seine get`: a running service's state, over gRPC (Control's List… and watches). */
import type { Command } from 'commander';
import { connectControl, type ControlClient, defaultControlAddress } from '../client/control.js';
import { SeineError } from '../errors.js';
import { parseFormat, print, table } from './output.js';

interface List {
  method: string;
  /** Of the reply's list; absent where the method streams rows. */
  field?: string;
  columns: string[];
}
const ENDPOINTS = ['protocol', 'src', 'srcPort', 'dst', 'dstPort', 'inPortName', 'outPortName'];
const LISTS: Readonly<Record<string, List>> = {
  ports: { method: 'ListPorts', field: 'ports', columns: ['port', 'name', 'kind', 'ips', 'mac'] },
  connections: {
    method: 'ListConnections',
    columns: [...ENDPOINTS, 'state', 'verdict', 'reason', 'packets', 'octets'],
  },
  flows: {
    method: 'WatchFlows',
    columns: [...ENDPOINTS, 'packets', 'octets', 'endReason', 'action', 'ingressPolicy', 'egressPolicy'],
  },
  policies: {
    method: 'ListPolicies',
    field: 'policies',
    columns: ['kind', 'namespace', 'name', 'pods', 'ingressRules', 'egressRules'],
  },
  rules: {
    method: 'ListRules',
    field: 'rules',
    columns: ['id', 'kind', 'namespace', 'policy', 'direction', 'rule', 'action', 'packets', 'octets', 'connections'],
  },
  services: {
    method: 'ListServices',
    field: 'services',
    columns: ['namespace', 'name', 'type', 'clusterIPs', 'ports'],
  },
  drops: { method: 'ListDrops', field: 'drops', columns: ['stage', 'reason', 'packets'] },
  workers: {
    method: 'ListWorkers',
    field: 'workers',
    columns: ['worker', 'state', 'threadId', 'restarts', 'clients', 'packets', 'connections', 'busySeconds'],
  },
  exporters: {
    method: 'ListExporters',
    field: 'exporters',
    columns: ['format', 'target', 'state', 'records', 'datagrams', 'lost'],
  },
};
const NAMES = Object.keys(LISTS).join(', ');

const PROTOCOLS: Readonly<Record<string, number>> = {
  icmp: 1,
  igmp: 2,
  tcp: 6,
  udp: 17,
  gre: 47,
  icmpv6: 58,
  sctp: 132,
};
/** 64-bit counters, which gRPC's JSON form gives as strings. */
const COUNTERS = new Set(['packets', 'octets', 'connections', 'records', 'datagrams', 'lost']);
/** proto3 has no null: an empty text or −1 means none. */
const NULLABLE: Readonly<Record<string, readonly string[]>> = {
  ports: ['mac'],
  connections: ['vlan', 'reason'],
  flows: ['reason', 'ingressPolicy', 'egressPolicy'],
  policies: ['namespace', 'ingressRules', 'egressRules'],
  rules: ['namespace', 'rule'],
};

/** ns since 1970 as seconds with nine decimals, as verdict and flow lines have them. */
const seconds = (ns: string): string => ns.padStart(10, '0').replace(/(\d{9})$/, '.$1');

/** A row as it is shown: integers as integers, times as text, absent things null, ports with their names. */
export function present(list: string, row: object, portNames: ReadonlyMap<number, string>): Record<string, unknown> {
  const shown: Record<string, unknown> = {};
  const nullable = NULLABLE[list] ?? [];
  for (const [key, value] of Object.entries(row)) {
    if (COUNTERS.has(key)) shown[key] = Array.isArray(value) ? value.map(BigInt) : BigInt(value);
    else if (/^(start|end|last|expires)Ns$/.test(key)) shown[key.slice(0, -2)] = seconds(String(value));
    else if (key === 'clusterIps') shown.clusterIPs = value;
    else if (key === 'rule' && /^\d+$/.test(String(value))) shown.rule = Number(value);
    else shown[key] = (value === '' || value === -1) && nullable.includes(key) ? null : value;
    for (const port of ['inPort', 'outPort']) {
      if (key === port) shown[`${port}Name`] = portNames.get(Number(value)) ?? null;
    }
  }
  for (const key of nullable) shown[key] ??= null;
  return shown;
}

/** For a table: protocols by name, the two directions' counters in one cell, ports without a name by number. */
function forTable(list: string, row: Record<string, unknown>): Record<string, unknown> {
  if (list !== 'connections' && list !== 'flows') return row;
  const protocol = Object.entries(PROTOCOLS).find(([, number]) => number === row.protocol)?.[0] ?? row.protocol;
  const both = (value: unknown) => (Array.isArray(value) ? value.join('/') : value);
  return {
    ...row,
    protocol,
    inPortName: row.inPortName ?? row.inPort,
    outPortName: row.outPortName ?? row.outPort,
    packets: both(row.packets),
    octets: both(row.octets),
  };
}

interface Options {
  server?: string;
  config?: string;
  output: string;
  duration: string;
  src?: string;
  dst?: string;
  protocol?: string;
  srcPort?: string;
  dstPort?: string;
  verdict?: string;
}

const usage = (text: string): never => {
  throw new SeineError('SEINE_ERR_USAGE', text);
};
function number(text: string | undefined, option: string, most: number): number {
  if (text === undefined) return 0;
  return /^\d+$/.test(text) && Number(text) <= most
    ? Number(text)
    : usage(`${option} ${text}: a number from 0 to ${most} belongs here`);
}
function filterOf(options: Options): object {
  const name = options.protocol?.toLowerCase();
  return {
    src: options.src ?? '',
    dst: options.dst ?? '',
    protocol: (name !== undefined && PROTOCOLS[name]) || number(options.protocol, '--protocol', 255),
    srcPort: number(options.srcPort, '--src-port', 65_535),
    dstPort: number(options.dstPort, '--dst-port', 65_535),
    verdict: options.verdict ?? '',
  };
}

async function portNamesOf(client: ControlClient): Promise<Map<number, string>> {
  const { ports } = (await client.call('ListPorts', {})) as { ports: { port: number; name: string }[] };
  return new Map(ports.map(({ port, name }) => [port, name]));
}

export function register(program: Command): void {
  program
    .command('get')
    .description(`show a running service's state: ${NAMES}`)
    .argument('<what>', Object.keys(LISTS).join('|'))
    .option('--server <address>', 'gRPC address: unix:PATH or HOST:PORT')
    .option('--config <file>', 'configuration whose gRPC socket is used')
    .option('-o, --output <format>', 'table, json or yaml', 'table')
    .option('--duration <seconds>', 'flows: how long to watch for records that end', '10')
    .option('--src <address>', 'connections, flows: only from this address')
    .option('--dst <address>', 'connections, flows: only to this address')
    .option('--protocol <protocol>', 'connections, flows: name or number')
    .option('--src-port <port>', 'connections, flows: source port')
    .option('--dst-port <port>', 'connections, flows: destination port')
    .option('--verdict <verdict>', 'connections, flows: forward, drop or reject')
    .action(async (what: string, options: Options) => {
      const list = Object.hasOwn(LISTS, what) ? LISTS[what]! : usage(`get ${what}: one of ${NAMES} belongs here`);
      const format = parseFormat(options.output);
      const duration = Number(options.duration);
      if (!(duration > 0 && duration <= 86_400))
        usage(`--duration ${options.duration}: seconds above 0 and up to 86400 belong here`);
      const filter = filterOf(options);
      const client = connectControl(options.server ?? defaultControlAddress(options.config));
      try {
        const rows: Record<string, unknown>[] = [];
        if (list.field === undefined) {
          const portNames = await portNamesOf(client);
          const stop = what === 'flows' ? stopAfter(duration) : undefined;
          for await (const row of client.stream(list.method, filter, stop)) rows.push(present(what, row, portNames));
        } else {
          const reply = (await client.call(list.method, {})) as Record<string, object[]>;
          rows.push(...(reply[list.field] ?? []).map((row) => present(what, row, new Map())));
        }
        if (format === 'table')
          process.stdout.write(
            table(
              rows.map((row) => forTable(what, row)),
              list.columns,
            ),
          );
        else print(format, rows, list.columns);
      } finally {
        client.close();
      }
    });
}

/** Aborts after `duration` seconds, or on Ctrl-C: what was seen until then is printed. */
function stopAfter(duration: number): AbortSignal {
  const stop = new AbortController();
  setTimeout(() => stop.abort(), duration * 1000).unref();
  process.once('SIGINT', () => stop.abort());
  if (process.stderr.isTTY) process.stderr.write(`watching for ${duration} s; Ctrl-C shows what came so far\n`);
  return stop.signal;
}
