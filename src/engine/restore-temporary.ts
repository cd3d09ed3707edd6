/**
 * The file that a restore writes before it has its name. Random digits in its own name keep it from being anybody else's
 * file; one that a killed restore left is known by them.
 */

import { randomBytes } from 'node:crypto';
import { lstatSync } from 'node:fs';
import { type FileHandle, lstat, open, readdir, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { systemCode, wrapError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { SIDECAR_SUFFIXES } from './database-path.ts';
import { findFileUsers } from './file-users.ts';

const DIGITS = /^[0-9a-f]{16}$/;
const PREFIX = '.restore-';
const SUFFIX = '.tmp';

export class RestoreTemporary {
  readonly path: string;
  readonly file: FileHandle;

  private constructor(path: string, file: FileHandle) {
    this.path = path;
    this.file = file;
  }

  /** Makes a new, empty file beside `output`, where nobody has one. @throws the system's errors, naming the file */
  static async make(output: string): Promise<RestoreTemporary> {
    const path = `${output}${PREFIX}${randomBytes(8).toString('hex')}${SUFFIX}`;
    try {
      return new RestoreTemporary(path, await open(path, 'wx+', 0o600));
    } catch (error) {
      throw wrapError(error, `create ${path}`);
    }
  }

  /** Whether the name still stands for the file. */
  async isNamed(): Promise<boolean> {
    const own = await this.file.stat();
    try {
      const named = await lstat(this.path);
      return named.ino === own.ino && named.dev === own.dev;
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return false;
      throw wrapError(error, `stat ${this.path}`);
    }
  }

  /** Closes the file and removes it, unless its name stands for another one. */
  async remove(): Promise<void> {
    const named = await this.isNamed();
    await this.file.close();
    if (named) await removeWithSidecars(this.path);
  }

  /** Removes what SQLite put beside the file when it was checked. */
  async removeSidecars(): Promise<void> {
    await removeSidecars(this.path);
  }
}

/**
 * Removes what killed restores to `output` left: files with such a name that are this user's and that no process has open.
 * Where that cannot be told (see findFileUsers) they are logged and stay.
 */
export async function removeLeftTemporaries(output: string, logger: Logger): Promise<void> {
  const folder = dirname(output);
  const stem = basename(output) + PREFIX;
  for (const name of await readdir(folder)) {
    if (!name.startsWith(stem) || !name.endsWith(SUFFIX)) continue;
    if (!DIGITS.test(name.slice(stem.length, -SUFFIX.length))) continue;
    const path = join(folder, name);
    if (!isOwn(path)) continue;
    const users = findFileUsers([path]);
    if (users?.length === 0) {
      logger.info('removing what a killed restore left', { path });
      await removeWithSidecars(path);
    } else if (users === undefined) {
      logger.warn('another restore left this file, if none is running: remove it then', { path });
    }
  }
}

/** Whether it is a file of this user with no other name. */
function isOwn(path: string): boolean {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  return stats?.isFile() === true && stats.nlink === 1 && stats.uid === (process.getuid?.() ?? stats.uid);
}

async function removeWithSidecars(path: string): Promise<void> {
  await rm(path, { force: true });
  await removeSidecars(path);
}

async function removeSidecars(path: string): Promise<void> {
  for (const suffix of SIDECAR_SUFFIXES) await rm(path + suffix, { force: true });
}
