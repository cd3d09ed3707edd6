/** The restore command around the engine: arguments, messages, exit codes; compared with v0.3.13 where meant to be equal. */

import { mkdtempSync, promises as fs, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startLitestream, until, withTempDir } from '../support/process.ts';
import { S3Server } from '../support/s3-server.ts';
import { makeFixture, runOracle, runOurs } from './compare.ts';
import type { Output } from './compare.ts';

const dir = realpathSync(mkdtempSync(join(tmpdir(), 'litestream-cmd-')));
const url = `file://${dir}/rep`;
const cwd = dir;

beforeAll(() => makeFixture(dir));
afterAll(() => fs.rm(dir, { recursive: true }));

/** Runs both with `OUT` standing for an output path of their own, which is equal in what they print. */
async function both(
  args: readonly string[],
  prepare: (out: string) => Promise<void> = () => Promise.resolve(),
) {
  return withTempDir(async (temp) => {
    const out = join(temp, 'out');
    const run = async (
      command: typeof runOurs,
    ): Promise<Output & { files: string[]; bytes: Buffer | undefined }> => {
      await fs.rm(temp, { recursive: true });
      await fs.mkdir(temp);
      await prepare(out);
      const output = await command(
        args.map((arg) => arg.replace('OUT', out)),
        { cwd },
      );
      const files = await fs.readdir(temp);
      return { ...output, files, bytes: files.includes('out') ? await fs.readFile(out) : undefined };
    };
    return { theirs: await run(runOracle), ours: await run(runOurs) };
  });
}

describe('the same as v0.3.13', () => {
  test.each([
    [['restore', '-o', 'OUT', url]],
    [['restore', '-config', 'litestream.yml', '-replica', 'two', '-o', 'OUT', 'a.db']],
    [['restore', '-timestamp', '2000-01-01T00:00:00Z', '-o', 'OUT', url]],
    [['restore', '-timestamp', '2000-01-01T00:00:00Z', '-if-replica-exists', '-o', 'OUT', url]],
    [['restore', '-generation', '0123456789abcdef', '-o', 'OUT', url]],
    [['restore', '-o', 'OUT', `file://${dir}/nowhere`]],
    [['restore', '-if-replica-exists', '-o', 'OUT', `file://${dir}/nowhere`]],
    [['restore', '-config', 'litestream.yml', '-o', 'OUT', 'b.db']],
    [['restore', '-config', 'litestream.yml', '-if-replica-exists', '-o', 'OUT', 'b.db']],
    [['restore', '-config', 'litestream.yml', '-o', 'OUT', 'zzz.db']],
    [['restore', '-config', 'litestream.yml', 'a.db']],
    [['restore', '-config', 'litestream.yml', '-if-db-not-exists', 'a.db']],
  ])('%j', async (args) => {
    const { ours, theirs } = await both(args);
    const channels = ({ code, stdout, stderr }: Output): unknown => ({
      code,
      stdout: sortedWalLines(withoutDigits(withoutRemedy(stdout))),
      // Ours goes on with what there is instead.
      stderr: sortedWalLines(
        withoutDigits(stderr).replace(/(error="no matching backups found)(?::| for) [^"]*/, '$1'),
      ),
    });
    expect(channels(ours)).toEqual(channels(theirs));
    expect(ours.bytes).toEqual(theirs.bytes);
    expect(ours.files).toEqual(theirs.files.filter((file) => !/\.tmp-/.test(file)));
  });

  test('WAL without a snapshot is no reason to begin with an empty database', async () => {
    await withTempDir(async (temp) => {
      await fs.cp(join(dir, 'rep'), join(temp, 'rep'), { recursive: true });
      for (const name of await fs.readdir(join(temp, 'rep', 'generations')))
        await fs.rm(join(temp, 'rep', 'generations', name, 'snapshots'), { recursive: true });
      const url = `file://${temp}/rep`;
      const { ours, theirs } = await both(['restore', '-if-replica-exists', '-o', 'OUT', url]);
      expect([ours.code, theirs.code]).toEqual([1, 1]);
      expect(ours.stderr).toMatch(
        /missing snapshot generations\/\S+: WAL was stored until .*to begin with a new/,
      );
      expect(ours.files).toEqual([]);
    });
  });

  test('an output that is there', async () => {
    const there = (out: string): Promise<void> => fs.writeFile(out, 'mine');
    for (const extra of [[], ['-if-db-not-exists'], ['-if-replica-exists']]) {
      const { ours, theirs } = await both(['restore', ...extra, '-o', 'OUT', url], there);
      expect({ ...ours, stderr: withoutRemedy(ours.stderr) }).toEqual(theirs);
      expect(ours.bytes?.toString()).toBe('mine');
    }
  });
});

