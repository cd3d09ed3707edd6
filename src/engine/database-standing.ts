/** Where following stands, by SQLite's own wal-index and the files on disk: what the watchdog goes by. */

import { stat } from 'node:fs/promises';
import type { DatabaseSession } from './database-session.ts';

export interface Standing {
  /** The wal-index has commits that are not copied. */
  readonly behind: boolean;
  /** When it is behind: differs from one time to the next as long as anything moves. */
  readonly marks: string;
}

export async function standingOf(session: DatabaseSession): Promise<Standing> {
  const behind = session.isBehind();
  if (!behind) return { behind, marks: '' };
  const { index, offset } = session.position;
  // Long copies and checkpoints show in the files that they write.
  const files = [session.shadow.pathOf(index), session.realPath];
  const written = await Promise.all(files.map((path) => stat(path).catch(() => undefined)));
  const marks = written.map((file) => `${file?.size ?? 0}:${file?.mtimeMs ?? 0}`);
  return { behind, marks: [index, offset, ...marks].join(' ') };
}
