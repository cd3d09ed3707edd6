/** SQLite databases below a folder, known by the first bytes of the file, whatever its name. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { DATABASE_HEADER_SIZE, parseDatabaseHeader } from '../../sqlite/database-header.ts';
import type { FoundFile, Search } from './discover.ts';

const MAX_DEPTH = 4;
const MAX_ENTRIES = 20_000;
/** Never where an application keeps its data; folders with a leading point are passed by as well. */
const PASSED_BY = new Set([
  'node_modules',
  'vendor',
  'tmp',
  'log',
  'logs',
  'coverage',
  'test',
  'tests',
  'spec',
]);

/** The databases below the folder, in the order of their paths. Symbolic links are not followed. */
export async function databasesBelow(search: Search): Promise<FoundFile[]> {
  const found: string[] = [];
  let budget = MAX_ENTRIES;
  const visit = async (folder: string, depth: number): Promise<void> => {
    const entries = await fs.readdir(folder, { withFileTypes: true }).catch(() => {
      search.note(`${folder} cannot be read, passed by`);
      return [];
    });
    for (const entry of entries) {
      if (budget-- <= 0) return;
      const path = join(folder, entry.name);
      if (entry.isFile() && (await isDatabase(path))) found.push(path);
      const below = entry.isDirectory() && depth < MAX_DEPTH;
      if (below && !entry.name.startsWith('.') && !PASSED_BY.has(entry.name)) await visit(path, depth + 1);
    }
  };
  await visit(search.folder, 0);
  if (budget <= 0) search.note(`stopped looking after ${MAX_ENTRIES} files and folders`);
  return found.toSorted().map((path) => ({ path, name: '' }));
}

/** Also false when the file cannot be read. */
export async function isDatabase(path: string): Promise<boolean> {
  const handle = await fs.open(path).catch(() => undefined);
  if (handle === undefined) return false;
  try {
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(DATABASE_HEADER_SIZE), 0);
    parseDatabaseHeader(buffer.subarray(0, bytesRead));
    return true;
  } catch {
    return false; // Anything but the header of a database.
  } finally {
    await handle.close();
  }
}
