/** The meta directory of a database, made and locked for this process. */

import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { makeDirectories } from '../base/durable-file.ts';
import { wrapError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { DatabaseLock } from './database-lock.ts';
import { defaultMetaPath } from './database-path.ts';
import type { DatabaseOptions } from './options.ts';
import { placeMetaDirectory } from './read-only-meta.ts';

export interface MetaDirectoryOptions {
  readonly options: DatabaseOptions;
  readonly stateDirectories?: readonly string[] | undefined;
  readonly logger: Logger;
  /** Called when it is claimed. */
  readonly onLocked?: (() => Promise<void>) | undefined;
}

export class MetaDirectory {
  readonly #options: MetaDirectoryOptions;
  #path: string;
  #lock: DatabaseLock | undefined;

  constructor(options: MetaDirectoryOptions) {
    this.#options = options;
    this.#path = expectedPath(options);
  }

  /** Before it is claimed: where it will be, as far as that can be told. */
  get path(): string {
    return this.#path;
  }

  get claimed(): boolean {
    return this.#lock !== undefined;
  }

  /**
   * Makes and locks it, once.
   * @throws LitestreamError 'busy' when another process replicates the database, 'permission' when there is no place
   */
  async claim(): Promise<void> {
    if (this.#lock) return;
    const { options, stateDirectories, logger, onLocked } = this.#options;
    const path = placeMetaDirectory(options, stateDirectories);
    try {
      await makeDirectories(path, 0o700);
    } catch (error) {
      throw wrapError(error, `create meta directory ${path}`);
    }
    this.#lock = new DatabaseLock(path, options.path);
    this.#path = path;
    if (options.metaPath === undefined && path !== defaultMetaPath(options.path)) {
      logger.info('folder of the database is read-only: its meta directory is elsewhere', {
        'meta-path': path,
      });
    }
    await onLocked?.();
  }

  /** Lets another process replicate the database. */
  release(): void {
    this.#lock?.release();
    this.#lock = undefined;
  }
}

function expectedPath({ options, stateDirectories }: MetaDirectoryOptions): string {
  try {
    return placeMetaDirectory(options, stateDirectories);
  } catch {
    return defaultMetaPath(options.path); // The claim fails with the reason.
  }
}

/** Makes it, and removes what a killed process was writing there. To be called by the holder of its lock. @throws LitestreamError */
export async function prepareMetaDirectory(metaPath: string): Promise<void> {
  try {
    await makeDirectories(metaPath, 0o700);
    // Snapshots that it was spooling.
    for (const name of await readdir(metaPath)) {
      if (/^snapshot-.*\.tmp$/.test(name)) await rm(join(metaPath, name), { force: true });
    }
  } catch (error) {
    throw wrapError(error, `prepare meta directory ${metaPath}`);
  }
}
