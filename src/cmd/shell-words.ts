/** Splits the command line of `-exec` into words: quotes and backslashes as in a shell, but nothing is expanded. */

import { LitestreamError } from '../base/errors.ts';

export interface ShellWords {
  readonly words: readonly string[];
  /** From the first unquoted `;`, `&`, `|`, `<` or `>` on: not run, as there is no shell. Empty if there is none. */
  readonly ignored: string;
}

/**
 * Splits `line`. Single quotes keep everything, double quotes and none take a backslash as "the next character as it
 * is"; `$(…)` and backticks stay in their word as they are.
 * @throws LitestreamError 'config' when a quote or a backslash is left open, or a parenthesis stands unquoted
 */
export function splitShellWords(line: string): ShellWords {
  const words: string[] = [];
  let word: string | undefined;
  let quote: string | undefined;
  /** What ends the `$(…)` or backticks that we are in: literal parts of a word, as in v0.3.13. */
  let substitutionEnd: string | undefined;
  for (let i = 0; i < line.length; i++) {
    const char = line.charAt(i);
    if (char === '\\' && quote !== "'") {
      if (++i === line.length) throw invalidLine();
      word = (word ?? '') + line.charAt(i);
    } else if (quote !== undefined) {
      if (char === quote) quote = undefined;
      else word = (word ?? '') + char;
    } else if (char === '"' || char === "'") {
      quote = char;
      word ??= '';
    } else if (substitutionEnd !== undefined) {
      word = (word ?? '') + char;
      if (char === substitutionEnd) substitutionEnd = undefined;
    } else if (/\s/.test(char)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (';&|<>'.includes(char)) {
      // A number before `>` names a descriptor: it belongs to the redirection.
      const redirected = char === '>' && /^\d/.test(word ?? '');
      if (word !== undefined && !redirected) words.push(word);
      return { words, ignored: line.slice(i) };
    } else if (char === '(' && word?.endsWith('$') === true) {
      substitutionEnd = ')';
      word += char;
    } else if (char === '`') {
      substitutionEnd = char;
      word = (word ?? '') + char;
    } else if (char === '(' || char === ')') {
      throw invalidLine();
    } else {
      word = (word ?? '') + char;
    }
  }
  if (quote !== undefined || substitutionEnd !== undefined) throw invalidLine();
  if (word !== undefined) words.push(word);
  return { words, ignored: '' };
}

function invalidLine(): LitestreamError {
  return new LitestreamError('config', 'cannot parse exec command: invalid command line string');
}
