/** Which databases `litestream init` finds in a project, and what it makes of their names. */

import { promises as fs } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { withoutRuby } from '../../src/cmd/init/database-yml.ts';
import { discover, type FoundDatabase } from '../../src/cmd/init/discover.ts';
import { planDatabases } from '../../src/cmd/init/plan.ts';
import { readProject } from '../../src/cmd/init/project.ts';
import { roleOf, snapshotsKept } from '../../src/cmd/init/roles.ts';
import { withTempDir } from '../support/process.ts';
import { withSqlite } from '../support/sqlite.ts';

/** Writes `files` below a folder; what is undefined becomes a database. */
async function project(dir: string, files: Readonly<Record<string, string | undefined>>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    const path = join(dir, name);
    await fs.mkdir(dirname(path), { recursive: true });
    if (text !== undefined) await fs.writeFile(path, text);
    else await withSqlite({ path }, (sqlite) => sqlite.exec('CREATE TABLE t (x)'));
  }
}

interface Found {
  readonly paths: readonly string[];
  readonly databases: readonly FoundDatabase[];
  readonly source: string;
  readonly notes: readonly string[];
}

async function find(
  files: Readonly<Record<string, string | undefined>>,
  {
    named = [],
    env = {},
    environment = 'production',
  }: Partial<{
    named: readonly string[];
    env: Record<string, string>;
    environment: string;
  }> = {},
): Promise<Found> {
  return await withTempDir(async (dir) => {
    await project(dir, files);
    const notes: string[] = [];
    const search = { folder: dir, env, note: (message: string) => notes.push(message) };
    const { databases, source } = await discover(search, named, environment);
    const relative = databases.map((found) => ({ ...found, path: found.path.replace(dir, 'DIR') }));
    return { databases: relative, paths: relative.map(({ path }) => path), source, notes };
  });
}

/** As a new Rails 8 application has it. */
const RAILS_8 = `default: &default
  adapter: sqlite3
  pool: <%= ENV.fetch("RAILS_MAX_THREADS") { 5 } %>
  timeout: 5000

development:
  <<: *default
  database: storage/development.sqlite3

production:
  primary:
    <<: *default
    database: storage/production.sqlite3
  cache:
    <<: *default
    database: storage/production_cache.sqlite3
    migrations_paths: db/cache_migrate
  queue:
    <<: *default
    database: storage/production_queue.sqlite3
    migrations_paths: db/queue_migrate
  cable:
    <<: *default
    database: storage/production_cable.sqlite3
    migrations_paths: db/cable_migrate
`;

const yml = (text: string): Record<string, string> => ({ 'config/database.yml': text });

