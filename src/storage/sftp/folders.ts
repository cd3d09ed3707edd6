/** What SFTP makes of names: folders with their parents, replacing a file, and folders that are empty. */

import { randomBytes } from 'node:crypto';
import { Mutex } from '../../base/concurrency.ts';
import { TEMPORARY_SUFFIX } from '../../base/durable-file.ts';
import { LitestreamError, hasCode } from '../../base/errors.ts';
import { objectExists } from '../object-exists.ts';
import type { SftpChannel } from './channel.ts';
import { STATUS, statusOf } from './errors.ts';
import { Window } from './window.ts';

/** Requests under way at once. */
const REQUESTS_AHEAD = 32;

/** One replacement in steps at a time: two of one file would take each other's place. */
const replacing = new Mutex();

/** Makes the folder and its missing parents, durable where the server offers that. One that is there is left as it is. */
export async function makeFolders(
  channel: SftpChannel,
  path: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const parent = path.replace(/\/*[^/]+$/, '') || (path.startsWith('/') ? '/' : '.');
  try {
    await channel.makeFolder(path, signal);
  } catch (error) {
    if (statusOf(error) === STATUS.noSuchFile && parent !== path && !['/', '.'].includes(parent)) {
      await makeFolders(channel, parent, signal);
      await makeFolders(channel, path, signal);
      return;
    }
    if (await isFolder(channel, path, signal)) return;
    throw error;
  }
  try {
    const handle = await channel.open(parent, 'r', signal);
    await syncFolder(channel, handle, signal);
    channel.closeQuietly(handle);
  } catch (error) {
    // A server that opens no folders keeps its own promise.
    if (statusOf(error) === undefined) throw error;
  }
}

/** Whether a folder is there. @throws LitestreamError 'io' when something else is. */
async function isFolder(
  channel: SftpChannel,
  path: string,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  try {
    if ((await channel.stat(path, signal)).isDirectory()) return true;
  } catch (error) {
    if (statusOf(error) === undefined) throw error;
    return false;
  }
  throw new LitestreamError(
    'io',
    `a file stands where the folder ${path} is needed; move it away or choose another path`,
  );
}

/** Makes the names in an open folder durable. Servers that cannot keep their own promise. */
export async function syncFolder(
  channel: SftpChannel,
  handle: Buffer,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    await channel.sync(handle, signal);
  } catch (error) {
    if (statusOf(error) === undefined && !hasCode(error, 'unsupported')) throw error;
  }
}

/** Puts `from` in the place of `to`, which may be there: in one step where the server offers that. */
export async function replaceFile(
  channel: SftpChannel,
  from: string,
  to: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    await channel.replace(from, to, signal);
  } catch (error) {
    if (!hasCode(error, 'unsupported') && statusOf(error) !== STATUS.unsupported) throw error;
    await replacing.run(() => replaceInSteps(channel, from, to, signal), { signal });
  }
}

/**
 * Gives a file that is complete its name. By the protocol a rename replaces nothing; of a server that does so all the
 * same nothing better can be had.
 * @throws LitestreamError 'exists' when there is a file of that name
 */
export async function placeNewFile(
  channel: SftpChannel,
  from: string,
  {
    path,
    key,
    signal,
  }: { readonly path: string; readonly key: string; readonly signal: AbortSignal | undefined },
): Promise<void> {
  try {
    await channel.rename(from, path, signal);
  } catch (error) {
    if (statusOf(error) !== undefined && (await exists(channel, path, signal))) throw objectExists(key);
    throw error;
  }
}

/**
 * For servers whose rename does not replace: the old file steps aside, and back when the new one cannot take its place.
 * If the connection is lost in between, the old content stays beside as `.old.tmp`, which nothing lists or removes.
 */
async function replaceInSteps(
  channel: SftpChannel,
  from: string,
  to: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    await channel.rename(from, to, signal);
    return;
  } catch (error) {
    if (statusOf(error) === undefined || !(await exists(channel, to, signal))) throw error;
  }
  const aside = `${to}.${randomBytes(8).toString('hex')}.old${TEMPORARY_SUFFIX}`;
  // From here to the end it is not left to an abort: both names would be gone.
  await channel.rename(to, aside);
  try {
    await channel.rename(from, to);
  } catch (error) {
    await channel.rename(aside, to);
    throw error;
  }
  await channel.remove(aside);
}

async function exists(channel: SftpChannel, path: string, signal: AbortSignal | undefined): Promise<boolean> {
  try {
    await channel.stat(path, signal);
    return true;
  } catch (error) {
    if (statusOf(error) === STATUS.noSuchFile) return false;
    throw error;
  }
}

/** Removes those of the folders that are empty, and then their parents, but never the root (empty). */
export async function removeEmptyFolders(
  channel: SftpChannel,
  folders: ReadonlySet<string>,
  pathOf: (folder: string) => string,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (let level = folders; level.size > 0;) {
    const parents = new Set<string>();
    const window = new Window(REQUESTS_AHEAD);
    for (const folder of level) {
      if (folder === '') continue;
      await window.send(async () => {
        try {
          await channel.removeFolder(pathOf(folder), signal);
          parents.add(folder.slice(0, Math.max(0, folder.lastIndexOf('/'))));
        } catch (error) {
          // Mostly it is not empty; whatever the reason, an empty folder does no harm.
          if (statusOf(error) === undefined) throw error;
        }
      });
    }
    await window.drain();
    level = parents;
  }
}
