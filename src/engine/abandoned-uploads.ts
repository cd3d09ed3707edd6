/** What uploads that died leave in a store: temporary files, parts of objects. No listing shows them, and they cost. */

import { hasCode, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { GENERATIONS_PREFIX } from '../format/names.ts';
import type { ObjectStore } from '../storage/object-store.ts';

/** An upload that was begun, or last went on, so long ago is nobody's any more, whatever the clocks say. */
const ABANDONED_MS = 24 * 3600_000;

export class AbandonedUploads {
  readonly #store: ObjectStore;
  readonly #logger: Logger;
  #refused = false;

  constructor(store: ObjectStore, logger: Logger) {
    this.#store = store;
    this.#logger = logger;
  }

  /**
   * Removes what is a day old. A store that refuses is said once: everything else works without.
   * @param now epoch milliseconds
   * @throws LitestreamError 'aborted' only
   */
  async remove(now: number, signal?: AbortSignal): Promise<void> {
    const before = new Date(now - ABANDONED_MS);
    try {
      const count = await this.#store.removeAbandoned?.(GENERATIONS_PREFIX, before, { signal });
      this.#refused = false;
      if (count) this.#logger.info('abandoned uploads deleted', { n: count });
    } catch (error) {
      if (hasCode(error, 'aborted')) throw error;
      if (!this.#refused) {
        const state = hasCode(error, 'permission') ? 'left to the store: not permitted' : 'not deleted';
        this.#logger.warn(`abandoned uploads are ${state}`, { error: messageOf(error) });
      }
      this.#refused = true;
    }
  }
}
