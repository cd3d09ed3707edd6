/** Finds out what setting would make an S3 store answer that does not. */

import { throwIfAborted } from '../../base/concurrency.ts';
import { findPreset } from '../../config/index.ts';
import type { S3StoreConfig, StoreConfig } from '../../storage/store-config.ts';
import type { OpenStore } from './store-checks.ts';

/** For all that is tried, together: a server that keeps silent does so whatever is set. */
const LIMIT_MS = 15_000;

interface Variant {
  readonly config: StoreConfig;
  readonly fix: string;
}

/**
 * What to set, when a listing works with one setting changed; empty when none helps, or when it takes long to find out.
 * Nothing is sent in clear that was not. Rejects only with 'aborted'.
 */
export async function suggestSetting(
  config: StoreConfig,
  open: OpenStore,
  signal: AbortSignal,
): Promise<string> {
  if (config.type !== 's3') return '';
  const limit = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]);
  for (const { config: variant, fix } of variantsOf(config)) {
    if (await canList(variant, open, limit)) return fix;
    throwIfAborted(signal);
  }
  return '';
}

function variantsOf(config: S3StoreConfig): Variant[] {
  const { endpoint = '' } = config;
  const forcePathStyle = !config.forcePathStyle;
  const variants = [
    ...withoutBucket(config),
    { config: { ...config, forcePathStyle }, fix: `set force-path-style: ${String(forcePathStyle)}` },
  ];
  if (endpoint.startsWith('http:')) {
    const secure = endpoint.replace(/^http:/, 'https:');
    variants.push({ config: { ...config, endpoint: secure }, fix: 'write https:// in endpoint' });
  }
  return variants;
}

/** Providers show addresses of buckets, which are no endpoints. */
function withoutBucket(config: S3StoreConfig): Variant[] {
  const { bucket, endpoint } = config;
  if (endpoint === undefined) return [];
  const variants: Variant[] = [];
  const add = (part: string, changed: URL): void => {
    const shorter = changed.href.replace(/\/$/, '');
    // The provider was not known by the longer one.
    const region = config.region ?? findPreset(shorter)?.region;
    variants.push({
      config: { ...config, endpoint: shorter, region },
      fix: `take ${part} out of endpoint: it is added by itself`,
    });
  };
  const inPath = new URL(endpoint);
  if (inPath.pathname.replace(/\/$/, '').endsWith(`/${bucket}`)) {
    inPath.pathname = inPath.pathname.replace(/\/$/, '').slice(0, -bucket.length);
    add(`/${bucket}`, inPath);
  }
  const inHost = new URL(endpoint);
  if (inHost.hostname.startsWith(`${bucket}.`)) {
    inHost.hostname = inHost.hostname.slice(bucket.length + 1);
    add(`${bucket}.`, inHost);
  }
  return variants;
}

async function canList(config: StoreConfig, open: OpenStore, signal: AbortSignal): Promise<boolean> {
  const store = await open(config, {});
  try {
    const objects = store.list('litestream-doctor', { signal })[Symbol.asyncIterator]();
    await objects.next();
    await objects.return?.();
    return true;
  } catch {
    return false; // The failure with the settings of the user is the one to report.
  } finally {
    await store.close();
  }
}
