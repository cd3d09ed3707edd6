/** Replicas in Azure Blob Storage: `abs://ACCOUNT@CONTAINER/PATH`. */

import { LitestreamError } from '../../base/errors.ts';
import type { AbsStoreConfig } from '../../storage/store-config.ts';
import type { Section } from '../decode.ts';
import type { Env } from '../expand-env.ts';
import { endpointOf, located, refuseBesideUrl, type ReplicaContext } from '../replica-context.ts';
import { joinKeyPrefix, splitReplicaUrl, type ReplicaUrl } from '../replica-url.ts';

/** Used when a replica has neither account-key nor sas-token. */
const ACCOUNT_KEY_VARIABLE = 'LITESTREAM_AZURE_ACCOUNT_KEY';

/** The account's key comes from LITESTREAM_AZURE_ACCOUNT_KEY. Throws 'config' when a part is missing. */
export function absFromUrl({ host, path, user = '' }: ReplicaUrl, env: Env): AbsStoreConfig {
  const bucket = requireBucket(host);
  requireAccount(user);
  return { type: 'abs', bucket, path, accountName: user, ...keyFromEnv(env) };
}

/** Throws what `context.fail` makes of the first problem. */
export function absFromSection(section: Section, context: ReplicaContext): AbsStoreConfig {
  refuseBesideUrl(section, context, 'abs', ['path', 'bucket']);
  const url = section.string('url');
  const parsed =
    url === '' ? undefined : located(context, section.startOf('url'), () => splitReplicaUrl(url));
  const place = section.startOf(parsed === undefined ? 'bucket' : 'url');
  const bucket = located(context, place, () => requireBucket(parsed?.host ?? section.string('bucket')));
  const named = section.string('account-name');
  const accountName = named === '' ? (parsed?.user ?? '') : named;
  const endpoint = endpointOf(section, context);
  const credentials = credentialsOf(section, context);
  // A server of one's own has the account in its address; a key's signature needs it in any case.
  if (endpoint === undefined || credentials.accountKey !== undefined) {
    located(context, section.startOf('account-name'), () => {
      requireAccount(accountName);
    });
  }
  return {
    type: 'abs',
    bucket,
    path: parsed?.path ?? joinKeyPrefix(section.string('path')),
    accountName,
    ...credentials,
    ...(endpoint === undefined ? {} : { endpoint }),
  };
}

type Credentials = Pick<AbsStoreConfig, 'accountKey' | 'sasToken'>;

function credentialsOf(section: Section, context: ReplicaContext): Credentials {
  const [accountKey, sasToken] = [section.string('account-key'), section.string('sas-token')];
  if (accountKey !== '' && sasToken !== '') {
    throw context.fail(
      'cannot specify account-key & sas-token for abs replica',
      section.startOf('sas-token'),
    );
  }
  if (sasToken !== '') return { sasToken: sasToken.replace(/^\?/, '') };
  if (accountKey === '') return located(context, section.start, () => keyFromEnv(context.env));
  return located(context, section.startOf('account-key'), () => checkedKey(accountKey, 'account-key'));
}

function keyFromEnv(env: Env): Credentials {
  const key = env[ACCOUNT_KEY_VARIABLE] ?? '';
  return key === '' ? {} : checkedKey(key, ACCOUNT_KEY_VARIABLE);
}

function checkedKey(accountKey: string, name: string): Credentials {
  if (/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(accountKey)) {
    return { accountKey };
  }
  throw new LitestreamError('config', `${name} is not base64: copy the account's key as Azure shows it`);
}

function requireBucket(bucket: string): string {
  if (bucket === '') throw new LitestreamError('config', 'bucket required for abs replica');
  return bucket;
}

/** It is a part of a host's name: with other characters requests went to another host, or to none. */
const ACCOUNT = /^[A-Za-z0-9_.-]+$/;

function requireAccount(name: string): void {
  if (ACCOUNT.test(name)) return;
  if (name !== '') throw new LitestreamError('config', 'account-name must be letters and digits');
  throw new LitestreamError(
    'config',
    'account-name required for abs replica: set it, or write the url as abs://ACCOUNT@CONTAINER/PATH',
  );
}
