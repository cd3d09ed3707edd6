/** Replicas in Amazon S3 and what speaks like it. */

import { LitestreamError } from '../../base/errors.ts';
import { redactUrl } from '../../base/redact-url.ts';
import type { S3StoreConfig } from '../../storage/store-config.ts';
import type { Section } from '../decode.ts';
import { endpointOf, located, refuseBesideUrl, type ReplicaContext } from '../replica-context.ts';
import { cleanKeyPrefix, isUrl, splitReplicaUrl, type ReplicaUrl } from '../replica-url.ts';
import { parseS3Host, type S3Host } from './s3-host.ts';

interface S3Location extends S3Host {
  readonly path: string;
}

/** Throws 'config' when the URL names no bucket. */
export function s3FromUrl(url: ReplicaUrl): S3StoreConfig {
  return { type: 's3', skipVerify: false, ...locationOfUrl(url) };
}

function locationOfUrl({ host, path }: ReplicaUrl): S3Location {
  const { bucket, ...rest } = parseS3Host(host);
  if (bucket === '') throw new LitestreamError('config', 'bucket required for s3 replica');
  return { bucket, path, ...rest };
}

/** Throws what `context.fail` makes of the first problem. */
export function s3FromSection(section: Section, context: ReplicaContext): S3StoreConfig {
  const location = locationOf(section, context);
  const endpoint = endpointOf(section, context) ?? location.endpoint;
  const region = section.string('region') === '' ? location.region : section.string('region');
  return {
    type: 's3',
    bucket: location.bucket,
    path: location.path,
    forcePathStyle: section.bool('force-path-style') ?? (location.forcePathStyle || endpoint !== undefined),
    skipVerify: section.bool('skip-verify') ?? false,
    ...(region === undefined ? {} : { region }),
    ...(endpoint === undefined ? {} : { endpoint }),
    ...keysOf(section, context),
  };
}

function keysOf(
  section: Section,
  context: ReplicaContext,
): Pick<S3StoreConfig, 'accessKeyId' | 'secretAccessKey'> {
  const own = section.string('access-key-id');
  const ownSecret = section.string('secret-access-key');
  const accessKeyId = own === '' ? context.accessKeyId : own;
  const secretAccessKey = ownSecret === '' ? context.secretAccessKey : ownSecret;
  if ((accessKeyId === '') !== (secretAccessKey === '')) {
    const [missing, there] =
      accessKeyId === '' ? ['access-key-id', 'secret-access-key'] : ['secret-access-key', 'access-key-id'];
    throw context.fail(`${missing} required for s3 replica that has ${there}`, section.startOf(there));
  }
  return accessKeyId === '' ? {} : { accessKeyId, secretAccessKey };
}

function locationOf(section: Section, context: ReplicaContext): S3Location {
  refuseBesideUrl(section, context, 's3', ['path', 'bucket']);
  const [path, url, bucket] = [section.string('path'), section.string('url'), section.string('bucket')];
  if (url !== '') return located(context, section.startOf('url'), () => locationOfUrl(splitReplicaUrl(url)));
  if (isUrl(bucket)) {
    const parsed = located(context, section.startOf('bucket'), () => locationOfBucketUrl(bucket));
    return { ...parsed, path: cleanKeyPrefix(`${parsed.path}/${path}`) };
  }
  if (bucket === '') throw context.fail('bucket required for s3 replica', section.startOf('bucket'));
  return { bucket, path: cleanKeyPrefix(path), forcePathStyle: false };
}

function locationOfBucketUrl(text: string): S3Location {
  const url = splitReplicaUrl(text);
  if (url.scheme === 's3') return locationOfUrl(url);
  throw new LitestreamError('config', `bucket must be a name or an s3:// url: ${redactUrl(text)}`);
}
