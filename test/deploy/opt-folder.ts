/** The self-contained folder of etc/opt-litestream.mjs, for the tests of what is made of it; and programs run beside it. */

import { execFile, type ExecFileOptions } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT: string = fileURLToPath(new URL('../..', import.meta.url));

/** Thousands of files are copied and packed, on a disk that others use. */
export const BUILD_TIMEOUT_MS: number = 300_000;

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end, whatever its exit code. Without variables of litestream unless `env` has them. */
export function run(file: string, args: readonly string[], options: ExecFileOptions = {}): Promise<Ran> {
  const env = { PATH: process.env['PATH'], HOME: process.env['HOME'], TZ: 'UTC', ...options.env };
  return new Promise((resolve) => {
    execFile(file, args, { timeout: BUILD_TIMEOUT_MS, ...options, env }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : null;
      resolve({ code, stdout: String(stdout), stderr: String(stderr) });
    });
  });
}

/** Builds the folder in `dir`; its path. */
export async function buildOptFolder(dir: string): Promise<string> {
  const folder = join(dir, 'litestream');
  const { code, stderr } = await run(process.execPath, [join(ROOT, 'etc/opt-litestream.mjs'), folder]);
  if (code !== 0) throw new Error(`etc/opt-litestream.mjs exited ${String(code)}\n${stderr}`);
  return folder;
}

/** Whether a program is there, for tests that have to be skipped without it. */
export async function hasProgram(name: string): Promise<boolean> {
  return (await run('/bin/sh', ['-c', `command -v ${name}`])).code === 0;
}
