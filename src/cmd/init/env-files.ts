/** The database of a Prisma or Drizzle project, from its env files. */

import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { FoundFile, Search } from './discover.ts';
import { readTextIfThere } from './read-text.ts';

/** What counts most first, as frameworks read them in production. */
const FILES = ['.env.production.local', '.env.production', '.env.local', '.env'];
/** Prisma's, and the one of Drizzle's documentation. */
const VARIABLES = ['DATABASE_URL', 'DB_FILE_NAME'];

/** The databases that the first env file with one names; none without. */
export async function databasesOfEnvFiles(search: Search): Promise<FoundFile[]> {
  for (const name of FILES) {
    const text = await readTextIfThere(join(search.folder, name));
    const found = VARIABLES.flatMap((variable) => {
      const path = pathOfUrl(variableOf(text, variable));
      return path === undefined ? [] : [{ path: placeOf(path, search.folder), name: '' }];
    });
    if (found.length > 0) return found;
  }
  return [];
}

/** The last value that an env file gives to a variable, without quotes and comment. */
function variableOf(text: string, name: string): string {
  const line = new RegExp(
    `^[ \\t]*(?:export[ \\t]+)?${name}[ \\t]*=[ \\t]*(?:"([^"\\n]*)"|'([^'\\n]*)'|([^\\n#]*))`,
    'gm',
  );
  const last = [...text.matchAll(line)].at(-1);
  return (last?.[1] ?? last?.[2] ?? last?.[3] ?? '').trim();
}

/** The file that a URL such as `file:./dev.db?connection_limit=1` names; undefined for one of another database. */
function pathOfUrl(url: string): string | undefined {
  const path = /^(?:file|sqlite3?):(?:\/\/(?=[/.]))?([^?]+)/i.exec(url)?.[1];
  return path === undefined || path === ':memory:' ? undefined : path;
}

/** Prisma takes relative paths from the folder of its schema, others from the project: where the file is, else Prisma's. */
function placeOf(path: string, folder: string): string {
  const schemaFolder = existsSync(join(folder, 'prisma/schema.prisma')) ? join(folder, 'prisma') : folder;
  const candidates = [resolve(schemaFolder, path), resolve(folder, path)];
  return candidates.find((candidate) => existsSync(candidate)) ?? resolve(schemaFolder, path);
}
