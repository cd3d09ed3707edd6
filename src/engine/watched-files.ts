/** The files whose changes wake one database: which they are becomes known as it is opened. */

import type { DirectoryWatch } from './directory-watch.ts';

export class WatchedFiles {
  readonly #watch: DirectoryWatch;
  readonly #onEvent: (event: string, path: string) => void;
  #paths: readonly string[] = [];
  #unwatch: (() => void)[] = [];

  /** @param onEvent gets what fs.watch says, and the path that it is about */
  constructor(watch: DirectoryWatch, onEvent: (event: string, path: string) => void) {
    this.#watch = watch;
    this.#onEvent = onEvent;
  }

  /** Watches these in the place of those before. They need not exist. */
  set(paths: readonly string[]): void {
    this.close();
    this.#paths = paths;
    this.#unwatch = [...new Set(paths)].map((path) =>
      this.#watch.add(path, (event) => this.#onEvent(event, path)),
    );
  }

  /** Watches the same anew: their folders may be other ones now. */
  renew(): void {
    this.set(this.#paths);
  }

  close(): void {
    for (const unwatch of this.#unwatch) unwatch();
    this.#unwatch = [];
  }
}
