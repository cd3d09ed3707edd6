/** A service of root follows databases in folders of a user who puts there what he likes. */

import { execFileSync } from 'node:child_process';
import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { until } from '../support/process.ts';
import { type Rig, withRig } from '../support/process-rig.ts';
import type { SqliteProcess } from '../support/sqlite.ts';

const ROOT_ON_LINUX = process.platform === 'linux' && process.getuid?.() === 0;
const NEIGHBOUR = 12345;
const GENERATION = '0123456789abcdef';

/** What the neighbour does, with his rights alone. */
function asNeighbour(script: string, cwd: string): void {
  const as = ['--reuid', String(NEIGHBOUR), '--regid', String(NEIGHBOUR), '--clear-groups'];
  execFileSync('setpriv', [...as, 'sh', '-ec', script], { cwd });
}

/** Puts something in the place of the meta directory, which root may make again at once. */
const inPlace = (name: string): string =>
  `until mv -T ${name} .db-litestream 2>/dev/null; do mv -T .db-litestream old-$(date +%N); done`;

interface Scene {
  readonly rig: Rig;
  /** The neighbour's folder and database. */
  readonly home: string;
  readonly path: string;
  readonly meta: string;
  /** A folder that only root may use, and what is in it. */
  readonly victim: string;
  readonly app: SqliteProcess;
  readonly write: (first: number) => Promise<void>;
  readonly victimState: () => string;
}

async function withScene(body: (scene: Scene) => Promise<void>): Promise<void> {
  await withRig(async (rig) => {
    await fs.chmod(rig.dir, 0o755);
    const [home, victim] = [join(rig.dir, 'home'), join(rig.dir, 'victim')];
    await fs.mkdir(home);
    await fs.mkdir(join(victim, GENERATION, 'wal'), { recursive: true });
    await fs.chmod(victim, 0o700);
    await fs.writeFile(join(victim, 'keys'), 'only root may read this', { mode: 0o600 });
    await fs.writeFile(join(victim, GENERATION, 'wal', '00000000.wal'), 'nor this', { mode: 0o600 });
    const path = join(home, 'db');
    const app = await rig.application({ path });
    await app.exec('CREATE TABLE commits (n INTEGER PRIMARY KEY, v)');
    const write = async (first: number): Promise<void> => {
      for (let n = first; n < first + 20; n++)
        await app.exec(`INSERT INTO commits VALUES (${n}, hex(randomblob(100)))`);
    };
    await write(1);
    giveAway(home);
    const meta = join(home, '.db-litestream');
    await body({ rig, home, path, meta, victim, app, write, victimState: () => stateOf(victim) });
  });
}

/** Names, modes, owners and contents of everything in a folder. */
function stateOf(folder: string): string {
  const list = String.raw`find . -printf '%p %m %U %l\n' -type f -exec sha256sum {} +`;
  return execFileSync('sh', ['-ec', list], { cwd: folder, encoding: 'utf8' });
}

/** As v0.3.13 leaves it when it runs as root: everything is the database's owner's. */
function giveAway(folder: string): void {
  execFileSync('chown', ['-R', `${NEIGHBOUR}:${NEIGHBOUR}`, folder]);
}

/** Waits until the replica has the last commit. */
async function stored({ rig, path }: Scene): Promise<void> {
  const last = (file: string): string =>
    execFileSync('sqlite3', [file, 'SELECT max(n) FROM commits'], { encoding: 'utf8' });
  const live = last(path);
  await until(
    async () => {
      const { code, path: restored } = await rig.restore();
      return code === 0 && last(restored) === live;
    },
    { timeoutMs: 30_000, describe: () => `no restore has commit ${live}` },
  );
}

const OWN_FOLDER = `mkdir -p own/generations/${GENERATION}; echo ${GENERATION} > own/generation`;

