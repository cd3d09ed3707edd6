/** What is stored last is restored, whatever the clocks of those who wrote it said. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { runLitestream, until, type LitestreamProcess } from '../support/process.ts';
import { withRig, type Rig } from '../support/process-rig.ts';
import { withSqlite } from '../support/sqlite.ts';

const CLOCK = fileURLToPath(new URL('../support/clock.mjs', import.meta.url));
const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

/** Writes rows, each a commit of its own, by an application of its own that closes or dies. */
async function write(rig: Rig, rows: readonly string[], end: 'close' | 'kill' = 'kill'): Promise<void> {
  const app = await rig.application({ pragmas: ['journal_mode=WAL', 'wal_autocheckpoint=0'] });
  await app.exec('CREATE TABLE IF NOT EXISTS t (x)');
  for (const row of rows) await app.exec(`INSERT INTO t VALUES ('${row}')`);
  await (end === 'kill' ? app.kill() : app.close());
}

/** A wall clock that is off by so much, and can be set. */
class Clock {
  readonly path: string;
  readonly env: Readonly<Record<string, string>>;

  constructor(rig: Rig) {
    this.path = join(rig.dir, 'clock');
    this.env = { NODE_OPTIONS: `--import=${CLOCK}`, CLOCK_FILE: this.path };
  }

  async set(offsetMs: number): Promise<void> {
    await fs.writeFile(`${this.path}.new`, String(offsetMs));
    await fs.rename(`${this.path}.new`, this.path);
  }
}

async function sync(rig: Rig): Promise<void> {
  const config = await rig.config();
  const { code, stderr } = await runLitestream({
    binary: 'ours',
    args: ['sync', '-wait', '-config', config],
  });
  expect(code, stderr).toBe(0);
}

/** A new server: nothing is left but the replica. */
async function loseServer(rig: Rig): Promise<void> {
  for (const path of [rig.metaDir, rig.database, `${rig.database}-wal`, `${rig.database}-shm`]) {
    await fs.rm(path, { recursive: true, force: true });
  }
}

async function rowsOf(path: string): Promise<string> {
  return withSqlite({ path, readonly: true }, async (sqlite) => {
    const rows = await sqlite.all('SELECT group_concat(x) AS x FROM (SELECT x FROM t ORDER BY rowid)');
    return String(rows[0]?.['x']);
  });
}

/** What is restored by either program, which must be the same. */
async function latest(rig: Rig, url?: string): Promise<string> {
  const options = url === undefined ? {} : { url };
  const ours = await rowsOf(await rig.restored({ binary: 'ours', ...options }));
  if (url === undefined) {
    expect(await rowsOf(await rig.restored({ binary: 'oracle' })), 'restored by v0.3.13').toBe(ours);
  }
  return ours;
}

const stop = async (litestream: LitestreamProcess): Promise<void> => {
  expect((await litestream.stop()).code).toBe(0);
};

describe('after a failover', () => {
  it.each([
    ['a minute ahead', MINUTE],
    ['ten days ahead', 10 * DAY],
  ])('from a host whose clock was %s the new one is restored', async (_, offsetMs) => {
    await withRig(async (rig) => {
      const clock = new Clock(rig);
      await clock.set(offsetMs);
      await write(rig, ['a1']);
      const first = await rig.replicate({ env: clock.env });
      await write(rig, ['a2']);
      await sync(rig);
      await stop(first);
      await loseServer(rig);
      await fs.rename(await rig.restored({ binary: 'ours' }), rig.database);
      const second = await rig.replicate();
      await write(rig, ['b1', 'b2']);
      await sync(rig);
      await stop(second);
      expect(await latest(rig)).toBe('a1,a2,b1,b2');
      const copy = join(rig.dir, 'copy');
      await fs.cp(rig.replica, copy, { recursive: true });
      expect(await latest(rig, `file://${copy}`)).toBe('a1,a2,b1,b2');
      const { code, stdout, stderr } = await runLitestream({
        binary: 'ours',
        args: ['verify', '-config', await rig.config(), rig.database],
      });
      expect(code, stdout + stderr).not.toBe(1);
    });
  });

  it('to another database in the same place that one is restored, from a board whose clock was days ahead', async () => {
    await withRig(async (rig) => {
      const clock = new Clock(rig);
      await clock.set(10 * DAY);
      await write(rig, ['wrong']);
      const first = await rig.replicate({ env: clock.env });
      await sync(rig);
      await stop(first);
      await loseServer(rig);
      await write(rig, ['right']);
      const second = await rig.replicate();
      await sync(rig);
      expect(await latest(rig)).toBe('right');
      await stop(second);
      expect(await latest(rig)).toBe('right');
    });
  });

  it.each([
    ['cp -a', true, /new generation.*follows it in the replica/],
    ['cp -r', false, /new generation.*overwritten or copied/],
  ])(
    'and back the old host, by %s, which has its meta directory, goes on from there in a generation of its own',
    async (_, preserveTimestamps, reason) => {
      await withRig(async (rig) => {
        await write(rig, ['a1']);
        const first = await rig.replicate();
        await write(rig, ['a2']);
        await sync(rig);
        await stop(first);
        const kept = join(rig.dir, 'kept');
        await fs.mkdir(kept);
        for (const name of ['db', 'db-wal', '.db-litestream']) {
          await fs.cp(join(rig.dir, name), join(kept, name), { recursive: true, preserveTimestamps });
        }
        await loseServer(rig);
        await fs.rename(await rig.restored({ binary: 'ours' }), rig.database);
        const second = await rig.replicate();
        await write(rig, ['b1']);
        await sync(rig);
        await stop(second);
        await loseServer(rig);
        for (const name of ['db', 'db-wal', '.db-litestream']) {
          await fs.cp(join(kept, name), join(rig.dir, name), { recursive: true, preserveTimestamps });
        }
        const clock = new Clock(rig);
        await clock.set(MINUTE);
        const third = await rig.replicate({ env: clock.env });
        await third.waitForLine(reason);
        await write(rig, ['a3']);
        await sync(rig);
        await stop(third);
        expect(await latest(rig)).toBe('a1,a2,a3');
      });
    },
  );
});

