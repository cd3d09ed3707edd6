/** The control socket of a process that could not make it at first. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

import { connects } from '../../src/control/client.ts';
import { Control } from '../../src/control/control.ts';
import { readRecord } from '../../src/control/record.ts';
import { recordingLogger } from '../engine/replica-rig.ts';
import { until, withTempDir } from '../support/process.ts';

it('is tried again when it could not be made, and the record of the process names it then', async () => {
  await withTempDir(async (dir) => {
    const folder = join(dir, 'run');
    const path = join(folder, 'control.sock');
    // A file is in the way of its folder.
    await fs.writeFile(folder, '');
    const database = { path: join(dir, 'db'), metaPath: join(dir, '.db-litestream') };
    const control = new Control({
      databases: () => [database],
      socket: { enabled: true, path, permissions: 0o600 },
      routes: [],
      logger: recordingLogger([]),
      env: {},
      startedAt: new Date().toISOString(),
    });
    try {
      await control.claim(database);
      expect((await readRecord(database.metaPath))?.socket).toBe(null);
      await fs.rm(folder);
      await until(async () => (await readRecord(database.metaPath))?.socket === path);
      expect(await connects(path)).toBe(true);
    } finally {
      await control.close([]);
    }
    expect(await readRecord(database.metaPath)).toBeUndefined();
  });
});
