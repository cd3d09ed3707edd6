/** Runs all checks of `doctor` in their order. */

import { rmdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { messageOf, systemCode } from '../../base/errors.ts';
import { stateDirectories } from '../../base/state-directories.ts';
import {
  describeLocation,
  exportCredentials,
  findConfig,
  findDatabase,
  isUrl,
  loadConfig,
  parseReplicaUrl,
} from '../../config/index.ts';
import type { Config } from '../../config/index.ts';
import type { DatabaseOptions } from '../../engine/options.ts';
import { placeMetaDirectory } from '../../engine/read-only-meta.ts';
import { openStore } from '../../storage/registry.ts';
import { withRetry } from '../../storage/retrying-store.ts';
import type { StoreConfig } from '../../storage/store-config.ts';
import { refuseConfigWithUrl } from '../target.ts';
import type { ConfigFlags } from '../target.ts';
import { checkConfig, checkEncryption, checkIntervals } from './config-checks.ts';
import { checkDatabase, checkMetaDirectory, nearestExisting } from './database-checks.ts';
import type { DatabaseFacts } from './database-checks.ts';
import { checkDisk, checkMetaDisk } from './disk-checks.ts';
import type { FreeBytes } from './disk-checks.ts';
import type { Report } from './report.ts';
import { checkSqlite } from './sqlite-checks.ts';
import { checkStore } from './store-checks.ts';
import type { OpenStore } from './store-checks.ts';

/** Someone is waiting; what fails twice is worth reporting. */
const ATTEMPTS = 2;

/** What the checks have of the machine that they run on. */
export interface Host {
  readonly cwd: string;
  readonly env: Record<string, string | undefined>;
  readonly freeBytes: FreeBytes;
  /** The time now, in epoch milliseconds. */
  readonly now: () => number;
}

export interface Examination {
  /** A database's path or a replica URL; empty: all databases of the config. */
  readonly argument: string;
  readonly flags: ConfigFlags;
  readonly host: Host;
  readonly report: Report;
  readonly signal: AbortSignal;
}

/**
 * Checks what the argument means and reports it. Rejects with 'aborted' after it has removed what it wrote, with 'usage',
 * 'config' or 'not-found' when the argument names nothing.
 */
export async function examine(examination: Examination): Promise<void> {
  await new Doctor(examination).run();
}

class Doctor {
  readonly #examination: Examination;
  readonly #report: Report;

  constructor(examination: Examination) {
    this.#examination = examination;
    this.#report = examination.report;
  }

  async run(): Promise<void> {
    const { argument, flags, host } = this.#examination;
    exportCredentials(host.env);
    checkSqlite(this.#report);
    if (isUrl(argument)) {
      refuseConfigWithUrl(flags);
      await this.#checkReplica('replica', parseReplicaUrl(argument, host.env));
      return;
    }
    const config = await this.#checkConfig();
    if (config === undefined) return;
    const databases = argument === '' ? config.databases : [findDatabase(config, argument, host).database];
    for (const database of databases) await this.#checkDatabase(database);
  }

  async #checkConfig(): Promise<Config | undefined> {
    const { flags, host } = this.#examination;
    const { cwd, env } = host;
    const { path, whenMissing } = findConfig(flags.config, env, cwd);
    this.#report.begin(`config ${path}`);
    const load = (): Promise<Config> =>
      loadConfig(path, { expandEnv: flags['no-expand-env'] !== true, env, cwd, whenMissing });
    return checkConfig(load, this.#report);
  }

  async #checkDatabase(database: DatabaseOptions): Promise<void> {
    const report = this.#report;
    const { path, replicas } = database;
    report.begin(`database ${path}`);
    const facts = await checkDatabase(database, report);
    const metaPath = this.#metaPathOf(database);
    if (metaPath !== undefined) await checkMetaDirectory(metaPath, report);
    if (facts && metaPath !== undefined) await checkMetaDisk(metaPath, database, facts, this.#diskChecker());
    if (replicas.length === 0) {
      report.failure('replicas', 'there are none: nothing is backed up', 'list one under replicas');
    }
    for (const replica of replicas) {
      const settings = async (): Promise<void> => {
        checkIntervals(replica, report);
        await checkEncryption(replica, report);
      };
      await this.#checkReplica(`replica ${replica.name} of ${path}`, replica.store, {
        facts,
        settings,
      });
    }
  }

  /** Where replicate would put it. Reports when there is no place. */
  #metaPathOf(database: DatabaseOptions): string | undefined {
    try {
      return placeMetaDirectory(database, stateDirectories(this.#examination.host.env));
    } catch (error) {
      this.#report.failure('meta directory', messageOf(error));
      return undefined;
    }
  }

  async #checkReplica(
    subject: string,
    store: StoreConfig,
    of: { readonly facts?: DatabaseFacts | undefined; readonly settings?: () => Promise<void> } = {},
  ): Promise<void> {
    const report = this.#report;
    report.begin(`${subject}: ${describeLocation(store)}`);
    await of.settings?.();
    if (store.type === 'file' && of.facts !== undefined) {
      const needed = { neededBytes: of.facts.sizeBytes, what: 'a snapshot' };
      await checkDisk(store.path, needed, this.#diskChecker());
    }
    const { host, signal } = this.#examination;
    // What is stored is the store's affair, not how it is encrypted.
    const check = {
      config: { ...store, encryption: undefined },
      report,
      open: openWithRetry,
      signal,
      now: host.now,
    };
    await withoutNewFolders(store, () => checkStore(check));
  }

  #diskChecker(): { report: Report; freeBytes: FreeBytes } {
    return { report: this.#report, freeBytes: this.#examination.host.freeBytes };
  }
}

const openWithRetry: OpenStore = async (config, options) =>
  withRetry(await openStore(config, options), { attempts: ATTEMPTS });

/** Removes the folders that `work` had to make for a replica in a folder, if they are still empty. */
async function withoutNewFolders(store: StoreConfig, work: () => Promise<void>): Promise<void> {
  if (store.type !== 'file') return work();
  const before = await nearestExisting(store.path);
  try {
    await work();
  } finally {
    for (let path = store.path; path !== before; path = dirname(path)) {
      try {
        await rmdir(path);
      } catch (error) {
        // Not made after all, or used by somebody by now.
        if (!['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(systemCode(error) ?? '')) throw error;
      }
    }
  }
}
