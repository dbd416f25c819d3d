#!/usr/bin/env node
/** The command `seine`: one file a subcommand. Exit codes: 0 done, 1 failed while running, 2 wrong usage or invalid input. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { SeineError } from '../errors.js';
import * as apply from './apply.js';
import * as check from './check.js';
import * as del from './delete.js';
import * as get from './get.js';
import * as load from './load.js';
import * as replay from './replay.js';
import * as serve from './serve.js';

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
for (const command of [serve, replay, check, get, apply, del, load]) command.register(program);
for (const command of program.commands) {
  command.option('--debug', 'print stack traces').exitOverride().configureOutput(QUIET);
}

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
  else process.stderr.write(`seine: ${(error as Error).message?.split('\n')[0] ?? String(error)}\n`);
  process.exit(known ? error.exitCode : 1);
}

// A reader that goes away (`seine … | head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  fail(error);
});
process.on('uncaughtException', fail);
process.on('unhandledRejection', fail);

program.parseAsync(process.argv).catch(fail);
