/** The replicate command around the engine: log lines, -exec, signals, the bounded shutdown. */

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { runLitestream, startLitestream, until, withTempDir } from '../support/process.ts';
import type { Binary, LitestreamProcess } from '../support/process.ts';
import { S3Server } from '../support/s3-server.ts';
import { withSqlite } from '../support/sqlite.ts';
import { runOracle, runOurs } from './compare.ts';

const execute = promisify(execFile);
const LITESTREAM = fileURLToPath(new URL('../../bin/litestream', import.meta.url));
const SQLITE = fileURLToPath(import.meta.resolve('better-sqlite3'));

interface Place {
  readonly dir: string;
  readonly database: string;
  readonly replica: string;
  readonly config: (global?: string, replica?: string) => Promise<string>;
}

/** A folder with a small database that an application keeps open. */
async function withPlace(body: (place: Place) => Promise<void>): Promise<void> {
  await withTempDir(async (dir) => {
    const [database, replica] = [join(dir, 'db'), join(dir, 'replica')];
    const config: Place['config'] = async (
      global = '',
      options = `{path: ${replica}, sync-interval: 20ms}`,
    ) => {
      const path = join(dir, 'litestream.yml');
      const entry = `  - path: ${database}\n    monitor-interval: 20ms\n    replicas:\n      - ${options}\n`;
      await fs.writeFile(path, `${global}\ndbs:\n${entry}`);
      return path;
    };
    await withSqlite({ path: database, pragmas: ['journal_mode=WAL'] }, async (sqlite) => {
      await sqlite.exec('CREATE TABLE t (x); INSERT INTO t VALUES (1)');
      await body({ dir, database, replica, config });
    });
  });
}

/** Runs `body` with a replicate process that is gone afterwards. */
async function withReplicate(
  args: readonly string[],
  body: (litestream: LitestreamProcess) => Promise<void>,
  binary: Binary = 'ours',
): Promise<void> {
  const litestream = startLitestream({ binary, args: ['replicate', ...args] });
  try {
    await body(litestream);
  } finally {
    await litestream.kill();
  }
}

/** A program for -exec that writes to the database when it is told to stop, or never stops. */
async function writeChild(dir: string, onTerm: string): Promise<string> {
  const path = join(dir, 'child.cjs');
  await fs.writeFile(
    path,
    `const db = new (require(${JSON.stringify(SQLITE)}))(${JSON.stringify(join(dir, 'db'))});
     const insert = (x) => db.prepare('INSERT INTO t VALUES (?)').run(x);
     process.on('SIGTERM', () => { ${onTerm} });
     setInterval(() => {}, 1000);
     console.log('child ready');`,
  );
  return `'${process.execPath}' '${path}'`;
}

async function restoredRows({ dir, replica }: Place): Promise<unknown[]> {
  const output = join(dir, 'restored');
  const { code, stderr } = await runLitestream({
    binary: 'oracle',
    args: ['restore', '-o', output, `file://${replica}`],
  });
  expect({ code, stderr }).toMatchObject({ code: 0 });
  return withSqlite({ path: output }, async (sqlite) => {
    const rows = await sqlite.all('SELECT x FROM t ORDER BY rowid');
    return rows.map(({ x }) => x);
  });
}

/** Lines of the command itself: those of the engine name their database. */
const ownLines = (lines: readonly string[]): string[] => lines.filter((line) => !line.includes(' db='));

const messages = (lines: readonly string[]): string[] =>
  lines.map((line) => line.replace(/^time=\S+ /, '').replace(/version=\S+/, 'version=V'));

