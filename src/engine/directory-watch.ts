/**
 * Tells when a file in a folder changes. One watcher serves all databases of a folder. It only wakes: whoever listens
 * also polls, since some file systems and full inotify tables send nothing.
 */

import { watch, type FSWatcher } from 'node:fs';
import { basename, dirname } from 'node:path';
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';

type Listener = (event: 'change' | 'rename') => void;

interface Folder {
  readonly watcher: FSWatcher;
  readonly listeners: Map<string, Set<Listener>>;
}

export class DirectoryWatch {
  readonly #folders = new Map<string, Folder>();
  readonly #logger: Logger;
  #warned = false;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /**
   * Calls `listener` after changes of the file at `path`, which need not exist; its folder may be missing too, then
   * nothing is watched. @returns the function that ends it
   */
  add(path: string, listener: Listener): () => void {
    const directory = dirname(path);
    const folder = this.#folders.get(directory) ?? this.#open(directory);
    if (!folder) return () => undefined;
    const name = basename(path);
    const listeners = folder.listeners.get(name) ?? new Set();
    folder.listeners.set(name, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) folder.listeners.delete(name);
      if (folder.listeners.size > 0 || this.#folders.get(directory) !== folder) return;
      this.#folders.delete(directory);
      folder.watcher.close();
    };
  }

  #open(directory: string): Folder | undefined {
    const listeners = new Map<string, Set<Listener>>();
    const drop = (error: unknown) => {
      this.#folders.delete(directory);
      this.#warn(directory, error);
    };
    try {
      const watcher = watch(directory, { persistent: false }, (event, name) => {
        if (name !== null) for (const listener of listeners.get(name) ?? []) listener(event);
        else for (const set of listeners.values()) for (const listener of set) listener(event);
      });
      watcher.on('error', (error) => {
        watcher.close();
        drop(error);
      });
      const folder = { watcher, listeners };
      this.#folders.set(directory, folder);
      return folder;
    } catch (error) {
      drop(error);
      return undefined;
    }
  }

  #warn(directory: string, error: unknown): void {
    if (this.#warned) return;
    this.#warned = true;
    this.#logger.warn('cannot watch folder, changes are found by polling only (monitor-interval)', {
      path: directory,
      error: messageOf(error),
    });
  }
}
