/** Whether the disk of a restore's output has room for the database: before it is written, and while it is. */

import { formatBytes } from '../base/byte-size.ts';
import { type DiskSpace, diskSpace } from '../base/disk-space.ts';
import { LitestreamError, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';

/** Of the disk of a path. */
export type DiskSpaceOf = (path: string) => Promise<DiskSpace>;

export interface RoomOptions {
  readonly logger: Logger;
  /** The system's word by default. */
  readonly spaceOf?: DiskSpaceOf | undefined;
}

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
  { logger, spaceOf }: RoomOptions,
): Promise<void> {
  const space = await findSpace(path, { logger, spaceOf });
  if (!space) return;
  const { shortage, hopeless } = roomFor(neededBytes, path, space);
  if (shortage === undefined) return;
  if (!hopeless) logger.warn(`${shortage}: trying all the same, as this file system may hold more`);
  else throw new LitestreamError('disk-full', `${shortage}: free some, or restore to another disk with -o`);
}

/** Undefined where nobody knows: then it shows when the disk is full. */
async function findSpace(
  path: string,
  { logger, spaceOf = diskSpace }: RoomOptions,
): Promise<DiskSpace | undefined> {
  try {
    return await spaceOf(path);
  } catch (error) {
    logger.debug('cannot tell how much room there is', { path, error: messageOf(error) });
    return undefined;
  }
}

/**
 * @param sizeBytes what a database file is about to have
 * @param limitBytes what it may have
 * @throws LitestreamError 'disk-full'
 */
export function requireWithin(sizeBytes: number, limitBytes: number): void {
  if (sizeBytes <= limitBytes) return;
  throw new LitestreamError(
    'disk-full',
    `the database would become larger than ${formatBytes(limitBytes)} (${limitBytes} bytes), which is all that it may take of its disk`,
  );
}

/** What others keep at the least of a disk to which something is written that does not say how large it is. */
const RESERVE_LIMIT = 64 << 20;
/** A small disk is not left alone for that: as a part of what is free. */
const RESERVE_SHARE = 0.1;
/** Less is written without a look. */
const WATCHED_SIZE = 4 << 20;

/** Looks at the disk while a file is written to it of which nobody knows how large it will be. */
export class RoomWatch {
  readonly #path: string;
  readonly #options: RoomOptions;
  #reserveBytes: number | undefined;

  constructor(path: string, options: RoomOptions) {
    this.#path = path;
    this.#options = options;
  }

  /**
   * To be called before each write, when the one before it has ended.
   * @param writtenBytes size of the file
   * @throws LitestreamError 'disk-full' when what is left is for others
   */
  async look(writtenBytes: number): Promise<void> {
    if (writtenBytes < WATCHED_SIZE) return;
    const space = await findSpace(this.#path, this.#options);
    if (!space) return;
    const { freeBytes } = space;
    this.#reserveBytes ??= Math.min(RESERVE_LIMIT, Math.floor(freeBytes * RESERVE_SHARE));
    if (freeBytes >= this.#reserveBytes) return;
    throw new LitestreamError(
      'disk-full',
      `not enough room for ${this.#path}: the snapshot does not say how large it is, ${formatBytes(writtenBytes)} of it are ` +
        `written, and the last ${formatBytes(freeBytes)} are left free: free some, or restore to another disk with -o`,
    );
  }
}
