/** One `replicas` item of the file to what the engine needs, by v0.3.13's rules and with its messages. */

import { redactUrl } from '../base/redact-url.ts';
import type { ReplicaOptions } from '../engine/options.ts';
import type { StoreConfig } from '../storage/store-config.ts';
import type { Section } from './decode.ts';
import { encryptionFromSection } from './encryption.ts';
import { located, type ReplicaContext } from './replica-context.ts';
import { checkReplicaType } from './replica-type.ts';
import { isUrl, splitReplicaUrl } from './replica-url.ts';
import { REPLICA, type KeyKind } from './schema.ts';
import { absFromSection } from './stores/abs.ts';
import { fileFromSection } from './stores/file.ts';
import { gcsFromSection } from './stores/gcs.ts';
import { s3FromSection } from './stores/s3.ts';
import { sftpFromSection } from './stores/sftp.ts';

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
  warnOfKeysWithoutEffect(section, type, context);
  const encryption = encryptionFromSection(section, context);
  const store = resolveStore(type, section, context);
  const retentionMs = section.durationMs('retention');
  const checkMs = section.durationMs('retention-check-interval');
  return {
    name: section.string('name') === '' ? type : section.string('name'),
    store: encryption === undefined ? store : { ...store, encryption },
    syncIntervalMs: section.durationMs('sync-interval'),
    snapshotIntervalMs: section.durationMs('snapshot-interval'),
    retentionMs,
    retentionCheckIntervalMs: retentionMs > 0 ? Math.min(checkMs, retentionMs) : checkMs,
    validationIntervalMs: section.durationMs('validation-interval'),
  };
}

/** The url's scheme wins over `type`. */
function replicaType(section: Section, context: ReplicaContext): StoreConfig['type'] {
  const url = section.string('url');
  const key = url === '' ? 'type' : 'url';
  return located(context, section.startOf(key), () => {
    const written = section.string('type') === '' ? 'file' : section.string('type');
    return checkReplicaType(url === '' ? written : splitReplicaUrl(url).scheme);
  });
}

function isSet(section: Section, name: string, kind: KeyKind): boolean {
  if (kind === 'bool') return section.bool(name) !== undefined;
  if (kind === 'int') return section.int(name) !== 0;
  return section.string(name) !== '';
}

/** A key of another type's replicas is ignored; that is never what was meant. */
function warnOfKeysWithoutEffect(section: Section, type: string, context: ReplicaContext): void {
  for (const { name, types, kind } of REPLICA.keys) {
    if (types === undefined || types.includes(type)) continue;
    if (!isSet(section, name, kind)) continue;
    context.warn(`${name} has no effect on a replica of type ${type}`, section.startOf(name));
  }
}

function resolveStore(type: StoreConfig['type'], section: Section, context: ReplicaContext): StoreConfig {
  switch (type) {
    case 'file':
      return fileFromSection(section, context);
    case 's3':
      return s3FromSection(section, context);
    case 'abs':
      return absFromSection(section, context);
    case 'gcs':
      return gcsFromSection(section, context);
    case 'sftp':
      return sftpFromSection(section, context);
  }
}
