/** `seine apply`: objects of files into a running service, all or nothing. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { connectControl, defaultControlAddress } from '../client/control.js';
import { SeineError } from '../errors.js';
import { readManifest } from '../objects/read.js';

interface Source {
  text: string;
  file: string;
}
interface Options {
  server?: string;
  config?: string;
  dryRun?: boolean;
  prune?: boolean;
}
/** The server is told texts, not files: its warnings about reading begin with this name of its own. */
const SERVER_ORIGIN = /^manifest\b/;

export function register(program: Command): void {
  program
    .command('apply')
    .description("change a running service's objects: create or update what the files hold")
    .argument('<path...>', 'files or folders of YAML or JSON; - for standard input')
    .option('--server <address>', 'gRPC address: unix:PATH')
    .option('--config <file>', 'configuration whose gRPC socket is used')
    .option('--dry-run', 'say what would change, and change nothing')
    .option('--prune', 'delete the objects that the files do not hold')
    .action(async (paths: string[], options: Options) => {
      const sources = paths.flatMap(sourcesOf);
      // Read here first, since only here files and their lines are known.
      const warnings = sources.flatMap(({ text, file }) => readManifest(text, file).warnings);
      const client = connectControl(options.server ?? defaultControlAddress(options.config));
      try {
        const reply = (await client.call('Apply', {
          manifest: oneManifest(sources),
          dryRun: options.dryRun ?? false,
          prune: options.prune ?? false,
        })) as { changes: { kind: string; namespace: string; name: string; change: string }[]; warnings: string[] };
        warnings.push(...reply.warnings.filter((warning) => !SERVER_ORIGIN.test(warning)));
        for (const warning of warnings) process.stderr.write(`seine: warning: ${warning}\n`);
        const dry = options.dryRun ? ' (dry run)' : '';
        for (const { kind, namespace, name, change } of reply.changes) {
          process.stdout.write(`${kind} ${namespace === '' ? '' : `${namespace}/`}${name} ${change}${dry}\n`);
        }
      } finally {
        client.close();
      }
    });
}

/** Files in the order in which `--objects` reads them. */
function sourcesOf(path: string): Source[] {
  try {
    if (path === '-') return [{ text: readFileSync(0, 'utf8'), file: 'standard input' }];
    if (!statSync(path).isDirectory()) return [{ text: readFileSync(path, 'utf8'), file: path }];
    return readdirSync(path, { withFileTypes: true })
      .sort((a, b) => (a.name < b.name ? -1 : 1))
      .filter((entry) => entry.isDirectory() || /\.(ya?ml|json)$/i.test(entry.name))
      .flatMap((entry) => sourcesOf(join(path, entry.name)));
  } catch (error) {
    if (error instanceof SeineError) throw error;
    throw new SeineError('SEINE_ERR_OBJECT_INVALID', `${path}: can't be read: ${(error as Error).message}`);
  }
}

/** One manifest of several files. JSON is written anew in one line, since YAML does not take all of its indentation. */
function oneManifest(sources: readonly Source[]): string {
  if (sources.length === 1) return sources[0]!.text;
  return sources
    .map(({ text }) => {
      const plain = text.replace(/^\uFEFF/, '');
      if (!/^\s*[{[]/.test(plain)) return plain;
      try {
        return JSON.stringify(JSON.parse(plain));
      } catch {
        return plain; // flow-style YAML begins like JSON; readManifest has taken it already
      }
    })
    .join('\n---\n');
}
