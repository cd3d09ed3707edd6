/** The files whose changes wake one database: which they are becomes known as it is opened. */

import { watch } from 'node:fs';
import type { DirectoryWatch } from './directory-watch.ts';

export class WatchedFiles {
  readonly #watch: DirectoryWatch;
  readonly #onEvent: (event: string, path: string) => void;
  #paths: readonly string[] = [];
  #unwatch: (() => void)[] = [];
  #isNarrow = false;

  /** @param onEvent gets what fs.watch says, and the path that it is about */
  constructor(watch: DirectoryWatch, onEvent: (event: string, path: string) => void) {
    this.#watch = watch;
    this.#onEvent = onEvent;
  }

  /** Watches these in the place of those before. They need not exist. The first is the database. */
  set(paths: readonly string[]): void {
    this.close();
    this.#paths = paths;
    this.#unwatch = [...new Set(paths)].map((path) =>
      this.#watch.add(path, (event) => this.#onEvent(event, path)),
    );
  }

  /**
   * Watches the database file only, or everything again. Each commit wakes whoever watches the folder of the WAL several
   * times; the database file changes by checkpoints, which may wait for us, and when it is deleted or replaced. Only
   * where a file is watched without being opened: closing it would drop SQLite's locks.
   */
  narrow(isNarrow: boolean): void {
    const [database] = this.#paths;
    if (isNarrow === this.#isNarrow || database === undefined || process.platform !== 'linux') return;
    if (!isNarrow) {
      this.renew();
      return;
    }
    this.close();
    this.#isNarrow = true;
    try {
      // Linux tells by the same event that it was written and that it lost a name, which replacing it does.
      const watcher = watch(database, { persistent: false }, () => this.#onEvent('rename', database));
      watcher.on('error', () => watcher.close());
      this.#unwatch = [() => watcher.close()];
    } catch {
      // It is gone, or the table of watches is full: the next look is near.
    }
  }

  /** Watches the same anew: their folders may be other ones now. */
  renew(): void {
    this.set(this.#paths);
  }

  close(): void {
    for (const unwatch of this.#unwatch) unwatch();
    this.#unwatch = [];
    this.#isNarrow = false;
  }
}
