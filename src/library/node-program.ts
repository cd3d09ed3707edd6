/** Which program runs the child: the one that runs the application if that is Node.js, else a Node.js of the PATH. */

import { execFile } from 'node:child_process';
import { delimiter, isAbsolute, join } from 'node:path';
import { promisify } from 'node:util';
import type { Env } from '../config/index.ts';
import { LitestreamError } from '../base/errors.ts';
import { isNewEnough } from '../sqlite/driver.ts';

/** They run programs for Node.js, too, but not as it does: how files are locked, and how a process and its child talk. */
const OTHER_RUNTIMES = ['bun', 'deno'] as const;

const MIN_MAJOR = 20;
const PROBE_TIMEOUT_MS = 10_000;

/** `node` may be another runtime under its name: Bun puts itself there. */
const PROBE = `
const { bun, deno, node } = process.versions;
let sqlite;
try {
  sqlite = new (require('node:sqlite').DatabaseSync)(':memory:').prepare('SELECT sqlite_version() AS v').get().v;
} catch {}
console.log(JSON.stringify({ node: bun ?? deno ? undefined : node, sqlite }));
`;

interface Probed {
  /** Undefined: it is not Node.js. */
  readonly node?: string;
  /** The version of its SQLite, if it has one. */
  readonly sqlite?: string;
}

/**
 * The first Node.js of the PATH whose SQLite can be used, else the first that may have better-sqlite3.
 * @param env its `PATH` is looked at
 * @throws LitestreamError 'unsupported' when there is none
 */
export async function nodeProgram(env: Env): Promise<string> {
  const runtime = OTHER_RUNTIMES.find((name) => process.versions[name] !== undefined);
  if (runtime === undefined) return process.execPath;
  const found: string[] = [];
  let second: string | undefined;
  for (const folder of (env['PATH'] ?? '').split(delimiter).filter(isAbsolute)) {
    const path = join(folder, 'node');
    const { node, sqlite } = await probe(path, env);
    if (node === undefined) continue;
    if (sqlite !== undefined && isNewEnough(sqlite)) return path;
    if (Number.parseInt(node, 10) >= MIN_MAJOR) second ??= path;
    else found.push(`${path} is ${node}`);
  }
  if (second !== undefined) return second;
  const others = found.length === 0 ? 'there is none' : found.join(', ');
  throw new LitestreamError(
    'unsupported',
    `replication runs on Node.js, and this application runs on ${runtime} ${String(process.versions[runtime])}: put a node ` +
      `(22.22.3, 24.15, 26 or later) on the PATH (${others})`,
  );
}

/** Empty for what is no program, or does not answer. */
async function probe(path: string, env: Env): Promise<Probed> {
  try {
    const options = { env: { ...env, NODE_OPTIONS: undefined }, timeout: PROBE_TIMEOUT_MS };
    const { stdout } = await promisify(execFile)(path, ['-e', PROBE], options);
    return JSON.parse(stdout) as Probed;
  } catch {
    return {};
  }
}
