/**
 * The file that a restore makes: written beside its final name and put in place only when it is complete. On failure
 * nothing is left behind, and nothing that was there before is touched.
 */

import { link, lstat, realpath, rename, rm, rmdir, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { NO_LINKS, syncDirectory, syncFile } from '../base/durable-file.ts';
import { sleep } from '../base/concurrency.ts';
import { LitestreamError, messageOf, systemCode, wrapError } from '../base/errors.ts';
import { type MadeFolder, closeFolders, makeFolders, syncNames } from '../base/made-folders.ts';
import type { Logger } from '../base/logger.ts';
import { SIDECAR_SUFFIXES, defaultMetaPath } from './database-path.ts';
import { findFileUsers, refuseUsed } from './file-users.ts';
import { type LeftoverWal, readLeftoverWal } from './leftover-wal.ts';
import { type AccessOptions, chooseAccess, giveAccess } from './restore-access.ts';
import type { Replacement, RunningReplicate } from './restore-replace.ts';
import { RestoreTemporary, removeLeftTemporaries } from './restore-temporary.ts';

/** Whoever noticed that the database has gone closes what is beside it. */
const CLOSING_ATTEMPTS = 50;
const CLOSING_STEP_MS = 100;

/** The size of a file, undefined when there is none. */
async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await lstat(path)).size;
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}

/** Left-over files beside `path` that would change a database put there: an empty WAL or journal would not. */
async function findSidecars(path: string): Promise<string[]> {
  const found: string[] = [];
  for (const suffix of SIDECAR_SUFFIXES) {
    const sizeBytes = await sizeOf(path + suffix);
    if (sizeBytes !== undefined && (suffix === '-shm' || sizeBytes > 0)) found.push(path + suffix);
  }
  return found;
}

/** Changes when one of the files is written or replaced. */
async function identityOf(paths: readonly string[]): Promise<string> {
  const stats = await Promise.all(paths.map((path) => lstat(path)));
  return stats.map(({ ino, size, mtimeMs }, i) => `${paths[i]}:${ino}:${size}:${mtimeMs}`).join(' ');
}

/**
 * Renames a file to a name that nobody has. An application that begins a database in this moment keeps it: were its file
 * replaced, its first commit would roll back ours, since a journal belongs to a name.
 * @throws LitestreamError 'exists'
 */
async function giveNewName(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    const code = systemCode(error) ?? '';
    if (code !== 'EEXIST' && !NO_LINKS.has(code)) throw error;
    if ((await sizeOf(to)) !== undefined) {
      throw new LitestreamError('exists', `cannot restore, output path already exists: ${to}`);
    }
    return rename(from, to);
  }
  await rm(from);
}

