/** `seine check`: what would be enforced, without running anything. */
import type { Command } from 'commander';
import { assignPorts } from '../objects/ports.js';
import { compileForwarding } from '../pipeline/forwarding-tables.js';
import { VXLAN_PORT } from '../pipeline/decapsulate.js';
import { compilePolicies } from '../policy/compile.js';
import { RuleRegistry } from '../policy/rule-registry.js';
import { isolatingRules } from '../policy/tables.js';
import { collect, loadGiven, tellWarnings } from './load-objects.js';
import { parseFormat, table, toJson, toYaml } from './output.js';

export function register(program: Command): void {
  program
    .command('check')
    .description('validate configuration and objects, and print what would be enforced')
    .option('--config <file>', 'configuration file')
    .option('--objects <path>', 'file or folder of manifests (repeatable)', collect, [])
    .option('-o, --output <format>', 'table, json or yaml', 'table')
    .action((options: { config?: string; objects: string[]; output: string }) => {
      const format = parseFormat(options.output);
      const { config, objects, warnings } = loadGiven(options.config, options.objects);
      tellWarnings(warnings);
      const ports = assignPorts(objects, config.node, config.hostGateway, null);
      const endpoints = [...ports.podByPort].map(([port, pod]) => ({ port, pod }));
      const registry = new RuleRegistry();
      const compiled = compilePolicies({ objects, endpoints, registry });
      compileForwarding(objects, ports, config.node, config.tunnelPort || VXLAN_PORT);
      const pods = endpoints
        .map(({ port, pod }) => ({
          port,
          pod: `${pod.namespace}/${pod.name}`,
          ips: pod.ips,
          ingress: isolation(isolatingRules(compiled.tables, 0, port)),
          egress: isolation(isolatingRules(compiled.tables, 1, port)),
        }))
        .sort((a, b) => a.port - b.port);
      const policies = compiled.policies.map((policy) => ({
        ...policy,
        pods: policy.pods.length,
        selected: policy.pods,
      }));
      const summary = {
        metering: objects.pods.size === 0,
        namespaces: objects.namespaces.size,
        pods: objects.pods.size,
        localPods: pods.length,
        nodes: objects.nodes.size,
        services: objects.services.size,
        policies: policies.length,
        rules: registry.list().length,
        warnings,
      };
      if (format !== 'table') {
        const whole = { summary, pods, policies: compiled.policies, rules: registry.list() };
        process.stdout.write(format === 'json' ? `${toJson(whole)}\n` : toYaml(whole));
        return;
      }
      process.stdout.write(table(pods, ['port', 'pod', 'ips', 'ingress', 'egress']));
      process.stdout.write(
        `\n${table(policies, ['kind', 'namespace', 'name', 'pods', 'ingressRules', 'egressRules'])}`,
      );
      process.stdout.write(
        `\n${summary.localPods} local of ${summary.pods} pods, ${summary.policies} policies with ${summary.rules} rules, ${warnings.length} warnings` +
          `${summary.metering ? '; no Pod among the objects: the engine would only meter' : ''}\n`,
      );
    });
}

const isolation = (rules: number | null): string =>
  rules === null ? 'open' : `isolated, ${rules} rule${rules === 1 ? '' : 's'}`;
