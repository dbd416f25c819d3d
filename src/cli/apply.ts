/** `seine apply`: objects of files into a running service, all or nothing. */
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { connectControl, defaultControlAddress } from '../client/control.js';
import { SeineError } from '../errors.js';
import { readManifest } from '../objects/read.js';

export function register(program: Command): void {
  program
    .command('apply')
    .description("change a running service's objects: create or update what the files hold")
    .argument('<path...>', 'files or folders of YAML or JSON; - for standard input')
    .option('--server <address>', 'gRPC address: unix:PATH')
    .option('--config <file>', 'configuration whose gRPC socket is used')
    .option('--dry-run', 'say what would change, and change nothing')
    .option('--prune', 'delete the objects that the files do not hold')
    .action(async (paths: string[], options: { server?: string; config?: string; dryRun?: boolean; prune?: boolean }) => {
      const texts = paths.flatMap(textsOf);
      // Checked here first, since only here files and lines are known.
      for (const { text, file } of texts) readManifest(text, file);
      const manifest = texts.length === 1 ? texts[0]!.text : joinTexts(texts);
      const client = connectControl(options.server ?? defaultControlAddress(options.config));
      try {
        const reply = (await client.call('Apply', { manifest, dryRun: options.dryRun ?? false, prune: options.prune ?? false })) as {
          changes: { kind: string; namespace: string; name: string; change: string }[];
          warnings: string[];
        };
        for (const warning of reply.warnings) process.stderr.write(`seine: warning: ${warning}\n`);
        for (const { kind, namespace, name, change } of reply.changes) {
          process.stdout.write(`${kind} ${namespace ? `${namespace}/` : ''}${name} ${change}${options.dryRun ? ' (dry run)' : ''}\n`);
        }
      } finally {
        client.close();
      }
    });
}

function textsOf(path: string): { text: string; file: string }[] {
  try {
    if (path === '-') return [{ text: readFileSync(0, 'utf8'), file: 'standard input' }];
    if (!statSync(path).isDirectory()) return [{ text: readFileSync(path, 'utf8'), file: path }];
    return readdirSync(path)
      .sort()
      .filter((name) => /\.(ya?ml|json)$/i.test(name))
      .map((name) => ({ text: readFileSync(join(path, name), 'utf8'), file: join(path, name) }));
  } catch (error) {
    throw new SeineError('SEINE_ERR_USAGE', `${path}: can't be read: ${(error as Error).message}`);
  }
}

/** Several files as one multi-document manifest; JSON is YAML. */
const joinTexts = (texts: readonly { text: string }[]): string => texts.map(({ text }) => text.replace(/^\uFEFF/, '')).join('\n---\n');
