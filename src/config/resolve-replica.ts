/** One `replicas` item of the file to what the engine needs, by v0.3.13's rules and with its messages. */

import { messageOf } from '../base/errors.ts';
import { redactUrl } from '../base/redact-url.ts';
import type { ReplicaOptions } from '../engine/options.ts';
import type { FileStoreConfig, S3StoreConfig } from '../storage/store-config.ts';
import type { Section } from './decode.ts';
import { expandPath, type Surroundings } from './paths.ts';
import { checkReplicaType, cleanKeyPrefix, isUrl, parseReplicaUrl, splitReplicaUrl } from './replica-url.ts';
import { REPLICA } from './schema.ts';

export interface ReplicaContext extends Surroundings {
  /** Absolute path of the replica's database. */
  readonly databasePath: string;
  /** The file's global keys, for replicas that have none of their own. */
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly fail: (message: string, offset: number) => Error;
  readonly warn: (message: string, offset: number) => void;
}

/** Throws what `context.fail` makes of the first problem. */
export function resolveReplica(section: Section, context: ReplicaContext): ReplicaOptions {
  const { fail } = context;
  const path = section.string('path');
  if (isUrl(path)) {
    const shown = redactUrl(path);
    throw fail(
      `replica path cannot be a url, please use the 'url' field instead: ${shown}`,
      section.startOf('path'),
    );
  }
  const type = replicaType(section, context);
  if (usesAge(section)) {
    throw fail('age encryption is not supported yet', section.startOf('age'));
  }
  warnOfKeysWithoutEffect(section, type, context);
  const retentionMs = section.durationMs('retention');
  const checkMs = section.durationMs('retention-check-interval');
  return {
    name: section.string('name') === '' ? type : section.string('name'),
    store: type === 's3' ? s3Store(section, context) : fileStore(section, context),
    syncIntervalMs: section.durationMs('sync-interval'),
    snapshotIntervalMs: section.durationMs('snapshot-interval'),
    retentionMs,
    retentionCheckIntervalMs: retentionMs > 0 ? Math.min(checkMs, retentionMs) : checkMs,
    validationIntervalMs: section.durationMs('validation-interval'),
  };
}

/** The url's scheme wins over `type`. */
function replicaType(section: Section, context: ReplicaContext): string {
  const url = section.string('url');
  const key = url === '' ? 'type' : 'url';
  return located(context, section.startOf(key), () => {
    const written = section.string('type') === '' ? 'file' : section.string('type');
    const type = url === '' ? written : splitReplicaUrl(url).scheme;
    checkReplicaType(type);
    return type;
  });
}

/** Runs `work`; what it throws gets the place. */
function located<T>(context: ReplicaContext, offset: number, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw context.fail(messageOf(error), offset);
  }
}

function usesAge(section: Section): boolean {
  const age = section.section('age');
  return age !== undefined && [...age.strings('identities'), ...age.strings('recipients')].length > 0;
}

/** A key of another type's replicas is ignored; that is never what was meant. */
function warnOfKeysWithoutEffect(section: Section, type: string, context: ReplicaContext): void {
  for (const { name, types, kind } of REPLICA.keys) {
    if (types === undefined || types.includes(type)) continue;
    if (kind === 'bool' ? section.bool(name) === undefined : section.string(name) === '') continue;
    context.warn(`${name} has no effect on a replica of type ${type}`, section.startOf(name));
  }
}

function fileStore(section: Section, context: ReplicaContext): FileStoreConfig {
  const [path, url] = [section.string('path'), section.string('url')];
  if (path !== '' && url !== '') {
    throw context.fail('cannot specify url & path for file replica', section.startOf('path'));
  }
  const parsed =
    url === '' ? path : located(context, section.startOf('url'), () => splitReplicaUrl(url).path);
  if (parsed === '')
    throw context.fail('file replica path required', section.startOf(url === '' ? 'path' : 'url'));
  return { type: 'file', path: expandPath(parsed, context), ownerLike: context.databasePath };
}

function s3Store(section: Section, context: ReplicaContext): S3StoreConfig {
  const { fail } = context;
  const location = s3Location(section, context);
  const endpoint = s3Endpoint(section, context) ?? location.endpoint;
  const region = section.string('region') === '' ? location.region : section.string('region');
  const own = section.string('access-key-id');
  const ownSecret = section.string('secret-access-key');
  const accessKeyId = own === '' ? context.accessKeyId : own;
  const secretAccessKey = ownSecret === '' ? context.secretAccessKey : ownSecret;
  if ((accessKeyId === '') !== (secretAccessKey === '')) {
    const [missing, there] =
      accessKeyId === '' ? ['access-key-id', 'secret-access-key'] : ['secret-access-key', 'access-key-id'];
    throw fail(`${missing} required for s3 replica that has ${there}`, section.startOf(there));
  }
  return {
    type: 's3',
    bucket: location.bucket,
    path: location.path,
    forcePathStyle: section.bool('force-path-style') ?? (location.forcePathStyle || endpoint !== undefined),
    skipVerify: section.bool('skip-verify') ?? false,
    ...(region === undefined ? {} : { region }),
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(accessKeyId === '' ? {} : { accessKeyId, secretAccessKey }),
  };
}

type S3Location = Pick<S3StoreConfig, 'bucket' | 'path' | 'region' | 'endpoint' | 'forcePathStyle'>;

function s3Location(section: Section, context: ReplicaContext): S3Location {
  const { fail } = context;
  const [path, url, bucket] = [section.string('path'), section.string('url'), section.string('bucket')];
  if (url !== '') {
    if (path !== '') throw fail('cannot specify url & path for s3 replica', section.startOf('path'));
    if (bucket !== '') throw fail('cannot specify url & bucket for s3 replica', section.startOf('bucket'));
    return s3Url(section, 'url', url, context);
  }
  if (isUrl(bucket)) {
    const parsed = s3Url(section, 'bucket', bucket, context);
    return { ...parsed, path: cleanKeyPrefix(`${parsed.path}/${path}`) };
  }
  if (bucket === '') throw fail('bucket required for s3 replica', section.startOf('bucket'));
  return { bucket, path: cleanKeyPrefix(path), forcePathStyle: false };
}

function s3Url(section: Section, key: 'url' | 'bucket', url: string, context: ReplicaContext): S3Location {
  const store = located(context, section.startOf(key), () => parseReplicaUrl(url));
  if (store.type === 's3') return store;
  throw context.fail(`bucket must be a name or an s3:// url: ${redactUrl(url)}`, section.startOf(key));
}

function s3Endpoint(section: Section, context: ReplicaContext): string | undefined {
  const text = section.string('endpoint');
  if (text === '') return undefined;
  const endpoint = text.includes('://') ? text : `https://${text}`;
  if (URL.canParse(endpoint) && /^https?:/i.test(endpoint)) return endpoint;
  throw context.fail(
    `endpoint is not a url of http or https: ${redactUrl(text)}`,
    section.startOf('endpoint'),
  );
}
