/** What a wrong command line says, compared with v0.3.13 wherever it is meant to be equal; help; the launcher. */

import { execFile } from 'node:child_process';
import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { parseTimestamp } from '../../src/cmd/timestamp.ts';
import { withTempDir } from '../support/process.ts';
import { runOracle, runOurs } from './compare.ts';

const COMMANDS = [
  'databases',
  'doctor',
  'generations',
  'init',
  'replicate',
  'restore',
  'snapshots',
  'status',
  'sync',
  'version',
  'wal',
];
const BIN = fileURLToPath(new URL('../../bin/', import.meta.url));

describe('the same as v0.3.13', () => {
  test.each([
    [['foo']],
    [['databases', 'x']],
    [['generations']],
    [['generations', '']],
    [['generations', 'a', 'b']],
    [['generations', '-config', 'x.yml', 'file:///x']],
    [['snapshots']],
    [['snapshots', 'a', 'b']],
    [['wal']],
    [['wal', '-config', 'x.yml', 'file:///x']],
    [['restore']],
    [['restore', '']],
    [['restore', 'a', 'b']],
    [['restore', 'file:///x']],
    [['restore', '-config', 'x.yml', '-o', 'x', 'file:///x']],
    [['replicate', 'a.db']],
    [['replicate', '-config', 'x.yml', 'a.db']],
    [['replicate', '-config', 'x.yml', 'a.db', 'file:///x']],
    [['replicate', '-config', '/nowhere.yml']],
    [['databases', '-config', '/nowhere.yml']],
  ])('litestream %j', async (args) => {
    const theirs = await runOracle(args);
    expect(theirs.code).toBe(1);
    expect(await runOurs(args)).toEqual(theirs);
  });
});

test.each(['2000-01-01', '2000-01-01T00:00:00+0200Z'])(
  'a time like %s is refused in its words, and every form that is taken is shown',
  async (time) => {
    const args = ['restore', '-timestamp', time, '-o', 'x', 'file:///x'];
    const [ours, theirs] = [await runOurs(args), await runOracle(args)];
    expect(ours).toMatchObject({ code: theirs.code, stdout: theirs.stdout });
    expect(ours.stderr).toBe(
      theirs.stderr.replace(
        /"\n$/,
        " or as 2000-01-01T02:00:00.5+02:00, '2000-01-01 02:00:00' in local time, or '2h30m ago'\"\n",
      ),
    );
    for (const form of ["'2000-01-01 02:00:00'", "'2h30m ago'", '2000-01-01T02:00:00.5+02:00']) {
      expect(() => parseTimestamp(form.replaceAll("'", ''))).not.toThrow();
      expect(ours.stderr).toContain(form);
    }
  },
);

test.each([
  'databases',
  'generations a.db',
  'snapshots a.db',
  'wal a.db',
  'timeline a.db',
  'retention a.db',
  'restore a.db',
  'restore -all',
  'verify',
  'sync',
  'status',
  'replicate',
  'dashboard',
])('%s shows the misspelt key beside what is missing for it', async (line) => {
  await withTempDir(async (cwd) => {
    const config =
      'logging: {stderr: true}\ndbs:\n  - path: a.db\n    replicas:\n      - {type: s3, buket: b, path: p}\n';
    await fs.writeFile(join(cwd, 'litestream.yml'), config);
    const env = { LITESTREAM_CONFIG: 'litestream.yml' };
    const { code, stderr } = await runOurs(line.split(' '), { cwd, env });
    expect(code).toBe(1);
    const at = `${cwd}/litestream.yml:5:20`;
    expect(stderr).toContain(
      `level=WARN msg="unknown key \\"buket\\" is ignored: did you mean \\"bucket\\"?" at=${at}\n` +
        `        - {type: s3, buket: b, path: p}\n${' '.repeat(21)}^\n`,
    );
    expect(stderr).toContain('bucket required for s3 replica');
  });
});

test('without a config file every place that was looked at is named, and how to name one', async () => {
  await withTempDir(async (cwd) => {
    const { stderr } = await runOurs(['databases'], { cwd });
    expect(stderr).toBe(
      `DATE TIME ERROR failed to run error="config file not found: /etc/litestream.yml, nor ` +
        `${cwd}/config/litestream.yml or ${cwd}/litestream.yml: name another one with -config PATH or LITESTREAM_CONFIG"\n`,
    );
    const named = await runOurs(['databases'], { cwd, env: { LITESTREAM_CONFIG: '/nowhere.yml' } });
    expect(named.stderr).toContain('config file not found: /nowhere.yml, which LITESTREAM_CONFIG names');
  });
});

test('index and timestamp exclude each other', async () => {
  const args = ['restore', '-index', '1', '-timestamp', '2000-01-01T00:00:00Z', '-o', 'x', 'file:///x'];
  expect(await runOurs(args)).toEqual({
    code: 1,
    stdout: '',
    stderr: 'DATE TIME ERROR failed to run error="cannot specify index & timestamp to restore"\n',
  });
});

