/** What a health check in a second process is told when things go wrong, and that they get well by themselves. */

import { execFile, execFileSync } from 'node:child_process';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import type { DatabaseStatus } from '../../src/engine/status.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { runLitestream, startLitestream, until, withTempDir, type RunResult } from '../support/process.ts';
import { Rig, withRig } from '../support/process-rig.ts';
import { S3Server } from '../support/s3-server.ts';
import { s3Environment, s3Replica } from './s3-rig.ts';

const ROOT_ON_LINUX = process.platform === 'linux' && process.getuid?.() === 0;
const LITESTREAM = fileURLToPath(new URL('../../bin/litestream', import.meta.url));

let closing: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of closing) await close();
  closing = [];
});

/** Another process, without the environment of the first. */
function ask(...args: string[]): Promise<RunResult> {
  // A health check has five seconds.
  return runLitestream({ binary: 'ours', args, timeoutMs: 5000 });
}

/** The one row of `databases`, split as other programs do it. */
function row({ stdout }: RunResult): string[] {
  return stdout.trimEnd().split('\n').at(-1)?.split(/\s+/) ?? [];
}

async function untilState(config: string, state: string | RegExp, code: number): Promise<RunResult> {
  let last: RunResult | undefined;
  const matches = (text = ''): boolean => (typeof state === 'string' ? text === state : state.test(text));
  return until(
    async () => {
      last = await ask('databases', '-config', config);
      return last.code === code && matches(row(last)[2]) ? last : undefined;
    },
    {
      describe: () => `databases never said ${String(state)}: ${last?.code} ${last?.stdout} ${last?.stderr}`,
    },
  );
}

async function status(config: string, code: number): Promise<DatabaseStatus> {
  const result = await ask('status', '-json', '-config', config);
  expect(result.code, result.stdout).toBe(code);
  const { healthy, databases } = JSON.parse(result.stdout) as {
    healthy: boolean;
    databases: DatabaseStatus[];
  };
  expect(healthy).toBe(code === 0);
  return databases[0]!;
}

async function withApplication(rig: Rig): Promise<Awaited<ReturnType<Rig['application']>>> {
  const app = await rig.application();
  await app.exec('CREATE TABLE t (v)');
  return app;
}

describe('databases', () => {
  it('has the two columns of v0.3.13 where none ever ran, or all ended in order', async () => {
    await withRig(async (rig) => {
      await withApplication(rig);
      const config = await rig.config();
      const theirs = await runLitestream({ binary: 'oracle', args: ['databases', '-config', config] });
      const { code, stdout, stderr } = await ask('databases', '-config', config);
      expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: theirs.stdout, stderr: '' });
      expect((await ask('status', '-config', config)).code).toBe(2);
      const litestream = await rig.replicate();
      await untilState(config, 'ok', 0);
      expect((await litestream.stop()).code).toBe(0);
      expect((await ask('databases', '-config', config)).stdout).toBe(theirs.stdout);
      expect(await fs.readdir(rig.metaDir)).not.toContain('replicate.json');
    });
  });

  it('is well while the database is not there yet, and ill when it is moved away', async () => {
    await withRig(async (rig) => {
      const config = await rig.config();
      await rig.replicate();
      expect(row(await untilState(config, 'waiting', 0))).toEqual([
        rig.database,
        'file',
        'waiting',
        'unknown',
      ]);
      await (await withApplication(rig)).close();
      expect(row(await untilState(config, 'ok', 0))).toEqual([rig.database, 'file', 'ok', '0s']);
      await fs.rename(rig.database, `${rig.database}-deleted`);
      const { stderr } = await untilState(config, 'failing', 1);
      expect(stderr).toMatch(/^\/\S+: failing: .*; put a database there.*\n$/);
      await fs.rename(`${rig.database}-deleted`, rig.database);
      await untilState(config, 'ok', 0);
    });
  });

  it('is ill when the folder of a database is missing: a mount that is not there', async () => {
    await withRig(async (rig) => {
      const path = join(rig.dir, 'volume', 'db');
      const config = await rig.config({ path });
      await fs.mkdir(join(rig.dir, 'other'));
      const both = join(rig.dir, 'both.yml');
      const other = `  - path: ${rig.dir}/other/db\n    replicas: [{path: ${rig.dir}/r2}]\n`;
      await fs.writeFile(both, `${await fs.readFile(config, 'utf8')}${other}`);
      const litestream = startLitestream({ binary: 'ours', args: ['replicate', '-config', both] });
      closing.push(() => litestream.kill());
      await until(async () => {
        const { code, stdout, stderr } = await ask('databases', '-config', both);
        return code === 1 && /failing +unknown\n.*waiting/.test(stdout) && /volume is mounted/.test(stderr);
      });
      expect(await fs.readdir(rig.dir)).not.toContain('volume');
    });
  });

  it('answers when replicate does not', async () => {
    await withRig(async (rig) => {
      await withApplication(rig);
      const config = await rig.config();
      const litestream = await rig.replicate();
      await untilState(config, 'ok', 0);
      litestream.signal('SIGSTOP');
      const { stderr } = await untilState(config, 'hung', 1);
      expect(stderr).toContain('does not answer');
      litestream.signal('SIGCONT');
      await untilState(config, 'ok', 0);
    });
  });
});

