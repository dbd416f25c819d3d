#!/usr/bin/env node
/** The command `seine`: one file a subcommand. Exit codes: 0 done, 1 failed while running, 2 wrong usage or invalid input. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { SeineError } from '../errors.js';

const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};
const debug = process.argv.includes('--debug');

/** Commander's own error lines and help on standard error: `fail` writes the one line instead. */
const QUIET = { outputError: () => {}, writeErr: () => {} };

const program = new Command('seine')
  .description('a flow engine: policies, connection tracking and flow records for packets')
  .version(version)
  .option('--debug', 'print stack traces')
  .enablePositionalOptions(false)
  .showSuggestionAfterError(true)
  .exitOverride()
  .configureOutput(QUIET);

function fail(error: unknown): never {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) process.exit(0);
    const line = error.message.replace(/^error: /, '').split('\n')[0];
    process.stderr.write(
      `seine: ${error.code === 'commander.help' ? 'a command belongs here' : line}; see seine --help\n`,
    );
    process.exit(2);
  }
  const known = error instanceof SeineError;
  if (debug && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  else process.stderr.write(`seine: ${(error instanceof Error ? error.message : String(error)).split('\n')[0]}\n`);
  process.exit(known ? error.exitCode : 1);
}

// A reader that goes away (`seine … | head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  fail(error);
});
process.on('uncaughtException', fail);
process.on('unhandledRejection', fail);

const COMMANDS = {
  serve: () => import('./serve.js'),
  replay: () => import('./replay.js'),
  check: () => import('./check.js'),
  get: () => import('./get.js'),
  apply: () => import('./apply.js'),
  delete: () => import('./delete.js'),
  load: () => import('./load.js'),
} as const;

/**
 * Loaded here and not above: what fails while it loads, such as an addon that is not built, is one line too. Where the first
 * argument names a command, that one alone: gRPC, metrics and schemas take longer to load than a short command runs.
 */
async function run(): Promise<void> {
  // Whatever the command: a fault that was left in the environment is told, not only by those that start an engine.
  (await import('../worker/fault.js')).readFault(process.env);
  const named = Object.entries(COMMANDS).find(([name]) => name === process.argv[2]);
  const loaders = named === undefined ? Object.values(COMMANDS) : [named[1]];
  for (const command of await Promise.all(loaders.map((load) => load()))) command.register(program);
  for (const command of program.commands) {
    command.option('--debug', 'print stack traces').exitOverride().configureOutput(QUIET);
  }
  await program.parseAsync(process.argv);
}
run().catch(fail);
