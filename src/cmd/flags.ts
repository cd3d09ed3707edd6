/**
 * Command-line flags in the syntax of Go's flag package: `-x v`, `-x=v`, `--x v`, `--x=v`, booleans `-b` or `-b=true`.
 * Unlike there, flags are also accepted after positional arguments. `--` ends flags.
 */

import { LitestreamError } from '../base/errors.ts';
import { quoteGo } from '../base/logger.ts';
import { MAX_INDEX } from '../format/names.ts';

/** `index` is a hexadecimal WAL index without `0x`. */
export type FlagKind = 'string' | 'bool' | 'int' | 'index';

export interface FlagSpec {
  readonly kind: FlagKind;
  /** Stands for the value in help: `PATH`. Booleans have none. */
  readonly placeholder?: string;
  /** What it does, its unit and its default: one or more lines of help. */
  readonly help: string;
}

export type StringFlag = FlagSpec & { readonly kind: 'string' };
export type BoolFlag = FlagSpec & { readonly kind: 'bool' };

/** Flags by name (without dash), in the order in which help shows them. */
export type FlagTable = Readonly<Record<string, FlagSpec>>;

type FlagValue<K extends FlagKind> = K extends 'bool' ? boolean : K extends 'string' ? string : number;
/** The flags that were given; the others are absent. */
export type FlagValues<T extends FlagTable> = { -readonly [N in keyof T]?: FlagValue<T[N]['kind']> };

export interface ParsedArguments<T extends FlagTable> {
  readonly flags: FlagValues<T>;
  readonly positionals: readonly string[];
  /** `-h` or `-help` was met: nothing after it was looked at. */
  readonly help: boolean;
}

/**
 * Parses the arguments of one command. A flag given twice: the last one counts.
 * @throws LitestreamError 'usage' with the text of Go's flag package
 */
export function parseFlags<T extends FlagTable>(table: T, args: readonly string[]): ParsedArguments<T> {
  const flags: Record<string, string | boolean | number> = {};
  const positionals: string[] = [];
  const done = (help: boolean): ParsedArguments<T> => ({ flags: flags as FlagValues<T>, positionals, help });

  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? '';
    if (arg === '--') {
      positionals.push(...args.slice(i + 1));
      break;
    }
    if (!arg.startsWith('-') || arg === '-') {
      positionals.push(arg);
      continue;
    }
    const { name, value } = splitFlag(arg);
    const spec = Object.hasOwn(table, name) ? table[name] : undefined;
    if (spec === undefined) {
      if (name === 'h' || name === 'help') return done(true);
      throw new LitestreamError('usage', `flag provided but not defined: -${name}`);
    }
    if (spec.kind === 'bool') {
      flags[name] = parseBoolean(name, value ?? 'true');
      continue;
    }
    const text = value ?? args[++i];
    if (text === undefined) throw new LitestreamError('usage', `flag needs an argument: -${name}`);
    flags[name] = parseValue(name, spec.kind, text);
  }
  return done(false);
}

function splitFlag(arg: string): { name: string; value: string | undefined } {
  const body = arg.slice(arg.startsWith('--') ? 2 : 1);
  if (body === '' || body.startsWith('-') || body.startsWith('=')) {
    throw new LitestreamError('usage', `bad flag syntax: ${arg}`);
  }
  const equals = body.indexOf('=');
  if (equals < 0) return { name: body, value: undefined };
  return { name: body.slice(0, equals), value: body.slice(equals + 1) };
}

function parseBoolean(name: string, text: string): boolean {
  if (/^(1|t|T|TRUE|true|True)$/.test(text)) return true;
  if (/^(0|f|F|FALSE|false|False)$/.test(text)) return false;
  throw new LitestreamError('usage', `invalid boolean value ${quoteGo(text)} for -${name}: parse error`);
}

function parseValue(name: string, kind: 'string' | 'int' | 'index', text: string): string | number {
  if (kind === 'string') return text;
  const invalid = (why: string): LitestreamError =>
    new LitestreamError('usage', `invalid value ${quoteGo(text)} for flag -${name}: ${why}`);
  if (kind === 'int') {
    const value = parseInteger(text);
    if (value === undefined) throw invalid('parse error');
    if (!Number.isSafeInteger(value)) throw invalid('value out of range');
    return value;
  }
  if (!/^[+-]?[0-9a-f]+$/i.test(text)) throw invalid('invalid hexadecimal format');
  const index = parseInt(text, 16);
  if (index < 0) throw invalid('an index is never negative');
  if (index > MAX_INDEX) throw invalid(`the largest index is ${MAX_INDEX.toString(16)}`);
  return index;
}

/** An integer as Go's strconv.ParseInt(text, 0, 64) reads it: decimal, 0x, 0o, 0b, or octal after a leading 0. */
function parseInteger(text: string): number | undefined {
  const match = /^([+-]?)(0x_?[0-9a-f]+|0o_?[0-7]+|0b_?[01]+|0(?:_?[0-7]+)?|[1-9](?:_?\d)*)$/i.exec(text);
  if (match?.[2] === undefined) return undefined;
  const digits = match[2].replaceAll('_', '');
  const magnitude = /^0\d/.test(digits) ? parseInt(digits, 8) : Number(digits);
  return match[1] === '-' ? -magnitude : magnitude;
}