describe('replicate that is killed', () => {
  it('is told from one that ended, until another one runs', async () => {
    await withRig(async (rig) => {
      const app = await withApplication(rig);
      const config = await rig.config();
      const first = await rig.replicate();
      await untilState(config, 'ok', 0);
      await first.kill();
      const { stderr } = await untilState(config, 'crashed', 1);
      expect(stderr).toContain(`replicate (pid ${first.pid}, started 2`);
      const { code, stdout } = await ask('status', '-json', '-config', config);
      expect([code, JSON.parse(stdout)]).toMatchObject([2, { running: false, healthy: false }]);
      await app.exec('INSERT INTO t VALUES (1)');
      await rig.replicate();
      await untilState(config, 'ok', 0);
      expect((await status(config, 0)).replicas[0]?.lagMs).toBe(0);
    });
  });
});

describe('a store that is dead', () => {
  it('makes it ill with the reason, and well again by itself', async () => {
    const server = await S3Server.start();
    const proxy = await startFaultProxy('http', { host: '127.0.0.1', port: server.port });
    closing.push(
      () => proxy.close(),
      () => server.close(),
    );
    await withRig(async (rig) => {
      const app = await withApplication(rig);
      const options = {
        replica: s3Replica(`http://127.0.0.1:${proxy.port}`),
        database: ['monitor-interval: 100ms'],
      };
      const config = await rig.config(options);
      const litestream = await rig.replicate({ ...options, env: s3Environment(server) });
      await untilState(config, 'ok', 0);
      await proxy.set('dead');
      await app.exec('INSERT INTO t VALUES (1)');
      const { stderr } = await untilState(config, 'failing', 1);
      expect(stderr).toMatch(
        /monitor error: .*ECONNREFUSED.*; check that s3:\/\/bucket\/db .* can be reached/,
      );
      const ill = await status(config, 1);
      expect(ill.replicas[0]?.lagMs).toBeGreaterThan(0);
      expect(ill.replicas[0]?.lastError?.message).toContain('ECONNREFUSED');
      const late = await ask('sync', '-wait', '-timeout', '300ms', '-config', config);
      expect([late.code, late.stdout]).toEqual([
        1,
        expect.stringMatching(
          /not everything of \S+ is stored in time: replica s3: .*ECONNREFUSED/,
        ) as string,
      ]);
      await proxy.set('pass');
      await untilState(config, 'ok', 0);
      expect((await ask('sync', '-wait', '-config', config, rig.database)).code).toBe(0);
      // One that takes everything and says nothing fails no request for a long time.
      await proxy.set('stall');
      await app.exec('INSERT INTO t VALUES (2)');
      expect((await untilState(config, 'lagging', 1)).stderr).toContain('the store takes nothing');
      await proxy.set('pass');
      await proxy.set('dead');
      await proxy.set('pass');
      await untilState(config, 'ok', 0);
      await proxy.set('dead');
      await app.exec('INSERT INTO t VALUES (3)');
      await untilState(config, 'failing', 1);
      expect((await litestream.stop()).code).toBe(1);
      expect((await untilState(config, 'unstored', 1)).stderr).toContain(
        'not all is stored: replica s3: wal from',
      );
    });
  });
});

