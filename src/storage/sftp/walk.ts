/** Walks through the folders of a server, which may say that there is no end of them. */

import type { FileEntryWithStats } from 'ssh2';
import { TEMPORARY_SUFFIX } from '../../base/durable-file.ts';
import { LitestreamError } from '../../base/errors.ts';
import { isKey } from '../key.ts';
import type { ObjectInfo } from '../object-store.ts';

/** Folders deeper than this below the root are not ours: a replica has four. */
const MAX_DEPTH = 16;
/** Folders in a row without any object. */
const MAX_EMPTY_FOLDERS = 2000;

export interface WalkOptions {
  /** The entries of a folder (a key prefix that ends with a slash, or empty); none when it is not there. */
  readonly read: (folder: string) => AsyncIterable<FileEntryWithStats>;
  /** Told of files with the names of temporary ones. */
  readonly onTemporary: (key: string, modifiedAt: Date) => void;
}

/**
 * Every object below `start` (a key prefix that ends with a slash, or empty).
 * @throws LitestreamError 'io' when there are only folders, and ever more of them
 */
export async function* walkFolders(
  start: string,
  { read, onTemporary }: WalkOptions,
): AsyncGenerator<ObjectInfo, void, undefined> {
  let emptyFolders = 0;
  async function* walk(folder: string): AsyncGenerator<ObjectInfo, void, undefined> {
    if (++emptyFolders > MAX_EMPTY_FOLDERS) {
      throw new LitestreamError(
        'io',
        `list ${start === '' ? 'all objects' : start}: ${MAX_EMPTY_FOLDERS} folders without a file: remove them`,
      );
    }
    for await (const { filename, attrs } of read(folder)) {
      const key = `${folder}${filename}`;
      // A name with a slash would lead elsewhere.
      if (filename.includes('/') || !isKey(key)) continue;
      const modifiedAt = new Date(attrs.mtime * 1000);
      if (attrs.isDirectory()) {
        if (key.split('/').length <= MAX_DEPTH) yield* walk(`${key}/`);
      } else if (filename.endsWith(TEMPORARY_SUFFIX)) onTemporary(key, modifiedAt);
      else if (attrs.isFile()) {
        emptyFolders = 0;
        yield { key, sizeBytes: attrs.size, modifiedAt };
      }
    }
  }
  yield* walk(start);
}
