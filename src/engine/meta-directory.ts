/** The meta directory of a database, made and locked for this process. */

import { statSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { makeDirectories } from '../base/durable-file.ts';
import { LitestreamError, hasCode, wrapError } from '../base/errors.ts';
import { holdFolder, isHeld, isHeldInPlace } from '../base/held-folder.ts';
import type { Logger } from '../base/logger.ts';
import { DatabaseLock, readOwner } from './database-lock.ts';
import { defaultMetaPath } from './database-path.ts';
import { refuseForeign, takeOver } from './meta-owner.ts';
import type { DatabaseOptions } from './options.ts';
import { placeMetaDirectory } from './read-only-meta.ts';

export interface MetaDirectoryOptions {
  readonly options: DatabaseOptions;
  readonly stateDirectories?: readonly string[] | undefined;
  readonly logger: Logger;
  /** Called when it is claimed. */
  readonly onLocked?: (() => Promise<void>) | undefined;
}

/** Whoever asked for the database takes its lock at once; who has died by then does not. */
const LENT_MS = 10_000;

export class MetaDirectory {
  readonly #options: MetaDirectoryOptions;
  #path: string;
  #workPath: string | undefined;
  #lock: DatabaseLock | undefined;
  #ousted = false;
  /** Another process is to replace the database file, which was this one then. */
  #lent: { readonly inode: number | undefined; readonly owner: string; readonly untilMs: number } | undefined;

  constructor(options: MetaDirectoryOptions) {
    this.#options = options;
    this.#path = expectedPath(options);
  }

  /** Before it is claimed: where it will be, as far as that can be told. */
  get path(): string {
    return this.#path;
  }

  /** By which what is in it is to be used: see holdFolder(). It stays valid. */
  get workPath(): string {
    return this.#workPath ?? this.#path;
  }

  get claimed(): boolean {
    return this.#lock !== undefined;
  }

  /** It was claimed, and another process may have it: nothing is ours to write. */
  get ousted(): boolean {
    return this.#ousted;
  }

  /**
   * Makes and locks it, once, and anew when the lock's file is gone or is another one.
   * @returns whether it has been locked by this call
   * @throws LitestreamError 'busy' when another process replicates the database, 'permission' when there is no place,
   *   'not-found' while it is lent, 'io' when the one that was claimed is another one now: when what uses that is closed, it
   *   can be claimed
   */
  async claim(): Promise<boolean> {
    if (this.#lock?.isInPlace === true) return false;
    const { options, stateDirectories, logger, onLocked } = this.#options;
    if (this.#lock) {
      logger.warn('lock file was deleted, and is made anew', { 'meta-path': this.#path });
      this.oust();
      if (!isHeldInPlace(this.workPath))
        throw new LitestreamError('io', `meta directory ${this.#path} was removed or replaced`);
    }
    if (this.#lent && this.#lent.untilMs > performance.now() && !this.#wasBorrowed(this.#lent)) {
      throw this.#lentError();
    }
    const path = placeMetaDirectory(options, stateDirectories);
    try {
      await makeDirectories(path, 0o700);
    } catch (error) {
      throw wrapError(error, `create meta directory ${path}`);
    }
    const workPath = holdFolder(path);
    if (isHeld(workPath)) refuseForeign(workPath, options.path);
    this.#lock = this.#takeLock(workPath);
    if (isHeld(workPath)) takeOver(workPath, logger);
    this.#path = path;
    this.#workPath = workPath;
    this.#lent = undefined;
    this.#ousted = false;
    if (options.metaPath === undefined && path !== defaultMetaPath(options.path)) {
      logger.info('folder of the database is read-only: its meta directory is elsewhere', {
        'meta-path': path,
      });
    }
    await onLocked?.();
    return true;
  }

  #takeLock(path: string): DatabaseLock {
    try {
      return new DatabaseLock(path, this.#options.options.path);
    } catch (error) {
      throw this.#lent && hasCode(error, 'busy') ? this.#lentError() : error;
    }
  }

  #lentError(): LitestreamError {
    const { path } = this.#options.options;
    return new LitestreamError('not-found', `database ${path} is let go of, to be replaced by a restore`);
  }

  /** Lets another process replace the database: it is not claimed again before that, unless nothing comes of it. */
  lend(): void {
    this.release();
    this.#lent = {
      inode: inodeOf(this.#options.options.path),
      owner: readOwner(this.workPath),
      untilMs: performance.now() + LENT_MS,
    };
  }

  /** Whether somebody has replaced the file, or has taken the lock, which is not free before the database is restored. */
  #wasBorrowed({ inode, owner }: { readonly inode: number | undefined; readonly owner: string }): boolean {
    return inode !== inodeOf(this.#options.options.path) || owner !== readOwner(this.workPath);
  }

  /** Looks for processes that replicate the database without our lock. @throws LitestreamError 'busy' naming one */
  refuseOthers(): void {
    this.#lock?.refuseOthers(this.#options.options.path);
  }

  /** Lets go of it since another process replicates the database, as it seems: until it is claimed again. */
  oust(): void {
    this.release();
    this.#ousted = true;
  }

  /** Lets another process replicate the database. */
  release(): void {
    this.#lock?.release();
    this.#lock = undefined;
  }
}

function inodeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
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
