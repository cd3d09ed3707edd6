/** Where the meta directory of a database goes when its folder may be read-only, and how others find it. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { DEFAULT_STATE_DIRECTORY, stateDirectories } from '../../src/base/state-directories.ts';
import {
  findMetaPath,
  metaPathCandidates,
  placeMetaDirectory,
  stateName,
} from '../../src/engine/read-only-meta.ts';
import { withTempDir } from '../support/process.ts';

describe('folders for state', () => {
  it("are systemd's, the user's, and the system's, in this order", () => {
    expect(stateDirectories({ STATE_DIRECTORY: '/a:/b', XDG_STATE_HOME: '/home/u/.state' })).toEqual([
      '/a',
      '/b',
      '/home/u/.state/litestream',
      DEFAULT_STATE_DIRECTORY,
    ]);
  });

  it('are none of what is empty or relative, and none twice', () => {
    expect(stateDirectories({})).toEqual([DEFAULT_STATE_DIRECTORY]);
    const env = { STATE_DIRECTORY: `:state:${DEFAULT_STATE_DIRECTORY}`, XDG_STATE_HOME: 'rel' };
    expect(stateDirectories(env)).toEqual([DEFAULT_STATE_DIRECTORY]);
  });
});

describe('the name in a folder for state', () => {
  it('tells databases of one name apart, and is the same for each process', () => {
    expect(stateName('/a/db')).toBe(stateName('/a/db'));
    expect(stateName('/a/db')).not.toBe(stateName('/b/db'));
    expect(stateName('/a/db')).toMatch(/^db-[0-9a-f]{12}$/);
  });
});

describe('the meta directory', () => {
  it('is beside the database while its folder can be written, or is not there', async () => {
    await withTempDir(async (dir) => {
      const path = join(dir, 'db');
      await fs.writeFile(path, '');
      expect(placeMetaDirectory({ path }, ['/nowhere'])).toBe(join(dir, '.db-litestream'));
      const missing = join(dir, 'mount', 'db');
      expect(placeMetaDirectory({ path: missing }, ['/nowhere'])).toBe(join(dir, 'mount', '.db-litestream'));
    });
  });

  it('is where the config says, whatever can be written', () => {
    expect(placeMetaDirectory({ path: '/proc/db', metaPath: '/meta' }, ['/tmp'])).toBe('/meta');
    expect(metaPathCandidates({ path: '/proc/db', metaPath: '/meta' }, ['/tmp'])).toEqual(['/meta']);
  });

  it('is the one used last of those that are there, for a process that looks from outside', async () => {
    await withTempDir(async (dir) => {
      const path = join(dir, 'db');
      const [one, two] = [join(dir, 'one'), join(dir, 'two')];
      expect(findMetaPath({ path }, [one, two])).toBe(join(dir, '.db-litestream'));
      for (const [at, folder] of [one, two].entries()) {
        await fs.mkdir(join(folder, stateName(path)), { recursive: true });
        await fs.utimes(join(folder, stateName(path)), 1000 + at, 1000 + at);
      }
      expect(findMetaPath({ path }, [one, two])).toBe(join(two, stateName(path)));
    });
  });
});
