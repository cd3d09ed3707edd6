/** Builds the library that kills a writer inside its WAL fsync, which leaves a commit that SQLite does not know. */

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const SOURCE = fileURLToPath(new URL('./shim/kill-in-wal-sync.c', import.meta.url));

/** LD_PRELOAD and /proc are Linux's: tests that need the shim are skipped elsewhere. */
export const SHIM_SUPPORTED: boolean = process.platform === 'linux';

/** Compiles the shim into `dir` with the machine's C compiler; the library's path. */
export async function buildShim(dir: string): Promise<string> {
  const library = join(dir, 'kill-in-wal-sync.so');
  await promisify(execFile)(process.env['CC'] ?? 'gcc', [
    '-shared',
    '-fPIC',
    '-O1',
    '-o',
    library,
    SOURCE,
    '-ldl',
  ]);
  return library;
}

/** Environment of a writer that dies in its n-th sync of a WAL. It must use synchronous=FULL. */
export function shimEnvironment(library: string, n: number): Record<string, string> {
  return { LD_PRELOAD: library, KILL_IN_WAL_SYNC: String(n) };
}
