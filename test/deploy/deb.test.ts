/** The Debian package: installed into a folder by dpkg itself, its service run as the unit has it. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, promises as fs } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { until } from '../support/process.ts';
import { BUILD_TIMEOUT_MS, ROOT, buildOptFolder, hasProgram, run, type Ran } from './opt-folder.ts';

let dir: string;
let missing: string | undefined;
let packagePath: string;
/** The machine that it is installed on. */
let machine: string;

beforeAll(async () => {
  dir = await fs.realpath(await fs.mkdtemp(join(tmpdir(), 'litestream-deb-')));
  missing = !(await hasProgram('dpkg-deb'))
    ? 'no dpkg-deb'
    : process.getuid?.() !== 0
      ? 'dpkg --root needs root'
      : undefined;
  if (missing !== undefined) return;
  packagePath = await buildPackage(await buildOptFolder(dir));
  machine = join(dir, 'machine');
  await fs.mkdir(join(machine, 'var/lib/dpkg'), { recursive: true });
  await fs.writeFile(join(machine, 'var/lib/dpkg/status'), '');
}, BUILD_TIMEOUT_MS);

afterAll(async () => {
  await fs.rm(dir, { recursive: true, force: true });
});

beforeEach((test) => {
  test.skip(missing !== undefined, missing);
});

async function buildPackage(opt: string): Promise<string> {
  const { code, stdout, stderr } = await run(join(ROOT, 'etc/deb/build'), [opt, dir]);
  if (code !== 0) throw new Error(stderr);
  return stdout.trim();
}

/** A package of the same shape that is quickly installed: dpkg takes its time with thousands of files. */
async function smallPackage(version: string): Promise<string> {
  const opt = join(dir, `small-${version}`);
  await fs.mkdir(join(opt, 'bin'), { recursive: true });
  await fs.writeFile(join(opt, 'bin/litestream'), `#!/bin/sh\necho v${version}\n`, { mode: 0o755 });
  return await buildPackage(opt);
}

/** Scripts of the package see DPKG_ROOT, as in an image that is put together. */
function dpkg(...args: string[]): Promise<Ran> {
  return run('dpkg', [`--root=${machine}`, '--force-script-chrootless,depends,confold,unsafe-io', ...args]);
}

describe('the package', () => {
  it('says what it is, and has the unit, the command and a config file of the administrator', async () => {
    const field = async (name: string): Promise<string> =>
      (await run('dpkg-deb', ['-f', packagePath, name])).stdout.trim();
    expect(await field('Package')).toBe('litestream-ts');
    expect(await field('Provides')).toBe('litestream');
    expect(packagePath).toContain(
      `litestream-ts_${await field('Version')}_${await field('Architecture')}.deb`,
    );
    const { stdout } = await run('dpkg-deb', ['-c', packagePath], { maxBuffer: 2 ** 26 });
    const files = stdout.split('\n').map((line) => line.replace(/^(\S+) (\S+) .*?\d\d:\d\d \./, '$1 $2 '));
    for (const file of [
      '-rw-r--r-- root/root /etc/litestream.yml',
      '-rw-r--r-- root/root /lib/systemd/system/litestream.service',
      'lrwxrwxrwx root/root /usr/bin/litestream -> ../lib/litestream/bin/litestream',
      '-rwxr-xr-x root/root /usr/lib/litestream/libexec/node',
    ]) {
      expect(files).toContain(file);
    }
    expect(files.filter((line) => /^[^l].......w/.test(line))).toEqual([]);
  });

  it('keeps an edited config when a newer one comes and when it goes, and takes it away when purged', async () => {
    const installed = await dpkg('-i', await smallPackage('0.0.1'));
    expect(installed.code, installed.stderr).toBe(0);
    const command = join(machine, 'usr/bin/litestream');
    expect((await run(command, ['version'])).stdout).toBe('v0.0.1\n');
    const config = join(machine, 'etc/litestream.yml');
    await fs.writeFile(config, 'dbs: []\n');
    const upgraded = await dpkg('-i', await smallPackage('0.0.2'));
    expect(upgraded.code, upgraded.stderr).toBe(0);
    expect((await run(command, ['version'])).stdout).toBe('v0.0.2\n');
    expect(await fs.readFile(config, 'utf8')).toBe('dbs: []\n');
    expect((await dpkg('-r', 'litestream-ts')).code).toBe(0);
    expect(await fs.readFile(config, 'utf8')).toBe('dbs: []\n');
    await expect(fs.access(command)).rejects.toThrow();
    expect((await dpkg('-P', 'litestream-ts')).code).toBe(0);
    await expect(fs.access(config)).rejects.toThrow();
  });
});