describe('log', () => {
  test.each(['', 'logging: {type: json}'])('the first lines are those of v0.3.13 (%s)', async (global) => {
    await withPlace(async ({ config }) => {
      const firstLines = async (binary: Binary): Promise<string[]> => {
        let lines: string[] = [];
        await withReplicate(
          ['-config', await config(global)],
          async (litestream) => {
            await litestream.waitForLine(/replicating to/);
            lines = litestream.lines.filter((line) =>
              /msg"?[=:]"?(litestream|initialized|replicating)/.test(line),
            );
          },
          binary,
        );
        return lines.map((line) =>
          line
            .replace(/^time=\S+ /, '')
            .replace(/"time":"[^"]+"/, '')
            .replace(/v\d+\.\d+\.\d+/, 'V'),
        );
      };
      const ours = await firstLines('ours');
      expect(ours.length).toBe(3);
      expect(ours).toEqual(await firstLines('oracle'));
    });
  });

  test('an S3 replica is described as there', async () => {
    await withPlace(async ({ config }) => {
      const options =
        '{type: s3, bucket: b, path: p, endpoint: "http://127.0.0.1:9", access-key-id: a, secret-access-key: topsecret}';
      const line = async (binary: Binary): Promise<string> => {
        let found = '';
        await withReplicate(
          ['-config', await config('', options)],
          async (litestream) => {
            found = await litestream.waitForLine(/replicating to/);
            expect(litestream.lines.join()).not.toContain('topsecret');
          },
          binary,
        );
        return found.replace(/^time=\S+ /, '');
      };
      expect(await line('ours')).toBe(await line('oracle'));
    });
  });

  test('a lost reader does not end replication', async () => {
    await withPlace(async (place) => {
      const args = [LITESTREAM, 'replicate', '-config', await place.config()];
      const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
      const exited = once(child, 'exit');
      const listed = async (): Promise<boolean> =>
        (await runOurs(['wal', `file://${place.replica}`])).stdout.split('\n').length > 2;
      try {
        await until(listed);
        child.stdout.destroy();
        child.stderr.destroy();
        child.kill('SIGTERM');
        expect(await exited).toEqual([0, null]);
      } finally {
        child.kill('SIGKILL');
      }
    });
  });

  test('ps shows litestream replicate', async () => {
    await withPlace(async ({ config }) => {
      await withReplicate(['-config', await config()], async (litestream) => {
        await litestream.waitForLine(/replicating to/);
        const { stdout } = await execute('ps', ['-o', 'args=', '-p', String(litestream.pid)]);
        expect(stdout).toMatch(/^litestream replicate/);
      });
    });
  });

  test('ps shows no password of a URL', async () => {
    await withPlace(async ({ database, replica }) => {
      const child = `${process.execPath} -e "setInterval(Date, 1000)" s3://me:secret@host/x`;
      const args = [database, `file://${replica}`, '-exec', child];
      await withReplicate(args, async (litestream) => {
        await litestream.waitForLine(/replicating to/);
        const { stdout } = await execute('ps', ['-o', 'args=', '-p', String(litestream.pid)]);
        expect(stdout).toContain('s3://me:xxxxx@host/x');
        await litestream.stop();
      });
    });
  });
});

describe('arguments', () => {
  test('no databases: said, and waits', async () => {
    await withTempDir(async (dir) => {
      await fs.writeFile(join(dir, 'litestream.yml'), '');
      await withReplicate(['-config', join(dir, 'litestream.yml')], async (litestream) => {
        await litestream.waitForLine(/level=ERROR msg="no databases specified in configuration"/);
        litestream.signal('SIGTERM');
        expect(await litestream.exited).toEqual({ code: 0, signal: null });
        expect(messages(litestream.lines)).toEqual([
          'level=INFO msg=litestream version=V',
          'level=ERROR msg="no databases specified in configuration"',
          'level=INFO msg="signal received, litestream shutting down"',
          'level=INFO msg="litestream shut down"',
        ]);
      });
    });
  });

  test('an address without a port', async () => {
    await withPlace(async ({ config }) => {
      const { code, stdout } = await runOurs(['replicate', '-config', await config('addr: noport')]);
      expect(code).toBe(1);
      expect(stdout).toContain(
        'level=ERROR msg="failed to run" error="must specify port for bind address: \\"noport\\""\n',
      );
    });
  });

  test('metrics are served', async () => {
    await withPlace(async ({ config, database }) => {
      await withReplicate(['-config', await config('addr: "127.0.0.1:0"')], async (litestream) => {
        const line = await litestream.waitForLine(/serving metrics on/);
        const url = line.replace(/.*url=/, '');
        expect(await (await fetch(url)).text()).toContain(`litestream_db_size{db="${database}"}`);
      });
    });
  });

  test('a database that another process replicates', async () => {
    await withPlace(async ({ config }) => {
      await withReplicate(['-config', await config()], async (litestream) => {
        await litestream.waitForLine(/replicating to/);
        const { code, stdout } = await runOurs(['replicate', '-config', await config()]);
        expect(code).toBe(1);
        expect(stdout).toMatch(/level=ERROR msg="failed to run" error=/);
      });
    });
  });
});

