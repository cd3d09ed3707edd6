/** Which is the oldest index of the shadow WAL that replicas still need. */

export class RetainedIndexes {
  /** Undefined until the replica has said so. */
  readonly #oldest = new Map<string, number | undefined>();

  constructor(replicas: readonly string[]) {
    for (const name of replicas) this.#oldest.set(name, undefined);
  }

  /** @returns whether that is news */
  retainFrom(replica: string, index: number): boolean {
    if (this.#oldest.get(replica) === index) return false;
    this.#oldest.set(replica, index);
    return true;
  }

  /** To be called when a generation is over: what replicas need was said of that one. */
  forget(): void {
    for (const name of this.#oldest.keys()) this.#oldest.set(name, undefined);
  }

  /** The oldest that is needed by anybody, or `current`; undefined while a replica has not said so. */
  oldest(current: number): number | undefined {
    const needed = [...this.#oldest.values()];
    if (needed.includes(undefined)) return undefined;
    return Math.min(current, ...needed.map((index) => index ?? 0));
  }
}
