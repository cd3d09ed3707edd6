/**
 * What the library's startReplication() and the `replicate` that it starts say to one another: variables on the way down,
 * messages on the way up. The lost connection is the order to end, so that a parent that was killed gives it too.
 */

import { existsSync } from 'node:fs';
import type { ErrorCode } from '../base/errors.ts';
import { describeThisProcess, removeRecord, writeRecord } from './record.ts';

/** The folder whose lock makes this the one replicator of its application on this host; `-` for none. */
const FOLDER_VARIABLE = 'LITESTREAM_SUPERVISED';
/** The config, in place of a file. */
const CONFIG_VARIABLE = 'LITESTREAM_SUPERVISED_CONFIG';

/** What a variable holds at most on Linux, with room to spare. */
const MAX_CONFIG_BYTES = 120_000;

type Environment = Record<string, string | undefined>;

/** What the child says. Anything else is not from it. */
export type SupervisionMessage =
  /** Every database was tried once: replication runs. */
  | { readonly type: 'ready' }
  /** It is going to end because of this. */
  | { readonly type: 'failed'; readonly code: ErrorCode | 'internal'; readonly message: string };

/**
 * The variables for a child.
 * @param folder see hostFolder(); undefined: the locks of the databases have to do
 * @returns undefined when the config is too long for a variable
 */
export function supervisionVariables(
  folder: string | undefined,
  configText: string | undefined,
): Environment | undefined {
  if (configText !== undefined && Buffer.byteLength(configText) > MAX_CONFIG_BYTES) return undefined;
  return { [FOLDER_VARIABLE]: folder ?? '-', [CONFIG_VARIABLE]: configText };
}

/** The child's side. */
export class Supervision {
  /** The config, in place of a file. */
  readonly configText: string | undefined;
  readonly #folder: string | undefined;

  private constructor(folder: string, configText: string | undefined) {
    this.#folder = folder === '-' ? undefined : folder;
    this.configText = configText;
  }

  /** Undefined for a process that nobody supervises. The variables are taken out of `env`: children must not see them. */
  static take(env: Environment): Supervision | undefined {
    const { [FOLDER_VARIABLE]: folder, [CONFIG_VARIABLE]: configText } = env;
    Reflect.deleteProperty(env, FOLDER_VARIABLE);
    Reflect.deleteProperty(env, CONFIG_VARIABLE);
    if (folder === undefined || process.send === undefined) return undefined;
    return new Supervision(folder, configText);
  }

  /** Calls `listener` once, when the parent wants an end or is gone. */
  onEnd(listener: () => void): void {
    if (process.connected) process.once('disconnect', listener);
    else queueMicrotask(listener);
  }

  /** Resolves when it is on its way, or can no longer be. Never rejects. */
  tell(message: SupervisionMessage): Promise<void> {
    return new Promise((resolve) => {
      if (process.send === undefined || !process.connected) resolve();
      else process.send(message, undefined, undefined, () => resolve());
    });
  }

  /**
   * Becomes the one replicator of the application on this host, until release().
   * @param path a database, for the message
   * @throws LitestreamError 'busy'
   */
  async lock(path: string, startedAt: string): Promise<{ release(): Promise<void> }> {
    const folder = this.#folder;
    if (folder === undefined || !existsSync(folder)) return { release: () => Promise.resolve() };
    // Loaded here: the parent has no use for SQLite.
    const { DatabaseLock } = await import('../engine/database-lock.ts');
    const lock = new DatabaseLock(folder, path);
    await writeRecord(folder, describeThisProcess(startedAt, null));
    return {
      async release() {
        await removeRecord(folder);
        lock.release();
      },
    };
  }
}
