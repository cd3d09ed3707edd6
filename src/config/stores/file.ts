/** Replicas in a folder. */

import { LitestreamError } from '../../base/errors.ts';
import type { FileStoreConfig } from '../../storage/store-config.ts';
import type { Section } from '../decode.ts';
import { expandPath } from '../paths.ts';
import { located, refuseBesideUrl, type ReplicaContext } from '../replica-context.ts';
import { splitReplicaUrl, type ReplicaUrl } from '../replica-url.ts';

/** Throws 'config' when the URL has no path. */
export function fileFromUrl(url: ReplicaUrl): FileStoreConfig {
  return { type: 'file', path: required(url.path) };
}

/** Throws what `context.fail` makes of the first problem. */
export function fileFromSection(section: Section, context: ReplicaContext): FileStoreConfig {
  refuseBesideUrl(section, context, 'file', ['path']);
  const url = section.string('url');
  const path = located(context, section.startOf(url === '' ? 'path' : 'url'), () =>
    required(url === '' ? section.string('path') : splitReplicaUrl(url).path),
  );
  return { type: 'file', path: expandPath(path, context), ownerLike: context.databasePath };
}

function required(path: string): string {
  if (path === '') throw new LitestreamError('config', 'file replica path required');
  return path;
}
