/** How a command is declared: one table of flags drives parsing and help. */

import type { CommandContext } from './context.ts';
import { LitestreamError } from '../base/errors.ts';
import { parseFlags } from './flags.ts';
import type { BoolFlag, FlagTable, FlagValues, StringFlag } from './flags.ts';

export interface CommandDefinition<T extends FlagTable> {
  readonly name: string;
  /** One or more sentences: what it does and prints. */
  readonly description: string;
  /** What may follow the name, one form each: `[flags] DB_PATH`. */
  readonly forms: readonly string[];
  readonly flags: T;
  readonly examples?: readonly { readonly what: string; readonly line: string }[];
  /** Resolves to the exit code. Rejects with what main reports as `failed to run`, exit code 1. */
  run(context: CommandContext, args: CommandArguments<T>): Promise<number>;
}

export interface CommandArguments<T extends FlagTable> {
  readonly flags: FlagValues<T>;
  /** With `-database PATH` put first. */
  readonly positionals: readonly string[];
}

/** A declared command, its flags' types forgotten. */
export interface Command {
  readonly definition: CommandDefinition<FlagTable>;
  /** Parses the arguments; the result runs the command, or is undefined when help was asked for. Throws 'usage'. */
  readonly parse: (args: readonly string[]) => ((context: CommandContext) => Promise<number>) | undefined;
}

export function defineCommand<const T extends FlagTable>(definition: CommandDefinition<T>): Command {
  return {
    definition,
    parse(args) {
      const { flags, positionals, help } = parseFlags(definition.flags, args);
      if (help) return undefined;
      const database = (flags as { database?: string }).database;
      const all = database === undefined ? positionals : [database, ...positionals];
      return (context) => definition.run(context, { flags, positionals: all });
    },
  };
}

/** The flags of every command that reads a config file. */
export const CONFIG_FLAGS: { readonly config: StringFlag; readonly 'no-expand-env': BoolFlag } = {
  config: {
    kind: 'string',
    placeholder: 'PATH',
    help:
      'The config file. Default: $LITESTREAM_CONFIG, else /etc/litestream.yml, else\n' +
      'config/litestream.yml or litestream.yml in the working folder.',
  },
  'no-expand-env': {
    kind: 'bool',
    help: 'Takes $NAME and ${NAME} in the config file as they stand.',
  },
};

export const DATABASE_FLAG: { readonly database: StringFlag } = {
  database: {
    kind: 'string',
    placeholder: 'PATH',
    help: 'The same as the first argument after the flags.',
  },
};

export const JSON_FLAG: { readonly json: BoolFlag } = {
  json: {
    kind: 'bool',
    help:
      'Prints a JSON array of objects in place of the table: the headers as keys, sizes\n' +
      'in bytes as numbers, times in ISO 8601, errors on standard error.',
  },
};

/** The only positional argument. `missing` is the message when there is none. */
export function onePositional(positionals: readonly string[], missing: string): string {
  const [argument = ''] = positionals;
  if (argument === '') throw new LitestreamError('usage', missing);
  if (positionals.length > 1) throw new LitestreamError('usage', 'too many arguments');
  return argument;
}