describe('the unit', () => {
  it.each([
    ['as it is installed', undefined],
    ['empty', ''],
    ['with an empty list', 'dbs:\n'],
  ])('waits with a config %s instead of failing over and over', async (_, text) => {
    const unpacked = join(dir, 'unpacked');
    if (!existsSync(unpacked)) await run('dpkg-deb', ['-x', packagePath, unpacked]);
    const config = join(unpacked, 'etc/litestream.yml');
    if (text !== undefined) await fs.writeFile(config, text);
    const unit = await fs.readFile(join(unpacked, 'lib/systemd/system/litestream.service'), 'utf8');
    const words = /^ExecStart=(.+)$/m.exec(unit)?.[1]?.split(' ') ?? [];
    expect(words).toEqual(['/usr/bin/litestream', 'replicate']);
    const child = spawn(join(unpacked, words[0] ?? ''), words.slice(1), {
      env: { PATH: process.env['PATH'], LITESTREAM_CONFIG: config },
    });
    const exited = once(child, 'exit');
    let log = '';
    child.stdout.on('data', (chunk: Buffer) => (log += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()));
    try {
      await until(() => log.includes('no databases specified in configuration'), { describe: () => log });
      expect(child.exitCode).toBeNull();
    } finally {
      child.kill('SIGTERM');
    }
    expect(await exited, log).toEqual([0, null]);
  });

  it('is one that systemd understands', async (test) => {
    test.skip(!(await hasProgram('systemd-analyze')), 'no systemd-analyze');
    const text = await fs.readFile(join(ROOT, 'etc/systemd/litestream.service'), 'utf8');
    const path = join(dir, 'litestream.service');
    // It complains of programs that are not on this machine.
    await fs.writeFile(path, text.replace('/usr/bin/litestream', '/bin/true'));
    expect(await run('systemd-analyze', ['verify', '--man=no', path])).toEqual({
      code: 0,
      stdout: '',
      stderr: '',
    });
    await fs.writeFile(
      path,
      text.replace('TimeoutStopSec', 'TimeoutSotpSec').replace('/usr/bin/litestream', '/bin/true'),
    );
    expect((await run('systemd-analyze', ['verify', '--man=no', path])).stderr).toContain('TimeoutSotpSec');
  });

  it('has an override for the rights of the application alone, which systemd understands', async (test) => {
    test.skip(!(await hasProgram('systemd-analyze')), 'no systemd-analyze');
    const [unit, override] = await Promise.all(
      ['litestream.service', 'hardened.conf'].map((name) =>
        fs.readFile(join(ROOT, 'etc/systemd', name), 'utf8'),
      ),
    );
    const path = join(dir, 'hardened.service');
    const dropIn = join(dir, 'hardened.service.d');
    await fs.mkdir(dropIn);
    await fs.writeFile(path, (unit ?? '').replace('/usr/bin/litestream', '/bin/true'));
    await fs.writeFile(join(dropIn, 'hardened.conf'), override ?? '');
    const verify = () => run('systemd-analyze', ['verify', '--man=no', path]);
    expect(await verify()).toEqual({ code: 0, stdout: '', stderr: '' });
    await fs.writeFile(
      join(dropIn, 'hardened.conf'),
      (override ?? '').replace('ReadWritePaths', 'ReadWritePath'),
    );
    expect((await verify()).stderr).toContain('ReadWritePath');
  });

  it('takes no right that root needs to follow databases of other users', async () => {
    const text = await fs.readFile(join(ROOT, 'etc/systemd/litestream.service'), 'utf8');
    for (const setting of [
      'ProtectSystem',
      'ProtectHome',
      'PrivateTmp',
      'ProtectProc',
      'ProcSubset',
      'UMask',
    ])
      expect(text).not.toContain(setting);
    const dropped = [...text.matchAll(/^CapabilityBoundingSet=~(.+)$/gm)].flatMap(([, names]) =>
      names?.split(' '),
    );
    for (const name of ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'SYS_PTRACE', 'SYS_RESOURCE', 'SETUID', 'KILL'])
      expect(dropped).not.toContain(`CAP_${name}`);
  });

  it('gives the last changes more time than shutdown-timeout', async () => {
    const text = await fs.readFile(join(ROOT, 'etc/systemd/litestream.service'), 'utf8');
    expect(Number(/^TimeoutStopSec=(\d+)$/m.exec(text)?.[1])).toBeGreaterThan(8 * 2);
  });
});
