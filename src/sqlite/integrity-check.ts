/**
 * SQLite's own check of a database file, in a process of its own: it takes as long as reading the file several times, in
 * one call that stops everything else and cannot be interrupted.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { throwIfAborted } from '../base/concurrency.ts';
import { programArguments } from '../base/entry-point.ts';
import { LitestreamError } from '../base/errors.ts';

/** The end of what a process says before it fails: the error and where it came from. */
const ERROR_LIMIT = 4096;

/** The full one also compares indexes with their tables. */
const PRAGMA = { full: 'integrity_check', quick: 'quick_check' } as const;

/**
 * Runs `PRAGMA integrity_check` or `quick_check`. SQLite may put a -wal and a -shm beside the file.
 * @param path of a database that nobody else uses
 * @returns the problems that it lists, none when the database is sound
 * @throws LitestreamError 'aborted' at once when `signal` fires; 'io' or 'unsupported' when it could not be done
 */
export async function checkIntegrity(
  path: string,
  signal: AbortSignal,
  extent: 'full' | 'quick' = 'full',
): Promise<string[]> {
  throwIfAborted(signal);
  const program = programArguments('sqlite/integrity-program');
  const child: ChildProcess = spawn(process.execPath, [...program, path, PRAGMA[extent]], {
    stdio: ['ignore', 'pipe', 'pipe'],
    signal,
    killSignal: 'SIGKILL',
  });
  let output = '';
  let errors = '';
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on('error', (error) => {
      // The file is in use until the process has ended. One that was never started does not end.
      if (child.pid === undefined) {
        reject(new LitestreamError('io', `start integrity check: ${error.message}`));
      }
    });
    child.on('close', resolve);
  });
  // Without descriptors left there are not even streams.
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (output += text));
  child.stderr
    ?.setEncoding('utf8')
    .on('data', (text: string) => (errors = (errors + text).slice(-ERROR_LIMIT)));
  const code = await ended;
  throwIfAborted(signal);
  if (code !== 0) {
    const why = /^\w*Error: .*/m.exec(errors)?.[0] ?? `it ended with code ${String(code)}`;
    throw new LitestreamError('io', `check integrity of ${path}: ${why}`);
  }
  return JSON.parse(output) as string[];
}
