/** What comes of a clock that is, or was, wrong: it is told once, and another generation begins when it was set. */

import type { Logger } from '../base/logger.ts';
import type { ClockDoubt } from './commit-log.ts';
import type { GenerationRestarts } from './generation-restarts.ts';

export class ClockWarning {
  readonly #logger: Logger;
  #told = false;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /**
   * Times of commits do not go back within a generation: when the clock does, another one is asked for.
   * @param doubt as of now; undefined: the clock is right as far as can be told
   */
  look(doubt: ClockDoubt | undefined, restarts: GenerationRestarts): void {
    if (!doubt) {
      this.#told = false;
      return;
    }
    const isNews = doubt.isSettled ? restarts.reason === undefined : !this.#told;
    if (isNews)
      this.#logger.warn("this machine's clock is, or was, wrong: check it", { reason: doubt.reason });
    if (doubt.isSettled) restarts.want(doubt.reason);
    this.#told = true;
  }
}
