/** `restore -force` where locks of other machines may not be seen: on a disk that says that it is NFS. */

import { promises as fs, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type RunResult, preload, runLitestream } from '../support/process.ts';
import { withRig, type Rig } from '../support/process-rig.ts';
import { withSqlite } from '../support/sqlite.ts';

const SKIPPED = process.platform === 'linux' ? '' : ' (skipped: only Linux tells what a disk is)';

/** What is asked for this database is answered as for one on NFS. */
const onNfs = (path: string): Record<string, string> =>
  preload(`const real = fs.promises.statfs;
    fs.promises.statfs = async (path, ...rest) => {
      const found = await real(path, ...rest);
      return path === ${JSON.stringify(path)} ? { ...found, type: 0x6969 } : found;
    }`);

async function commit(path: string, x: number): Promise<void> {
  await withSqlite({ path, pragmas: ['journal_mode=WAL'] }, async (sqlite) => {
    await sqlite.exec('CREATE TABLE IF NOT EXISTS t (x)');
    await sqlite.exec(`INSERT INTO t VALUES (${x})`);
  });
}

async function rowsOf(path: string): Promise<unknown[]> {
  return withSqlite({ path }, async (sqlite) =>
    (await sqlite.all('SELECT x FROM t ORDER BY x')).map(({ x }) => x),
  );
}

/** Databases with a row, which their replicas have, and another one since. Its config. */
async function prepare(rig: Rig, paths: readonly string[]): Promise<string> {
  const config = join(rig.dir, 'all.yml');
  const entries = paths.map((path) => `  - {path: ${path}, replicas: [{path: ${path}.replica}]}\n`);
  await fs.writeFile(config, `dbs:\n${entries.join('')}`);
  for (const path of paths) {
    await commit(path, 1);
    const args = ['replicate', '-exec', 'true', path, `file://${path}.replica`];
    const { code, stdout, stderr } = await runLitestream({ binary: 'ours', args });
    expect(code, stdout + stderr).toBe(0);
    await commit(path, 2);
  }
  return config;
}

async function force(
  config: string,
  shared: string,
  ...args: string[]
): Promise<RunResult & { text: string }> {
  const result = await runLitestream({
    binary: 'ours',
    args: ['restore', '-force', '-config', config, ...args],
    env: onNfs(shared),
  });
  return { ...result, text: result.stdout + result.stderr };
}

const REFUSED = /cannot tell whether .*two is in use: it is on NFS, .*say so with -no-other-users/;

describe(`restore -force on a disk that other machines may use${SKIPPED}`, { skip: SKIPPED !== '' }, () => {
  it('is refused, and goes on with -no-other-users', async () => {
    await withRig(async (rig) => {
      const two = join(rig.dir, 'two');
      const config = await prepare(rig, [two]);
      const refused = await force(config, two, two);
      expect([refused.code, refused.text]).toEqual([1, expect.stringMatching(REFUSED)]);
      expect(await rowsOf(two)).toEqual([1, 2]);
      expect(readdirSync(rig.dir).filter((name) => name.includes('.tmp'))).toEqual([]);
      const { code, text } = await force(config, two, '-no-other-users', two);
      expect(code, text).toBe(0);
      expect(await rowsOf(two)).toEqual([1]);
    });
  });

  it('is refused with -no-other-users, too, while an application of this machine is seen', async () => {
    await withRig(async (rig) => {
      const two = join(rig.dir, 'two');
      const config = await prepare(rig, [two]);
      const application = await rig.application({ path: two });
      await application.all('SELECT * FROM t');
      const { code, text } = await force(config, two, '-no-other-users', two);
      expect([code, text]).toEqual([1, expect.stringContaining(`is in use by process ${application.pid}`)]);
      expect(await application.all('SELECT x FROM t ORDER BY x')).toEqual([{ x: 1 }, { x: 2 }]);
    });
  });

  it('with -all touches none when one is there, and goes on with -no-other-users', async () => {
    await withRig(async (rig) => {
      const [one, two] = [join(rig.dir, 'one'), join(rig.dir, 'two')];
      const config = await prepare(rig, [one, two]);
      const refused = await force(config, two, '-all');
      expect([refused.code, refused.text]).toEqual([1, expect.stringMatching(REFUSED)]);
      expect(await Promise.all([one, two].map(rowsOf))).toEqual([
        [1, 2],
        [1, 2],
      ]);
      const { code, text } = await force(config, two, '-all', '-no-other-users');
      expect(code, text).toBe(0);
      expect(await Promise.all([one, two].map(rowsOf))).toEqual([[1], [1]]);
    });
  });
});
