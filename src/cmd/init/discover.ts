/** Finds the databases of a project: what the command line names, else what its frameworks say, else what lies in it. */

import { existsSync, promises as fs } from 'node:fs';
import { basename, join, relative, resolve } from 'node:path';
import { LitestreamError } from '../../base/errors.ts';
import { databasesOfEnvFiles } from './env-files.ts';
import { databasesOfRails } from './database-yml.ts';
import { type Role, roleOf } from './roles.ts';
import { databasesBelow } from './scan.ts';

/** Where and how to look. */
export interface Search {
  /** The project, absolute. */
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
  /** Told what was passed by, and why. */
  note(message: string): void;
}

/** A database as one of the sources names it. */
export interface FoundFile {
  /** Absolute, or relative to the project. */
  readonly path: string;
  /** What the source calls it, for its role; empty when the file's name says it. */
  readonly name: string;
}

export interface FoundDatabase {
  /** Relative to the project when it is in it, else absolute. */
  readonly path: string;
  readonly role: Role;
  /** Undefined when there is no file yet. */
  readonly sizeBytes: number | undefined;
}

export interface Discovery {
  readonly databases: readonly FoundDatabase[];
  /** Where they are from, for a message. */
  readonly source: string;
}

/** Whether `folder` is that of a Rails application. */
export function isRailsProject(folder: string): boolean {
  return ['config/database.yml', 'config/application.rb'].some((file) => existsSync(join(folder, file)));
}

/**
 * The databases of the project, each once: `named` ones (relative to the project or absolute) when there are any, else
 * those of the first source that knows one. Rejects with 'not-found' when there is none.
 * @param environment - of Rails, such as `production`
 */
export async function discover(
  search: Search,
  named: readonly string[],
  environment: string,
): Promise<Discovery> {
  if (named.length > 0) {
    const files = named.map((path) => ({ path, name: '' }));
    return { databases: await describe(search.folder, files), source: 'the command line' };
  }
  const sources: readonly (readonly [string, () => Promise<FoundFile[]>])[] = [
    [`config/database.yml (${environment})`, () => databasesOfRails(search, environment)],
    ['the env files', () => databasesOfEnvFiles(search)],
    ['the files of this folder', () => databasesBelow(search)],
  ];
  for (const [source, find] of sources) {
    const files = await find();
    if (files.length > 0) return { databases: await describe(search.folder, files), source };
  }
  throw new LitestreamError(
    'not-found',
    `no SQLite database found in ${search.folder}: name them, also before they exist: litestream init storage/production.sqlite3`,
  );
}

async function describe(folder: string, files: readonly FoundFile[]): Promise<FoundDatabase[]> {
  const roles = new Map<string, Role>();
  for (const { path, name } of files) {
    const absolute = resolve(folder, path);
    if (!roles.has(absolute)) roles.set(absolute, roleOf(name === '' ? basename(path) : name));
  }
  return await Promise.all(
    [...roles].map(async ([absolute, role]) => {
      const within = relative(folder, absolute);
      const stats = await fs.stat(absolute).catch(() => undefined);
      return {
        path: within.startsWith('..') ? absolute : within,
        role,
        sizeBytes: stats?.isFile() === true ? stats.size : undefined,
      };
    }),
  );
}