describe('on one host', () => {
  it('a kill and a clock that is an hour behind after it hide nothing', async () => {
    await withRig(async (rig) => {
      const clock = new Clock(rig);
      await clock.set(0);
      await write(rig, ['1']);
      const first = await rig.replicate({ env: clock.env });
      await write(rig, ['2']);
      await sync(rig);
      await first.kill();
      await clock.set(-60 * MINUTE);
      // The application closes last: the WAL is gone, and with it the proof of continuity.
      await write(rig, ['3'], 'close');
      const second = await rig.replicate({ env: clock.env });
      await write(rig, ['4']);
      await sync(rig);
      await stop(second);
      expect(await latest(rig)).toBe('1,2,3,4');
    });
  });

  it('one commit that was seen in 2038 hides nothing', async () => {
    await withRig(async (rig) => {
      const clock = new Clock(rig);
      await clock.set(0);
      await write(rig, ['1']);
      const first = await rig.replicate({ env: clock.env });
      await write(rig, ['2']);
      await sync(rig);
      await clock.set(Date.UTC(2038, 0, 19) - Date.now());
      await write(rig, ['3']);
      await sync(rig);
      await clock.set(0);
      await write(rig, ['4']);
      await sync(rig);
      await stop(first);
      await write(rig, ['5'], 'close');
      const second = await rig.replicate();
      await write(rig, ['6']);
      await sync(rig);
      await stop(second);
      expect(await latest(rig)).toBe('1,2,3,4,5,6');
    });
  });
});

/** Commits a row that is stored, and gives a moment right after it, by the real clock. */
async function commitAt(rig: Rig, row: string): Promise<string> {
  await write(rig, [row]);
  await sync(rig);
  return new Date().toISOString();
}

/** Restores to each moment. */
async function expectMoments(rig: Rig, moments: Readonly<Record<string, string>>): Promise<void> {
  for (const [expected, moment] of Object.entries(moments)) {
    const path = await rig.restored({ binary: 'ours', args: ['-timestamp', moment] });
    expect(await rowsOf(path), moment).toBe(expected);
  }
}

describe('a moment after the clock was wrong', () => {
  it('for one commit restores what was there', async () => {
    await withRig(async (rig) => {
      const clock = new Clock(rig);
      await clock.set(0);
      await write(rig, ['1']);
      const litestream = await rig.replicate({ env: clock.env });
      const moments: Record<string, string> = { '1,2': await commitAt(rig, '2') };
      await clock.set(Date.UTC(2038, 0, 19) - Date.now());
      await commitAt(rig, '3');
      await clock.set(0);
      moments['1,2,3,4'] = await commitAt(rig, '4');
      moments['1,2,3,4,5'] = await commitAt(rig, '5');
      await stop(litestream);
      await expectMoments(rig, moments);
      // One commit is no reason to send everything again.
      expect(litestream.lines.filter((line) => line.includes('sync: new generation'))).toHaveLength(1);
    });
  });

  it('for days, from the start, restores what was there, and the wrong ones stay restorable', async () => {
    await withRig(async (rig) => {
      const clock = new Clock(rig);
      await clock.set(10 * DAY);
      await write(rig, ['1']);
      const litestream = await rig.replicate({ env: clock.env });
      await commitAt(rig, '2');
      const wrong = new Date(Date.now() + 10 * DAY).toISOString();
      await commitAt(rig, '3');
      await clock.set(0);
      await litestream.waitForLine(/level=WARN.*clock is, or was, wrong.*set back by 240h/);
      await litestream.waitForLine(/sync: new generation.*set back/);
      await sync(rig);
      const moments = { '1,2,3,4': await commitAt(rig, '4'), '1,2,3,4,5': await commitAt(rig, '5') };
      await stop(litestream);
      await expectMoments(rig, moments);
      // It came twice: the later generation counts, and the other one can be had.
      const [first = ''] = litestream.lines.flatMap(
        (line) => /generation=(\S+) reason="no gen/.exec(line)?.[1] ?? [],
      );
      const args = ['-timestamp', wrong];
      const { code, stderr, stdout, path } = await rig.restore({ binary: 'ours', args });
      expect(code, stderr).toBe(0);
      expect(stdout + stderr).toMatch(new RegExp(`came twice.*-generation ${first}`));
      expect(await rowsOf(path)).toBe('1,2,3,4,5');
      expect(
        await rowsOf(await rig.restored({ binary: 'ours', args: [...args, '-generation', first] })),
      ).toBe('1,2');
      expect(await latest(rig)).toBe('1,2,3,4,5');
    });
  });

  it('until a kill restores what was there', async () => {
    await withRig(async (rig) => {
      const clock = new Clock(rig);
      await clock.set(10 * DAY);
      await write(rig, ['1']);
      const first = await rig.replicate({ env: clock.env });
      await commitAt(rig, '2');
      await first.kill();
      await clock.set(0);
      const second = await rig.replicate({ env: clock.env });
      await second.waitForLine(/sync: new generation.*clock was set back by 240h0m0s since the last run/);
      await sync(rig);
      const moments = { '1,2,3': await commitAt(rig, '3'), '1,2,3,4': await commitAt(rig, '4') };
      await second.stop();
      await expectMoments(rig, moments);
    });
  });
});

