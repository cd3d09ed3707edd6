/** The commands, what each one is for, and how it is told that this was done. */

import { existsSync, promises as fs } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { type RunResult, runLitestream } from '../support/process.ts';
import { compareDatabases, withSqlite } from '../support/sqlite.ts';

/** What a restore into a file that is there must change: change counter, schema cookie, version-valid-for. */
const COUNTERS = [24, 40, 92] as const;

export const RESTORES = /msg="restoring snapshot"/;

/** Commits a row to the database that it is given. Made by prepareExits(). */
export const PROGRAM = 'commit.mjs';
export const PROGRAM_ROW = 2;

export type Damage = 'flipped' | 'cut' | 'deleted';

/** A folder with `config.yml`, `replica`, and for what needs one the database. */
export interface Place {
  readonly dir: string;
  readonly config: string;
  readonly database: string;
  /** In words; empty: none. */
  damage: string;
  /** The command was sent a signal, or was to be sent one. */
  readonly signalled: boolean;
}

export interface Kind {
  readonly args: (place: Place) => readonly string[];
  /** Whether the database is there before. */
  readonly existing?: boolean;
  /** A replicate of the database runs beside it. The replica is what that has stored. */
  readonly beside?: boolean;
  /** What may be wrong with the replica. Default: anything. */
  readonly damages?: readonly Damage[];
  /** It runs until a signal comes. */
  readonly endless?: RegExp;
  /** How often it comes among the others. */
  readonly share?: number;
  /** Of one that is left alone. Default: 0. */
  readonly code?: number;
  /** Throws when code 0 claims what is not so. */
  readonly check: (place: Place, result: RunResult, expected: Buffer) => Promise<void> | void;
}

export const restored = async ({ database }: Place, _: RunResult, expected: Buffer): Promise<void> => {
  expect(existsSync(database), 'the database is there').toBe(true);
  const content = await fs.readFile(database);
  for (const offset of COUNTERS) expected.copy(content, offset, offset, offset + 4);
  expect(content.equals(expected), 'the database is whole').toBe(true);
};
const lists = ({ damage }: Place, { stdout }: RunResult): void => {
  if (damage === '') expect(stdout).toMatch(/[0-9a-f]{16}/);
};
/** Whether all of the database can be restored; the restored one. */
const stored = async ({ dir, database }: Place, replica: string): Promise<string> => {
  const out = join(dir, 'out.db');
  const args = ['restore', '-o', out, `file://${dir}/${replica}`];
  const { code, stdout, stderr } = await runLitestream({ binary: 'ours', args });
  expect(code, stdout + stderr).toBe(0);
  expect(await compareDatabases(database, out)).toBeUndefined();
  return out;
};
const storedBeside = async (place: Place): Promise<void> => {
  await stored(place, 'replica');
};

const BESIDE = { existing: true, beside: true } as const;

export const KINDS: Readonly<Record<string, Kind>> = {
  restore: { args: ({ config, database }) => ['-config', config, database], share: 6, check: restored },
  'restore -all': {
    args: ({ config }) => ['-all', '-if-db-not-exists', '-if-replica-exists', '-config', config],
    share: 4,
    check: restored,
  },
  'restore -force': {
    args: ({ config, database }) => ['-force', '-config', config, database],
    existing: true,
    share: 3,
    check: restored,
  },
  'restore -integrity-check': {
    args: ({ config, database }) => ['-integrity-check', 'quick', '-config', config, database],
    share: 2,
    check: restored,
  },
  verify: {
    args: ({ config, database }) => ['-replica-only', '-config', config, database],
    share: 2,
    check: ({ damage }) => expect(damage).toBe(''),
  },
  'verify beside replicate': {
    ...BESIDE,
    args: ({ config, database }) => ['-config', config, database],
    damages: ['flipped', 'cut'],
    check: storedBeside,
  },
  timeline: { args: ({ config, database }) => ['-config', config, database], check: lists },
  generations: {
    args: ({ config, database }) => ['-config', config, database],
    existing: true,
    check: lists,
  },
  snapshots: { args: ({ config, database }) => ['-config', config, database], check: lists },
  wal: { args: ({ config, database }) => ['-config', config, database], check: lists },
  databases: {
    args: ({ config }) => ['-config', config],
    check: ({ database }, { stdout }) => expect(stdout).toContain(database),
  },
  status: { args: ({ config }) => ['-config', config], code: 2, check: () => expect.fail('nothing runs') },
  'status beside replicate': {
    ...BESIDE,
    args: ({ config }) => ['-config', config],
    damages: [],
    check: ({ database }, { stdout }) => expect(stdout).toContain(database),
  },
  sync: {
    args: ({ config }) => ['-wait', '-config', config],
    code: 1,
    check: () => expect.fail('nothing runs'),
  },
  'sync beside replicate': {
    ...BESIDE,
    args: ({ config }) => ['-wait', '-config', config],
    damages: [],
    check: storedBeside,
  },
  retention: { args: ({ config, database }) => ['-config', config, database], check: () => undefined },
  doctor: {
    args: ({ config }) => ['-config', config],
    existing: true,
    check: (_, { stdout }) => expect(stdout).toContain('0 failures'),
  },
  init: {
    args: ({ dir, database }) => ['-provider', 'aws', '-bucket', 'b', '-o', join(dir, 'made.yml'), database],
    existing: true,
    check: ({ dir }) => expect(existsSync(join(dir, 'made.yml'))).toBe(true),
  },
  replicate: {
    args: ({ dir, database }) => [database, `file://${dir}/fresh`],
    existing: true,
    endless: /snapshot written/,
    check: async (place) => {
      await stored(place, 'fresh');
    },
  },
  'replicate -exec': {
    args: ({ dir, database }) => [
      '-exec',
      `${process.execPath} ${join(dir, '..', PROGRAM)} ${database}`,
      database,
      `file://${dir}/fresh`,
    ],
    existing: true,
    check: async (place) => {
      const path = await stored(place, 'fresh');
      if (place.signalled) return;
      const rows = await withSqlite({ path }, (sqlite) =>
        sqlite.all('SELECT x FROM t WHERE x = ?', PROGRAM_ROW),
      );
      expect(rows, 'the program has run').toHaveLength(1);
    },
  },
  dashboard: {
    args: ({ config }) => ['-addr', '127.0.0.1:0', '-config', config],
    endless: /serving dashboard on/,
    check: (_, { stdout }) => expect(stdout).toContain('serving dashboard on'),
  },
  version: { args: () => [], check: (_, { stdout }) => expect(stdout).toMatch(/\d/) },
};
