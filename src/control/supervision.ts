/**
 * What the library's startReplication() and the `replicate` that it starts say to one another: a variable says that it is so, messages
 * do the rest. Keys come as a message: the environment of a process is kept and shown in many places. The lost connection is the order to end, so that a parent that was killed gives it too.
 */

import { existsSync } from 'node:fs';
import { type ErrorCode, LitestreamError } from '../base/errors.ts';
import { describeThisProcess, removeRecord, writeRecord } from './record.ts';

/** The folder whose lock makes this the one replicator of its application on this host; `-` for none. */
const FOLDER_VARIABLE = 'LITESTREAM_SUPERVISED';
type Environment = Record<string, string | undefined>;

/** What the child says. Anything else is not from it. */
export type SupervisionMessage =
  /** Every database was tried once: replication runs. */
  | { readonly type: 'ready' }
  /** It is going to end because of this. */
  | { readonly type: 'failed'; readonly code: ErrorCode | 'internal'; readonly message: string };

/** What the child is told first. */
export interface SupervisionSettings {
  /** The config, in place of a file. */
  readonly configText: string | undefined;
  /** Added to its environment. */
  readonly env: Readonly<Record<string, string>>;
}

/**
 * The variables for a child.
 * @param folder see hostFolder(); undefined: the locks of the databases have to do
 */
export function supervisionVariables(folder: string | undefined): Environment {
  return { [FOLDER_VARIABLE]: folder ?? '-' };
}

/** The child's side. */
export class Supervision {
  /** What the parent has said first. Rejects with 'aborted' when it is gone before. */
  readonly settings: Promise<SupervisionSettings>;
  readonly #folder: string | undefined;

  private constructor(folder: string) {
    this.#folder = folder === '-' ? undefined : folder;
    this.settings = new Promise((resolve, reject) => {
      process.once('message', (message) => resolve(message as SupervisionSettings));
      this.onEnd(() => reject(new LitestreamError('aborted', 'the application has ended')));
    });
    // Whether it is asked for or not.
    this.settings.catch(() => undefined);
  }

  /** Undefined for a process that nobody supervises. The variable is taken out of `env`: children must not see it. */
  static take(env: Environment): Supervision | undefined {
    const { [FOLDER_VARIABLE]: folder } = env;
    Reflect.deleteProperty(env, FOLDER_VARIABLE);
    if (folder === undefined || process.send === undefined) return undefined;
    return new Supervision(folder);
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
