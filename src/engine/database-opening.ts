/** Opens a database in whatever way it can be had: followed, or held as it is while nobody uses it. */

import { hasCode } from '../base/errors.ts';
import { findWritable } from '../sqlite/writable-path.ts';
import { DatabaseSession, type SessionOptions } from './database-session.ts';
import { ClosedDatabase } from './read-only-closed.ts';

export type OpeningOptions = Omit<SessionOptions, 'writable'>;

export type OpenDatabase =
  | { readonly kind: 'session'; readonly session: DatabaseSession }
  /** It can only be read and nobody uses it. `why`: the reason for which there is no session, in words. */
  | { readonly kind: 'closed'; readonly closed: ClosedDatabase; readonly why: Error };

/** @throws LitestreamError as DatabaseSession.open() */
export async function openDatabase(options: OpeningOptions): Promise<OpenDatabase> {
  const writable = findWritable(options.realPath);
  try {
    return { kind: 'session', session: await DatabaseSession.open({ ...options, writable }) };
  } catch (error) {
    if (writable !== undefined || !hasCode(error, 'not-found')) throw error;
    const closed = await ClosedDatabase.find(options);
    if (!closed) throw error;
    return { kind: 'closed', closed, why: error };
  }
}
