/** Finds out what setting would make an S3 store answer that does not. */

import type { StoreConfig } from '../../storage/store-config.ts';
import type { OpenStore } from './store-checks.ts';

interface Variant {
  readonly config: StoreConfig;
  readonly fix: string;
}

/** What to set, when a listing works with one setting changed; empty when none helps. Nothing is sent in clear that was not. */
export async function suggestSetting(
  config: StoreConfig,
  open: OpenStore,
  signal: AbortSignal,
): Promise<string> {
  for (const { config: variant, fix } of variantsOf(config)) {
    if (await canList(variant, open, signal)) return fix;
  }
  return '';
}

function variantsOf(config: StoreConfig): Variant[] {
  if (config.type !== 's3') return [];
  const { endpoint = '' } = config;
  const forcePathStyle = !config.forcePathStyle;
  const variants = [
    { config: { ...config, forcePathStyle }, fix: `set force-path-style: ${String(forcePathStyle)}` },
  ];
  if (endpoint.startsWith('http:')) {
    const secure = endpoint.replace(/^http:/, 'https:');
    variants.push({ config: { ...config, endpoint: secure }, fix: 'write https:// in endpoint' });
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
