/**
 * Problems of a config file that point to a place in it. What is shown of the file is the user's own line,
 * variables unexpanded, with secrets masked.
 */

import { LitestreamError } from '../base/errors.ts';
import { redactUrl } from '../base/redact-url.ts';
import type { LoggingOptions } from './config.ts';

/** A message with its place. `line` and `column` count from 1, the column in characters. */
export interface Diagnostic {
  readonly message: string;
  readonly path: string;
  readonly line: number;
  readonly column: number;
  /** The line as it stands in the file, secrets masked. */
  readonly sourceLine: string;
  /** The column in `sourceLine`: another one when a masked secret stands before it. */
  readonly sourceColumn: number;
  /** The environment variable that is not set, when that is the problem. */
  readonly unsetVariable?: string | undefined;
}

/** Compares two diagnostics of one file by their place. */
export function inFileOrder(a: Diagnostic, b: Diagnostic): number {
  return a.line - b.line || a.column - b.column;
}

/** `path:line:col`, the line and a caret under it, each on a line of its own. */
export function formatPlace(diagnostic: Diagnostic): string {
  const { path, line, column, sourceLine, sourceColumn } = diagnostic;
  const before = Array.from(sourceLine)
    .slice(0, sourceColumn - 1)
    .map((char) => (char === '\t' ? '\t' : ' '));
  return `${path}:${line}:${column}\n  ${sourceLine}\n  ${before.join('')}^`;
}

/**
 * A config file that cannot be used: code 'config'. `message` is `headline` followed by the place of each
 * diagnostic, for people; `headline` is one line as v0.3.13 words it, for logs.
 */
export class ConfigError extends LitestreamError {
  readonly headline: string;
  readonly diagnostics: readonly Diagnostic[];
  /** How the file wants the error logged; undefined when it could not be read so far. */
  readonly logging: LoggingOptions | undefined;
  /** What else is doubtful in the file, and may be the cause. Set by loadConfig. */
  warnings: readonly Diagnostic[] = [];

  constructor(headline: string, diagnostics: readonly Diagnostic[], logging?: LoggingOptions) {
    super('config', [headline, ...diagnostics.map(formatPlace)].join('\n'));
    this.headline = headline;
    this.diagnostics = diagnostics;
    this.logging = logging;
  }
}

/** Source offset to a diagnostic. */
export function diagnosticAt(message: string, path: string, source: string, offset: number): Diagnostic {
  const lineStart = source.lastIndexOf('\n', offset - 1) + 1;
  const lines = source.slice(0, lineStart).split('\n');
  const line = lines.length;
  const end = source.indexOf('\n', lineStart);
  const text = source.slice(lineStart, end === -1 ? undefined : end).replace(/\r$/, '');
  const at = Math.min(offset - lineStart, text.length);
  const masked = maskLine(lines.slice(0, -1), text);
  const head = masked.slice(0, shiftedColumn(text, masked, at));
  return {
    message,
    path,
    line,
    column: Array.from(text.slice(0, at)).length + 1,
    sourceLine: masked,
    sourceColumn: Array.from(head).length + 1,
  };
}

/** A key whose value is a secret, also a misspelt one, at the start of a line, of a list item or inside of a flow map. */
const SECRET_KEY =
  /(?:^|[\s{,])["']?[\w-]*(?:key|kye|secr|sercet|pas|pwd|tok|sas|ident|cred|heart[\w-]*ur)[\w-]*["']?\s*:/i;
/** Everything up to and with the first key of a line. */
const LINE_KEY = /^\s*(?:- +)*[{\s]*["']?[^\s"':#{}[\],]+["']?\s*:(?:\s|$)/;
/** The keys that sound secret and are not: the name of a file, and a public key. */
const HARMLESS_KEY = /["']?(?:key-path|host-key)["']?\s*:/g;
const MASK = '***';

/**
 * `line` without the values of secret keys, URL passwords and age keys. Rather too much than too little: in a block map
 * everything after a secret key is masked, also on the lines that its value goes on to.
 */
function maskLine(previous: readonly string[], line: string): string {
  if (continuesSecret(previous, line)) return line.replace(/\S.*/s, MASK);
  const url = redactUrl(line).replace(/AGE-SECRET-KEY-\w+/gi, MASK);
  const match = SECRET_KEY.exec(url.replace(HARMLESS_KEY, (text) => '.'.repeat(text.length)));
  if (match === null) return url;
  const valueAt = match.index + match[0].length;
  const rest = url.slice(valueAt);
  const inFlow = /[{,]/.test(url.slice(0, match.index + 1));
  const value = inFlow ? /^\s*(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s,}][^,}]*)/.exec(rest) : null;
  if (rest.trim() === '') return url;
  if (value === null) return `${url.slice(0, valueAt)} ${MASK}`;
  return `${url.slice(0, valueAt)} ${MASK}${maskLine([], rest.slice(value[0].length))}`;
}

function continuesSecret(previous: readonly string[], line: string): boolean {
  if (line.trim() === '' || LINE_KEY.test(line)) return false;
  const owner = previous.findLast((text) => LINE_KEY.test(text));
  return owner !== undefined && SECRET_KEY.test(owner.replace(HARMLESS_KEY, ''));
}

/** Where position `at` of `text` stands in `masked`, which differs from it in places only. */
function shiftedColumn(text: string, masked: string, at: number): number {
  if (text.startsWith(masked.slice(0, at))) return Math.min(at, masked.length);
  const tail = text.slice(at);
  return masked.endsWith(tail) ? masked.length - tail.length : Math.max(masked.indexOf(MASK), 0);
}
