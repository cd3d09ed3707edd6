/**
 * The file that a restore makes: written beside its final name and put in place only when it is complete. On failure
 * nothing is left behind, and nothing that was there before is touched.
 */

import { lstat, open, rename, rm, rmdir } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { makeDirectories, syncDirectory } from '../base/durable-file.ts';
import { LitestreamError, systemCode, wrapError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';

/** Files that SQLite would apply to a database of that name, or read its lock state from. */
const SIDECAR_SUFFIXES = ['-wal', '-journal', '-shm'] as const;

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

export interface OutputOptions {
  /** Set left-over -wal, -shm and -journal files aside instead of refusing. An existing output is refused all the same. */
  readonly force: boolean;
  readonly logger: Logger;
}

export class RestoreOutput {
  readonly path: string;
  readonly temporaryPath: string;
  readonly #options: OutputOptions;
  /** The first folder that had to be made. */
  #madeFolder: string | undefined;
  #file: FileHandle | undefined;

  /** @param path the database file to make */
  constructor(path: string, options: OutputOptions) {
    this.path = path;
    this.temporaryPath = `${path}.tmp`;
    this.#options = options;
  }

  /** Refuses an output that is there, and files beside it that would change it. @throws LitestreamError 'exists' */
  async check(): Promise<void> {
    if ((await sizeOf(this.path)) !== undefined) {
      throw new LitestreamError('exists', `cannot restore, output path already exists: ${this.path}`);
    }
    const sidecars = await findSidecars(this.path);
    if (sidecars.length > 0 && !this.#options.force) throw sidecarError(this.path, sidecars);
  }

  /** Makes missing folders and a new, empty temporary file, in place of one that an earlier restore left. */
  async open(): Promise<FileHandle> {
    try {
      this.#madeFolder = await makeDirectories(dirname(resolve(this.path)), 0o700);
      await this.#removeTemporary();
      this.#file = await open(this.temporaryPath, 'wx+', 0o600);
      return this.#file;
    } catch (error) {
      throw wrapError(error, `create ${this.temporaryPath}`);
    }
  }

  /** Makes the file durable and gives it its name. @throws LitestreamError 'exists', 'busy' */
  async commit(): Promise<void> {
    const file = this.#file;
    if (file === undefined) throw new Error('the output is not open');
    try {
      await file.sync();
    } catch (error) {
      throw wrapError(error, `sync ${this.temporaryPath}`);
    }
    if (!(await this.#isOurs(file))) {
      throw new LitestreamError('busy', `another restore has taken ${this.temporaryPath}: run one at a time`);
    }
    await this.check();
    await this.#setAside();
    try {
      await rename(this.temporaryPath, this.path);
      await syncDirectory(dirname(resolve(this.path)));
    } catch (error) {
      throw wrapError(error, `rename ${this.temporaryPath}`);
    }
    await file.close();
    this.#file = undefined;
    this.#madeFolder = undefined;
  }

  /** Removes what was made and not committed. Idempotent. */
  async discard(): Promise<void> {
    const file = this.#file;
    if (file) {
      const ours = await this.#isOurs(file);
      await file.close();
      this.#file = undefined;
      if (ours) await this.#removeTemporary();
    }
    await this.#removeMadeFolders();
  }

  /** Removes what SQLite put beside the temporary file when it was checked. */
  async removeTemporarySidecars(): Promise<void> {
    for (const suffix of SIDECAR_SUFFIXES) await rm(this.temporaryPath + suffix, { force: true });
  }

  async #removeTemporary(): Promise<void> {
    await rm(this.temporaryPath, { force: true });
    await this.removeTemporarySidecars();
  }

  /** Whether the temporary file's name still stands for our file: another restore to this output would replace it. */
  async #isOurs(file: FileHandle): Promise<boolean> {
    const own = await file.stat();
    try {
      const named = await lstat(this.temporaryPath);
      return named.ino === own.ino && named.dev === own.dev;
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return false;
      throw wrapError(error, `stat ${this.temporaryPath}`);
    }
  }

  async #setAside(): Promise<void> {
    const suffix = new Date().toISOString().replace(/[-:]|\.\d+/g, '');
    for (const sidecar of await findSidecars(this.path)) {
      const target = `${sidecar}.${suffix}`;
      this.#options.logger.warn('setting left-over file aside', { path: sidecar, new_path: target });
      try {
        await rename(sidecar, target);
      } catch (error) {
        throw wrapError(error, `set ${sidecar} aside`);
      }
    }
  }

  async #removeMadeFolders(): Promise<void> {
    const first = this.#madeFolder;
    if (first === undefined) return;
    this.#madeFolder = undefined;
    for (let folder = dirname(resolve(this.path)); folder.length >= first.length; folder = dirname(folder)) {
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
