/** Builds the libraries that kill a process inside a system call. */

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** LD_PRELOAD and /proc are Linux's: tests that need the shim are skipped elsewhere. */
export const SHIM_SUPPORTED: boolean = process.platform === 'linux';

/**
 * Compiles a shim into `dir` with the machine's C compiler; the library's path. The default one kills a writer inside its
 * WAL fsync, which leaves a commit that SQLite does not know.
 */
export async function buildShim(
  dir: string,
  name: 'kill-in-wal-sync' | 'kill-in-file-call' = 'kill-in-wal-sync',
): Promise<string> {
  const source = fileURLToPath(new URL(`./shim/${name}.c`, import.meta.url));
  const library = join(dir, `${name}.so`);
  const args = ['-shared', '-fPIC', '-O1', '-o', library, source, '-ldl'];
  await promisify(execFile)(process.env['CC'] ?? 'gcc', args);
  return library;
}

/** Environment of a writer that dies in its n-th sync of a WAL. It must use synchronous=FULL. */
export function shimEnvironment(library: string, n: number): Record<string, string> {
  return { LD_PRELOAD: library, KILL_IN_WAL_SYNC: String(n) };
}
