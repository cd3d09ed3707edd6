/** Whose a restored file is and who may use it: as asked for, as it was, or as its folder suggests. */

import { type FileHandle, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Owner } from '../base/durable-file.ts';
import { systemCode, wrapError } from '../base/errors.ts';
import { type MadeFolder, forOwn } from '../base/made-folders.ts';

const PRIVATE_MODE = 0o600;
const GROUP_MODE = 0o660;
/** Of a folder: its group may write, others may not. In one where everybody may, the group means nothing. */
const SHARED_MASK = 0o022;
const SHARED = 0o020;
const GROUP_BITS = 0o070;
/** For chown: as it is. */
const UNCHANGED = -1;

export interface AccessOptions {
  /** Permission bits; default: those of the file that is replaced, else 0600, or 0660 in a folder of a group. */
  readonly mode?: number | undefined;
  /** Default: the owner of the file that is replaced, else of the folder, as far as this user may give files away. */
  readonly owner?: Owner | undefined;
}

export interface Access {
  readonly mode: number;
  readonly modeRequired: boolean;
  readonly owner: Owner;
  /** It must be given: a refusal is an error. */
  readonly ownerRequired: boolean;
}

/**
 * @param path the output
 * @param made the first folder that was made for it: what it is in suggests its owner
 */
export async function chooseAccess(
  path: string,
  { mode, owner }: AccessOptions,
  made: string | undefined,
): Promise<Access> {
  const folder = await stat(dirname(made ?? path));
  const old = await stat(path).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw wrapError(error, `look at ${path}`);
  });
  const shared = made === undefined && (folder.mode & SHARED_MASK) === SHARED;
  return {
    mode: mode ?? (old ? old.mode & 0o777 : shared ? GROUP_MODE : PRIVATE_MODE),
    modeRequired: mode !== undefined,
    owner: owner ?? { uid: (old ?? folder).uid, gid: (old ?? folder).gid },
    ownerRequired: owner !== undefined,
  };
}

/**
 * Without the permission to give the file to the owner it goes to the group alone; where that cannot be either, a mode that
 * was not asked for gives the group nothing, since it is another one.
 * @param made the folders that were made for the file, and the file's path
 */
export async function giveAccess(
  file: FileHandle,
  { mode, modeRequired, owner, ownerRequired }: Access,
  made: { readonly folders: readonly MadeFolder[]; readonly path: string },
): Promise<void> {
  const { uid, gid } = owner;
  /** @returns whether it was permitted */
  const give = async (action: () => Promise<void>): Promise<boolean> => {
    try {
      await action();
      return true;
    } catch (error) {
      if (!ownerRequired && systemCode(error) === 'EPERM') return false;
      throw wrapError(error, `give ${made.path} to ${uid}:${gid}`);
    }
  };
  const given = (await give(() => file.chown(uid, gid))) || (await give(() => file.chown(UNCHANGED, gid)));
  await file.chmod(given || modeRequired ? mode : mode & ~GROUP_BITS);
  await forOwn(made.folders, (handle) => give(() => handle.chown(uid, gid)));
}
