/** Whose a restored file is and who may use it: as asked for, as it was, or as its folder suggests. */

import { type FileHandle, chown, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Owner } from '../base/durable-file.ts';
import { systemCode, wrapError } from '../base/errors.ts';

const PRIVATE_MODE = 0o600;
const GROUP_MODE = 0o660;
const GROUP_MAY_WRITE = 0o020;

export interface AccessOptions {
  /** Permission bits; default: those of the file that is replaced, else 0600, or 0660 where the folder's group may write. */
  readonly mode?: number | undefined;
  /** Default: the owner of the file that is replaced, else of the folder, as far as this user may give files away. */
  readonly owner?: Owner | undefined;
}

export interface Access {
  readonly mode: number;
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
  const groupWrites = made === undefined && (folder.mode & GROUP_MAY_WRITE) !== 0;
  return {
    mode: mode ?? (old ? old.mode & 0o777 : groupWrites ? GROUP_MODE : PRIVATE_MODE),
    owner: owner ?? { uid: (old ?? folder).uid, gid: (old ?? folder).gid },
    ownerRequired: owner !== undefined,
  };
}

/** @param made the first folder that was made for the file, if any, and the file's path */
export async function giveAccess(
  file: FileHandle,
  { mode, owner, ownerRequired }: Access,
  made: { readonly first: string | undefined; readonly path: string },
): Promise<void> {
  const give = async (action: () => Promise<void>): Promise<void> => {
    try {
      await action();
    } catch (error) {
      if (ownerRequired || systemCode(error) !== 'EPERM') {
        throw wrapError(error, `give ${made.path} to ${owner.uid}:${owner.gid}`);
      }
    }
  };
  await file.chmod(mode);
  await give(() => file.chown(owner.uid, owner.gid));
  if (made.first === undefined) return;
  for (let folder = dirname(made.path); folder.length >= made.first.length; folder = dirname(folder)) {
    await give(() => chown(folder, owner.uid, owner.gid));
  }
}
