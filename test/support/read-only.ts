/** A database as litestream sees it through a read-only mount, or as a user who may only read. */

import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { LitestreamProcess } from './process.ts';
import { withRig, type ReplicateOptions, type Rig } from './process-rig.ts';
import type { OpenOptions, SqliteProcess } from './sqlite.ts';

const run = promisify(execFile);

/** Mounting, and running as another user, need root; locks are listed on Linux only. Else tests are skipped. */
export const CAN_MOUNT: boolean = process.platform === 'linux' && process.getuid?.() === 0;
/** `nobody` on every Linux distribution. */
const NOBODY = 65534;

/** How litestream is kept from writing. */
export type Barrier = 'read-only mount' | 'another user';

/** Each with what to add to the name of a test that cannot run here. */
export const BARRIERS: readonly { readonly barrier: Barrier; readonly skip: string | undefined }[] = (
  ['read-only mount', 'another user'] as const
).map((barrier) => ({ barrier, skip: CAN_MOUNT ? undefined : ' (skipped: needs root on Linux)' }));

export class ReadOnlySite {
  readonly rig: Rig;
  readonly #barrier: Barrier;

  constructor(rig: Rig, barrier: Barrier) {
    this.rig = rig;
    this.#barrier = barrier;
  }

  /** Where the application has its database. */
  get database(): string {
    return join(this.rig.dir, 'app', 'db');
  }

  /** The same file as litestream sees it. */
  get seen(): string {
    return this.#barrier === 'read-only mount' ? join(this.rig.dir, 'mounted', 'db') : this.database;
  }

  get state(): string {
    return join(this.rig.dir, 'state');
  }

  async begin(): Promise<void> {
    const { dir, replica } = this.rig;
    for (const folder of [join(dir, 'app'), this.state, replica]) await fs.mkdir(folder);
    if (this.#barrier === 'another user') {
      await fs.chmod(dir, 0o755);
      for (const folder of [this.state, replica]) await fs.chown(folder, NOBODY, NOBODY);
      return;
    }
    const mounted = join(dir, 'mounted');
    await fs.mkdir(mounted);
    await run('mount', ['--bind', join(dir, 'app'), mounted]);
    await run('mount', ['-o', 'remount,bind,ro', mounted]);
  }

  async end(): Promise<void> {
    await this.rig.end();
    if (this.#barrier === 'read-only mount') await run('umount', ['-l', join(this.rig.dir, 'mounted')]);
  }

  replicate(options: ReplicateOptions = {}): Promise<LitestreamProcess> {
    return this.rig.replicate(this.options(options));
  }

  /** Starts an application on the database; ended with the rig. */
  application(options: Partial<OpenOptions> = {}): Promise<SqliteProcess> {
    return this.rig.application({ path: this.database, ...options });
  }

  /** Of this site, with those of `options` before them. */
  options(options: ReplicateOptions = {}): ReplicateOptions {
    return {
      path: this.seen,
      ...(this.#barrier === 'another user' ? { userId: NOBODY } : {}),
      ...options,
      env: { STATE_DIRECTORY: this.state, XDG_STATE_HOME: '', ...options.env },
    };
  }

  /** Names and contents of everything in the application's folder. */
  async digest(): Promise<string> {
    const folder = join(this.rig.dir, 'app');
    const hash = createHash('sha256');
    for (const name of (await fs.readdir(folder)).sort()) {
      const { mode, uid, gid } = await fs.stat(join(folder, name));
      hash.update(JSON.stringify([name, mode, uid, gid])).update(await fs.readFile(join(folder, name)));
    }
    return hash.digest('hex');
  }
}

/** withRig() for a database that litestream can only read. */
export async function withReadOnlySite(
  barrier: Barrier,
  body: (site: ReadOnlySite) => Promise<void>,
): Promise<void> {
  await withRig(async (rig) => {
    const site = new ReadOnlySite(rig, barrier);
    await site.begin();
    try {
      await body(site);
    } finally {
      await site.end();
    }
  });
}