describe('a reader that never ends', () => {
  it('makes it ill when the wal grows, and names the process', async () => {
    await withRig(async (rig) => {
      const app = await withApplication(rig);
      const reader = await rig.application();
      const options = { database: ['min-checkpoint-page-count: 10', 'max-checkpoint-page-count: 100'] };
      const config = await rig.config(options);
      await rig.replicate(options);
      await untilState(config, 'ok', 0);
      await app.exec('INSERT INTO t VALUES (randomblob(20000))');
      await reader.exec('BEGIN');
      await reader.all('SELECT count(*) FROM t');
      for (let i = 0; i < 10; i++) await app.exec('INSERT INTO t VALUES (randomblob(100000))');
      const { stderr } = await untilState(config, 'blocked', 1);
      expect(stderr).toMatch(/the wal grows and cannot be started over: .*; end the transaction/);
      const ill = await status(config, 1);
      expect(ill.walPin?.backlogFrames).toBeGreaterThan(100);
      // The backup itself is whole all the time.
      expect(ill.replicas[0]).toMatchObject({ state: 'ok', lagMs: 0 });
      if (process.platform === 'linux') expect(ill.walPin?.pids).toEqual([reader.pid]);
      await reader.exec('COMMIT');
      await untilState(config, 'ok', 0);
      expect((await status(config, 0)).walPin).toBeNull();
    });
  });
});

describe('a full disk under the meta directory', () => {
  it.skipIf(!ROOT_ON_LINUX)('makes it ill, and well again (needs root: mounts a tmpfs)', async () => {
    await withRig(async (rig) => {
      const disk = join(rig.dir, 'small');
      await fs.mkdir(disk);
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk]);
      try {
        const app = await withApplication(rig);
        const options = { database: [`meta-path: ${disk}/meta`] };
        const config = await rig.config(options);
        await rig.replicate(options);
        await untilState(config, 'ok', 0);
        await app.exec('INSERT INTO t VALUES (randomblob(3000000))');
        const { stderr } = await untilState(config, 'failing', 1);
        expect(stderr).toMatch(/no space left.*; free space on the disk of \S+\/meta/);
        const ill = await status(config, 1);
        expect([ill.state, ill.healthy, ill.reason]).toEqual([
          'failing',
          false,
          expect.stringContaining('no space left') as string,
        ]);
        await app.exec('DELETE FROM t');
        await until(async () => (await app.all('PRAGMA wal_checkpoint(TRUNCATE)'))[0]?.['busy'] === 0);
        await untilState(config, 'ok', 0);
      } finally {
        execFileSync('umount', ['-l', disk]);
      }
    });
  });
});

describe('a full disk of a file replica', () => {
  it.skipIf(!ROOT_ON_LINUX)('makes it ill, and well again (needs root: mounts a tmpfs)', async () => {
    await withRig(async (rig) => {
      await fs.mkdir(rig.replica);
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', rig.replica]);
      try {
        const app = await withApplication(rig);
        const config = await rig.config();
        const litestream = await rig.replicate();
        await untilState(config, 'ok', 0);
        await app.exec('INSERT INTO t VALUES (randomblob(3000000))');
        const { stderr } = await untilState(config, 'failing', 1);
        expect(stderr).toMatch(/replica file: .*no space left.*; free space for \S+replica/);
        const [replica] = (await status(config, 1)).replicas;
        expect(replica).toMatchObject({ state: 'failing', healthy: false });
        expect(replica?.lastError?.message).toContain('no space left');
        expect(replica?.lagMs).toBeGreaterThan(0);
        execFileSync('mount', ['-o', 'remount,size=64m', rig.replica]);
        await untilState(config, 'ok', 0);
        expect((await ask('sync', '-wait', '-config', config)).code).toBe(0);
        expect((await status(config, 0)).replicas[0]).toMatchObject({ state: 'ok', lagMs: 0 });
        expect((await litestream.stop()).code).toBe(0);
      } finally {
        execFileSync('umount', ['-l', rig.replica]);
      }
    });
  });
});

