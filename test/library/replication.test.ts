/** startReplication() in real applications: children that die, applications that die, several processes, and credentials. */

import { promises as fs, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { pause, runLitestream, startLitestream, until, withTempDir } from '../support/process.ts';
import { S3Server } from '../support/s3-server.ts';
import { withSqlite } from '../support/sqlite.ts';
import { chooseSeed, generator } from '../support/workload.ts';
import { Application, lives, type ApplicationOptions } from './application.ts';

const TIMEOUT_MS = 180_000;
const KILLS = Number(process.env['LITESTREAM_KILLS'] ?? 20);

interface Rig {
  readonly dir: string;
  readonly database: string;
  readonly replica: string;
  /** Options that replicate to the file replica. */
  readonly options: object;
  readonly start: (more?: Partial<ApplicationOptions>) => Application;
}

/** Runs `body` with a folder and applications, which are ended with their children whatever happens. */
async function withApplications(body: (rig: Rig) => Promise<void>): Promise<void> {
  await withTempDir(async (dir) => {
    const started: Application[] = [];
    const database = join(dir, 'data', 'app.db');
    const replica = join(dir, 'replica');
    const options = {
      databases: [{ path: database, replicas: [{ path: replica, 'sync-interval': '20ms' }] }],
      restart: { maxDelayMs: 300 },
    };
    await fs.mkdir(join(dir, 'data'));
    try {
      await body({
        dir,
        database,
        replica,
        options,
        start: (more = {}) => {
          const application = new Application({ database, options, ...more });
          started.push(application);
          return application;
        },
      });
    } catch (error) {
      if (error instanceof Error) error.message += `\n${started.map((one) => one.log()).join('\n---\n')}`;
      throw error;
    } finally {
      await Promise.all(started.map((application) => application.end('SIGKILL')));
      const pids = started.flatMap(({ said }) =>
        said.flatMap(({ event, pid }) => (event === 'start' && pid ? [pid] : [])),
      );
      await until(() => !pids.some(lives), { describe: () => `orphans: ${pids.filter(lives).join(', ')}` });
    }
  });
}

/** How many commits a restore of the replica has. */
async function restoredCount(dir: string, url: string, env: Record<string, string> = {}): Promise<unknown> {
  const path = await fs.mkdtemp(join(dir, 'restored-'));
  const output = join(path, 'db');
  const { code, stderr } = await runLitestream({ binary: 'ours', args: ['restore', '-o', output, url], env });
  if (code !== 0) throw new Error(stderr);
  return await withSqlite({ path: output, readonly: true }, async (sqlite) => {
    const [row] = await sqlite.all('SELECT count(*) AS n FROM commits');
    return row?.['n'];
  });
}

/** Writes without a pause until it is told to stop; rejects when the server once does not answer. */
function load(application: Application): { stop(): Promise<number> } {
  const stopping = new AbortController();
  const running = (async () => {
    let last = 0;
    while (!stopping.signal.aborted) {
      const { n } = await application.get('/write');
      last = Number(n);
      await pause(2);
    }
    return last;
  })();
  running.catch(() => undefined);
  return {
    stop() {
      stopping.abort();
      return running;
    },
  };
}

describe('a child that is killed', () => {
  it(
    `${KILLS} times under load: the server answers throughout and no commit is lost`,
    { timeout: TIMEOUT_MS + KILLS * 10_000 },
    async () => {
      await withApplications(async ({ dir, replica, start }) => {
        const seed = chooseSeed();
        const random = generator(seed);
        const application = start();
        const writing = load(application);
        let from = 0;
        for (let i = 0; i < KILLS; i++) {
          const { pid = 0 } = await application.event('ready', from);
          await pause(random() * 400);
          from = application.said.length;
          process.kill(pid, 'SIGKILL');
          await application.heard(({ event, signal }) => event === 'exit' && signal === 'SIGKILL', from);
        }
        const last = await writing.stop();
        expect(await application.get('/sync')).toEqual({ stored: true });
        expect(await restoredCount(dir, `file://${replica}`), `LITESTREAM_SEED=${seed}`).toBe(last);
        expect(await application.get('/count')).toEqual({ n: last });
        const [first, ...others] = application.said.filter(({ event }) => event === 'generation');
        expect(first?.reason).toBe('no generation exists');
        // Between a full checkpoint of ours and a kill the next writer may restart the WAL, which nobody can prove then.
        // The kill may also hit when the new index was begun and nothing of it was copied.
        for (const { reason } of others)
          expect(reason).toMatch(/^(wal header mismatch|shadow wal \S+ holds no whole commit)/);
        console.log(`${last} commits, ${KILLS} kills, ${others.length} new generations, seed ${seed}`);
      });
    },
  );

  it('by SIGTERM or SIGINT from outside does not even end: it belongs to the application', async () => {
    await withApplications(async ({ start }) => {
      const application = start();
      const { pid = 0 } = await application.event('ready');
      for (const signal of ['SIGTERM', 'SIGINT'] as const) process.kill(pid, signal);
      await application.get('/write');
      expect(await application.get('/sync')).toEqual({ stored: true });
      expect(await application.get('/state')).toEqual({ state: 'running', pid });
    });
  });
});

describe('an application', () => {
  it(
    'that is killed leaves no orphan, and its last commits are stored',
    { timeout: TIMEOUT_MS },
    async () => {
      await withApplications(async ({ dir, replica, options, start, database }) => {
        // Nothing but the end makes it store them.
        const slow = [{ path: replica, 'sync-interval': '1h' }];
        const application = start({
          options: { ...options, databases: [{ path: database, replicas: slow }] },
        });
        const { pid = 0 } = await application.event('ready');
        await application.get('/write');
        expect(await application.get('/sync')).toEqual({ stored: true });
        for (let i = 0; i < 10; i++) await application.get('/write');
        await application.end('SIGKILL');
        await until(() => !lives(pid), { describe: () => `${pid} lives on` });
        expect(await restoredCount(dir, `file://${replica}`)).toBe(11);
      });
    },
  );

  it.each([
    ['without a listener of its own dies of SIGTERM', {}, { code: null, signal: 'SIGTERM' }],
    ['with one ends as it likes', { APP_ON_SIGTERM: 'stop' }, { code: 0, signal: null }],
  ])('%s, after the last commits are stored', async (_name, env, expected) => {
    await withApplications(async ({ dir, replica, options, start, database }) => {
      const slow = [{ path: replica, 'sync-interval': '1h' }];
      const application = start({
        env,
        options: { ...options, databases: [{ path: database, replicas: slow }] },
      });
      const { pid = 0 } = await application.event('ready');
      for (let i = 0; i < 10; i++) await application.get('/write');
      expect(await application.end('SIGTERM')).toEqual(expected);
      expect(lives(pid)).toBe(false);
      expect(application.said.filter(({ event }) => event === 'exit')).toMatchObject([
        { code: 0, expected: true },
      ]);
      expect(await restoredCount(dir, `file://${replica}`)).toBe(10);
    });
  });

  it('lives on without a config, and replicates when there is one', async () => {
    await withApplications(async ({ start, dir, database, replica }) => {
      const config = join(dir, 'litestream.yml');
      const application = start({
        options: { config, restart: { maxDelayMs: 300 } },
        env: { APP_RESTORE: 'no' },
      });
      await application.heard(
        ({ event, error }) => event === 'failure' && /config file not found/.test(error ?? ''),
      );
      await application.get('/write');
      await fs.writeFile(config, `dbs: [{path: ${database}, replicas: [{path: ${replica}}]}]\n`);
      await application.event('ready');
      expect(await application.get('/sync')).toEqual({ stored: true });
    });
  });

  it('is told why a child ends, in its own words, and lives on when its listener throws', async () => {
    await withApplications(async ({ start, dir, database, replica }) => {
      const config = join(dir, 'litestream.yml');
      // What the library does not look at; and a command that would start the application in the application.
      const databases = `exec: "false"\ndbs: [{path: ${database}, replicas: [{path: ${replica}}]}]\n`;
      await fs.writeFile(config, `addr: no address\n${databases}`);
      const application = start({
        options: { config, restart: { maxDelayMs: 300 } },
        env: { APP_LISTENER: 'bad' },
      });
      const { error } = await application.event('failure');
      expect(error).toMatch(/no address/);
      await fs.writeFile(config, databases);
      await application.event('ready');
      await application.heard(({ message }) => message === 'a listener has failed');
      expect(await application.get('/sync')).toEqual({ stored: true });
    });
  });

  it('where replication is off starts no child and says so once', async () => {
    await withApplications(async ({ options, start, replica }) => {
      const application = start({ options: { ...options, enabled: 'BACKUP' } });
      await application.get('/write');
      expect(await application.get('/sync')).toEqual({ stored: false });
      expect(await application.get('/state')).toEqual({ state: 'off', pid: null });
      const lines = application.said.filter(
        ({ message }) => message?.startsWith('litestream replicates') === true,
      );
      expect(lines).toMatchObject([{ attributes: { reason: 'the variable BACKUP does not say yes' } }]);
      await expect(fs.stat(replica)).rejects.toThrow('ENOENT');
    });
  });
});

describe('several processes', () => {
  it(
    'of a cluster have one child, and another takes over when it dies with its worker',
    { timeout: TIMEOUT_MS },
    async () => {
      await withApplications(async ({ dir, replica, start }) => {
        const application = start({ env: { APP_WORKERS: '4' } });
        const first = await application.event('ready');
        await until(
          () =>
            new Set(application.said.filter(({ event }) => event === 'standby').map(({ worker }) => worker))
              .size === 3,
          {
            timeoutMs: 40_000,
            describe: () => `three of four do not stand by\n${application.log()}`,
          },
        );
        await oneReplicator(dir, first.pid);
        const from = application.said.length;
        process.kill(first.worker, 'SIGKILL');
        const second = await application.event('ready', from);
        expect(second.worker).not.toBe(first.worker);
        await until(() => !lives(first.pid ?? 0));
        await oneReplicator(dir, second.pid);
        const port = application.said.find(
          ({ worker, port }) => port !== undefined && worker === second.worker,
        )?.port;
        await fetch(`http://127.0.0.1:${port!}/write`);
        await fetch(`http://127.0.0.1:${port!}/sync`);
        expect(await restoredCount(dir, `file://${replica}`)).toBe(1);
      });
    },
  );

  it('stand by while a litestream of its own replicates, and take over when it ends', async () => {
    await withApplications(async ({ database, replica, start }) => {
      const litestream = startLitestream({
        binary: 'ours',
        args: ['replicate', database, `file://${replica}`],
      });
      try {
        await litestream.waitForLine(/replicating to/);
        const application = start();
        await application.event('standby');
        await litestream.stop();
        await application.event('ready');
      } finally {
        await litestream.kill();
      }
    });
  });

  it(
    'that restore a missing database at the same time restore it once, and all have it',
    { timeout: TIMEOUT_MS },
    async () => {
      const server = await S3Server.start();
      try {
        await withApplications(async ({ dir, database, start }) => {
          const where = { bucket: 'bucket', endpoint: server.endpoint, region: 'us-east-1' };
          const options = { databases: [database], ...where, ...server.credentials };
          const first = start({ options });
          const { pid = 0 } = await first.event('ready');
          for (let i = 0; i < 5; i++) await first.get('/write');
          await first.get('/sync');
          await first.end('SIGKILL');
          await until(() => !lives(pid));
          await fs.rm(join(dir, 'data'), { recursive: true });
          // Long enough for all of them to find the database missing.
          server.latencyMs = 500;
          const application = start({ options, env: { APP_WORKERS: '3' } });
          await until(() => application.said.filter(({ missing }) => missing).length === 3, {
            timeoutMs: 60_000,
            describe: () => application.log(),
          });
          const missing = application.said.flatMap((said) => said.missing ?? []);
          expect(missing).toContainEqual({ path: database, restored: true });
          expect(
            application.said.filter(({ message }) => message === 'renaming database from temporary location'),
          ).toHaveLength(1);
          expect(await application.get('/count')).toEqual({ n: 5 });
        });
      } finally {
        await server.close();
      }
    },
  );
});

/** Waits for children that did not get the lock to be gone: they see that only when they have started. */
async function oneReplicator(dir: string, pid: number | undefined): Promise<void> {
  await until(() => replicators(dir).join() === String(pid), {
    describe: () => `${replicators(dir).join()} replicate, not ${String(pid)} alone`,
  });
}

/** Processes called `litestream replicate` that have something of `dir` open or in their environment. */
function replicators(dir: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const title = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
        return (
          title.startsWith('litestream replicate') &&
          readFileSync(`/proc/${pid}/environ`, 'utf8').includes(dir)
        );
      } catch {
        return false; // Gone meanwhile.
      }
    })
    .filter(lives);
}

describe('credentials', () => {
  it(
    'are handed on by the environment, and are in no argument and no log',
    { timeout: TIMEOUT_MS },
    async () => {
      const server = await S3Server.start();
      const { accessKeyId, secretAccessKey } = server.credentials;
      try {
        await withApplications(async ({ dir, database, start }) => {
          const options = {
            databases: [database],
            bucket: 'bucket',
            endpoint: server.endpoint,
            region: 'us-east-1',
            accessKeyId,
            secretAccessKey,
          };
          const application = start({ options });
          const { pid = 0 } = await application.event('ready');
          await application.get('/write');
          expect(await application.get('/sync')).toEqual({ stored: true });
          expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).not.toContain(secretAccessKey);
          expect(JSON.stringify(application.said)).not.toContain(secretAccessKey);
          await application.end('SIGKILL');
          // It still writes into the folder.
          await until(() => !lives(pid), { describe: () => `${pid} has not ended` });
          await fs.rm(join(dir, 'data'), { recursive: true });
          const again = start({ options });
          expect(await again.get('/count')).toEqual({ n: 1 });
        });
      } finally {
        await server.close();
      }
    },
  );
});
