/** Where things are: the config file, home folders, the working folder as the user's shell spells it. */

import { existsSync, statSync } from 'node:fs';
import { homedir, userInfo } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import type { Env } from './expand-env.ts';

export const DEFAULT_CONFIG_PATH = '/etc/litestream.yml';

/** What a relative path is relative to. */
export interface Surroundings {
  /** The working folder, as `process.cwd()` gives it. */
  readonly cwd: string;
  readonly env: Env;
}

/** Where a config file was looked for. */
export interface ConfigLocation {
  /** Absolute. */
  readonly path: string;
  /** What to add to the message when it is not there: what named it, or where else was looked; may be empty. */
  readonly whenMissing: string;
}

/**
 * The config file to read: `given` (`-config`), LITESTREAM_CONFIG, else the first that exists of /etc/litestream.yml,
 * config/litestream.yml and litestream.yml in the working folder; when there is none, the first of these. Empty strings
 * count as not given.
 * @param option how the caller's user gives one
 */
export function findConfig(
  given: string | undefined,
  env: Env,
  cwd: string,
  option: string = '-config PATH',
): ConfigLocation {
  if (given !== undefined && given !== '') return { path: expandPath(given, { cwd, env }), whenMissing: '' };
  const named = env.LITESTREAM_CONFIG;
  if (named !== undefined && named !== '') {
    return { path: expandPath(named, { cwd, env }), whenMissing: ', which LITESTREAM_CONFIG names' };
  }
  const folder = logicalCwd({ cwd, env });
  const others = [join(folder, 'config/litestream.yml'), join(folder, 'litestream.yml')];
  const found = [DEFAULT_CONFIG_PATH, ...others].find((path) => existsSync(path));
  const whenMissing = `, nor ${others.join(' or ')}: name another one with ${option} or LITESTREAM_CONFIG`;
  return { path: found ?? DEFAULT_CONFIG_PATH, whenMissing };
}

/**
 * The working folder by the spelling of `$PWD` when that is the same folder: what a person in a symlinked release
 * folder calls it, and what v0.3.13 prints.
 */
export function logicalCwd({ cwd, env }: Surroundings): string {
  const pwd = env.PWD;
  if (pwd === undefined || !isAbsolute(pwd) || pwd === cwd) return cwd;
  const [logical, physical] = [pwd, cwd].map((path) => statSync(path, { throwIfNoEntry: false }));
  const same = logical !== undefined && logical.ino === physical?.ino && logical.dev === physical.dev;
  return same ? pwd : cwd;
}

/** Absolute and cleaned: `~` and `~/` stand for the home folder, relative paths start in the working folder. */
export function expandPath(path: string, around: Surroundings): string {
  if (path === '~') return home();
  if (path.startsWith('~/')) return join(home(), path.slice(2));
  return isAbsolute(path) ? resolve(path) : resolve(logicalCwd(around), path);
}

/** From the user database as in v0.3.13, so that `sudo` keeping HOME changes nothing; HOME for a user without an entry. */
function home(): string {
  try {
    return userInfo().homedir;
  } catch {
    return homedir(); // Containers run with ids that the user database does not list.
  }
}