test('replicating to two replicas of one name is refused as there', async () => {
  await withTempDir(async (dir) => {
    const args = ['replicate', join(dir, 'a.db'), `file://${dir}/x`, `file://${dir}/y`];
    const ours = await runOurs(args);
    expect(ours.code).toBe(1);
    expect(ours.stderr).toMatch(/^DATE TIME INFO litestream version=v\S+\n/);
    expect(ours.stderr.split('\n')[1]).toBe(
      'DATE TIME ERROR failed to run error="duplicate replica name: \\"file\\""',
    );
  });
});

describe('flags', () => {
  test.each([
    ['restore', '-nope', 'flag provided but not defined: -nope'],
    ['version', '-x', 'flag provided but not defined: -x'],
    ['restore', '-v', 'flag provided but not defined: -v'],
    ['wal', '-config', 'flag needs an argument: -config'],
    ['databases', '-no-expand-env=2', 'invalid boolean value "2" for -no-expand-env: parse error'],
  ])('%s %s', async (command, flag, message) => {
    const { code, stdout, stderr } = await runOurs([command, flag]);
    const theirs = await runOracle([command, flag]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    const lines = stderr.trimEnd().split('\n');
    expect(lines[0]).toBe(message);
    expect(stderr).toContain(`\n  litestream ${command}`);
    // First and last line are v0.3.13's.
    expect([lines[0], lines.at(-1)]).toEqual(theirs.stderr.trimEnd().split('\n'));
  });

  test('before the command', async () => {
    const { code, stdout, stderr } = await runOurs(['-config', 'x', 'replicate']);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/ERROR failed to run error="-config: flags stand after the command"\n$/);
  });
});

describe('help', () => {
  test('without a command: the overview, as an error', async () => {
    const { code, stdout, stderr } = await runOurs([]);
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
    for (const command of COMMANDS) expect(stdout).toMatch(new RegExp(`^ {2}${command} `, 'm'));
  });

  test.each([['help'], ['-h'], ['--help'], ['-help']])('litestream %s', async (flag) => {
    const { code, stdout, stderr } = await runOurs([flag]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toBe((await runOurs([])).stdout);
  });

  test.each(COMMANDS)('of %s', async (command) => {
    const { code, stdout, stderr } = await runOurs([command, '-h']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain(`Usage:\n\n  litestream ${command}`);
    expect(await runOurs(['help', command])).toEqual({ code, stdout, stderr });
    // Every flag that v0.3.13 has and accepts is there.
    const theirs = (await runOracle([command, '-h'])).stdout;
    for (const [, flag = ''] of theirs.matchAll(/^\t(-[\w-]+)/gm)) {
      if (flag !== '-v') expect(stdout).toMatch(new RegExp(`^ {2}${flag}\\b`, 'm'));
    }
    for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
  });
});

describe('version', () => {
  test.each([['version'], ['-version'], ['--version']])('litestream %s', async (flag) => {
    const path = new URL('../../package.json', import.meta.url);
    const { version } = JSON.parse(await fs.readFile(path, 'utf8')) as { version: string };
    expect(await runOurs([flag])).toEqual({ code: 0, stdout: `v${version}\n`, stderr: '' });
  });

  test('further arguments are ignored', async () => {
    expect((await runOurs(['version', 'x', 'y'])).code).toBe(0);
  });
});

describe('the launcher', () => {
  const run = promisify(execFile);

  test('says so when it is not built', async () => {
    await withTempDir(async (dir) => {
      await fs.cp(BIN, join(dir, 'bin'), { recursive: true });
      await expect(run(process.execPath, [join(dir, 'bin/litestream'), 'version'])).rejects.toMatchObject({
        code: 1,
        stdout: '',
        stderr:
          'litestream: not built yet: run `npm run build` in the package folder (or `npm ci`, which does it)\n',
      });
    });
  });

  test.each([
    ['process.platform', "'win32'", /^litestream: win32-\w+ is not supported: .*\n$/],
    ['process.arch', "'ia32'", /^litestream: \w+-ia32 is not supported: .*\n$/],
    ['process.versions.node', "'18.20.0'", /^litestream: Node\.js 20 or newer is needed, .*\n$/],
  ])('refuses another %s', async (what, value, message) => {
    await withTempDir(async (dir) => {
      const [object, property] = [
        what.slice(0, what.lastIndexOf('.')),
        what.slice(what.lastIndexOf('.') + 1),
      ];
      const fake = join(dir, 'fake.cjs');
      await fs.writeFile(
        fake,
        `const o = { ...process.versions, node: ${value} };\n` +
          (property === 'node'
            ? "Object.defineProperty(process, 'versions', { value: o });\n"
            : `Object.defineProperty(${object}, '${property}', { value: ${value} });\n`),
      );
      await expect(
        run(process.execPath, ['--require', fake, join(BIN, 'litestream'), 'version']),
      ).rejects.toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(message) as string });
    });
  });

  test('can be called through a link, as npm installs it', async () => {
    await withTempDir(async (dir) => {
      await fs.symlink(join(BIN, 'litestream'), join(dir, 'litestream'));
      const { stdout } = await run(join(dir, 'litestream'), ['version']);
      expect(stdout).toMatch(/^v\d/);
    });
  });
});