it('the last of two servers that took over from each other is restored, their clocks 30 s apart', async () => {
  await withRig(async (rig) => {
    const expected: string[] = [];
    const clock = new Clock(rig);
    for (const [i, offsetMs] of [30_000, 0, 30_000, 0].entries()) {
      await clock.set(offsetMs);
      const row = `s${i}`;
      expected.push(row);
      await write(rig, [row]);
      const litestream = await rig.replicate({ env: clock.env });
      await sync(rig);
      await stop(litestream);
      expect(await latest(rig)).toBe(expected.join());
      await loseServer(rig);
      await fs.rename(await rig.restored({ binary: 'ours' }), rig.database);
    }
  });
});

it('a replica with generations of both programs, copied without its times, restores to the latest', async () => {
  await withRig(async (rig) => {
    await write(rig, ['old']);
    const theirs = await rig.replicate({ binary: 'oracle' });
    await rig.snapshotStored();
    await until(async () => (await rig.restore({ binary: 'oracle' })).code === 0);
    await theirs.stop();
    const first = await rig.generation();
    await write(rig, ['new'], 'close');
    const ours = await rig.replicate({ binary: 'ours' });
    await write(rig, ['newer']);
    await sync(rig);
    await stop(ours);
    expect(await rig.generation()).not.toBe(first);
    const copy = join(rig.dir, 'copy');
    await fs.cp(rig.replica, copy, { recursive: true });
    // As a copy tool may: the objects of the older generation come last.
    for (const name of await rig.replicaFiles()) {
      const seconds = Date.now() / 1000 - (name.startsWith(first ?? '-') ? 0 : 3600);
      await fs.utimes(join(copy, 'generations', name), seconds, seconds);
    }
    expect(await latest(rig, `file://${copy}`)).toBe('old,new,newer');
  });
});

it('commits that are dated in the future are told by everything that reads them', async () => {
  await withRig(async (rig) => {
    const clock = new Clock(rig);
    await clock.set(DAY);
    await write(rig, ['a']);
    const litestream = await rig.replicate({ env: clock.env });
    await write(rig, ['b']);
    await sync(rig);
    await stop(litestream);
    const config = ['-config', await rig.config()];
    const told = async (...args: string[]): Promise<void> => {
      const { stdout, stderr } = await runLitestream({ binary: 'ours', args });
      expect(stdout + stderr, args[0]).toContain('dated in the future');
    };
    await told('restore', ...config, '-o', join(rig.dir, 'out.db'), rig.database);
    await told('verify', ...config, '-replica-only', rig.database);
    await told('timeline', ...config, rig.database);
    await told('doctor', ...config, rig.database);
    // Another host: its own clock is right.
    await loseServer(rig);
    await fs.rename(join(rig.dir, 'out.db'), rig.database);
    const second = await rig.replicate();
    await write(rig, ['c']);
    await sync(rig);
    await second.waitForLine(/level=WARN.*wrong clock.*dated in the future/);
    await told('status', ...config, rig.database);
    await stop(second);
    // It goes on with what it has found, and says so again.
    const third = await rig.replicate();
    await third.waitForLine(/level=WARN.*wrong clock.*dated in the future/);
    await sync(rig);
    await told('status', ...config, rig.database);
    await stop(third);
    for (const { lines } of [second, third]) {
      expect(lines.filter((line) => line.includes('dated in the future'))).toHaveLength(1);
    }
  });
});
