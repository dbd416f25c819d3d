/** `seine delete`: one object out of a running service. */
import type { Command } from 'commander';
import { connectControl, defaultControlAddress } from '../client/control.js';

export function register(program: Command): void {
  program
    .command('delete')
    .description("delete one of a running service's objects")
    .argument('<kind>', 'NetworkPolicy, Pod, Namespace, Node, Service or EndpointSlice')
    .argument('<name>', 'its name')
    .option('-n, --namespace <namespace>', 'its namespace', 'default')
    .option('--server <address>', 'gRPC address: unix:PATH')
    .option('--config <file>', 'configuration whose gRPC socket is used')
    .action(async (kind: string, name: string, options: { namespace: string; server?: string; config?: string }) => {
      const client = connectControl(options.server ?? defaultControlAddress(options.config));
      try {
        const reply = (await client.call('Delete', { kind, namespace: options.namespace, name })) as {
          changes: { kind: string; namespace: string; name: string }[];
        };
        for (const change of reply.changes)
          process.stdout.write(
            `${change.kind} ${change.namespace === '' ? '' : `${change.namespace}/`}${change.name} deleted\n`,
          );
      } finally {
        client.close();
      }
    });
}
