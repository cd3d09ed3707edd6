/**
 * Folders that are made and then given away or made durable: held from the moment that they are made, since whoever owns
 * their parent can put others in their place.
 */

import type { FileHandle } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { giveTo, makeDirectory, syncDirectory, type DurableOptions, type Owner } from './durable-file.ts';
import { systemCode } from './errors.ts';
import { openFolder } from './own-file.ts';

export interface MadeFolder {
  readonly path: string;
  /** The caller closes it. */
  readonly handle: FileHandle;
}

/**
 * Makes the folder and its missing parents, each in the one before, whatever their names lead to by then (on Linux).
 * @returns those that were made, the outermost first
 * @throws the system's errors
 */
export async function makeFolders(path: string, mode: number): Promise<MadeFolder[]> {
  const made: MadeFolder[] = [];
  try {
    await makeInto(path, mode, made);
    return made;
  } catch (error) {
    await closeFolders(made);
    throw error;
  }
}

async function makeInto(path: string, mode: number, made: MadeFolder[]): Promise<void> {
  try {
    await makeOne(path, mode, made);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT' || path === dirname(path)) throw error;
    await makeInto(dirname(path), mode, made);
    await makeOne(path, mode, made);
  }
}

async function makeOne(path: string, mode: number, made: MadeFolder[]): Promise<void> {
  const parent = made.at(-1);
  const held = parent !== undefined && process.platform === 'linux';
  const own = held ? join(`/proc/self/fd/${parent.handle.fd}`, basename(path)) : path;
  if (await makeDirectory(own, mode)) made.push({ path, handle: await openFolder(own) });
}

export async function closeFolders(made: readonly MadeFolder[]): Promise<void> {
  for (const { handle } of made) await handle.close();
}

/** Whether it is one that this process has made, and not one that somebody has put in its place at once. */
async function isOwn({ handle }: MadeFolder): Promise<boolean> {
  return (await handle.stat()).uid === (process.geteuid?.() ?? 0);
}

/** Calls `give` for each folder that is this user's. */
export async function forOwn(
  made: readonly MadeFolder[],
  give: (handle: FileHandle) => Promise<unknown>,
): Promise<void> {
  for (const folder of made) if (await isOwn(folder)) await give(folder.handle);
}

/** Makes the names of folders durable. @throws the system's errors */
export async function syncNames(made: readonly MadeFolder[]): Promise<void> {
  for (const { path } of made) await syncDirectory(dirname(path));
}

/** Makes the folder and its missing parents, each of them durable. One that exists is left as it is. */
export async function makeDirectoryDurably(path: string, options: DurableOptions = {}): Promise<void> {
  const mode = options.mode ?? 0o700;
  const made = await makeFolders(path, mode);
  try {
    await forOwn(made, (handle) => settle(handle, mode, options.owner));
    await syncNames([...made].reverse());
  } finally {
    await closeFolders(made);
  }
}

/** The umask may have taken bits away. */
async function settle(handle: FileHandle, mode: number, owner: Owner | undefined): Promise<void> {
  await handle.chmod(mode);
  if (owner !== undefined) await giveTo(handle, owner);
}
