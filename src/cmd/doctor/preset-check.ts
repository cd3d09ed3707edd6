/** Tells which S3 provider the settings of a replica are for, and where they are not what that provider takes. */

import { findPreset } from '../../config/index.ts';
import type { S3StoreConfig } from '../../storage/store-config.ts';
import type { Report } from './report.ts';

/** Reports on the settings that stand in the config or come from the preset of the endpoint. */
export function checkPreset(config: S3StoreConfig, report: Report): void {
  const { endpoint } = config;
  if (endpoint === undefined) {
    report.ok('provider', 'Amazon S3');
    return;
  }
  const found = findPreset(endpoint);
  if (found === undefined) {
    report.ok('provider', 'not one that is known by its endpoint: what every server takes is sent');
    return;
  }
  const { preset, region } = found;
  const { forcePathStyle = true } = preset;
  if (region !== undefined && config.region !== region && !isSelfHosted(preset.name)) {
    const message = `${preset.name} wants the region ${region}, not ${config.region ?? 'none'}`;
    report.warning('provider', message, `set region: ${region}, or leave it out`);
  } else if (!forcePathStyle && config.forcePathStyle) {
    report.warning('provider', `${preset.name} takes no path style`, 'leave force-path-style out');
  } else {
    report.ok('provider', preset.name);
  }
}

/** Servers of one's own, whose region is a setting of theirs. */
export function isSelfHosted(name: string): boolean {
  return ['MinIO', 'Ceph', 'Garage'].includes(name);
}