describe('the control socket', () => {
  it.skipIf(!ROOT_ON_LINUX)('of another user is not asked: the replica is (needs root)', async () => {
    await withTempDir(async (dir) => {
      // The other user may see the config, the database and the replica, but not the meta directory.
      await fs.chmod(dir, 0o755);
      const nobody = async (...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> => {
        const options = { uid: 65534, gid: 65534, cwd: '/', env: { PATH: process.env['PATH'] } };
        try {
          const result = await promisify(execFile)(process.execPath, [LITESTREAM, ...args], options);
          return { code: 0, ...result };
        } catch (error) {
          return error as { code: number; stdout: string; stderr: string };
        }
      };
      const rig = new Rig(dir);
      try {
        const app = await withApplication(rig);
        await fs.chmod(rig.database, 0o644);
        const config = await rig.config();
        const litestream = await rig.replicate();
        await untilState(config, 'ok', 0);
        execFileSync('chmod', ['-R', 'a+rX', rig.replica]);
        const other = await nobody('status', '-json', '-config', config);
        expect(other.code, other.stderr).toBe(0);
        expect(JSON.parse(other.stdout)).toMatchObject({
          running: true,
          databases: [
            {
              state: 'unknown',
              source: 'replica',
              reason: expect.stringMatching(/not permitted: .*; its replicas are up to date/) as string,
            },
          ],
        });
        expect((await nobody('databases', '-config', config)).code).toBe(0);
        const sync = await nobody('sync', '-config', config);
        expect([sync.code, sync.stdout]).toEqual([1, expect.stringContaining('permission denied') as string]);
        // What is committed and not stored shows.
        litestream.signal('SIGSTOP');
        await app.exec('INSERT INTO t VALUES (1)');
        await until(async () => (await nobody('databases', '-config', config)).code === 1);
        litestream.signal('SIGCONT');
      } finally {
        await rig.end();
      }
    });
  });

  it('is elsewhere when its path would be too long, and only for its user', async () => {
    await withTempDir(async (dir) => {
      const deep = join(dir, 'd'.repeat(100));
      await fs.mkdir(deep);
      const rig = new Rig(deep);
      try {
        await withApplication(rig);
        const config = await rig.config();
        await rig.replicate({ env: { XDG_RUNTIME_DIR: '' } });
        await untilState(config, 'ok', 0);
        const record = JSON.parse(await fs.readFile(join(rig.metaDir, 'replicate.json'), 'utf8')) as {
          socket: string;
        };
        expect(Buffer.byteLength(record.socket)).toBeLessThanOrEqual(107);
        expect((await fs.stat(record.socket)).mode & 0o777).toBe(0o600);
        expect((await fs.stat(join(record.socket, '..'))).mode & 0o077).toBe(0);
        expect((await ask('status', '-socket', record.socket)).code).toBe(0);
      } finally {
        await rig.end();
      }
    });
  });

  it('has the path and the permissions that the config says', async () => {
    await withRig(async (rig) => {
      await withApplication(rig);
      const path = join(rig.dir, 'run', 's.sock');
      const options = { global: [`socket: {path: ${path}, permissions: 0660}`] };
      const config = await rig.config(options);
      const litestream = await rig.replicate(options);
      await untilState(config, 'ok', 0);
      expect((await fs.stat(path)).mode & 0o777).toBe(0o660);
      expect((await ask('status', '-socket', path, rig.database)).code).toBe(0);
      await litestream.kill();
      expect((await ask('status', '-socket', path)).code).toBe(2);
      const second = await rig.replicate(options);
      await untilState(config, 'ok', 0);
      expect((await second.stop()).code).toBe(0);
      await expect(fs.stat(path)).rejects.toThrow('ENOENT');
      const without = { global: ['socket: {enabled: false}'] };
      const silent = await rig.config(without);
      await rig.replicate(without);
      await untilState(silent, 'unknown', 0);
      expect((await ask('sync', '-config', silent)).stdout).toContain('has no control socket');
    });
  });
});

describe('heartbeat-url', () => {
  it('is asked for only while everything is stored, and is never shown', async () => {
    const paths: string[] = [];
    let answer = 200;
    const service = createServer((request, response) => {
      paths.push(`${request.url ?? ''} ${request.headers.authorization ?? ''}`);
      response.writeHead(answer).end();
    });
    await new Promise<void>((resolve) => service.listen(0, '127.0.0.1', resolve));
    closing.push(() => new Promise((resolve) => service.close(resolve)));
    const { port } = service.address() as AddressInfo;
    await withRig(async (rig) => {
      const app = await withApplication(rig);
      const global = [
        `heartbeat-url: http://u:pass@127.0.0.1:${port}/ping/token`,
        'heartbeat-interval: 20ms',
      ];
      // Nothing can be stored in a file.
      await fs.writeFile(rig.replica, '');
      const config = await rig.config({ global });
      const litestream = await rig.replicate({ global });
      await untilState(config, 'failing', 1);
      expect(paths).toEqual([]);
      await fs.rm(rig.replica);
      await until(() => paths.length > 3);
      expect(new Set(paths)).toEqual(new Set([`/ping/token Basic ${btoa('u:pass')}`]));
      answer = 500;
      const said = await litestream.waitForLine(/heartbeat failed/);
      expect(said).toContain(`127.0.0.1:${port} answers 500`);
      answer = 200;
      await litestream.waitForLine(/heartbeat works again/);
      await app.close();
      expect((await litestream.stop()).code).toBe(0);
      const log = litestream.lines.join('\n');
      expect(log.match(/heartbeat failed/g)).toHaveLength(1);
      expect(log).not.toMatch(/token|pass@/);
    });
  });
});
