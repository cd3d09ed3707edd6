/**
 * SQLite's own check of a database file, in a process of its own: it takes as long as reading the file several times, in
 * one call that stops everything else and cannot be interrupted.
 */

import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { throwIfAborted } from '../base/concurrency.ts';
import { LitestreamError } from '../base/errors.ts';

/** All that the process does. As text, since a file of its own would need a place that compiler and bundler agree on. */
const PROGRAM = `
  const [, driver, path, check] = process.argv;
  const Database = require(driver);
  const findProblems = () => {
    try {
      const database = new Database(path, { readonly: true, fileMustExist: true });
      return database.prepare('PRAGMA ' + check).pluck().all().filter((row) => row !== 'ok');
    } catch (error) {
      if (/^SQLITE_(CORRUPT|NOTADB)/.test(error.code)) return [error.message];
      throw error;
    }
  };
  process.stdout.write(JSON.stringify(findProblems()));
`;

/** The end of what a process says before it fails: the error and where it came from. */
const ERROR_LIMIT = 4096;

/** The full one also compares indexes with their tables. */
const PRAGMA = { full: 'integrity_check', quick: 'quick_check' } as const;

/**
 * Runs `PRAGMA integrity_check` or `quick_check`. SQLite may put a -wal and a -shm beside the file.
 * @param path of a database that nobody else uses
 * @returns the problems that it lists, none when the database is sound
 * @throws LitestreamError 'aborted' at once when `signal` fires; 'io' when it could not be done
 */
export async function checkIntegrity(
  path: string,
  signal: AbortSignal,
  extent: 'full' | 'quick' = 'full',
): Promise<string[]> {
  throwIfAborted(signal);
  const driver = createRequire(import.meta.url).resolve('better-sqlite3');
  const child = spawn(process.execPath, ['-e', PROGRAM, driver, path, PRAGMA[extent]], {
    stdio: ['ignore', 'pipe', 'pipe'],
    signal,
    killSignal: 'SIGKILL',
  });
  let output = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  child.stderr
    .setEncoding('utf8')
    .on('data', (text: string) => (errors = (errors + text).slice(-ERROR_LIMIT)));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', (error) => {
      // The file is in use until the process has ended.
      if (!signal.aborted) reject(new LitestreamError('io', `start integrity check: ${error.message}`));
    });
    child.on('close', resolve);
  });
  throwIfAborted(signal);
  if (code !== 0) {
    const why = /^\w*Error: .*/m.exec(errors)?.[0] ?? `it ended with code ${String(code)}`;
    throw new LitestreamError('io', `check integrity of ${path}: ${why}`);
  }
  return JSON.parse(output) as string[];
}
