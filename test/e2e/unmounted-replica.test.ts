/** The disk of a file replica goes while `replicate` runs, and what is stored next lands in the empty mount point. */

import { execFileSync } from 'node:child_process';
import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { runLitestream, until } from '../support/process.ts';
import { type Rig, withRig } from '../support/process-rig.ts';
import { CAN_MOUNT } from '../support/read-only.ts';
import { type SqliteProcess, compareDatabases } from '../support/sqlite.ts';

class Disk {
  readonly #folder: string;
  readonly #mountPoint: string;
  #isMounted = false;

  constructor(rig: Rig) {
    this.#folder = join(rig.dir, 'disk');
    this.#mountPoint = rig.replica;
  }

  async make(): Promise<void> {
    for (const folder of [this.#folder, this.#mountPoint]) await fs.mkdir(folder);
    this.mount();
  }

  mount(): void {
    execFileSync('mount', ['--bind', this.#folder, this.#mountPoint]);
    this.#isMounted = true;
  }

  unmount(): void {
    if (!this.#isMounted) return;
    this.#isMounted = false;
    execFileSync('umount', ['-l', this.#mountPoint]);
  }
}

const commit = (application: SqliteProcess): Promise<void> =>
  application.exec('INSERT INTO commits DEFAULT VALUES');

/** Waits until the process has begun another generation than `before` and stored its snapshot; its name. */
async function nextGeneration(rig: Rig, before: string): Promise<string> {
  const generation = await until(async () => {
    const now = await rig.generation();
    return now === before ? undefined : now;
  });
  await until(async () =>
    (await rig.replicaFiles()).some((name) => name.startsWith(generation) && name.includes('snapshots')),
  );
  return generation;
}

async function expectWell(rig: Rig): Promise<void> {
  const args = ['status', '-config', await rig.config()];
  await until(async () => (await runLitestream({ binary: 'ours', args })).code === 0);
}

describe.skipIf(!CAN_MOUNT)('a disk that is unmounted (needs root on Linux: mounts a folder)', () => {
  it.each([
    ['under an idle database', false],
    ['while the database is written to', true],
  ])('%s, and mounted again', async (_, isWritten) => {
    await withRig(async (rig) => {
      const disk = new Disk(rig);
      await disk.make();
      try {
        const application = await rig.application();
        await application.exec('CREATE TABLE commits (n INTEGER PRIMARY KEY)');
        await commit(application);
        const litestream = await rig.replicate();
        await rig.caughtUp();
        await rig.snapshotStored();
        let generation = (await rig.generation())!;
        for (const change of [() => disk.unmount(), () => disk.mount()]) {
          change();
          if (isWritten) for (let times = 0; times < 5; times++) await commit(application);
          const gone = new RegExp(`new generation.*replica no longer holds generations/${generation}/`);
          await litestream.waitForLine(gone);
          generation = await nextGeneration(rig, generation);
          await commit(application);
          expect(await compareDatabases(rig.database, await rig.caughtUp())).toBeUndefined();
          await expectWell(rig);
        }
        expect((await litestream.stop()).code).toBe(0);
      } finally {
        await rig.end();
        disk.unmount();
      }
    });
  });
});
