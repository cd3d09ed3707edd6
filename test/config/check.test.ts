import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { checkReplicable, loadConfig } from '../../src/config/index.ts';
import { DATABASE_DEFAULTS, REPLICA_DEFAULTS } from '../../src/engine/options.ts';
import { runLitestream, withTempDir } from '../support/process.ts';

it.each([
  [
    'dbs:\n  - path: a\n    replicas:\n      - path: /x\n      - path: /y\n',
    'duplicate replica name: "file"',
    'DIR/c.yml:5:9\n        - path: /y\n          ^',
  ],
  [
    'dbs:\n  - path: a\n    min-checkpoint-page-count: 0\n',
    'minimum checkpoint page count required',
    'DIR/c.yml:2:5\n    - path: a\n      ^',
  ],
])('lists, but does not replicate %j', async (text, headline, place) => {
  await withTempDir(async (dir) => {
    const path = join(dir, 'c.yml');
    await writeFile(path, text);
    const config = await loadConfig(path, { expandEnv: true, env: {}, cwd: dir });
    expect(config.databases).toHaveLength(1);
    expect(() => checkReplicable(config)).toThrow(
      expect.objectContaining({
        headline,
        message: `${headline}\n${place.replace('DIR', dir)}`,
      }) as Error,
    );
    const { code, stdout } = await runLitestream({
      binary: 'oracle',
      args: ['replicate', '-config', path],
      cwd: dir,
    });
    expect(code).toBe(1);
    expect(stdout).toContain(JSON.stringify(headline).slice(1, -1));
  });
});

it('refuses one database configured twice', async () => {
  await withTempDir(async (dir) => {
    const path = join(dir, 'c.yml');
    await writeFile(path, `dbs:\n  - path: a\n  - path: ${dir}/a\n`);
    const config = await loadConfig(path, { expandEnv: true, env: {}, cwd: dir });
    expect(() => checkReplicable(config)).toThrow(`database is configured twice: ${dir}/a`);
  });
});

it('checks databases of the command line, which have no place', () => {
  const replica = (name: string) => ({
    ...REPLICA_DEFAULTS,
    name,
    store: { type: 'file', path: '/r' } as const,
  });
  const database = (...names: string[]) => ({
    ...DATABASE_DEFAULTS,
    path: '/a',
    replicas: names.map(replica),
  });
  expect(() => checkReplicable({ databases: [database('x')] })).not.toThrow();
  expect(() => checkReplicable({ databases: [database('file', 'file')] })).toThrow(
    expect.objectContaining({ message: 'duplicate replica name: "file"' }) as Error,
  );
  expect(() => checkReplicable({ databases: [database('x', 'y')] })).toThrow(
    'replicas "x" and "y" of database /a share one location: /r: give each its own path',
  );
});