/** `text` as one word for a shell. */
function shellQuote(text: string): string {
  return /^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function sidecarError(path: string, sidecars: readonly string[]): LitestreamError {
  const commands = sidecars.map((name) => `mv ${shellQuote(name)} ${shellQuote(`${name}.old`)}`);
  return new LitestreamError(
    'exists',
    `cannot restore, files of an older database would change the restored one: ${sidecars.join(', ')}; ` +
      `make sure that no process uses ${path}, then set them aside (${commands.join(' && ')}) or use -force`,
  );
}

export interface OutputOptions extends AccessOptions {
  /** Replace a database that is there and set left-over -wal, -shm and -journal files aside, unless they are in use. */
  readonly force: boolean;
  /** Of the output; default: beside it. */
  readonly metaPath?: string | undefined;
  /** With force: nobody else uses the output, on a file system where that cannot be told. */
  readonly noOtherUsers?: boolean | undefined;
  /** The process that replicates the output, if there is one. */
  readonly replicate?: RunningReplicate | undefined;
  readonly logger: Logger;
}

/** A file beside the output that was renamed. */
interface SetAside {
  readonly from: string;
  readonly to: string;
}

export class RestoreOutput {
  #path: string;
  readonly #options: OutputOptions;
  /** Folders that had to be made, the outermost first. */
  readonly #made: MadeFolder[] = [];
  #temporary: RestoreTemporary | undefined;
  #leftover: LeftoverWal | undefined;
  /** Tells whether the files beside the output are still those that check() found. */
  #leftoverId = '';
  #replacement: Replacement | undefined;
  #placed = false;
  #keptPath: string | undefined;

  /** @param path the database file to make */
  constructor(path: string, options: OutputOptions) {
    this.#path = path;
    this.#options = options;
  }

  get path(): string {
    return this.#path;
  }

  /** Of the file before it has its name. After open(). */
  get temporaryPath(): string {
    return this.#openTemporary().path;
  }

  /** Whether the file has its name. */
  get placed(): boolean {
    return this.#placed;
  }

  /** Where the database is that was replaced; undefined when none was. */
  get keptPath(): string | undefined {
    return this.#keptPath;
  }

  /** A WAL without a database beside the output: it is set aside when all of its commits are restored. */
  get leftover(): LeftoverWal | undefined {
    return this.#leftover;
  }

  /**
   * Refuses what is in the way at once, as far as that can be seen now: a database or files beside it, or with force those
   * that are in use. @throws LitestreamError 'exists', 'busy'
   */
  async check(): Promise<void> {
    const { force, replicate } = this.#options;
    if (force) await this.#followLink();
    if ((await sizeOf(this.#path)) !== undefined) {
      await this.#refuseUnlessReplaceable();
      refuseUsed(this.#path, ['', ...SIDECAR_SUFFIXES], replicate?.pid);
      return;
    }
    const sidecars = await findSidecars(this.#path);
    if (sidecars.length === 0) return;
    if (force) {
      refuseUsed(this.#path, SIDECAR_SUFFIXES, replicate?.pid);
      return;
    }
    this.#leftoverId = await identityOf(sidecars);
    this.#leftover = await readLeftoverWal(`${this.#path}-wal`);
    if (!(await this.#mayBeSetAside(sidecars))) throw sidecarError(this.#path, sidecars);
  }

  /** Makes missing folders and a new, empty temporary file, in place of one that was open. */
  async open(): Promise<FileHandle> {
    const path = resolve(this.#path);
    try {
      this.#made.push(...(await makeFolders(dirname(path), 0o700)));
      await this.#removeTemporary();
      await removeLeftTemporaries(path, this.#options.logger);
    } catch (error) {
      throw wrapError(error, `prepare to restore to ${this.#path}`);
    }
    this.#temporary = await RestoreTemporary.make(this.#path);
    return this.#temporary.file;
  }

  /**
   * Makes the file durable and whatever is in the way ready to be replaced: after that only place() is left to do.
   * @param leftoverRestored whether all commits of the left-over WAL are in the file
   * @throws LitestreamError 'exists', 'busy'
   */
  async prepare(leftoverRestored: boolean): Promise<void> {
    const temporary = this.#openTemporary();
    const { file } = temporary;
    try {
      const access = await chooseAccess(resolve(this.#path), this.#options, this.#made[0]?.path);
      await giveAccess(file, access, { folders: this.#made, path: resolve(this.#path) });
      await syncFile(file);
    } catch (error) {
      throw wrapError(error, `sync ${temporary.path}`);
    }
    if (!(await temporary.isNamed())) {
      throw new LitestreamError('busy', `another process has removed ${temporary.path}: restore again`);
    }
    if ((await sizeOf(this.#path)) !== undefined) {
      await this.#refuseUnlessReplaceable();
      const { metaPath = defaultMetaPath(this.#path), replicate, logger, noOtherUsers } = this.#options;
      // Loaded for this case only: it needs SQLite, a restore as such does not.
      const replacing = await import('./restore-replace.ts');
      this.#replacement = await replacing.Replacement.begin(this.#path, {
        metaPath,
        replicate,
        noOtherUsers: noOtherUsers === true,
        logger,
      });
      return;
    }
    const sidecars = await findSidecars(this.#path);
    if (sidecars.length === 0) return;
    if (this.#options.force) {
      refuseUsed(this.#path, SIDECAR_SUFFIXES);
      return;
    }
    const same = this.#leftoverId === (await identityOf(sidecars));
    const harmless = same && leftoverRestored && (await this.#mayBeSetAside(sidecars));
    if (!harmless) throw sidecarError(this.#path, sidecars);
  }

  /** Gives the file its name. After prepare(). When it has not got it (see `placed`), everything else is as before. */
  async place(): Promise<void> {
    const { file } = this.#openTemporary();
    const suffix = new Date().toISOString().replace(/[-:.]/g, '');
    if (this.#replacement?.inPlace === true) await this.#exchange(this.#replacement, file, suffix);
    else await this.#rename(suffix);
    this.#placed = true;
    if (this.#keptPath !== undefined) {
      this.#options.logger.warn('old database is kept: remove it when it is not needed', {
        path: this.#keptPath,
      });
    }
    try {
      await syncDirectory(dirname(resolve(this.#path)));
      await syncNames([...this.#made].reverse());
    } catch (error) {
      throw wrapError(error, `make the new name ${this.#path} durable`);
    }
    await file.close();
    this.#temporary = undefined;
    await closeFolders(this.#made.splice(0));
    await this.#replacement?.end();
    this.#replacement = undefined;
  }

  /** The file becomes the old database. */
  async #exchange(replacement: Replacement, file: FileHandle, suffix: string): Promise<void> {
    const { mode, owner } = this.#options;
    const path = resolve(this.#path);
    this.#keptPath = await replacement.exchange(suffix, {
      file,
      path: this.temporaryPath,
      giveAccess: async (database) => {
        if (mode === undefined && owner === undefined) return;
        const access = await chooseAccess(path, { mode, owner }, undefined);
        await giveAccess(database, access, { folders: [], path });
      },
    });
  }

  async #rename(suffix: string): Promise<void> {
    const setAside: SetAside[] = [];
    let kept: string | undefined;
    try {
      kept = await this.#replacement?.keepOld(suffix);
      await this.#setAside(suffix, setAside);
      if (kept === undefined) await giveNewName(this.temporaryPath, this.#path);
      else await rename(this.temporaryPath, this.#path);
    } catch (error) {
      await this.#putBack(setAside, kept);
      throw wrapError(error, `put the restored database in place as ${this.#path}`);
    }
    this.#keptPath = kept;
  }

  /** Removes what was made and not put in place, and lets go of what is there. Idempotent. */
  async discard(): Promise<void> {
    await this.#replacement?.end();
    this.#replacement = undefined;
    await this.#removeTemporary();
    await this.#removeMadeFolders();
  }

  /** Removes what SQLite put beside the temporary file when it was checked. */
  async removeTemporarySidecars(): Promise<void> {
    await this.#openTemporary().removeSidecars();
  }

  #openTemporary(): RestoreTemporary {
    if (this.#temporary === undefined) throw new Error('the output is not open');
    return this.#temporary;
  }

  /** A database that is reached through a link is replaced where it is. */
  async #followLink(): Promise<void> {
    try {
      this.#path = await realpath(this.#path);
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw wrapError(error, `find ${this.#path}`);
    }
  }

  async #refuseUnlessReplaceable(): Promise<void> {
    const { path } = this;
    if (!(await stat(path)).isFile()) {
      throw new LitestreamError('exists', `cannot restore, ${path} is not a file: move it away`);
    }
    if (this.#options.force) return;
    throw new LitestreamError(
      'exists',
      `cannot restore, output path already exists: ${path}: -force replaces it, -o PATH restores to another file`,
    );
  }

  /** Whether nothing but a WAL and its index are left over, and nobody has them open. False where that cannot be told. */
  async #mayBeSetAside(sidecars: readonly string[]): Promise<boolean> {
    if (sidecars.some((name) => name.endsWith('-journal'))) return false;
    for (let attempt = 0; ; attempt++) {
      const users = findFileUsers(sidecars);
      if (users?.length === 0) return true;
      if (users === undefined || attempt === CLOSING_ATTEMPTS) return false;
      await sleep(CLOSING_STEP_MS);
    }
  }

  async #removeTemporary(): Promise<void> {
    const temporary = this.#temporary;
    this.#temporary = undefined;
    await temporary?.remove();
  }

  /** @param done gets what was renamed */
  async #setAside(suffix: string, done: SetAside[]): Promise<void> {
    for (const sidecar of await findSidecars(this.#path)) {
      const ending = sidecar.slice(this.#path.length);
      // Beside the old database under the name that it has now, if there is one.
      const target = this.#replacement ? `${this.#path}.${suffix}${ending}` : `${sidecar}.${suffix}`;
      this.#options.logger.warn('setting left-over file aside', { path: sidecar, new_path: target });
      try {
        await rename(sidecar, target);
      } catch (error) {
        throw wrapError(error, `set ${sidecar} aside`);
      }
      done.push({ from: sidecar, to: target });
    }
  }

  /** As it was before place(). What cannot be put back is logged. */
  async #putBack(setAside: readonly SetAside[], kept: string | undefined): Promise<void> {
    const { logger } = this.#options;
    for (const { from, to } of [...setAside].reverse()) {
      try {
        await rename(to, from);
      } catch (error) {
        logger.error('cannot put file back', { path: to, new_path: from, error: messageOf(error) });
      }
    }
    if (kept === undefined) return;
    try {
      // A second name: the old database has its own one still.
      await rm(kept, { force: true });
    } catch (error) {
      logger.error('cannot remove the second name of the database', { path: kept, error: messageOf(error) });
    }
  }

  async #removeMadeFolders(): Promise<void> {
    const made = this.#made.splice(0);
    await closeFolders(made);
    for (const { path: folder } of made.reverse()) {
      try {
        await rmdir(folder);
      } catch (error) {
        // Somebody else has put something there meanwhile: then it is not ours to remove.
        if (systemCode(error) === 'ENOTEMPTY' || systemCode(error) === 'ENOENT') return;
        throw wrapError(error, `remove folder ${folder}`);
      }
    }
  }
}
