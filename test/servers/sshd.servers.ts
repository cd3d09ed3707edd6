/** The SFTP driver and OpenSSH. */

import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { openSftpStore } from '../../src/storage/sftp/sftp-store.ts';
import type { SftpStoreConfig } from '../../src/storage/store-config.ts';
import { ODD_PATH, describeStore, getBytes, readAll } from '../storage/contract.ts';
import { describeReplication } from './replication.ts';
import { runLitestream } from '../support/process.ts';
import { withRig } from '../support/process-rig.ts';
import { complaintsOf, expectReads } from '../support/rights.ts';
import type { StoreKey } from '../support/rights.ts';
import { describeServer } from './servers.ts';
import { startSshd } from './sshd.ts';

const run = promisify(execFile);

describeServer('sshd', (sshd) => {
  const { host, port, user, keyPath, folder } = sshd;

  const open = (
    path: string,
    changes: Partial<SftpStoreConfig> = {},
    timeouts?: { connectMs: number; idleMs: number },
  ): ObjectStore => {
    const hostKey = sshd.hostKeys.ed25519;
    const config = { type: 'sftp', host, port, user, keyPath, hostKey, path: join(folder, path) } as const;
    return openSftpStore({ ...config, ...changes }, {}, timeouts);
  };

  const using = async (store: ObjectStore, use: (store: ObjectStore) => Promise<void>): Promise<void> => {
    try {
      await use(store);
    } finally {
      await store.close();
    }
  };

  describeStore(
    'SftpStore',
    async ({ through, wrongSecret, timeouts }) => {
      const address = await through({ host, port });
      const wrong = wrongSecret === undefined ? {} : { keyPath: undefined, password: wrongSecret };
      const path = join('contract', randomUUID(), ODD_PATH);
      return {
        store: open(path, { ...address, ...wrong }, timeouts),
        cleanup: () => fs.rm(join(folder, path), { recursive: true, force: true }),
      };
    },
    { protocol: 'tcp' },
  );

  it('logs in with an encrypted key, and takes each pinned key of a server with several', async () => {
    const { encryptedKeyPath, passphrase: keyPassphrase, hostKeys } = sshd;
    for (const hostKey of Object.values(hostKeys)) {
      await using(open('pinned', { keyPath: encryptedKeyPath, keyPassphrase, hostKey }), async (store) => {
        await store.put('a/b', Buffer.from(hostKey));
        expect((await getBytes(store, 'a/b')).toString()).toBe(hostKey);
      });
    }
    await using(open('pinned', { keyPath: encryptedKeyPath, keyPassphrase: 'wrong' }), async (store) => {
      await expect(readAll(store.list(''))).rejects.toThrow('check key-passphrase');
    });
  });

  it('leaves the modes to the server, and no temporary file', async () => {
    await using(open('modes'), async (store) => {
      await store.put('a/b/c', Buffer.from('x'));
      await store.put('a/b/c', Buffer.from('y'));
    });
    const modeOf = async (name: string): Promise<number> => {
      return (await fs.stat(join(folder, 'modes', name))).mode & 0o777;
    };
    expect(await modeOf('a/b/c')).toBe(0o644);
    expect(await modeOf('a/b')).toBe(0o755);
    expect(await fs.readdir(join(folder, 'modes/a/b'))).toEqual(['c']);
  });

  it('takes a path from the home of the user', async () => {
    const path = `litestream-test-${randomUUID()}`;
    await using(open('', { path }), async (store) => {
      await store.put('a/b', Buffer.from('x'));
      expect((await readAll(store.list(''))).map(({ key }) => key)).toEqual(['a/b']);
      await store.delete(['a/b']);
      expect(await readAll(store.list(''))).toEqual([]);
    });
    await using(open('', { path: '' }), async (store) => {
      await store.put(`${path}/x`, Buffer.from('x'));
      await store.delete([`${path}/x`]);
      await expect(store.get(`${path}/x`)).rejects.toMatchObject({ code: 'not-found' });
    });
  });

  it('says what to do when a file stands in the way', async () => {
    await fs.writeFile(join(folder, 'file'), '');
    await using(open('file'), async (store) => {
      const put = store.put('x', Buffer.from('x'));
      await expect(put).rejects.toThrow(/a file stands where the folder .*file is needed/);
      expect(await readAll(store.list(''))).toEqual([]);
    });
  });

  it('says what to do about a full and a read-only disk, and works again with room', async ({ skip }) => {
    const disk = join(folder, 'disk');
    await fs.mkdir(disk);
    // OpenSSH gives no reason for either. Only root can make such disks.
    const mounted = await run('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk]).catch(
      () => undefined,
    );
    if (mounted === undefined) return skip('cannot mount a small file system');
    try {
      await using(open('disk'), async (store) => {
        await store.put('a', Buffer.alloc(700_000));
        const full = store.put('b', Buffer.alloc(700_000));
        await expect(full).rejects.toMatchObject({ code: 'disk-full' });
        await expect(full).rejects.toThrow(/put b: no space left on .*free some/);
        expect(await fs.readdir(disk)).toEqual(['a']);
        await store.delete(['a']);
        await store.put('b', Buffer.alloc(700_000));
        await run('mount', ['-o', 'remount,ro', disk]);
        const refused = store.put('c', Buffer.from('x'));
        await expect(refused).rejects.toMatchObject({ code: 'permission' });
        await expect(refused).rejects.toThrow(/is read-only: mount it writable/);
      });
    } finally {
      await run('umount', [disk]);
    }
  });

  describe('a server that does not let its user do everything', () => {
    const keyOf = (server: typeof sshd, path: string): StoreKey => ({
      replica: [
        ...['type: sftp', `host: ${server.host}:${server.port}`, `user: ${server.user}`],
        ...[`key-path: ${server.keyPath}`, `host-key: ${server.hostKeys.ed25519}`],
        ...[`path: ${join(folder, path)}`, 'sync-interval: 20ms'],
      ],
    });

    it('restores, verifies and lists where nothing can be written, and doctor says so', async () => {
      const reading = await startSshd('-R');
      try {
        await withRig(async (rig) => {
          const app = await rig.application();
          const all = keyOf(sshd, `rights-${randomUUID()}`);
          const litestream = await rig.replicate({ replica: all.replica });
          await app.exec("CREATE TABLE t (x); INSERT INTO t VALUES ('stored')");
          const args = ['sync', '-wait', '-config', await rig.config({ replica: all.replica })];
          expect((await runLitestream({ binary: 'ours', args })).code).toBe(0);
          expect((await litestream.stop()).code).toBe(0);
          const key = keyOf(
            reading.endpoint,
            all.replica.find((line) => line.startsWith('path: '))!.slice(7 + folder.length),
          );
          await expectReads(rig, key);
          const found = await complaintsOf(rig, key);
          expect(found.lines[0]).toMatch(
            /^failure +put: permission denied on .*allow user ".*" to make, rename and remove files and folders there; restoring works without/,
          );
          expect(found.code).toBe(1);
        });
      } finally {
        await reading.stop();
      }
    });

    it.each<[refused: string, line: RegExp]>([
      [
        'remove',
        /^failure +delete: permission denied on .*allow user ".*" to remove files and folders there/,
      ],
      [
        'rename,posix-rename',
        /^failure +put: permission denied on .*to make, rename and remove files and folders there/,
      ],
    ])('is refused by doctor without %s', async (refused, line) => {
      const limited = await startSshd(`-P ${refused}`);
      try {
        await withRig(async (rig) => {
          await (await rig.application()).exec('CREATE TABLE t (x)');
          const found = await complaintsOf(rig, keyOf(limited.endpoint, `limited-${randomUUID()}`));
          expect(found.lines[0]).toMatch(line);
          expect(found.code).toBe(1);
        });
      } finally {
        await limited.stop();
      }
    });
  });

  describeReplication({
    conditionalPut: /not known to this kind/,
    replica: (path) => [
      ...['type: sftp', `host: ${host}:${port}`, `user: ${user}`, `key-path: ${keyPath}`],
      ...[`path: ${join(folder, path)}`, `host-key: ${sshd.hostKeys.ed25519}`, 'sync-interval: 100ms'],
    ],
    env: {},
    open,
  });
});
