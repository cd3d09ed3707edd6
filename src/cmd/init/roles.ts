/** What a database is for, told by its name, and the intervals that follow from it. */

import { parseDuration } from '../../base/duration.ts';

/** The databases of a Rails application; every other database counts as its `primary`. */
export type Role = 'primary' | 'cache' | 'queue' | 'cable';

export interface RoleSettings {
  /** Durations as the config file has them. */
  readonly syncInterval: string;
  readonly snapshotInterval: string;
  readonly retention: string;
  /** One line for a comment. */
  readonly why: string;
}

export const ROLE_SETTINGS: Readonly<Record<Role, RoleSettings>> = {
  primary: {
    syncInterval: '5s',
    snapshotInterval: '1h',
    retention: '720h',
    why: 'every moment of the last 30 days stays restorable',
  },
  cache: {
    syncInterval: '10s',
    snapshotInterval: '6h',
    retention: '24h',
    why: 'can be built anew: one day is enough',
  },
  queue: {
    syncInterval: '5s',
    snapshotInterval: '1h',
    retention: '72h',
    why: 'jobs must not be lost; three days to find out what went wrong',
  },
  cable: {
    syncInterval: '10s',
    snapshotInterval: '6h',
    retention: '24h',
    why: 'messages pass: one day is enough',
  },
};

const ROLE_IN_NAME = /(?:^|[._-])(cache|queue|cable)(?=[._-]|$)/i;

/** The role that a name stands for: a key of database.yml, or the name of the file (`production_cache.sqlite3`). */
export function roleOf(name: string): Role {
  return (ROLE_IN_NAME.exec(name)?.[1]?.toLowerCase() as Role | undefined) ?? 'primary';
}

/**
 * Snapshots that are in a replica at a time: those of the retention window, and the one before it from which its oldest
 * moment is restored.
 */
export function snapshotsKept(role: Role): number {
  const { retention, snapshotInterval } = ROLE_SETTINGS[role];
  return Math.ceil(parseDuration(retention) / parseDuration(snapshotInterval)) + 1;
}
