/** `seine get`: a running service's state, over gRPC. */
import type { Command } from 'commander';
import { connectControl, defaultControlAddress } from '../client/control.js';
import { SeineError } from '../errors.js';
import { parseFormat, print } from './output.js';

const LISTS: Readonly<Record<string, { method: string; stream?: boolean; field?: string; columns: string[] }>> = {
  ports: { method: 'ListPorts', field: 'ports', columns: ['port', 'name', 'kind', 'ips', 'mac'] },
  connections: {
    method: 'ListConnections',
    stream: true,
    columns: ['protocol', 'src', 'srcPort', 'dst', 'dstPort', 'state', 'inPort', 'outPort', 'verdict', 'reason', 'packets', 'octets'],
  },
  flows: {
    method: 'WatchFlows',
    stream: true,
    columns: ['src', 'srcPort', 'dst', 'dstPort', 'protocol', 'inPort', 'outPort', 'packets', 'octets', 'action', 'endReason', 'ingressPolicy', 'egressPolicy'],
  },
  policies: { method: 'ListPolicies', field: 'policies', columns: ['kind', 'namespace', 'name', 'pods', 'ingressRules', 'egressRules'] },
  rules: { method: 'ListRules', field: 'rules', columns: ['id', 'kind', 'namespace', 'policy', 'rule', 'direction', 'action', 'packets', 'octets', 'connections'] },
  services: { method: 'ListServices', field: 'services', columns: ['namespace', 'name', 'type', 'clusterIPs', 'ports'] },
  drops: { method: 'ListDrops', field: 'drops', columns: ['stage', 'reason', 'packets'] },
  workers: { method: 'ListWorkers', field: 'workers', columns: ['worker', 'state', 'threadId', 'restarts', 'clients', 'packets', 'connections', 'busySeconds'] },
  exporters: { method: 'ListExporters', field: 'exporters', columns: ['format', 'target', 'state', 'records', 'datagrams', 'lost'] },
};

export function register(program: Command): void {
  program
    .command('get')
    .description(`show a running service's state: ${Object.keys(LISTS).join(', ')}`)
    .argument('<what>', Object.keys(LISTS).join('|'))
    .option('--server <address>', 'gRPC address: unix:PATH or HOST:PORT')
    .option('--config <file>', 'configuration whose gRPC socket is used')
    .option('-o, --output <format>', 'table, json or yaml', 'table')
    .option('--duration <seconds>', 'flows: how long to watch', '10')
    .action(async (what: string, options: { server?: string; config?: string; output: string; duration: string }) => {
      const list = LISTS[what];
      if (list === undefined) throw new SeineError('SEINE_ERR_USAGE', `get ${what}: one of ${Object.keys(LISTS).join(', ')} belongs here`);
      const format = parseFormat(options.output);
      const seconds = Number(options.duration);
      if (!(seconds > 0)) throw new SeineError('SEINE_ERR_USAGE', `--duration ${options.duration}: a number of seconds above 0 belongs here`);
      const client = connectControl(options.server ?? defaultControlAddress(options.config));
      try {
        let rows: object[] = [];
        if (list.stream) {
          const stop = what === 'flows' ? AbortSignal.timeout(seconds * 1000) : undefined;
          for await (const row of client.stream(list.method, {}, stop)) rows.push(row);
        } else rows = ((await client.call(list.method, {})) as Record<string, object[]>)[list.field!] ?? [];
        print(format, rows, list.columns);
      } finally {
        client.close();
      }
    });
}
