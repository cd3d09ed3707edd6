/** Whether the disk of a restore's output has room for the database, before it is written. */

import { formatBytes } from '../base/byte-size.ts';
import { type DiskSpace, diskSpace } from '../base/disk-space.ts';
import { LitestreamError, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';

/** Of the disk of a path. */
export type DiskSpaceOf = (path: string) => Promise<DiskSpace>;

export interface Room {
  /** Undefined: there is enough. */
  readonly shortage: string | undefined;
  /** Whether writing it is bound to fail. */
  readonly hopeless: boolean;
}

/** @param neededBytes size of the database */
export function roomFor(neededBytes: number, path: string, { freeBytes, limitBytes }: DiskSpace): Room {
  const hopeless = neededBytes > limitBytes;
  if (!hopeless && neededBytes <= freeBytes) return { shortage: undefined, hopeless };
  const sizes = [neededBytes, freeBytes].map((bytes) => `${formatBytes(bytes)} (${bytes} bytes)`);
  return { shortage: `not enough room for ${path}: ${sizes[0]} needed, ${sizes[1]} free`, hopeless };
}

/**
 * Refuses what is bound to fill the disk; where the disk may hold more than it says is free, it only warns.
 * @param neededBytes size of the database in the snapshot
 * @throws LitestreamError 'disk-full'
 */
export async function requireRoom(
  neededBytes: number,
  path: string,
  { logger, spaceOf = diskSpace }: { readonly logger: Logger; readonly spaceOf?: DiskSpaceOf | undefined },
): Promise<void> {
  let space: DiskSpace;
  try {
    space = await spaceOf(path);
  } catch (error) {
    // Then it shows when the disk is full.
    logger.debug('cannot tell how much room there is', { path, error: messageOf(error) });
    return;
  }
  const { shortage, hopeless } = roomFor(neededBytes, path, space);
  if (shortage === undefined) return;
  if (!hopeless) logger.warn(`${shortage}: trying all the same, as this file system may hold more`);
  else throw new LitestreamError('disk-full', `${shortage}: free some, or restore to another disk with -o`);
}