/** Ours says what to do about an output that is there. */
function withoutRemedy(text: string): string {
  return text.replace(': -force replaces it, -o PATH restores to another file', '');
}

/** Ours writes a file that is nobody else's, whatever its name. */
function withoutDigits(text: string): string {
  return text.replace(/\.restore-[0-9a-f]{16}\.tmp/g, '.tmp');
}

/** Indexes are downloaded in parallel there: the lines about them come in any order. */
function sortedWalLines(text: string): string[] {
  const lines = text.split('\n');
  const isWal = (line: string): boolean => /(downloaded|applied) wal/.test(line);
  return [...lines.filter((line) => !isWal(line)), ...lines.filter(isWal).sort()];
}

describe('ours alone', () => {
  test('an unknown replica is no backup, but named', async () => {
    const { ours, theirs } = await both([
      'restore',
      '-config',
      'litestream.yml',
      '-replica',
      'zzz',
      '-o',
      'OUT',
      'a.db',
    ]);
    expect([ours.code, theirs.code]).toEqual([1, 1]);
    expect(ours.stdout).toBe(
      `time=TIME level=WARN msg="replica \\"zzz\\" not found for database \\"${dir}/a.db\\""\n${theirs.stdout}`,
    );
  });

  test('a time after the last change gives the latest state', async () => {
    const { ours, theirs } = await both(['restore', '-timestamp', '2999-01-01T00:00:00Z', '-o', 'OUT', url]);
    expect([ours.code, theirs.code]).toEqual([0, 1]);
    expect(ours.bytes).toEqual((await both(['restore', '-o', 'OUT', url])).theirs.bytes);
  });

  test('an index beyond the last is an error that names it in hexadecimal and decimal', async () => {
    const { ours, theirs } = await both(['restore', '-index', 'ff', '-o', 'OUT', url]);
    expect([ours.code, theirs.code, ours.files]).toEqual([1, 0, []]);
    expect(ours.stderr).toMatch(/ff\b.*255/);
  });

  test('a database by its name alone, from another folder', async () => {
    await withTempDir(async (elsewhere) => {
      const args = ['restore', '-config', join(dir, 'absolute.yml'), '-o', join(elsewhere, 'out'), 'a.db'];
      const config = await fs.readFile(join(dir, 'litestream.yml'), 'utf8');
      await fs.writeFile(join(dir, 'absolute.yml'), config.replaceAll('path: a.db', `path: ${dir}/a.db`));
      const { code, stdout } = await runOurs(args, { cwd: elsewhere });
      expect(code).toBe(0);
      expect(stdout.split('\n')[0]).toContain(`using ${dir}/a.db`);
    });
  });

  test('left-over files of an older database are refused, or set aside with -force', async () => {
    const leftOver = async (out: string): Promise<void> => {
      await fs.writeFile(`${out}-wal`, 'old');
    };
    const refused = (await both(['restore', '-o', 'OUT', url], leftOver)).ours;
    expect([refused.code, refused.files]).toEqual([1, ['out-wal']]);
    expect(refused.stderr).toMatch(/out-wal.*-force/);
    const forced = (await both(['restore', '-force', '-o', 'OUT', url], leftOver)).ours;
    expect(forced.code).toBe(0);
    expect(forced.files).toEqual(['out', expect.stringMatching(/^out-wal\..+/)]);
  });

  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s leaves nothing behind', async (signal, code) => {
    const server = await S3Server.start();
    try {
      for (const file of await fs.readdir(join(dir, 'rep'), { recursive: true })) {
        if (file.endsWith('.lz4'))
          server.bucket().put(`p/${file}`, await fs.readFile(join(dir, 'rep', file)));
      }
      const segments = (): number => server.requests.filter(({ key }) => key.endsWith('.wal.lz4')).length;
      server.onRequest = ({ key }) => (key.endsWith('.wal.lz4') ? 'stall' : 'pass');
      await withTempDir(async (temp) => {
        const config = join(temp, 'litestream.yml');
        const { accessKeyId, secretAccessKey } = server.credentials;
        const store = `type: s3, bucket: bucket, path: p, endpoint: "${server.endpoint}"`;
        const keys = `access-key-id: "${accessKeyId}", secret-access-key: "${secretAccessKey}"`;
        await fs.writeFile(
          config,
          `dbs:\n  - path: ${temp}/db\n    replicas:\n      - {${store}, ${keys}}\n`,
        );
        const restoring = startLitestream({
          binary: 'ours',
          args: ['restore', '-config', config, join(temp, 'db')],
        });
        await until(() => segments() > 0);
        restoring.signal(signal);
        expect(await restoring.exited).toEqual({ code, signal: null });
        expect(restoring.lines.at(-1)).toContain('restore interrupted');
        expect(await fs.readdir(temp)).toEqual(['litestream.yml']);
      });
    } finally {
      await server.close();
    }
  });
});