describe('config/database.yml', () => {
  it('gives the four databases of Rails 8 with their roles, whether they exist or not', async () => {
    const { databases, source } = await find({
      ...yml(RAILS_8),
      'storage/production_queue.sqlite3': undefined,
    });
    expect(source).toBe('config/database.yml (production)');
    expect(databases).toEqual([
      { path: 'storage/production.sqlite3', role: 'primary', sizeBytes: undefined },
      { path: 'storage/production_cache.sqlite3', role: 'cache', sizeBytes: undefined },
      { path: 'storage/production_queue.sqlite3', role: 'queue', sizeBytes: 8192 },
      { path: 'storage/production_cable.sqlite3', role: 'cable', sizeBytes: undefined },
    ]);
  });

  it.each<[string, string, Record<string, string>, string[]]>([
    ['another environment', RAILS_8, {}, ['storage/development.sqlite3']],
    [
      'one database with pragmas',
      'development:\n  adapter: sqlite3\n  pragmas:\n    synchronous: normal\n  database: storage/one.sqlite3\n',
      {},
      ['storage/one.sqlite3'],
    ],
    [
      'a variable that is set',
      'development: {adapter: sqlite3, database: <%= ENV.fetch("DB_PATH", "storage/default.sqlite3") %>}\n',
      { DB_PATH: '/data/set.sqlite3' },
      ['/data/set.sqlite3'],
    ],
    [
      'the default of a variable that is not set',
      'development: {adapter: sqlite3, database: <%= ENV["DB_PATH"] || "storage/default.sqlite3" %>}\n',
      {},
      ['storage/default.sqlite3'],
    ],
    [
      'Rails.root and Rails.env',
      'development:\n  adapter: sqlite3\n  database: <%= Rails.root.join("storage", "a.sqlite3") %>\n',
      {},
      ['storage/a.sqlite3'],
    ],
    ['a url', 'development: {url: "sqlite3:storage/u.sqlite3?timeout=5"}\n', {}, ['storage/u.sqlite3']],
    [
      'replicas and other adapters beside it',
      'development:\n  primary: {adapter: sqlite3, database: a.db}\n' +
        '  reader: {adapter: sqlite3, database: a.db, replica: true}\n' +
        '  warehouse: {adapter: postgresql, database: warehouse}\n',
      {},
      ['a.db'],
    ],
  ])('%s', async (_, text, env, paths) => {
    expect((await find(yml(text), { env, environment: 'development' })).paths).toEqual(paths);
  });

  it('says so when a path is made by code that it does not run', async () => {
    const text =
      'production:\n  a: {adapter: sqlite3, database: <%= `hostname` %>}\n  b: {adapter: sqlite3, database: b.db}\n';
    const { paths, notes } = await find(yml(text));
    expect(paths).toEqual(['b.db']);
    expect(notes).toEqual([expect.stringContaining('the path of a is made by Ruby code') as string]);
  });

  it('is passed by when its production is another database, or when it is no YAML', async () => {
    const files = { 'data/app.db': undefined };
    const postgres = 'production: {adapter: postgresql, database: app}\n';
    expect((await find({ ...yml(postgres), ...files })).paths).toEqual(['data/app.db']);
    const broken = await find({ ...yml('production: {'), ...files });
    expect(broken.paths).toEqual(['data/app.db']);
    expect(broken.notes).toEqual([expect.stringContaining('is not understood') as string]);
  });

  it('has its tags replaced or removed', () => {
    const text = '<%# a comment %><% if x %>a: <%= Rails.env -%>\n<% end %>b: <%= secret() %>';
    expect(withoutRuby(text, {}, 'test')).toMatch(/^a: test\nb: \ufffdruby\ufffd$/);
  });
});

describe('env files', () => {
  it.each<[string, Record<string, string | undefined>, string[]]>([
    [
      'Prisma, from the folder of the schema',
      { '.env': 'DATABASE_URL="file:./dev.db?connection_limit=1" # comment\n', 'prisma/schema.prisma': '' },
      ['prisma/dev.db'],
    ],
    [
      'Prisma, where the file is',
      { '.env': "DATABASE_URL='file:./dev.db'\n", 'prisma/schema.prisma': '', 'dev.db': undefined },
      ['dev.db'],
    ],
    ['Drizzle', { '.env': 'export DB_FILE_NAME=file:local.db\n' }, ['local.db']],
    [
      'that of production first',
      { '.env': 'DATABASE_URL=file:dev.db\n', '.env.production': 'DATABASE_URL=file:/data/prod.db\n' },
      ['/data/prod.db'],
    ],
    ['sqlite:///', { '.env': 'DATABASE_URL=sqlite:///srv/a.db\n' }, ['/srv/a.db']],
    [
      'not of another database',
      { '.env': 'DATABASE_URL=postgres://u:p@h/db\n', 'x/app.db': undefined },
      ['x/app.db'],
    ],
  ])('%s', async (_, files, paths) => {
    expect((await find(files)).paths).toEqual(paths);
  });
});

describe('folders', () => {
  it('give every file that starts as a database does, whatever its name, and nothing else', async () => {
    const { paths, source } = await find({
      'data/b.bin': undefined,
      'app.db': undefined,
      'text.sqlite3': 'SQLite format',
      'empty.db': '',
      'node_modules/x/cache.db': undefined,
      '.app.db-litestream/y.db': undefined,
      'a/b/c/d/deep.db': undefined,
      'a/b/c/d/e/deeper.db': undefined,
    });
    expect(source).toBe('the files of this folder');
    expect(paths).toEqual(['a/b/c/d/deep.db', 'app.db', 'data/b.bin']);
  });

  it('without any are an error that says what to do', async () => {
    await expect(find({ 'README.md': 'no' })).rejects.toMatchObject({
      code: 'not-found',
      message: expect.stringContaining('litestream init storage/production.sqlite3') as string,
    });
  });
});

