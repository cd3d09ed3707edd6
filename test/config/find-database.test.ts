import { mkdir, rename, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { findDatabase } from '../../src/config/index.ts';
import { DATABASE_DEFAULTS, type DatabaseOptions } from '../../src/engine/options.ts';
import { withTempDir } from '../support/process.ts';

const database = (path: string): DatabaseOptions => ({ ...DATABASE_DEFAULTS, path, replicas: [] });

/** A release folder: DIR/current -> DIR/releases/1, with an (absent) database in it. */
async function withRelease(body: (dir: string) => Promise<void>): Promise<void> {
  await withTempDir(async (dir) => {
    await mkdir(join(dir, 'releases/1/storage'), { recursive: true });
    await mkdir(join(dir, 'elsewhere'));
    await symlink(join(dir, 'releases/1'), join(dir, 'current'));
    await body(dir);
  });
}

it('matches every spelling of a path, whether or not the file exists', async () => {
  await withRelease(async (dir) => {
    const real = join(dir, 'releases/1/storage');
    const linked = join(dir, 'current/storage');
    for (const exists of [false, true]) {
      if (exists) await writeFile(join(real, 'p.db'), '');
      for (const configured of [real, linked]) {
        const config = { databases: [database(join(dir, 'other.db')), database(join(configured, 'p.db'))] };
        const expected = { database: config.databases[1] };
        const find = (argument: string, cwd: string, env = {}) =>
          findDatabase(config, argument, { cwd, env });
        expect(find('p.db', real)).toEqual(expected);
        expect(find('p.db', real, { PWD: linked })).toEqual(expected);
        expect(find('../storage/p.db', real, { PWD: dir })).toEqual(expected);
        expect(find(join(linked, 'p.db'), '/')).toEqual(expected);
        expect(find(join(real, 'p.db'), '/')).toEqual(expected);
      }
    }
  });
});

it('follows a symlinked database file', async () => {
  await withRelease(async (dir) => {
    const file = join(dir, 'releases/1/storage/p.db');
    await writeFile(file, '');
    await symlink(file, join(dir, 'link.db'));
    const config = { databases: [database(join(dir, 'link.db'))] };
    expect(findDatabase(config, file, { cwd: '/', env: {} }).database).toBe(config.databases[0]);
  });
});

it('takes a bare name from anywhere when one database has it, and says so', async () => {
  await withRelease(async (dir) => {
    const config = { databases: [database(join(dir, 'current/storage/p.db')), database(join(dir, 'q.db'))] };
    const here = { cwd: join(dir, 'elsewhere'), env: {} };
    const found = findDatabase(config, 'p.db', here);
    expect(found.database).toBe(config.databases[0]);
    expect(found.note).toContain(`using ${dir}/current/storage/p.db`);
    // A path is meant as a path, and a file that is there is meant itself.
    expect(() => findDatabase(config, './p.db', here)).toThrow(
      `database not found in config: ${dir}/elsewhere/p.db`,
    );
    await writeFile(join(dir, 'elsewhere/p.db'), '');
    expect(() => findDatabase(config, 'p.db', here)).toThrow(
      expect.objectContaining({
        code: 'not-found',
        message: `database not found in config: ${dir}/elsewhere/p.db`,
      }) as Error,
    );
  });
});

it('names all databases of one name', () => {
  const config = { databases: [database('/a/p.db'), database('/b/p.db')] };
  expect(() => findDatabase(config, 'p.db', { cwd: '/', env: {} })).toThrow(
    'several databases in config are named p.db: give the full path of one: /a/p.db, /b/p.db',
  );
});

it('still finds a database whose release folder has moved on', async () => {
  await withRelease(async (dir) => {
    const config = { databases: [database(join(dir, 'current/storage/p.db'))] };
    await rename(join(dir, 'current'), join(dir, 'old'));
    expect(
      findDatabase(config, join(dir, 'current/storage/p.db'), { cwd: '/', env: {} }).note,
    ).toBeUndefined();
  });
});
