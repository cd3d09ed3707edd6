/** What `init` decides for each database: its path in the config, its place in the bucket, what its snapshots take. */

import { basename, isAbsolute, posix } from 'node:path';
import { LitestreamError } from '../../base/errors.ts';
import type { FoundDatabase } from './discover.ts';
import { type Role, roleOf, snapshotsKept } from './roles.ts';

export interface PlannedDatabase {
  /** As the config spells it. */
  readonly path: string;
  readonly role: Role;
  /** Below the prefix of the project, unlike that of every other database. */
  readonly replicaPath: string;
  /** Undefined when there is no file and nothing was said of its size. */
  readonly sizeBytes: number | undefined;
  readonly snapshots: number;
  /** What all snapshots take together before compression: an estimate. */
  readonly storageBytes: number | undefined;
}

export interface PlanOptions {
  /** Where relative paths start when litestream runs; empty: they stay relative. */
  readonly root: string;
  /** First part of all replica paths; may be empty. */
  readonly prefix: string;
  /** For databases that are not there yet. */
  readonly assumedSizeBytes: number | undefined;
}

/** Throws 'usage' for a path that no config can hold. */
export function planDatabases(
  databases: readonly FoundDatabase[],
  { root, prefix, assumedSizeBytes }: PlanOptions,
): PlannedDatabase[] {
  const taken = new Set<string>();
  return databases.map(({ path, role, sizeBytes = assumedSizeBytes }) => {
    const snapshots = snapshotsKept(role);
    return {
      path: spell(path, root),
      role,
      replicaPath: posix.join(prefix, claim(nameInBucket(path), taken)),
      sizeBytes,
      snapshots,
      storageBytes: sizeBytes === undefined ? undefined : sizeBytes * snapshots,
    };
  });
}

function spell(path: string, root: string): string {
  if (path.includes('$')) {
    throw new LitestreamError(
      'usage',
      `${path}: a config cannot hold this path, as $ stands for a variable there: rename the file`,
    );
  }
  return root === '' || isAbsolute(path) ? path : posix.join(root, path);
}

/** `production`, and `cache`, `queue`, `cable` for what stands beside it. */
function nameInBucket(path: string): string {
  const stem = basename(path).replace(/\.(?:sqlite3?|db3?)$/i, '');
  const role = roleOf(stem);
  return role === 'primary' ? slug(stem) : role;
}

/** Safe in keys of every store. */
export function slug(text: string): string {
  const safe = text.replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^[.-]+|[.-]+$/g, '');
  return safe === '' ? 'db' : safe;
}

function claim(name: string, taken: Set<string>): string {
  let free = name;
  for (let n = 2; taken.has(free); n++) free = `${name}-${n}`;
  taken.add(free);
  return free;
}
