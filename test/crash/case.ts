/** What a group of cases is, how a case is named, and how it is repeated. */

/** A kind of mishap that is tried in many places. */
export interface Group {
  /** Begins the names of its cases. */
  readonly name: string;
  /** The rest of the names of its cases. `random` chooses `sample` of them; undefined: all of them. */
  list(sample: number | undefined, random: () => number): Promise<readonly string[]> | readonly string[];
  /** Runs one; `seed` is told by the name. What struck, empty: nothing did. Rejects when an invariant is broken. */
  run(name: string, seed: number): Promise<string>;
}

/** The same for the same name. */
export function seedOf(name: string): number {
  let hash = 2166136261;
  for (const char of name) hash = Math.imul(hash ^ char.charCodeAt(0), 16777619);
  return hash >>> 1;
}

/** The line that runs a case again. */
export function repeatLine(name: string): string {
  return `CRASH_CASE='${name}' npm run test:crash -- repeat`;
}

/** `count` different ones of `items`, or all. */
export function choose<T>(items: readonly T[], count: number | undefined, random: () => number): T[] {
  const left = [...items];
  for (let i = left.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [left[i], left[j]] = [left[j]!, left[i]!];
  }
  return count === undefined ? left : left.slice(0, count);
}
