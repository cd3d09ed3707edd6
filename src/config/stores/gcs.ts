/** Replicas in Google Cloud Storage. */

import { LitestreamError } from '../../base/errors.ts';
import type { GcsStoreConfig } from '../../storage/store-config.ts';
import type { Section } from '../decode.ts';
import { endpointOf, located, refuseBesideUrl, type ReplicaContext } from '../replica-context.ts';
import { joinKeyPrefix, splitReplicaUrl, type ReplicaUrl } from '../replica-url.ts';

/** Throws 'config' when the URL names no bucket. */
export function gcsFromUrl({ host, path }: ReplicaUrl): GcsStoreConfig {
  if (host === '') throw new LitestreamError('config', 'bucket required for gcs replica');
  return { type: 'gcs', bucket: host, path };
}

/** Throws what `context.fail` makes of the first problem. */
export function gcsFromSection(section: Section, context: ReplicaContext): GcsStoreConfig {
  refuseBesideUrl(section, context, 'gcs', ['path', 'bucket']);
  const url = section.string('url');
  const endpoint = endpointOf(section, context);
  const store = located(context, section.startOf(url === '' ? 'bucket' : 'url'), () =>
    gcsFromUrl(
      url === ''
        ? { scheme: 'gcs', host: section.string('bucket'), path: joinKeyPrefix(section.string('path')) }
        : splitReplicaUrl(url),
    ),
  );
  return { ...store, ...(endpoint === undefined ? {} : { endpoint }) };
}
