/**
 * Why the present generation is to be given up, kept until that has been done, and how long to wait before: each costs a
 * snapshot, so what makes one useless at once must not make the next one at once.
 */

/** One by itself begins at once, and so does one after it: a file may be replaced twice. */
const FREE = 2;
const BASE_MS = 500;
const MAX_MS = 30_000;
/** A generation that has lasted this long was of use. */
const LASTING_MS = 60_000;

export class GenerationRestarts {
  #reason: string | undefined;
  #isFork = false;
  #count = 0;
  #begunAtMs = -Infinity;

  /** Why the generation is to be given up; undefined: it is not. */
  get reason(): string | undefined {
    return this.#reason;
  }

  /** Whether another process goes on with the present one, see want(), and it is time for one of our own. */
  isForkDue(nowMs: number): boolean {
    return this.#isFork && this.waitMs(nowMs) === 0;
  }

  /**
   * Asks for a new generation. The first reason stays.
   * @param isFork another process goes on with the present one: the new one is beside it, and does not follow it
   */
  want(reason: string, isFork = false): void {
    this.#reason ??= reason;
    this.#isFork ||= isFork;
  }

  /**
   * To be called when a generation is tried to be begun, whatever comes of it.
   * @param nowMs of the monotonic clock
   * @returns whether it is a fork: see want()
   */
  begins(nowMs: number): boolean {
    this.#count = nowMs - this.#begunAtMs >= LASTING_MS ? 1 : this.#count + 1;
    this.#begunAtMs = nowMs;
    return this.#isFork;
  }

  /** To be called when the generation has changed. */
  done(): void {
    this.#reason = undefined;
    this.#isFork = false;
  }

  /** How long to wait before another one may begin: 0 for at once. */
  waitMs(nowMs: number): number {
    if (this.#count < FREE) return 0;
    const delayMs = Math.min(MAX_MS, BASE_MS * 2 ** (this.#count - FREE));
    return Math.max(0, this.#begunAtMs + delayMs - nowMs);
  }
}