describe('-exec', () => {
  test.each([
    ["sh -c 'exit 7'", 7, 'exit status 7'],
    ["sh -c 'kill -9 $$'", 137, 'signal: killed'],
    ['true', 0, undefined],
  ])('%s', async (command, code, error) => {
    await withPlace(async (place) => {
      const { database, replica } = place;
      const ours = await runOurs(['replicate', '-exec', command, database, `file://${replica}`]);
      expect(ours.code).toBe(code);
      const tail = [
        'DATE TIME INFO subprocess exited, litestream shutting down',
        'DATE TIME INFO litestream shut down',
        ...(error === undefined ? [] : [`DATE TIME ERROR failed to run error="${error}"`]),
      ];
      expect(ownLines(ours.stderr.trimEnd().split('\n')).slice(-tail.length)).toEqual(tail);
      expect(await restoredRows(place)).toEqual([1]);
    });
  });

  test.each(['/no/such/prog x', 'no-such-program', "sh -c 'unclosed", '/etc/passwd'])(
    '%s',
    async (command) => {
      await withPlace(async ({ database, replica }) => {
        const args = ['replicate', '-exec', command, database, `file://${replica}`];
        const [ours, theirs] = [await runOurs(args), await runOracle(args)];
        expect(ours.code).toBe(1);
        expect(ours.stderr.split('\n').at(-2)).toBe(theirs.stderr.split('\n').at(-2));
      });
    },
  );

  test('the output is shared, the environment inherited, the flag beats the config', async () => {
    await withPlace(async ({ config }) => {
      const args = [
        'replicate',
        '-config',
        await config('exec: "false"'),
        '-exec',
        `sh -c 'echo out "$WORD"; echo err >&2'`,
      ];
      const { code, stdout, stderr } = await runOurs(args, { env: { WORD: 'of env' } });
      expect(code).toBe(0);
      expect(stdout).toContain('\nout of env\n');
      expect(stderr).toBe('err\n');
    });
  });

  test('without a shell: what only a shell runs is named', async () => {
    await withPlace(async ({ config }) => {
      const { code, stdout } = await runOurs([
        'replicate',
        '-config',
        await config(),
        '-exec',
        'echo hi && echo there',
      ]);
      expect(code).toBe(0);
      expect(stdout).toMatch(/level=WARN msg="exec command runs without a shell.*ignored="&& echo there"\n/);
      expect(stdout).toMatch(/^hi$/m);
      expect(stdout).not.toMatch(/^hi.*there/m);
    });
  });

  test('a signal is passed on, and what the child writes at its end is stored', async () => {
    await withPlace(async (place) => {
      const child = await writeChild(place.dir, "insert('last words'); process.exit(0)");
      await withReplicate(['-config', await place.config(), '-exec', child], async (litestream) => {
        await litestream.waitForLine(/^child ready$/);
        litestream.signal('SIGTERM');
        expect(await litestream.exited).toEqual({ code: 0, signal: null });
        expect(ownLines(messages(litestream.lines)).slice(-4)).toEqual([
          'level=INFO msg="signal received, litestream shutting down"',
          'level=INFO msg="sending signal to exec process"',
          'level=INFO msg="waiting for exec process to close"',
          'level=INFO msg="litestream shut down"',
        ]);
      });
      expect(await restoredRows(place)).toEqual([1, 'last words']);
    });
  });

  test('a child that dies of the signal passed on is no failure', async () => {
    await withPlace(async (place) => {
      await withReplicate(['-config', await place.config(), '-exec', 'sleep 1000'], async (litestream) => {
        await litestream.waitForLine(/replicating to/);
        await until(async () =>
          (await execute('ps', ['-eo', 'ppid='])).stdout.split(/\s+/).includes(String(litestream.pid)),
        );
        litestream.signal('SIGTERM');
        expect(await litestream.exited).toEqual({ code: 0, signal: null });
      });
    });
  });

  test("a child's code after a signal is passed on, and its writes are stored", async () => {
    await withPlace(async (place) => {
      const child = await writeChild(place.dir, 'insert(2); process.exit(5)');
      await withReplicate(['-config', await place.config(), '-exec', child], async (litestream) => {
        await litestream.waitForLine(/^child ready$/);
        litestream.signal('SIGTERM');
        expect(await litestream.exited).toEqual({ code: 5, signal: null });
      });
      expect(await restoredRows(place)).toEqual([1, 2]);
    });
  });

  test('a child that does not stop is killed while there is time to store', async () => {
    await withPlace(async (place) => {
      const child = await writeChild(place.dir, "insert('stubborn')");
      await withReplicate(
        ['-config', await place.config('shutdown-timeout: 2s'), '-exec', child],
        async (litestream) => {
          await litestream.waitForLine(/^child ready$/);
          litestream.signal('SIGTERM');
          expect(await litestream.exited).toEqual({ code: 137, signal: null });
          expect(litestream.lines.join('\n')).toContain('exec process did not stop in time');
        },
      );
      expect(await restoredRows(place)).toEqual([1, 'stubborn']);
    });
  });

  test('a second signal ends it at once, and the child with it', async () => {
    await withPlace(async (place) => {
      const child = await writeChild(place.dir, '');
      await withReplicate(
        ['-config', await place.config('shutdown-timeout: 1h'), '-exec', child],
        async (litestream) => {
          await litestream.waitForLine(/^child ready$/);
          litestream.signal('SIGTERM');
          await litestream.waitForLine(/waiting for exec process/);
          litestream.signal('SIGTERM');
          expect(await litestream.exited).toEqual({ code: 1, signal: null });
          expect(litestream.lines.at(-1)).toContain('second signal received');
        },
      );
    });
  });
});

test('what cannot be stored is named at the end, with exit code 1', async () => {
  await withPlace(async ({ dir, database, config }) => {
    await fs.writeFile(join(dir, 'file'), '');
    const path = await config('shutdown-timeout: 2s', `{path: ${dir}/file/replica, sync-interval: 20ms}`);
    await withReplicate(['-config', path], async (litestream) => {
      await litestream.waitForLine(/replicating to/);
      litestream.signal('SIGTERM');
      expect(await litestream.exited).toEqual({ code: 1, signal: null });
      const errors = litestream.lines.filter((line) => line.includes('msg="last changes are not stored"'));
      expect(errors).toEqual([
        expect.stringContaining(
          `level=ERROR msg="last changes are not stored" db=${database} replica=file error=`,
        ),
      ]);
    });
  });
});

test('a store that never answers does not keep it from ending', async () => {
  const server = await S3Server.start();
  server.onRequest = () => 'stall';
  try {
    await withPlace(async ({ config }) => {
      const { accessKeyId, secretAccessKey } = server.credentials;
      const store = `type: s3, bucket: bucket, path: p, endpoint: "${server.endpoint}"`;
      const keys = `access-key-id: "${accessKeyId}", secret-access-key: "${secretAccessKey}"`;
      const path = await config('shutdown-timeout: 1s', `{${store}, ${keys}}`);
      await withReplicate(['-config', path], async (litestream) => {
        await until(() => server.requests.length > 0);
        litestream.signal('SIGTERM');
        expect(await litestream.exited).toEqual({ code: 1, signal: null });
        expect(litestream.lines.join('\n')).toMatch(
          /level=ERROR msg=.*the last changes|level=ERROR msg="last changes/,
        );
        expect(litestream.lines.join('\n')).not.toContain(secretAccessKey);
      });
    });
  } finally {
    await server.close();
  }
});

test('without the native part of better-sqlite3: one message with the remedies', async () => {
  await withPlace(async ({ dir, config }) => {
    const fake = join(dir, 'fake.cjs');
    await fs.writeFile(
      fake,
      `const load = process.dlopen;
       process.dlopen = (module, file, ...rest) => {
         if (file.includes('better_sqlite3')) throw new Error(file + ': invalid ELF header');
         return load(module, file, ...rest);
       };`,
    );
    const args = ['--require', fake, LITESTREAM, 'replicate', '-config', await config()];
    // Also where node:sqlite would do.
    const env = { ...process.env, LITESTREAM_SQLITE: 'better-sqlite3' };
    const failure = (await execute(process.execPath, args, { env }).catch((error: unknown) => error)) as {
      code: number;
      stdout: string;
      stderr: string;
    };
    expect(failure).toMatchObject({ code: 1, stderr: '' });
    const [last = ''] = messages(failure.stdout.trimEnd().split('\n')).slice(-1);
    expect(last).toMatch(/^level=ERROR msg="failed to run" error=/);
    for (const remedy of ['a newer Node.js', '`npm install better-sqlite3`']) expect(last).toContain(remedy);
  });
});
