/** A restore to a disk that is too small. */

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { diskSpace } from '../../src/base/disk-space.ts';
import { Replica } from '../../src/engine/replica.ts';
import { previewRestore } from '../../src/engine/restore-preview.ts';
import { type RestoreRequest, restore } from '../../src/engine/restore.ts';
import { openFileStore } from '../../src/storage/file/file-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { FakeSource, FaultStore, type LogLine, OPTIONS, recordingLogger, until } from './replica-rig.ts';
import { RestoreSource } from './restore-source.ts';

const LITESTREAM = fileURLToPath(new URL('../../bin/litestream', import.meta.url));

let source: FakeSource;
let store: FaultStore;
let log: LogLine[];
let folder: string;

beforeEach(async () => {
  source = new FakeSource();
  log = [];
  folder = join(source.dir, 'out');
  store = new FaultStore(openFileStore({ type: 'file', path: join(source.dir, 'replica') }));
  source.commit(1);
  source.checkpoint();
  source.commit(400, 700);
  source.checkpoint();
  const replica = new Replica({
    options: OPTIONS,
    source,
    openStore: () => Promise.resolve(store as ObjectStore),
    logger: recordingLogger([]),
  });
  replica.start();
  await until('everything is stored', () => replica.lagging() === undefined);
  await replica.stop(AbortSignal.timeout(10_000));
});
afterEach(() => source.close());

function request(freeBytes: number, limitBytes: number): RestoreRequest {
  return {
    replicas: [{ name: 'test', store }],
    outputPath: join(folder, 'db'),
    parallelism: 2,
    logger: recordingLogger(log),
    spaceOf: () => Promise.resolve({ freeBytes, limitBytes }),
  };
}

const warnings = (): string[] => log.filter(({ level }) => level === 'WARN').map(({ message }) => message);

describe('a database that is larger than what is free', () => {
  it('is refused with both sizes before anything is written, and nothing is left', async () => {
    const sizeBytes = source.bytes().byteLength;
    await expect(restore(request(sizeBytes - 1, sizeBytes - 1))).rejects.toMatchObject({
      code: 'disk-full',
      message: expect.stringMatching(
        new RegExp(
          `: not enough room for ${folder}/db.restore-[0-9a-f]{16}.tmp: .* \\(${sizeBytes} bytes\\) needed, .* \\(${sizeBytes - 1} bytes\\) free: free some, or `,
        ),
      ) as string,
    });
    expect(existsSync(folder)).toBe(false);
    const preview = await previewRestore(request(sizeBytes - 1, sizeBytes - 1));
    expect(preview.obstacle).toContain(`(${sizeBytes} bytes) needed`);
  });

  it('is tried with a warning where the disk may hold more than it says', async () => {
    await restore(request(1000, Infinity));
    expect(warnings()).toEqual([expect.stringMatching(/not enough room.*trying all the same/)]);
    expect(readFileSync(join(folder, 'db')).equals(source.bytes())).toBe(true);
    rmSync(folder, { recursive: true });
    expect((await previewRestore(request(1000, Infinity))).obstacle).toBeUndefined();
  });

  it('is restored when there is just room', async () => {
    const sizeBytes = source.bytes().byteLength;
    await restore(request(sizeBytes, sizeBytes));
    expect(warnings()).toEqual([]);
  });

  it('is tried when nobody knows how much there is', async () => {
    const spaceOf = (): Promise<never> => Promise.reject(new Error('no such call'));
    await restore({ ...request(0, 0), spaceOf });
    expect(readFileSync(join(folder, 'db')).equals(source.bytes())).toBe(true);
  });
});

it("is not judged by v0.3.13's snapshots, which do not say how large they are", async () => {
  const dir = join(source.dir, 'old');
  mkdirSync(dir);
  const old = new RestoreSource(dir);
  const content = old.close();
  const replicas = [{ name: 'test', store: openFileStore({ type: 'file', path: join(dir, 'replica') }) }];
  await restore({ ...request(0, 0), replicas });
  expect(readFileSync(join(folder, 'db')).equals(content)).toBe(true);
});

describe('the space of a disk', () => {
  it('is that of the nearest folder that is there', async () => {
    const here = await diskSpace(source.dir);
    const below = await diskSpace(join(folder, 'not/there'));
    expect(here.freeBytes).toBeGreaterThan(0);
    expect(below.limitBytes === Infinity).toBe(here.limitBytes === Infinity);
  });

  const mounts = spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'none', '/mnt']).status === 0;
  it.skipIf(!mounts)('of 100 kB is enough for no large database, as the command finds', () => {
    mkdirSync(folder);
    const script =
      'mount -t tmpfs -o size=100k none "$1" && ' +
      '{ "$2" "$3" restore -o "$1/db" "file://$4"; echo "exit $?"; ls -A "$1"; }';
    const output = execFileSync(
      'unshare',
      [
        '-m',
        'sh',
        '-c',
        `${script} 2>&1`,
        '',
        folder,
        process.execPath,
        LITESTREAM,
        join(source.dir, 'replica'),
      ],
      { encoding: 'utf8' },
    );
    expect(output).toMatch(
      /not enough room for \S+: \S+ kB \(\d+ bytes\) needed, 102.4 kB \(102400 bytes\) free/,
    );
    expect(output).toMatch(/exit 1\n$/);
    expect(readdirSync(folder)).toEqual([]);
  });
});
