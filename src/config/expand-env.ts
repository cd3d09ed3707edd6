/**
 * Expansion of `$NAME` and `${NAME}` in a config file, by the rules of Go's os.ExpandEnv, and the way back from the
 * expanded text to the file, so that messages can point into what the user wrote.
 */

export type Env = Readonly<Record<string, string | undefined>>;

/** One place where the text was replaced. Offsets count UTF-16 units; ends are exclusive. */
export interface EnvReference {
  readonly name: string;
  /** Whether the environment has no such variable: the reference then became nothing. */
  readonly unset: boolean;
  readonly sourceStart: number;
  readonly sourceEnd: number;
  readonly start: number;
  readonly end: number;
}

export interface Expansion {
  readonly text: string;
  /** In the order of the text. */
  readonly references: readonly EnvReference[];
}

/**
 * In turn: one special character in braces, anything in braces, braces that never close, one special character, a
 * name. A `$` before anything else stays.
 */
const REFERENCE = /\$(?:\{([*#$@!?\-0-9])\}|\{([^}]*)\}|(\{)|([*#$@!?\-0-9])|([A-Za-z_][A-Za-z0-9_]*))/g;

/**
 * Replaces every reference in the whole text, comments included. An unset variable becomes nothing; there are no
 * defaults and no escapes: `${A:-x}` looks for a variable of the name `A:-x`, `$$` for one of the name `$`.
 */
export function expandEnv(text: string, env: Env): Expansion {
  const references: EnvReference[] = [];
  let expanded = '';
  let sourceEnd = 0;
  for (const match of text.matchAll(REFERENCE)) {
    expanded += text.slice(sourceEnd, match.index);
    const name = match[1] ?? match[2] ?? match[4] ?? match[5] ?? '';
    // Not what every object has: `${constructor}` is no variable.
    const value = name === '' ? '' : Object.hasOwn(env, name) ? env[name] : undefined;
    const start = expanded.length;
    expanded += value ?? '';
    sourceEnd = match.index + match[0].length;
    references.push({
      name,
      unset: value === undefined,
      sourceStart: match.index,
      sourceEnd,
      start,
      end: expanded.length,
    });
  }
  return { text: expanded + text.slice(sourceEnd), references };
}

/** Where `offset` of the expanded text comes from in the source: the reference's start inside of a variable's value. */
export function sourceOffset(expansion: Expansion, offset: number): number {
  let shift = 0;
  for (const reference of expansion.references) {
    if (offset < reference.start) break;
    if (offset < reference.end) return reference.sourceStart;
    shift = reference.sourceEnd - reference.end;
  }
  return offset + shift;
}

/** Whether any of the expanded text's [start, end) came out of a variable. */
export function isExpanded(expansion: Expansion, start: number, end: number): boolean {
  return expansion.references.some((reference) => reference.start < end && reference.end > start);
}