describe.skipIf(!ROOT_ON_LINUX)('root in the folder of another user (needs root: changes users)', () => {
  it('follows no link in the place of the meta directory', async () => {
    await withScene(async (scene) => {
      const { rig, home, path, victim, victimState } = scene;
      const before = victimState();
      asNeighbour(`ln -s ${victim} .db-litestream`, home);
      const litestream = await rig.replicate({ path });
      await litestream.waitForLine(/ERROR|error=.*\.db-litestream/);
      asNeighbour('rm .db-litestream', home);
      await stored(scene);
      expect(victimState()).toBe(before);
      expect((await litestream.stop()).code).toBe(0);
    });
  });

  it.each([
    ['its generations', `ln -s "$0" own/generations`, 'mkdir own'],
    ['one generation', `ln -s "$0/${GENERATION}" own/generations/${GENERATION}`, 'mkdir -p own/generations'],
    ['its wal', `ln -s "$0/${GENERATION}/wal" own/generations/${GENERATION}/wal`, OWN_FOLDER],
  ])('writes and removes nothing through a link in the place of %s', async (_, link, folder) => {
    await withScene(async (scene) => {
      const { rig, home, path, meta, victim, victimState } = scene;
      const before = victimState();
      const script = `${folder}; echo ${GENERATION} > own/generation; ${link.replace('$0', victim)}`;
      asNeighbour(`${script}; mv own .db-litestream`, home);
      const litestream = await rig.replicate({ path });
      await stored(scene);
      expect(victimState()).toBe(before);
      const { uid, mode } = await fs.stat(meta);
      expect([uid, mode & 0o777]).toEqual([0, 0o700]);
      // And again while it runs.
      asNeighbour(`${script}; ${inPlace('own')}`, home);
      await scene.write(100);
      await until(async () => (await fs.stat(meta)).uid === 0);
      await stored(scene);
      expect(victimState()).toBe(before);
      expect((await litestream.stop()).code).toBe(0);
      expect(victimState()).toBe(before);
    });
  });

  it('follows no link that takes the place of the meta directory while it runs', async () => {
    await withScene(async (scene) => {
      const { rig, home, path, victim, victimState } = scene;
      const before = victimState();
      const litestream = await rig.replicate({ path });
      await stored(scene);
      asNeighbour(`ln -s ${victim} own; ${inPlace('own')}`, home);
      await scene.write(100);
      await litestream.waitForLine(/error=.*\.db-litestream.* is a link/);
      asNeighbour('rm .db-litestream', home);
      await scene.write(200);
      await stored(scene);
      expect(victimState()).toBe(before);
      expect((await litestream.stop()).code).toBe(0);
    });
  });

  it('continues the generation of a meta directory that v0.3.13 gave away', async () => {
    await withScene(async (scene) => {
      const { rig, home, path, meta } = scene;
      const litestream = await rig.replicate({ path });
      await stored(scene);
      expect((await litestream.stop()).code).toBe(0);
      const generation = await fs.readFile(join(meta, 'generation'), 'utf8');
      giveAway(home);
      await fs.chmod(meta, 0o755);
      await scene.write(100);
      const next = await rig.replicate({ path });
      await stored(scene);
      expect(await fs.readFile(join(meta, 'generation'), 'utf8')).toBe(generation);
      const { uid, mode } = await fs.stat(join(meta, 'generations', generation.trim(), 'wal'));
      expect([uid, mode & 0o777]).toEqual([0, 0o700]);
      expect(next.lines.join('\n')).not.toContain('/proc/self');
      expect((await next.stop()).code).toBe(0);
    });
  });

  it('leaves the meta directory of a replicate that runs alone, and names that', async () => {
    await withScene(async ({ rig, path, meta }) => {
      await fs.mkdir(rig.replica);
      await fs.chown(rig.replica, NEIGHBOUR, NEIGHBOUR);
      const theirs = await rig.replicate({ path, userId: NEIGHBOUR });
      const ours = await rig.replicateUnready({ path });
      await ours.waitForLine(new RegExp(`replicated by another process already .*pid ${theirs.pid}`));
      expect((await fs.stat(meta)).uid).toBe(NEIGHBOUR);
      expect((await theirs.stop()).code).toBe(0);
    });
  });

  it('says whose the meta directory is to who takes the place of root', async () => {
    await withScene(async (scene) => {
      const { rig, path, meta } = scene;
      const ours = await rig.replicate({ path });
      await stored(scene);
      expect((await ours.stop()).code).toBe(0);
      execFileSync('chown', ['-R', String(NEIGHBOUR), rig.replica]);
      const theirs = await rig.replicateUnready({ path, userId: NEIGHBOUR });
      await theirs.waitForLine(/\.db-litestream belongs to user 0: give it to .*chown -R/);
      execFileSync('chown', ['-R', String(NEIGHBOUR), meta]);
      await theirs.waitForLine(/"sync: /);
      expect((await theirs.stop()).code).toBe(0);
    });
  });

  it('takes over no folder of a third one', async () => {
    await withScene(async ({ rig, path, meta }) => {
      await fs.mkdir(meta, { mode: 0o700 });
      await fs.chown(meta, NEIGHBOUR + 1, NEIGHBOUR + 1);
      const litestream = await rig.replicateUnready({ path });
      await litestream.waitForLine(/belongs to user 12346.*meta-path/);
      expect((await fs.stat(meta)).uid).toBe(NEIGHBOUR + 1);
      await litestream.stop();
    });
  });
});
