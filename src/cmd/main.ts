/**
 * The command line: finds the command, runs it, and is the one place where errors become messages and exit codes.
 * Each command is loaded when it is called, with what it needs, so that a quick one starts quickly.
 */

import { LitestreamError, hasCode, messageOf, systemCode } from '../base/errors.ts';
import type { Command } from './command.ts';
import type { ConfigError } from '../config/index.ts';
import { CommandContext } from './context.ts';
import { COMMAND_SUMMARIES, commandHelp, overview, usage } from './help.ts';
import type { CommandName } from './help.ts';

const COMMANDS: Record<CommandName, () => Promise<{ command: Command }>> = {
  dashboard: () => import('./dashboard.ts'),
  databases: () => import('./databases.ts'),
  doctor: () => import('./doctor.ts'),
  generations: () => import('./generations.ts'),
  init: () => import('./init.ts'),
  replicate: () => import('./replicate.ts'),
  retention: () => import('./retention.ts'),
  restore: () => import('./restore.ts'),
  snapshots: () => import('./snapshots.ts'),
  status: () => import('./status.ts'),
  sync: () => import('./sync.ts'),
  timeline: () => import('./timeline.ts'),
  verify: () => import('./verify.ts'),
  version: () => import('./version.ts'),
  wal: () => import('./wal.ts'),
};

/** Runs one command line and ends the process: 0 when all went well, else 1 or what the command says. */
export async function main(args: readonly string[]): Promise<never> {
  const context = new CommandContext();
  try {
    return await context.exit(await dispatch(context, args));
  } catch (error) {
    const code = error instanceof LitestreamError ? error.code : 'internal';
    // Whoever supervises says this once, and starts it no more.
    if (context.supervision === undefined || code !== 'unsupported') report(context, error);
    await context.supervision?.tell({ type: 'failed', code, message: explain(error).message });
    return context.exit(1);
  }
}

async function dispatch(context: CommandContext, args: readonly string[]): Promise<number> {
  const [first, ...rest] = args;
  if (first === undefined) {
    context.print(overview());
    return 1;
  }
  if (/^(--?h(elp)?|help)$/.test(first)) return help(context, first === 'help' ? rest[0] : undefined);
  if (/^--?version$/.test(first)) return dispatch(context, ['version', ...rest]);
  if (first.startsWith('-')) {
    context.printError(overview());
    throw new LitestreamError('usage', `${first}: flags stand after the command`);
  }
  const { definition, parse } = await load(first);
  const run = parseOrExplain(context, definition, () => parse(rest));
  if (run === undefined) {
    context.print(commandHelp(definition));
    return 0;
  }
  return run(context);
}

async function help(context: CommandContext, name: string | undefined): Promise<number> {
  context.print(name === undefined ? overview() : commandHelp((await load(name)).definition));
  return 0;
}

async function load(name: string): Promise<Command> {
  if (!Object.hasOwn(COMMAND_SUMMARIES, name)) {
    throw new LitestreamError('usage', `litestream ${name}: unknown command`);
  }
  return (await COMMANDS[name as CommandName]()).command;
}

/** Shows the usage beside the message when flags do not parse. */
function parseOrExplain<T>(context: CommandContext, definition: Command['definition'], parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    context.printError(
      `${messageOf(error)}\n${usage(definition)}\nRun \`litestream ${definition.name} -h\` for its flags.\n`,
    );
    throw error;
  }
}

function report(context: CommandContext, error: unknown): void {
  const { message, details } = explain(error);
  context.logger.error('failed to run', { error: message });
  if (details !== '') context.printExcerpt(details);
}

/** The message for the log line, and what is better read as it stands below it. */
function explain(error: unknown): { message: string; details: string } {
  const message = messageOf(error);
  if (isConfigError(error)) {
    // A diagnostic shows the line of the config file and a caret under it: unreadable within quotes.
    return { message: error.headline, details: message.slice(error.headline.length + 1) };
  }
  const expected = error instanceof LitestreamError || systemCode(error) !== undefined;
  const stack = !expected && error instanceof Error ? error.stack : undefined;
  return { message, details: stack === undefined ? '' : `this is a bug in litestream: ${stack}` };
}

/** Not by its class: that is loaded only by commands that read a config file. */
function isConfigError(error: unknown): error is ConfigError {
  return hasCode(error, 'config') && 'headline' in error;
}
