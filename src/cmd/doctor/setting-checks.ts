/** What can be told from a store's settings alone: names that no store has, and white space that came along. */

import { findPreset } from '../../config/index.ts';
import type { StoreConfig } from '../../storage/store-config.ts';
import { isSelfHosted } from './preset-check.ts';
import type { Report } from './report.ts';

/** Reports on the settings of one store. Says nothing when there is nothing to say. */
export function checkSettings(config: StoreConfig, report: Report): void {
  checkWhiteSpace(config, report);
  if ('bucket' in config) checkBucketName(config, report);
}

/** As in the config file. Values are compared with the white space that YAML and variables bring along. */
const KEYS: Readonly<Record<string, string>> = {
  bucket: 'bucket',
  region: 'region',
  accessKeyId: 'access-key-id',
  secretAccessKey: 'secret-access-key',
  accountName: 'account-name',
  accountKey: 'account-key',
  sasToken: 'sas-token',
  host: 'host',
  user: 'user',
  password: 'password',
  keyPath: 'key-path',
  keyPassphrase: 'key-passphrase',
};

function checkWhiteSpace(config: StoreConfig, report: Report): void {
  for (const [field, value] of Object.entries(config) as [string, unknown][]) {
    const key = KEYS[field];
    if (key === undefined || typeof value !== 'string' || value === value.trim()) continue;
    report.warning(
      'settings',
      `${key} begins or ends with a space or a line break`,
      'take it out of the config file, or of the variable that it comes from',
    );
  }
}

interface Rule {
  readonly pattern: RegExp;
  readonly words: string;
}

const S3_RULE: Rule = {
  pattern: /^(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/,
  words: 'small letters, digits, hyphens and dots, 3 to 63',
};

const RULES: Readonly<Record<'s3' | 'gcs' | 'abs', Rule>> = {
  s3: S3_RULE,
  gcs: {
    pattern: /^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$/,
    words: 'small letters, digits, hyphens, underscores and dots, 3 to 63',
  },
  abs: {
    pattern: /^(?:\$root|\$web|(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9])$/,
    words: 'small letters, digits and single hyphens, 3 to 63',
  },
};

/** Older buckets and servers of one's own may have other names: so it is for the user to look at. */
function checkBucketName(config: Extract<StoreConfig, { bucket: string }>, report: Report): void {
  const { type, bucket } = config;
  const name = bucket.trim();
  const { pattern, words } = RULES[type];
  const server = type === 's3' ? serverIn(name) : undefined;
  if (server !== undefined) {
    const own = name === server ? 'NAME' : name.slice(0, -server.length - 1);
    const isAmazon = server.endsWith('.amazonaws.com');
    const fix = `write bucket: ${own}${isAmazon ? '' : ` and endpoint: https://${server}`}`;
    report.warning('settings', `bucket ${JSON.stringify(name)} holds the name of a server`, fix);
    return;
  }
  if (pattern.test(name)) return;
  const what = type === 'abs' ? 'container' : 'bucket';
  const shown = JSON.stringify(name);
  if (name.includes('/')) {
    const fix = 'write what is behind the first slash into path';
    report.warning('settings', `bucket ${shown} holds a slash, which the name of no ${what} does`, fix);
  } else if (type === 'abs' && name.includes('.')) {
    const message = `${shown} is the name of a server, not of a container`;
    report.warning('settings', message, 'write the url as abs://ACCOUNT@CONTAINER/PATH');
  } else {
    report.warning('settings', `no new ${what} can be named ${shown} (${words} characters)`, 'check bucket');
  }
}

/** The provider's host that a bucket's name ends with, as in the address of a bucket that providers show. */
function serverIn(name: string): string | undefined {
  const labels = name.split('.');
  for (let first = labels.length - 3; first >= 0; first--) {
    const host = labels.slice(first).join('.');
    if (!/^[a-z0-9.-]+$/.test(host)) return undefined;
    if (host === 's3.amazonaws.com') return host;
    const known = findPreset(`https://${host}`)?.preset;
    // Servers of one's own are known by a part of their name, which a bucket can have as well.
    if (known !== undefined && !isSelfHosted(known.name)) return host;
  }
  return undefined;
}
