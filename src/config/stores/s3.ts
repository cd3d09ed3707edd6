/** Replicas in Amazon S3 and what speaks like it. */

import { parseByteSize } from '../../base/byte-size.ts';
import { LitestreamError } from '../../base/errors.ts';
import { redactUrl } from '../../base/redact-url.ts';
import type { S3StoreConfig } from '../../storage/store-config.ts';
import type { Section } from '../decode.ts';
import { endpointOf, located, refuseBesideUrl, type ReplicaContext } from '../replica-context.ts';
import { cleanKeyPrefix, isUrl, splitReplicaUrl, type ReplicaUrl } from '../replica-url.ts';
import { parseS3Host, type S3Host } from './s3-host.ts';
import { findPreset } from './s3-presets.ts';

/** S3's limits. */
const MIN_PART_SIZE_MB = 5e6;
const MIN_PART_SIZE = 5 * 1024 ** 2;
const MAX_PART_SIZE = 5 * 1024 ** 3;
const MOST_MAX_PARTS = 10_000;
/** With fewer, parts would grow beyond memory. */
const LEAST_MAX_PARTS = 100;

interface S3Location extends S3Host {
  readonly path: string;
}

/** Throws 'config' when the URL names no bucket. */
export function s3FromUrl(url: ReplicaUrl): S3StoreConfig {
  const location = locationOfUrl(url);
  return { type: 's3', skipVerify: false, ...location, ...settingsOf(location.endpoint) };
}

function locationOfUrl({ host, path }: ReplicaUrl): S3Location {
  const location = parseS3Host(host);
  if (location.bucket === '') throw new LitestreamError('config', 'bucket required for s3 replica');
  if (location.endpoint !== undefined && !URL.canParse(location.endpoint)) {
    throw new LitestreamError('config', `host of s3 url has no valid name or port: ${host}`);
  }
  return { ...location, path };
}

type Settings = Pick<
  S3StoreConfig,
  | 'region'
  | 'forcePathStyle'
  | 'signPayload'
  | 'contentMd5'
  | 'uploadConcurrency'
  | 'maxParts'
  | 'partSizeBytes'
>;

/** What the provider's preset says, else the defaults of v0.3.13. */
function settingsOf(endpoint: string | undefined): Settings {
  const found = endpoint === undefined ? undefined : findPreset(endpoint);
  if (found === undefined) return { forcePathStyle: endpoint !== undefined };
  const { signPayload, contentMd5, uploadConcurrency, maxParts, forcePathStyle = true } = found.preset;
  return withoutUndefined({
    region: found.region,
    forcePathStyle,
    signPayload,
    contentMd5,
    uploadConcurrency,
    maxParts,
  });
}

/** The keys of the file that override a preset. */
function overridesOf(section: Section, context: ReplicaContext): Partial<Settings> {
  const region = section.string('region');
  const md5 = section.bool('require-content-md5');
  return withoutUndefined({
    region: region === '' ? undefined : region,
    forcePathStyle: section.bool('force-path-style'),
    signPayload: section.bool('sign-payload'),
    contentMd5: md5 === undefined ? undefined : md5 ? ('all' as const) : ('none' as const),
    uploadConcurrency: concurrencyOf(section, context),
    maxParts: maxPartsOf(section, context),
    partSizeBytes: partSizeOf(section, context),
  });
}

function concurrencyOf(section: Section, context: ReplicaContext): number | undefined {
  const concurrency = section.int('concurrency');
  if (concurrency >= 0) return concurrency === 0 ? undefined : concurrency;
  throw context.fail('concurrency must be positive', section.startOf('concurrency'));
}

function maxPartsOf(section: Section, context: ReplicaContext): number | undefined {
  const maxParts = section.int('max-parts');
  if (maxParts === 0) return undefined;
  if (maxParts >= LEAST_MAX_PARTS && maxParts <= MOST_MAX_PARTS) return maxParts;
  const range = `${LEAST_MAX_PARTS} to ${MOST_MAX_PARTS}`;
  throw context.fail(`max-parts must be ${range}: ${maxParts}`, section.startOf('max-parts'));
}

function partSizeOf(section: Section, context: ReplicaContext): number | undefined {
  const text = section.string('part-size');
  if (text === '') return undefined;
  return located(context, section.startOf('part-size'), () => {
    const asked = parseByteSize(text);
    // S3's minimum is 5 MiB, and 5 MB to most.
    const bytes = asked >= MIN_PART_SIZE_MB ? Math.max(asked, MIN_PART_SIZE) : asked;
    if (bytes >= MIN_PART_SIZE && bytes <= MAX_PART_SIZE) return bytes;
    throw new LitestreamError('config', `part-size must be 5MiB to 5GiB: ${text}`);
  });
}

function withoutUndefined<T extends object>(fields: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const set = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(set) as { [K in keyof T]: Exclude<T[K], undefined> };
}

/** Throws what `context.fail` makes of the first problem. */
export function s3FromSection(section: Section, context: ReplicaContext): S3StoreConfig {
  const location = locationOf(section, context);
  const endpoint = endpointOf(section, context) ?? location.endpoint;
  return {
    type: 's3',
    bucket: location.bucket,
    path: location.path,
    skipVerify: section.bool('skip-verify') ?? false,
    ...(endpoint === undefined ? {} : { endpoint }),
    ...settingsOf(endpoint),
    ...overridesOf(section, context),
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
  return { bucket, path: cleanKeyPrefix(path) };
}

function locationOfBucketUrl(text: string): S3Location {
  const url = splitReplicaUrl(text);
  if (url.scheme === 's3') return locationOfUrl(url);
  throw new LitestreamError('config', `bucket must be a name or an s3:// url: ${redactUrl(text)}`);
}
