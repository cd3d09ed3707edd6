/**
 * Which generation comes after which: by the names that their objects give of those before them, never by a clock. Pure.
 */

/** A generation, and which ones it says it follows: in any order, also through others that are not there any more. */
export interface Following {
  readonly generation: string;
  readonly follows: readonly string[];
}

/**
 * A strict partial order. Names that lead in a circle, which no replicator writes, order nothing among themselves.
 */
export class GenerationOrder {
  readonly #named = new Map<string, Set<string>>();
  /** Everything that the names lead to. */
  readonly #before = new Map<string, ReadonlySet<string>>();

  /** @param generations a generation may come more than once, as from several replicas: all that is said of it counts */
  constructor(generations: Iterable<Following>) {
    for (const { generation, follows } of generations) {
      const named = this.#named.get(generation) ?? new Set();
      this.#named.set(generation, named);
      for (const name of follows) named.add(name);
    }
  }

  /** Whether `later` comes after `earlier`, be it through others. */
  isAfter(later: string, earlier: string): boolean {
    return this.#allBefore(later).has(earlier) && !this.#allBefore(earlier).has(later);
  }

  /** Those of `items` after which no other one of them comes; none only of none. */
  latest<T extends { readonly generation: string }>(items: readonly T[]): T[] {
    const names = new Set(items.map(({ generation }) => generation));
    const over = new Set<string>();
    for (const later of names) {
      for (const name of this.#allBefore(later)) {
        if (names.has(name) && this.isAfter(later, name)) over.add(name);
      }
    }
    return items.filter(({ generation }) => !over.has(generation));
  }

  #allBefore(generation: string): ReadonlySet<string> {
    const known = this.#before.get(generation);
    if (known) return known;
    const found = new Set<string>();
    const open = [generation];
    for (let name = open.pop(); name !== undefined; name = open.pop()) {
      for (const before of this.#named.get(name) ?? []) {
        if (found.has(before)) continue;
        found.add(before);
        open.push(before);
      }
    }
    this.#before.set(generation, found);
    return found;
  }
}
