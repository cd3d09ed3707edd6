/** Where replication runs: in production, or where it is asked for. */

import type { Env } from '../config/index.ts';

export interface EnabledOptions {
  /**
   * Whether to replicate here: a boolean, or the name of an environment variable that says so. Default: what
   * `LITESTREAM_ENABLED` says, else true if `NODE_ENV` is `production`.
   */
  readonly enabled?: boolean | string | undefined;
}

const DEFAULT_VARIABLE = 'LITESTREAM_ENABLED';
const NO: ReadonlySet<string> = new Set(['', '0', 'false', 'no', 'off']);

/** What Next.js says where code is run that is not the application's server. */
const BUILD_PHASE = 'phase-production-build';

/** What bin/litestream runs on. */
const PLATFORMS: readonly string[] = ['linux', 'darwin'];

export interface Off {
  /** A warning where it was asked for. */
  readonly level: 'info' | 'warn';
  /** Why, and how to change that. */
  readonly reason: string;
}

/** Why nothing is to run; undefined when it is to. */
export function whyOff(options: EnabledOptions, env: Env): Off | undefined {
  const reason = reasonForOff(options, env);
  if (reason !== undefined) return { level: 'info', reason };
  if (PLATFORMS.includes(process.platform)) return undefined;
  return { level: 'warn', reason: `${process.platform} is not supported: it runs on Linux and macOS` };
}

function reasonForOff({ enabled }: EnabledOptions, env: Env): string | undefined {
  if (env['NEXT_PHASE'] === BUILD_PHASE) return 'this is a build of Next.js';
  if (env['NEXT_RUNTIME'] === 'edge') return 'this is the Edge runtime of Next.js';
  if (enabled === true) return undefined;
  if (enabled === false) return 'the option enabled is false';
  if (enabled !== undefined)
    return says(env[enabled]) ? undefined : `the variable ${enabled} does not say yes`;
  const value = env[DEFAULT_VARIABLE];
  if (value !== undefined)
    return says(value) ? undefined : `${DEFAULT_VARIABLE} is ${value === '' ? 'empty' : value}`;
  if (env['NODE_ENV'] === 'production') return undefined;
  return `NODE_ENV is not production: set ${DEFAULT_VARIABLE}=1 or the option enabled to replicate here`;
}

function says(value: string | undefined): boolean {
  return value !== undefined && !NO.has(value.trim().toLowerCase());
}
