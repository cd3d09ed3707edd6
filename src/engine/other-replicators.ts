/**
 * Other processes that replicate a database and show in no lock that can be asked: Litestream itself, which knows none of
 * ours, and one of ours whose lock file was deleted while it runs. As far as /proc tells: those of this user (all of them
 * for root) in this container.
 */

import { existsSync, readdirSync, readlinkSync, realpathSync } from 'node:fs';
import { basename, join } from 'node:path';
import { LitestreamError } from '../base/errors.ts';
import { defaultMetaPath } from './database-path.ts';

/** Databases are opened one after the other: one look serves those of a moment. */
const FRESH_MS = 1000;
/** What Linux puts behind the name of an open file that was deleted. */
const DELETED = ' (deleted)';

export interface Whereabouts {
  readonly metaPath: string;
  readonly lockPath: string;
  /** The lock file was not there: it may have been deleted under its holder. */
  readonly isNewLock: boolean;
  /** Looks anew, whatever was seen a moment ago. */
  readonly anew?: boolean;
}

interface OpenFiles {
  readonly atMs: number;
  /** Of processes of a program that is called litestream; ours is run by Node.js. Paths with their process. */
  readonly byLitestream: ReadonlyMap<string, number>;
  readonly deleted: ReadonlyMap<string, number>;
}

let known: OpenFiles | undefined;

/**
 * Refuses a database that another process replicates without our lock.
 * @throws LitestreamError 'busy' naming the process
 */
export function refuseOthers(
  path: string,
  { metaPath, lockPath, isNewLock, anew = false }: Whereabouts,
): void {
  if (anew) known = undefined;
  if (isNewLock) {
    const pid = openFiles().deleted.get(realPathOf(lockPath));
    if (pid !== undefined)
      throw refusal(path, `pid ${pid}, whose lock file ${lockPath} was deleted while it ran`);
  }
  // With a meta directory of our own the two are in nobody's way.
  const shared = metaPath === defaultMetaPath(path) || !existsSync(join(defaultMetaPath(path), 'generation'));
  const real = realPathOf(path);
  const pid = shared ? openFiles().byLitestream.get(real) : undefined;
  if (pid !== undefined && existsSync(join(metaPath, 'generation')))
    throw refusal(path, `pid ${pid}, a Litestream that uses the same meta directory`);
}

function refusal(path: string, who: string): LitestreamError {
  return new LitestreamError(
    'busy',
    `database ${path} is replicated by another process already (${who}): stop that one first`,
  );
}

function openFiles(): OpenFiles {
  const nowMs = performance.now();
  if (known === undefined || nowMs - known.atMs > FRESH_MS) known = look(nowMs);
  return known;
}

function look(atMs: number): OpenFiles {
  const byLitestream = new Map<string, number>();
  const deleted = new Map<string, number>();
  for (const pid of processes()) {
    const isLitestream = programOf(pid) === 'litestream';
    for (const path of filesOf(pid)) {
      if (path.endsWith(DELETED)) deleted.set(path.slice(0, -DELETED.length), pid);
      else if (isLitestream) byLitestream.set(path, pid);
    }
  }
  return { atMs, byLitestream, deleted };
}

function processes(): number[] {
  try {
    const pids = readdirSync('/proc').map(Number).filter(Number.isInteger);
    return pids.filter((pid) => pid !== process.pid);
  } catch {
    return []; // Not Linux.
  }
}

function filesOf(pid: number): string[] {
  const folder = `/proc/${pid}/fd`;
  try {
    return readdirSync(folder).flatMap((fd) => {
      try {
        return [readlinkSync(`${folder}/${fd}`)];
      } catch {
        return []; // Closed meanwhile.
      }
    });
  } catch {
    return []; // Ended meanwhile, or of another user.
  }
}

function programOf(pid: number): string | undefined {
  try {
    return basename(readlinkSync(`/proc/${pid}/exe`));
  } catch {
    return undefined;
  }
}

function realPathOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path; // Not there.
  }
}
