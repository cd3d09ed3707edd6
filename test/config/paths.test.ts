import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { exportCredentials, expandPath, findConfig, logicalCwd } from '../../src/config/index.ts';
import { withTempDir } from '../support/process.ts';

it('takes -config, then LITESTREAM_CONFIG', () => {
  const env = { LITESTREAM_CONFIG: 'env.yml' };
  expect(findConfig('flag.yml', env, '/w')).toEqual({ path: '/w/flag.yml', whenMissing: '' });
  expect(findConfig(undefined, env, '/w')).toMatchObject({
    path: '/w/env.yml',
    whenMissing: ', which LITESTREAM_CONFIG names',
  });
  expect(findConfig('', env, '/w').path).toBe('/w/env.yml');
  expect(findConfig('~/c.yml', env, '/w').path).toBe(join(userInfo().homedir, 'c.yml'));
});

it.skipIf(existsSync('/etc/litestream.yml'))(
  'takes the files of the working folder in their order',
  async () => {
    await withTempDir(async (dir) => {
      expect(findConfig(undefined, {}, dir)).toEqual({
        path: '/etc/litestream.yml',
        whenMissing:
          `, nor ${dir}/config/litestream.yml or ${dir}/litestream.yml: ` +
          'name another one with -config PATH or LITESTREAM_CONFIG',
      });
      expect(findConfig(undefined, {}, dir, 'config').whenMissing).toContain(
        'with config or LITESTREAM_CONFIG',
      );
      await writeFile(join(dir, 'litestream.yml'), '');
      expect(findConfig(undefined, {}, dir).path).toBe(join(dir, 'litestream.yml'));
      await mkdir(join(dir, 'config'));
      await writeFile(join(dir, 'config/litestream.yml'), '');
      expect(findConfig(undefined, { LITESTREAM_CONFIG: '' }, dir).path).toBe(
        join(dir, 'config/litestream.yml'),
      );
    });
  },
);

it('trusts PWD only when it is the same folder', async () => {
  await withTempDir(async (dir) => {
    await mkdir(join(dir, 'real'));
    await symlink(join(dir, 'real'), join(dir, 'link'));
    const [cwd, link] = [join(dir, 'real'), join(dir, 'link')];
    expect(logicalCwd({ cwd, env: { PWD: link } })).toBe(link);
    expect(expandPath('x', { cwd, env: { PWD: link } })).toBe(join(link, 'x'));
    for (const PWD of [dir, join(dir, 'gone'), '.', undefined]) {
      expect(logicalCwd({ cwd, env: { PWD } })).toBe(cwd);
    }
  });
});

it('exports credentials only where AWS has none', () => {
  const env: Record<string, string | undefined> = {
    LITESTREAM_ACCESS_KEY_ID: 'id',
    LITESTREAM_SECRET_ACCESS_KEY: 'secret',
    AWS_SECRET_ACCESS_KEY: 'theirs',
  };
  exportCredentials(env);
  expect(env).toMatchObject({ AWS_ACCESS_KEY_ID: 'id', AWS_SECRET_ACCESS_KEY: 'theirs' });
  const none: Record<string, string | undefined> = {};
  exportCredentials(none);
  expect(none).toEqual({});
});
