/**
 * Keeps everybody else out of a database while its file is replaced. SQLite's exclusive lock proves that no other
 * connection has it open that has read anything in WAL mode, or is reading or writing in another mode. A process of its
 * own holds it and is killed at the end: a connection that closes would delete the WAL of the database that has taken
 * the name meanwhile.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { LitestreamError } from '../base/errors.ts';
import type { WritablePath } from '../sqlite/writable-path.ts';

/** Locks that come and go are waited for so long. */
const PATIENCE_MS = 2000;
/** A network file system may be slow to open a file. */
const ANSWER_MS = 60_000;

/** All that the process does; as text, since a file of its own would need a place that compiler and bundler agree on. */
const PROGRAM = `
  const [, driver, path, patienceMs] = process.argv;
  const say = (answer) => process.stdout.write(JSON.stringify(answer) + '\\n');
  process.stdin.on('close', () => process.kill(process.pid, 'SIGKILL')).resume();
  try {
    const Database = require(driver);
    const database = new Database(path, { fileMustExist: true, timeout: Number(patienceMs) });
    globalThis.kept = database;
    database.pragma('locking_mode = EXCLUSIVE');
    database.exec('BEGIN EXCLUSIVE; ROLLBACK');
    const [row] = database.pragma('wal_checkpoint(TRUNCATE)');
    say(row.busy === 0 ? {} : { code: 'SQLITE_BUSY', problem: 'its wal cannot be checkpointed' });
  } catch (error) {
    say({ code: String(error.code), problem: error.message });
  }
`;

/** Empty: the lock is held and the WAL is in the file. */
interface Answer {
  readonly code?: string;
  readonly problem?: string;
}

export class ExclusiveHold {
  /** How the database is damaged, so that it is not locked or its WAL is not in the file. Undefined: all is well. */
  readonly problem: string | undefined;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, problem: string | undefined) {
    this.#child = child;
    this.problem = problem;
  }

  /**
   * Locks the database and copies its WAL into the file, which is then the whole database.
   * @throws LitestreamError 'busy' when it is in use, 'disk-full', 'io'
   */
  static async begin(path: WritablePath): Promise<ExclusiveHold> {
    const driver = createRequire(import.meta.url).resolve('better-sqlite3');
    const child = spawn(process.execPath, ['-e', PROGRAM, driver, path, String(PATIENCE_MS)], {
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    // Writing to it when it has died is no event: nothing is written.
    child.stdin.on('error', () => undefined);
    const answer = await answerOf(child).catch((error: unknown) => {
      child.kill('SIGKILL');
      throw error;
    });
    const { code = '', problem } = answer;
    // Nobody can use a database that is damaged, and replacing it is what a restore is for.
    if (problem === undefined || /^SQLITE_(NOTADB|CORRUPT)/.test(code))
      return new ExclusiveHold(child, problem);
    child.kill('SIGKILL');
    if (/^SQLITE_(BUSY|LOCKED)/.test(code)) {
      throw new LitestreamError('busy', `database ${path} is in use: stop what uses it first`);
    }
    throw new LitestreamError(
      /^SQLITE_FULL/.test(code) ? 'disk-full' : 'io',
      `lock database ${path}, to replace it: ${problem}`,
    );
  }

  /** Lets go. Idempotent. */
  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => this.#child.once('exit', () => resolve()));
    this.#child.kill('SIGKILL');
    await ended;
  }
}

function answerOf(child: ChildProcess): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const fail = (why: string): void =>
      reject(new LitestreamError('io', `lock database in another process: ${why}`));
    const timer = setTimeout(() => fail('it does not answer'), ANSWER_MS);
    const settle = (): void => clearTimeout(timer);
    child.on('error', (error) => {
      settle();
      fail(error.message);
    });
    child.on('exit', (code, signal) => {
      settle();
      fail(`it ended with ${signal ?? code}`);
    });
    if (child.stdout) {
      createInterface({ input: child.stdout }).once('line', (line) => {
        settle();
        resolve(JSON.parse(line) as Answer);
      });
    }
  });
}