describe('the command line', () => {
  it('goes first, with paths that are not there yet, each once', async () => {
    const named = ['data/new.db', './data/new.db', '/srv/jobs_queue.db'];
    const { databases } = await find(yml(RAILS_8), { named });
    expect(databases).toEqual([
      { path: 'data/new.db', role: 'primary', sizeBytes: undefined },
      { path: '/srv/jobs_queue.db', role: 'queue', sizeBytes: undefined },
    ]);
  });
});

describe('roles', () => {
  it.each([
    ['production.sqlite3', 'primary'],
    ['production_cache.sqlite3', 'cache'],
    ['queue', 'queue'],
    ['app-cable.db', 'cable'],
    ['queueing.db', 'primary'],
    ['cached_pages.db', 'primary'],
  ])('%s is %s', (name, role) => {
    expect(roleOf(name)).toBe(role);
  });

  it('keep as many snapshots as their retention needs', () => {
    const roles = ['primary', 'cache', 'queue', 'cable'] as const;
    expect(roles.map(snapshotsKept)).toEqual([721, 5, 73, 5]);
  });
});

describe('the plan', () => {
  const options = { root: '', prefix: 'app', assumedSizeBytes: undefined };
  const at = (path: string, sizeBytes?: number): FoundDatabase => ({ path, role: roleOf(path), sizeBytes });

  it('gives each database a place of its own in the bucket', () => {
    const paths = ['a/main.db', 'b/main.sqlite3', 'x_cache.db', 'y_cache.db', '/s/we ird§.db'];
    const planned = planDatabases(
      paths.map((path) => at(path)),
      options,
    );
    expect(planned.map(({ replicaPath }) => replicaPath)).toEqual([
      'app/main',
      'app/main-2',
      'app/cache',
      'app/cache-2',
      'app/we-ird',
    ]);
  });

  it('reckons with the size of the file, or with the one that was said', () => {
    const [there, absent] = planDatabases([at('a.db', 10), at('b_cache.db')], {
      ...options,
      root: '/rails',
      assumedSizeBytes: 1000,
    });
    expect(there).toMatchObject({ path: '/rails/a.db', storageBytes: 7210 });
    expect(absent).toMatchObject({ path: '/rails/b_cache.db', storageBytes: 5000 });
  });

  it('refuses what no config can hold', () => {
    expect(() => planDatabases([at('a$b.db')], options)).toThrow('$ stands for a variable');
  });
});

describe('a project', () => {
  it('of Rails and Kamal says its name, volume and command', async () => {
    await withTempDir(async (dir) => {
      const deploy = 'service: my_shop\nvolumes:\n  - "shop_data:/rails/storage"\n';
      await project(dir, { ...yml(RAILS_8), 'config/deploy.yml': deploy, 'bin/docker-entrypoint': '' });
      expect(await readProject(dir)).toEqual({
        folder: dir,
        rails: true,
        name: 'my-shop',
        configFile: 'config/litestream.yml',
        command: 'bin/rails server',
        containerCommand: 'bin/docker-entrypoint ./bin/rails server',
        volumes: new Map([['/rails/storage', 'shop_data']]),
      });
    });
  });

  it.each([
    ['{"scripts": {"start": "node dist/main.js --port 1"}}', 'node dist/main.js --port 1'],
    ['{"scripts": {"start": "next start"}}', 'npm start'],
    ['{}', 'node server.js'],
  ])('of Node.js with %s starts by %s', async (text, command) => {
    await withTempDir(async (dir) => {
      await project(dir, { 'package.json': text });
      expect(await readProject(dir)).toMatchObject({ rails: false, configFile: 'litestream.yml', command });
    });
  });
});
