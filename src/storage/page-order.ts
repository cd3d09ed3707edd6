/** Watches over the pages of a listing, so that one that goes round in a circle ends. */

import { createHash } from 'node:crypto';
import { LitestreamError } from '../base/errors.ts';

/** Pages in a row without an object, after which a listing leads nowhere; stores give a few when much was deleted. */
const MAX_EMPTY_PAGES = 300;

export class PageOrder {
  readonly #what: string;
  /** Hashes of what pages were asked for with and began with: names and tokens may be long. */
  readonly #seen = new Set<string>();
  #emptyPages = 0;

  /** @param what the operation, for messages */
  constructor(what: string) {
    this.#what = what;
  }

  /**
   * Takes note of a page before its objects are used.
   * @param first the name of its first object; undefined when it holds none
   * @param token what the next page is asked for with, if it is
   * @throws LitestreamError 'io' when the listing repeats itself
   */
  add(first: string | undefined, token?: string): void {
    if (first === undefined) this.#emptyPages++;
    else this.#emptyPages = 0;
    if (this.#emptyPages > MAX_EMPTY_PAGES) {
      throw new LitestreamError(
        'io',
        `${this.#what}: the store gave ${MAX_EMPTY_PAGES} pages without an object, and says that there are more: check endpoint`,
      );
    }
    if (first !== undefined) this.#note(`name ${first}`);
    if (token !== undefined && token !== '') this.#note(`token ${token}`);
  }

  #note(sign: string): void {
    const hash = createHash('sha256').update(sign).digest('base64');
    if (this.#seen.has(hash)) {
      throw new LitestreamError(
        'io',
        `${this.#what}: the store repeats a page of the list, which would never end: check endpoint`,
      );
    }
    this.#seen.add(hash);
  }
}
